"""Honest deployments of random shape, each made by its seed: for the short form in the suite and ``make attack``."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from exported import export
from judged_world import ARTIFACTS, CHINA, GERMANY, SOFTWARE, UNKNOWN, changed, judged, milder
from sealed_world import DEPLOYMENT, SECOND, T0, Log, World, facts_document

from auditspan.ledger.trust import Trust
from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["HAPPENINGS", "Happening", "RandomWorld", "random_world"]

_MONTH_END: Final = 1_796_083_200 * SECOND
"""2026-12-01T00:00:00Z."""
_QUERIES: Final = (
    None,
    None,
    "flagged = true",
    "not flagged = true",
    "class = 'nothing'",
    "sequence < 5 or asset is null",
    "determination = 'license_required' and not class = 'model.access'",
    "faults contains 'identity.conflict'",
)
_KINDS: Final = ("model.access", "model.transfer", "accelerator.provision", "accelerator.transfer")


@dataclass
class RandomWorld:
    """A deployment on its way, and what it was made from.

    Attributes:
        seed: makes the same again.
        judged: determinations are what the packaged rules make of the facts.
    """

    seed: int
    world: World
    chance: random.Random
    judged: bool
    base: int
    sequences: dict[str, int] = field(default_factory=dict)
    at: int = 0
    epoch: int = 1
    false_in: int = -1
    """Events until one whose determination is sealed milder than it is; negative: none is."""
    false: tuple[str, int] | None = None
    """Which one that was."""
    keys: list[Ed25519PrivateKey] = field(default_factory=list)
    """Keys that have signed, the last one the world's own."""

    @property
    def trust(self) -> Trust:
        """What an auditor may have been given, before keys were rotated or after: the first key, or all of them.

        The last one alone is not enough: what a closed log had signed stays signed by an older one.
        """
        given = random.Random(self.seed).choice((self.keys[:1], self.keys))
        return Trust(DEPLOYMENT, tuple(key.public_key() for key in given))

    def facts(self, at: int, flagged: bool) -> dict[str, Any]:
        """A facts document."""
        if self.judged:
            return judged(self.chance.choice((CHINA, GERMANY, UNKNOWN)), at)
        return facts_document("CN" if flagged else "DE", flagged=flagged)

    def sequence(self, log: Log) -> int:
        """The next one of the log's stream."""
        number = self.sequences.get(log.log_id, 0)
        self.sequences[log.log_id] = number + 1
        return number

    def open_logs(self) -> list[Log]:
        """Logs of the last generation."""
        last = max((log.generation for log in self.world.logs), default=0)
        return [log for log in self.world.logs if log.generation == last]

    def packages(self, store: ClickHouseStore, folder: Path) -> list[Path]:
        """Export packages of random intervals and queries; a second one that goes on from the first, now and then."""
        self.world.store_into(store)
        made: list[Path] = []
        for number in range(1 + (self.chance.random() < 0.3)):
            start = max(0, self.base + self.chance.randint(-20, 400) * SECOND)
            options: dict[str, Any] = {
                "time_from": 0 if self.chance.random() < 0.3 else start,
                "time_to": start + self.chance.randint(1, 500) * SECOND,
                "where": self.chance.choice(_QUERIES),
            }
            if made:
                options["previous"] = made[-1]
            export(store, self.world, folder / f"{self.seed}-{number}", **options)
            made.append(folder / f"{self.seed}-{number}")
        return made


Happening = Callable[[RandomWorld], None]
"""Something that befalls a deployment between two rounds."""


def _event(it: RandomWorld) -> None:
    for log in it.open_logs():
        for _ in range(it.chance.randint(0, 6)):
            # Some arrive by a clock that lags behind that of another collector.
            arrival = it.at + it.chance.randint(-5, 30) * SECOND
            flagged = it.chance.random() < 0.3
            document = it.facts(arrival, flagged)
            if it.false_in == 0:
                document = changed(judged(CHINA, arrival), milder)
                it.false = log.log_id, len(log.rows)
            it.false_in -= 1
            log.event(
                arrival,
                sequence=it.sequence(log) if it.chance.random() < 0.8 else None,
                stream=log.partition,
                kind=it.chance.choice(_KINDS),
                facts=document,
                asset=it.chance.choice(("frontier-7", "", None, "é" * 300, 'a "quoted" \\ name\n')),
                padding=it.chance.choice((0, 0, 0, 5_000)),
            )


def _quarantined(it: RandomWorld) -> None:
    for log in it.open_logs()[:1]:
        fault = {"kind": "audit.quarantined", "faults": ["span.undecodable"], "basis": "arrival"}
        log.event(it.at, facts=None, determination="review", **fault)


def _conflict(it: RandomWorld) -> None:
    for log in it.open_logs()[:1]:
        document = it.facts(it.at, flagged=False)
        raised = "review" if document["governing"] in ("no_license_required", "exception") else document["governing"]
        log.event(
            it.at,
            kind="audit.conflict",
            sequence=0,
            stream=log.partition,
            faults=["identity.conflict"],
            facts=document,
            determination=raised,
        )


