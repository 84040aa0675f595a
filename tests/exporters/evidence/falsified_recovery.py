"""Packages of a deployment that goes on for one that lost leaves, with a statement that is none, or not of it."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from falsified_keys import KEYS, trusting
from prepared import Workshop
from sealed_world import DEPLOYMENT, SECOND, T0, World, jcs

from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["OLD", "OLD_LOG", "falsify_recoveries", "recovered_world", "recovery"]

OLD = "first.example.com"
OLD_LOG = "0f" * 16


def recovery(
    old: Ed25519PrivateKey,
    new: Ed25519PrivateKey,
    deployment: str = DEPLOYMENT,
    signed: int | None = 9,
    **more: Any,
) -> dict[str, Any]:
    """Body of ``audit.ledger.recovered``, made by hand: of a log with 5 leaves left, of which ``signed`` were."""

    def tree(size: int) -> dict[str, Any]:
        return {"size": size, "root": base64.b64encode(hashlib.sha256(b"%d" % size).digest()).decode()}

    public = {
        name: base64.b64encode(key.public_key().public_bytes_raw()).decode()
        for name, key in (("from", old), ("to", new))
    }
    log = {"log_id": OLD_LOG, "partition": "events-0", "stored": tree(5), "carried": 2}
    statement = {
        **public,
        "deployment": deployment,
        "predecessor": OLD,
        "at": str(T0),
        "by": "user:officer",
        "reason": "the disk was lost",
        "logs": [{**log, "signed": None if signed is None else tree(signed)}],
        **more,
    }
    signatures = {
        name: base64.b64encode(key.sign(jcs(statement))).decode() for name, key in (("from", old), ("to", new))
    }
    return {"statement": statement, "signatures": signatures}


def recovered_world(name: str, *bodies: dict[str, Any]) -> tuple[World, list[int]]:
    """A world whose control log has sealed ``bodies`` at its beginning, and the indices of their leaves."""
    world = World(name, logs=1, key=KEYS[0])
    leaves = [world.control.control("audit.ledger.recovered", body, T0) for body in bodies]
    world.logs[0].event(T0, sequence=0)
    world.batch(T0 + SECOND)
    return world, leaves


def falsify_recoveries(workshop: Workshop, store: ClickHouseStore) -> None:
    """Every attack on a recovery, into ``workshop``."""
    by_one = recovery(KEYS[4], KEYS[0])
    by_one["signatures"]["from"] = by_one["signatures"]["to"]
    fewer = recovery(KEYS[4], KEYS[0])
    fewer["statement"]["logs"][0]["signed"]["size"] = 6
    for name, body in {
        "signed by the new key alone": by_one,
        "with fewer leaves lost than was signed": fewer,
        "of another deployment": recovery(KEYS[4], KEYS[0], "elsewhere"),
        "signed by a key of somebody else": recovery(KEYS[4], KEYS[3]),
    }.items():
        world, (leaf,) = recovered_world(f"recovery {name}", body)
        workshop.of_world(store, world, ("recovery.statement", leaf), trust=trusting(0))
