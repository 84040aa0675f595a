"""Deployments for whose control log somebody vouches: OpenSSL's authority and two witnesses made by hand.

Attacks on that are made by somebody who has the deployment's signing key.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from exported import export
from prepared import Prepared, Workshop
from sealed_world import DEPLOYMENT, SECOND, T0, World, varied_world
from tampering import repair
from timestamp_authority import OpensslAuthority
from witness_by_hand import HandWitness

from auditspan.ledger.checkpoint import log_origin, open_checkpoint, sign_checkpoint
from auditspan.ledger.merkle import CompactRange, consistency_proof
from auditspan.ledger.timestamps import TimestampAuthority
from auditspan.ledger.trust import AnchorPolicy, Trust
from auditspan.ledger.witnesses import Witness
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import StoredAnchor, StoredCheckpoint

__all__ = ["EVERYTHING", "Vouchers", "anchor_attacks", "body_of", "skipping_world"]

EVERYTHING = {"time_from": 0, "time_to": T0 + 10_000 * SECOND}


class Vouchers:
    """Who vouches, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.authority = OpensslAuthority(folder / "authority", "authority.example")
        self.stranger = OpensslAuthority(folder / "stranger", "authority.example")
        self.witnesses = [HandWitness("witness.example/1"), HandWitness("witness.example/2")]

    def trust(self, world: World, witnesses: int = 2, timestamp_authorities: int = 1) -> Trust:
        """Trust in all of them, of whom so many are demanded."""
        return Trust(
            DEPLOYMENT,
            (world.key.public_key(),),
            tuple(Witness.parse(one.vkey) for one in self.witnesses),
            (TimestampAuthority.of(self.authority.name, [self.authority.root]),),
            AnchorPolicy(witnesses, timestamp_authorities),
        )

    def token(self, note: str) -> str:
        return base64.b64encode(self.authority.token(body_of(note))).decode()

    def all_of(self, checkpoint: StoredCheckpoint, seconds: int) -> list[StoredAnchor]:
        """What all of them say of one checkpoint; witnesses at this time."""
        where = checkpoint.log_id, checkpoint.size
        return [
            StoredAnchor(*where, "timestamp", self.authority.name, self.token(checkpoint.note), time.time_ns()),
            *(
                StoredAnchor(*where, "cosignature", one.name, one.cosign(checkpoint.note, seconds), seconds * SECOND)
                for one in self.witnesses
            ),
        ]


def body_of(note: str) -> bytes:
    """The text of a note, which everybody signs."""
    return (note.partition("\n\n")[0] + "\n").encode()


def control_checkpoints(world: World) -> list[StoredCheckpoint]:
    return [one for one in world.checkpoints if one.log_id == world.control.log_id]


def skipping_world(name: str) -> World:
    """A deployment in which a round states a size of the log that lies beyond the interval ``[T0, T0 + 50 s)``."""
    world = World(name, logs=1)
    log = world.logs[0]
    log.event(T0, sequence=0)
    world.batch(T0 + SECOND)
    for number in range(2):
        log.event(T0 + (60 + number) * SECOND, sequence=1 + number)
        if number == 0:
            log.batch(world.epochs)
    world.batch(T0 + 62 * SECOND)
    log.event(T0 + 120 * SECOND, sequence=3)
    world.batch(T0 + 121 * SECOND)
    return world


def anchor_attacks(workshop: Workshop, store: ClickHouseStore, vouchers: Vouchers) -> None:
    """Packages whose anchors are not what they seem, each with what must be found."""
    make = _Maker(workshop, store, vouchers)
    make.stripped()
    make.of_others()
    make.altered()
    make.dated()
    make.other_histories()


