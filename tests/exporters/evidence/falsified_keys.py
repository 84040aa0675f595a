"""Packages whose keys are not what they should be: chains of rotations with something wrong, and retired keys."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prepared import Workshop
from sealed_world import DEPLOYMENT, SECOND, T0, World, rotation

from auditspan.ledger.checkpoint import Checkpoint, log_origin, open_checkpoint, sign_checkpoint
from auditspan.ledger.trust import Trust
from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["AT", "FOR_EVER", "KEYS", "RETIRED", "falsify_keys", "rotated_world", "trusting"]

KEYS = [Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"key %d" % number).digest()) for number in range(5)]
FOR_EVER = 2**62
AT = T0 + 10 * SECOND
"""When the first rotation is."""
RETIRED = T0 + 20 * SECOND
"""When the key of then is retired, where it is retired soon."""


def trusting(*numbers: int, **retired_at: int) -> Trust:
    """A ``trust.json`` with these of `KEYS`; ``k0`` and so on are when they retire."""
    raw = {KEYS[int(name[1:])].public_key().public_bytes_raw(): at for name, at in retired_at.items()}
    return Trust(DEPLOYMENT, tuple(KEYS[number].public_key() for number in numbers), retired_at=raw)


def rotated_world(name: str, rotations: int = 1, retired_at: int = FOR_EVER, logs: int = 1) -> World:
    """A world whose key was rotated so often, with an event and a round before and after each."""
    world = World(name, logs=logs, key=KEYS[0])
    for number in range(rotations + 1):
        if number:
            world.rotate(KEYS[number], T0 + number * 10 * SECOND, retired_at)
        for log in world.logs:
            log.event(T0 + number * 10 * SECOND, sequence=number, stream=log.partition)
        world.batch(T0 + number * 10 * SECOND + SECOND)
    return world


def falsify_keys(workshop: Workshop, store: ClickHouseStore) -> None:
    """Every attack on keys, into ``workshop``."""
    chains(workshop, store)
    sealed_statements(workshop, store)
    retired_keys(workshop, store)


def chains(workshop: Workshop, store: ClickHouseStore) -> None:
    """The manifest's ``keys`` lead where they must not; whoever signs it has the newest key."""

    def attack(
        name: str,
        change: Callable[[list[dict[str, Any]]], Sequence[dict[str, Any]] | None],
        trust: Trust,
        *,
        code: str = "key.untrusted",
        rotations: int = 1,
        also: Callable[[World], object] | None = None,
    ) -> None:
        world = rotated_world(f"keys: {name}", rotations)
        if also is not None:
            also(world)
            world.batch(T0 + 100 * SECOND)

        def act(predicate: dict[str, Any]) -> None:
            changed = change(predicate["keys"])
            predicate["keys"] = predicate["keys"] if changed is None else list(changed)

        workshop.of_world(store, world, (code, None), change=act, trust=trust)

    def signed_by_one(keys: list[dict[str, Any]]) -> None:
        keys[0]["signatures"]["to"] = keys[0]["signatures"]["from"]

    def another_time(keys: list[dict[str, Any]]) -> None:
        keys[0]["statement"]["retired_at"] = str(FOR_EVER + 1)

    attack("signed by the old key alone", signed_by_one, trusting(0, 1))
    attack("a later retirement than was signed", another_time, trusting(0, 1))
    elsewhere = rotation(KEYS[0], KEYS[1], AT, FOR_EVER, "elsewhere")
    attack("of another deployment", lambda _: [elsewhere], trusting(0, 1))
    attack("a hole in the chain", lambda keys: [keys[0], keys[2]], trusting(0, 1, 2, 3), rotations=3)
    back = rotation(KEYS[1], KEYS[0], AT + 20 * SECOND, FOR_EVER)
    attack(
        "back to a key that was left",
        lambda keys: [keys[0], back],
        trusting(0, 1),
        also=lambda world: world.control.control("audit.key.rotated", back, T0 + 50 * SECOND),
    )
    attack("from nobody who is trusted", lambda _: None, trusting(4))
    attack("of a key that was retired before", lambda _: None, trusting(0, k0=AT - 1), code="key.retired")
    attack("to another key than trust.json has", lambda _: None, trusting(0, 2, k0=FOR_EVER))
    inserted = [
        rotation(KEYS[0], KEYS[4], AT, FOR_EVER),
        rotation(KEYS[4], KEYS[1], AT + SECOND, FOR_EVER),
    ]
    attack("an inserted key", lambda _: inserted, trusting(0))


