"""A registry, a register of licenses, and a rule under which every transfer needs one."""

from __future__ import annotations

from typing import Any

from sealing_deployment import artifacts

from auditspan.licensing.register import artifact_of, read_register
from auditspan.policy.licenses import LICENSES
from auditspan.policy.reference import PARTIES
from auditspan.store.clickhouse import ClickHouseStore

REGISTRY = b"""parties:
  - {id: harbour, name: Harbour Compute, country: SG, ultimate_parent: self}
  - {id: orchid, name: Orchid Robotics, country: SG, ultimate_parent: self}
"""
PACK = b"""pack: house
version: "1"
title: Rules of the house
source: the board
rules:
  - id: house/transfers
    title: What leaves the house has a license
    citations: ["board 2026-11-20"]
    authority: company_policy
    status: verified
    effective: {from: 2020-01-01}
    when: ["act in ['transfer', 'provision', 'access']"]
    outcome: license_required
    flag: true
    explanation: "the board wants a license"
"""


def register(quantity: int | None = 1, number: str = "D1000001", end_users: str = "harbour") -> bytes:
    text = f"number,end_users,items,quantity,valid_to\n{number},{end_users},H100 SXM,{quantity or ''},2027-12-31\n"
    return artifact_of(read_register(text.encode(), "licenses.csv"))


def licensed(quantity: int | None = 1, **more: bytes) -> dict[str, bytes]:
    """Artifacts of a deployment with one license."""
    return {**artifacts(), PARTIES: REGISTRY, "house.yaml": PACK, LICENSES: register(quantity), **more}


def shipment(sequence: int, quantity: int = 1, **more: object) -> dict[str, object]:
    """A finished transfer of accelerators to Harbour Compute."""
    return {
        "audit.event.class": "accelerator.transfer",
        "audit.record.id": f"record-{sequence}",
        "audit.sequence.number": sequence,
        "audit.outcome": "success",
        "export_control.end_user": "harbour",
        "export_control.accelerator.model": "H100 SXM",
        "export_control.destination.country": "SG",
        "export_control.quantity": quantity,
        "export_control.license": "D1000001",
    } | more


def current(store: ClickHouseStore) -> list[dict[str, Any]]:
    """What the view says of each judged event, in order of streams."""
    return store.query(
        "SELECT record_id, determination, current, license, license_sequence, license_outcome, license_why, flagged, "
        "log_id, leaf_index, allocation_log_id, allocation_leaf_index FROM auditspan.current ORDER BY record_id, log_id"
    ).to_pylist()


def allocations(store: ClickHouseStore) -> list[dict[str, Any]]:
    """What the view says of each allocation, in their order."""
    return store.query(
        "SELECT * FROM auditspan.license_allocations ORDER BY license_allocations.round, sequence"
    ).to_pylist()
