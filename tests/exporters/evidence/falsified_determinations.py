"""Attacks on determinations: somebody with the signing key seals what does not follow from the facts."""

from __future__ import annotations

from judged_world import ARTIFACTS, CHINA, SOFTWARE, changed, judged, judged_world, milder
from prepared import Workshop
from sealed_world import SECOND, T0, World

from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["false_determinations"]


def false_determinations(workshop: Workshop, store: ClickHouseStore) -> None:
    """Header, facts and hashes fit each other; only the rules do not lead there."""
    world = judged_world("milder determination")
    leaf = world.logs[0].event(T0 + 2 * SECOND, sequence=3, facts=changed(judged(CHINA), milder))
    world.batch(T0 + 3 * SECOND)
    workshop.of_world(store, world, ("determination.mismatch", leaf))

    world = World("packs that are none", 1, artifacts={**ARTIFACTS, "us-ear.yaml": b"rules: []\n"}, software=SOFTWARE)
    leaf = world.logs[0].event(T0, sequence=0, facts=judged(CHINA))
    world.batch(T0 + SECOND)
    workshop.of_world(store, world, ("reference.malformed", leaf))

    world = judged_world("typed column edited in the store")
    leaf = world.logs[0].event(T0 + 2 * SECOND, sequence=3, facts=judged(CHINA))
    world.logs[0].rows[leaf]["actor_id"] = "nobody"
    world.batch(T0 + 3 * SECOND)
    workshop.of_world(store, world, ("column.mismatch", leaf))
