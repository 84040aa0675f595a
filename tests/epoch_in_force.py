"""A reference epoch in force in a folder, as the owner of the control log puts it there."""

from __future__ import annotations

from pathlib import Path

from auditspan.processors.epochs import keep_artifacts

from auditspan.policy.reference import Reference
from auditspan.policy.snapshot import announce

PARTIES = b"""
parties:
  - {id: harbour, name: Harbour Models Inc., country: US, ultimate_parent: self, credentials: ["sha256:harbour"]}
  - {id: orchid, name: Orchid Robotics Co. Ltd., country: CN, ultimate_parent: self}
  - id: meridian
    name: Meridian Cloud Pte. Ltd.
    country: SG
    ultimate_parent: {name: Meridian Technology Group, country: CN}
    credentials: ["sha256:meridian"]
"""


def put_in_force(folder: Path, number: int = 1, parties: bytes = PARTIES, **packs: bytes) -> Reference:
    """``packs``: further packs by name without ``.yaml``."""
    artifacts = Reference.packaged_artifacts(parties) | {f"{name}.yaml": text for name, text in packs.items()}
    reference = Reference.load(artifacts, number)
    folder.mkdir(parents=True, exist_ok=True)
    keep_artifacts(folder, artifacts)
    announce(folder, reference.to_control_body())
    return reference


NO_H200_FOR_ORCHID = b"""
pack: house
version: "1"
title: What this house adds
source: its board
rules:
  - id: house/no-h200-for-orchid
    title: no H200 for Orchid
    citations: [board decision 12]
    authority: company_policy
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'provision', accelerator_model == 'H200 SXM', end_user_party == 'orchid']
    outcome: prohibited
    flag: true
    explanation: The board has decided that Orchid gets no H200.
"""
"""A pack of a company's own, which prohibits one thing."""