def _other(it: RandomWorld) -> None:
    for log in it.open_logs():
        log.event(it.at, kind="other", facts=None, asset=None)


def _late(it: RandomWorld) -> None:
    """The event's own time lies months before its arrival, and both are judged."""
    for log in it.open_logs()[-1:]:
        before = it.at - 90 * 86_400 * SECOND
        documents = [it.facts(at, flagged=False) for at in (before, it.at)]
        order = ("no_license_required", "exception", "review", "license_required", "prohibited")
        governing = max("review", *(one["governing"] for one in documents), key=order.index)
        log.event(
            it.at,
            event_time=before,
            basis="both",
            faults=["time.outside_window"],
            facts={"v": 1, "both": documents},
            determination=governing,
        )


def _intent(it: RandomWorld) -> None:
    for log in it.open_logs()[:1]:
        record = f"started-{it.seed}-{log.offset}"
        log.event(it.at, outcome="started", record_id=record, facts=it.facts(it.at, flagged=False))
        if it.chance.random() < 0.5:
            log.event(it.at + SECOND, intent=record, facts=it.facts(it.at + SECOND, flagged=False))


def _gap(it: RandomWorld) -> None:
    for log in it.open_logs()[:1]:
        run = {"emitter": "gateway", "stream": "stream-9", "from": 3, "to": 7}
        log.log_leaf("audit.gap", {**run, "seen_at": str(it.at)})
        if it.chance.random() < 0.5:
            log.log_leaf("audit.gap.closed", {**run, "to": 5})


def _lost(it: RandomWorld) -> None:
    """A batch of its own says that the journal had lost entries."""
    for log in it.open_logs()[:1]:
        if len(log.rows) > (log.batches[-1][1] if log.batches else 0):
            if log.has_nothing:
                log.log_leaf("audit.heartbeat", {}, position=True, arrival=log.watermark)
            log.batch(it.world.epochs)
        begin = log.offset
        log.offset += it.chance.randint(1, 5)
        log.log_leaf("audit.gap", {"journal": {"from": begin, "to": log.offset, "seen_at": str(it.at)}})
        log.batch(it.world.epochs)


def _epoch(it: RandomWorld) -> None:
    """Other rules come into force: what was determined under the older ones stands."""
    it.epoch += 1
    it.world.activate(it.epoch)


def _superseded(it: RandomWorld) -> None:
    """The control log says more of events that are sealed."""
    for log in it.open_logs()[:1]:
        found = {"finding": "no_decision", "log_id": log.log_id, "leaf_index": 1, "why": "none", "class": "x"}
        it.world.control.control("export.finding", found, it.world.control.watermark)
        it.world.control.control("license.allocation", {"number": 1, "allocations": []}, it.world.control.watermark)


def _generation(it: RandomWorld) -> None:
    if not it.open_logs() or it.open_logs()[0].generation > 2:
        return
    it.world.batch(it.at)
    it.world.close(partitions := it.chance.randint(1, 3))
    it.world.batch(it.at + SECOND)
    it.world.open(partitions)


def _rotated(it: RandomWorld) -> None:
    """Another key signs, and the old one is retired: at once, or after a while."""
    key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{it.seed} {len(it.keys)}".encode()).digest())
    it.world.rotate(key, it.at, it.at + it.chance.choice((0, 30, 3_600)) * SECOND)
    it.keys.append(key)


HAPPENINGS: list[tuple[float, Happening]] = [
    (0.9, _event),
    (0.2, _quarantined),
    (0.2, _conflict),
    (0.2, _other),
    (0.15, _late),
    (0.2, _intent),
    (0.15, _gap),
    (0.1, _lost),
    (0.1, _epoch),
    (0.1, _superseded),
    (0.07, _generation),
    (0.07, _rotated),
]
"""How likely each is in a round."""


def random_world(seed: int, *, false: bool = False) -> RandomWorld:
    """The deployment with this seed: no log, or several; empty, busy, or over the end of a month.

    With ``false``, somebody with the key sealed one determination milder than it is.
    """
    chance = random.Random(seed)
    real = false or chance.random() < 0.25
    options: dict[str, Any] = {"artifacts": ARTIFACTS, "software": SOFTWARE} if real else {}
    world = World(f"random-{seed}{'-false' if false else ''}", chance.choice((0, 1, 1, 2, 3, 4)), **options)
    base = _MONTH_END - 60 * SECOND if chance.random() < 0.3 else T0
    it = RandomWorld(seed, world, chance, real, base, false_in=chance.randint(0, 20) if false else -1)
    it.keys.append(world.key)
    for number in range(chance.randint(0, 7)):
        it.at = base + number * chance.randint(20, 60) * SECOND
        for likelihood, happening in HAPPENINGS:
            if chance.random() < likelihood:
                happening(it)
        world.batch(it.at + 45 * SECOND, duplicates=chance.choice((0, 0, 3)))
    world.batch(base + 600 * SECOND)
    return it