class _Maker:
    def __init__(self, workshop: Workshop, store: ClickHouseStore, vouchers: Vouchers) -> None:
        self.workshop, self.store, self.vouchers = workshop, store, vouchers
        self.world = varied_world("anchored")
        self.folder = workshop.folder / "anchored"
        self.world.store_into(store)
        now = int(time.time())
        for number in (0, 2):
            store.append_anchors(vouchers.all_of(control_checkpoints(self.world)[number], now - 2 + number // 2))
        export(store, self.world, self.folder, **EVERYTHING)
        self.trust = vouchers.trust(self.world)

    def attack(
        self, name: str, change: Callable[[dict[str, Any]], None], *expected: str, trust: Trust | None = None
    ) -> None:
        """A copy of the honest package, its manifest changed and signed again."""
        folder = self.workshop.folder / f"anchors-{name.replace(' ', '-')}"
        shutil.copytree(self.folder, folder)
        repair(folder, self.world.key, change)
        found = frozenset((code, None) for code in expected)
        self.workshop.made.append(Prepared(name, folder, trust or self.trust, found))

    def stripped(self) -> None:
        def no_tokens(predicate: dict[str, Any]) -> None:
            for anchor in predicate["anchors"]:
                anchor["timestamps"] = []

        def one_witness(predicate: dict[str, Any]) -> None:
            for anchor in predicate["anchors"]:
                anchor["note"] = anchor["note"].replace(_line(anchor, self.vouchers.witnesses[1]) + "\n", "")

        self.attack("a stripped timestamp", no_tokens, "anchor.policy")
        self.attack("a stripped cosignature", one_witness, "anchor.policy")
        self.attack("no anchors", lambda predicate: predicate.pop("anchors"), "anchor.policy")

    def of_others(self) -> None:
        def stranger(predicate: dict[str, Any]) -> None:
            for anchor in predicate["anchors"]:
                token = self.vouchers.stranger.token(body_of(anchor["note"]))
                anchor["timestamps"] = [base64.b64encode(token).decode()]

        def own_witness(predicate: dict[str, Any]) -> None:
            forger = HandWitness(self.vouchers.witnesses[0].name)
            for anchor in predicate["anchors"]:
                line = _line(anchor, self.vouchers.witnesses[0])
                anchor["note"] = anchor["note"].replace(line, forger.cosign(anchor["note"], int(time.time())))

        self.attack("a token of an authority that is not trusted", stranger, "anchor.policy")
        self.attack("a witness of the same name", own_witness, "anchor.policy")

    def altered(self) -> None:
        first, last = 0, -1

        def other_checkpoint(predicate: dict[str, Any]) -> None:
            predicate["anchors"][last]["timestamps"] = predicate["anchors"][first]["timestamps"]

        def flipped(predicate: dict[str, Any]) -> None:
            token = bytearray(base64.b64decode(predicate["anchors"][last]["timestamps"][0]))
            token[-1] ^= 1  # the last byte is of the signature
            predicate["anchors"][last]["timestamps"] = [base64.b64encode(token).decode()]

        def rubbish(predicate: dict[str, Any]) -> None:
            predicate["anchors"][last]["timestamps"].append(base64.b64encode(b"0\x03\x02\x01\x00").decode())

        def replayed(predicate: dict[str, Any]) -> None:
            witness = self.vouchers.witnesses[0]
            old = _line(predicate["anchors"][first], witness)
            anchor = predicate["anchors"][last]
            anchor["note"] = anchor["note"].replace(_line(anchor, witness), old)

        def of_another_log(predicate: dict[str, Any]) -> None:
            witness, anchor = self.vouchers.witnesses[0], predicate["anchors"][last]
            data = next(one for one in self.world.checkpoints if one.log_id == self.world.logs[0].log_id)
            anchor["note"] = anchor["note"].replace(_line(anchor, witness), witness.cosign(data.note, int(time.time())))

        def unsigned(predicate: dict[str, Any]) -> None:
            anchor, forger = predicate["anchors"][last], Ed25519PrivateKey.generate()
            checkpoint = open_checkpoint(anchor["note"], self._origin(), [self.world.key.public_key()])
            cosigned = anchor["note"].partition("\n\n")[2].split("\n")[1:]
            anchor["note"] = sign_checkpoint(checkpoint, forger) + "\n".join(cosigned)

        def no_note(predicate: dict[str, Any]) -> None:
            predicate["anchors"][last]["note"] = "no note"

        def no_proof(predicate: dict[str, Any]) -> None:
            predicate["anchors"][first]["consistency"] = predicate["anchors"][first]["consistency"][1:]

        self.attack("a token over another checkpoint", other_checkpoint, "anchor.timestamp")
        self.attack("a token with a flipped bit", flipped, "anchor.timestamp")
        self.attack("a token that is none", rubbish, "anchor.timestamp")
        self.attack("a cosignature of an older checkpoint", replayed, "anchor.witness")
        self.attack("a cosignature of another log", of_another_log, "anchor.witness")
        self.attack("an anchor that the log did not sign", unsigned, "checkpoint.signature")
        self.attack("an anchor that is no note", no_note, "checkpoint.malformed")
        self.attack("an anchor without its proof", no_proof, "anchor.consistency")

    def dated(self) -> None:
        def exported_before(predicate: dict[str, Any]) -> None:
            predicate["exported_at"] = str(time.time_ns() - 1000 * SECOND)

        def cosigned_later(predicate: dict[str, Any]) -> None:
            witness, anchor = self.vouchers.witnesses[0], predicate["anchors"][-1]
            later = witness.cosign(anchor["note"], int(time.time()) + 1000)
            anchor["note"] = anchor["note"].replace(_line(anchor, witness), later)

        self.attack("timestamps from the future", exported_before, "anchor.future", "anchor.policy")
        self.attack("a cosignature from the future", cosigned_later, "anchor.future")

    def other_histories(self) -> None:
        """What a witness cosigned is not the history that this auditor is shown."""
        # The same logs, and one event that is another: both histories are signed with one key.
        split = World("split", logs=1), World("split", logs=1)
        for number, world in enumerate(split):
            world.logs[0].event(T0 + number, sequence=0, country="CN" if number else "DE")
            world.batch(T0 + SECOND)
            world.logs[0].event(T0 + 2 * SECOND, sequence=1)
            world.batch(T0 + 3 * SECOND)
        honest, forged = split
        folder = self.workshop.folder / "split view"
        forged.store_into(self.store)
        cosigned = control_checkpoints(honest)[0]
        export(self.store, forged, folder, **EVERYTHING)
        lines = [one.cosign(cosigned.note, int(time.time())) for one in self.vouchers.witnesses]
        vouched = {
            "note": cosigned.note + "".join(f"{line}\n" for line in lines),
            "timestamps": [self.vouchers.token(cosigned.note)],
        }
        earlier = control_checkpoints(forged)[0]
        proof = _control_proof(forged, earlier.size)
        repair(folder, forged.key, lambda predicate: predicate.update(anchors=[vouched | {"consistency": proof}]))
        trust = self.vouchers.trust(forged)
        self.workshop.made.append(
            Prepared("a split view", folder, trust, frozenset({("anchor.consistency", None), ("anchor.policy", None)}))
        )
        self._of_another_round()

    def _of_another_round(self) -> None:
        """The size that a round states beyond the interval is of another history."""
        world = skipping_world("skipping")
        world.store_into(self.store)
        now = int(time.time())
        for checkpoint in control_checkpoints(world)[1:]:
            self.store.append_anchors(self.vouchers.all_of(checkpoint, now))
        folder = self.workshop.folder / "beyond the interval"
        export(self.store, world, folder, time_from=0, time_to=T0 + 50 * SECOND)

        def change(predicate: dict[str, Any]) -> None:
            (log,) = predicate["logs"]
            log["anchored"]["consistency"] = log["anchored"]["consistency"][1:]

        repair(folder, world.key, change)
        rounds = [row["leaf_index"] for row in world.control.rows if row["class"] == "audit.checkpoint"]
        expected = frozenset({("anchor.consistency", rounds[1])})
        self.workshop.made.append(Prepared("another round", folder, self.vouchers.trust(world), expected))

    def _origin(self) -> str:
        return log_origin(DEPLOYMENT, self.world.control.log_id)


def _line(anchor: dict[str, Any], witness: HandWitness) -> str:
    lines: Sequence[str] = anchor["note"].split("\n")
    return next(line for line in lines if line.startswith(f"— {witness.name} "))


def _control_proof(world: World, size: int) -> list[str]:
    """The honest proof of a world's own history, which does not fit another one."""
    hashes = [hashlib.sha256(b"\x00" + row["header"]).digest() for row in world.control.rows]

    def root(begin: int, end: int) -> bytes:
        tree = CompactRange()
        tree.extend(hashes[begin:end])
        return tree.root()

    return [base64.b64encode(each).decode() for each in consistency_proof(size, len(hashes), root)]
