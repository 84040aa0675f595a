"""A deployment made by hand whose determinations are real: facts, and what the packaged rules make of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from functools import cache
from typing import Any

from sealed_world import SECOND, T0, World

from auditspan.policy.given_facts import facts_from
from auditspan.policy.reference import Reference
from auditspan.policy.rules import names_of_rules
from auditspan.policy.software import software

_PACKAGED = Reference.packaged_artifacts()
ARTIFACTS = {name: _PACKAGED[name] for name in names_of_rules(_PACKAGED)}
"""What rules are made of. Registry, addresses and the other tables make facts, and those are there already."""
SOFTWARE = software()

CHINA: dict[str, Any] = {
    "act": "transfer",
    "item_kind": "accelerator",
    "accelerator_model": "H100 SXM",
    "movement": "export",
    "origin_country": "US",
    "destination_country": "CN",
    "end_user_country": "CN",
    "end_user_parent_country": "CN",
}
GERMANY: dict[str, Any] = {
    **CHINA,
    "destination_country": "DE",
    "end_user_country": "DE",
    "end_user_parent_country": "DE",
}
UNKNOWN: dict[str, Any] = {"act": "access", "item_kind": "model", "model": "frontier-7"}


@cache
def reference() -> Reference:
    return Reference.packaged()


def judged(given: dict[str, Any], at: int = T0) -> dict[str, Any]:
    """The facts document of facts, as the processors would seal it."""
    determination = reference().engine().determine([facts_from(reference(), given, at)], at)
    return dict(json.loads(determination.document_bytes()))


def changed(document: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """A copy that says something else."""
    other = copy.deepcopy(document)
    change(other)
    return other


def milder(document: dict[str, Any]) -> None:
    """Nothing governs, and no licence is required: header and hashes are made to fit."""
    outcome = "no_license_required"
    document |= {"text": outcome, "enforced": outcome, "governing": outcome, "flagged": False}
    document["rules"] = [{**rule, "governs": False} for rule in document["rules"]]


def judged_world(name: str, software: str = SOFTWARE, logs: int = 1) -> World:
    """A deployment under the packaged rules, with an honest event of each kind in its first log."""
    world = World(name, logs, artifacts=ARTIFACTS, software=software)
    if logs:
        for number, given in enumerate((CHINA, GERMANY, UNKNOWN)):
            world.logs[0].event(T0 + number, sequence=number, facts=judged(given), kind="model.transfer")
        world.batch(T0 + SECOND)
    return world