def sealed_statements(workshop: Workshop, store: ClickHouseStore) -> None:
    """What the control log sealed of rotations is none, or it sealed nothing of what the manifest states."""
    for name, body in (
        ("signed by one key alone", rotation(KEYS[0], KEYS[1], AT, FOR_EVER)),
        ("of another deployment", rotation(KEYS[0], KEYS[1], AT, FOR_EVER, "elsewhere")),
    ):
        if "alone" in name:
            body["signatures"]["to"] = body["signatures"]["from"]
        world = World(f"sealed rotation {name}", logs=1, key=KEYS[0])
        leaf = world.control.control("audit.key.rotated", body, T0)
        world.logs[0].event(T0, sequence=0)
        world.batch(T0 + SECOND)
        workshop.of_world(store, world, ("key.untrusted", leaf), trust=trusting(0))

    world = World("a rotation that is not sealed", logs=1, key=KEYS[0])
    world.logs[0].event(T0, sequence=0)
    world.batch(T0 + SECOND)
    world.key = KEYS[1]
    stated = rotation(KEYS[0], KEYS[1], AT, FOR_EVER)
    workshop.of_world(
        store,
        world,
        ("key.untrusted", None),
        change=lambda predicate: predicate.update(keys=[stated]),
        trust=trusting(0),
    )


def retired_keys(workshop: Workshop, store: ClickHouseStore) -> None:
    """Whoever stole the old key signs with it after it was retired."""
    world = rotated_world("manifest of a retired key", retired_at=RETIRED)
    workshop.of_world(
        store,
        world,
        ("key.retired", None),
        change=lambda predicate: predicate.update(exported_at=str(RETIRED + 1)),
        trust=trusting(0, 1),
        signer=KEYS[0],
    )

    world = rotated_world("checkpoint of a retired key", retired_at=RETIRED)
    later(world)

    def old_note(predicate: dict[str, Any]) -> None:
        log = predicate["logs"][0]
        log["checkpoint"] = signed_again(log["checkpoint"], log["log_id"], KEYS[0])

    workshop.of_world(store, world, ("key.retired", None), change=old_note, trust=trusting(0, 1))

    world = rotated_world("round with notes of a retired key", retired_at=RETIRED)
    world.key = KEYS[0]
    leaf = later(world)
    world.key = KEYS[1]
    again = [log.checkpoint(world.key) for log in (*world.logs, world.control)]
    world.checkpoints += [replace(one, signed_at=one.signed_at + 1) for one in again]
    workshop.of_world(store, world, ("key.retired", leaf), trust=trusting(0, 1))


def later(world: World) -> int:
    """One more event and round, after the old key was retired; the index of the round's leaf."""
    world.logs[0].event(RETIRED + 10 * SECOND, sequence=9, stream="events-0")
    leaf = len(world.control.rows)
    world.batch(RETIRED + 11 * SECOND)
    return leaf


def signed_again(note: str, log_id: str, key: Ed25519PrivateKey) -> str:
    """The same checkpoint under another signature."""
    origin = log_origin(DEPLOYMENT, log_id)
    said = open_checkpoint(note, origin, [each.public_key() for each in KEYS])
    return sign_checkpoint(Checkpoint(origin, said.size, said.root), key)
