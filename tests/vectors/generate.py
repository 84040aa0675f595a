"""Writes the test vectors of ``docs/evidence-format.md`` beside itself: ``python tests/vectors/generate.py``.

Everything in them comes from the slow deriver in ``tests/reference``, nothing from the product.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.derive import Batch, Derived, Entry, Log, derive, epoch_digest, jcs
from reference.notes import checkpoint_note, public_key
from reference.requests import any_value, delimited, request, resource, span, varint
from reference.tree import Tree

SECOND = 10**9
DAY = 86_400 * SECOND
NOW = 1_795_500_000 * SECOND
SALT_KEY = bytes(range(32))
SIGNING_KEY = hashlib.sha256(b"the signing key of the test vectors").digest()
LOG = Log("vectors", "sqlite:vectors", "00112233445566778899aabbccddeeff", "events-0", 1, NOW - 60 * SECOND)
CONTROL = Log("vectors", "sqlite:vectors", "ffeeddccbbaa99887766554433221100", "control", 1, NOW - 60 * SECOND)
OLD = Log("vectors", "kafka:vectors", "0123456789abcdef0123456789abcdef", "events-0", 1, NOW - 60 * SECOND)
UNUSED = Log("vectors", "kafka:vectors", "123456789abcdef0123456789abcdef0", "events-1", 1, NOW - 60 * SECOND)
NEXT = Log("vectors", "kafka:vectors", "fedcba9876543210fedcba9876543210", "events.2-0", 2, NOW + 120 * SECOND)
STREAM = resource({"audit.source.id": "stream-1", "service.name": "gateway"})
RESTARTED = resource({"audit.source.id": "stream-1", "service.name": "restarted"})
FOREIGN = resource({"service.name": "legacy"})
EPOCH = {
    "number": 1,
    "artifacts": [{"name": "us-ear.yaml", "kind": "pack", "version": "2026.11", "sha256": "ab" * 32}],
    "software": "auditspan 0",
}
DIGEST = epoch_digest(EPOCH)
ACTIVATED = {
    "number": 2,
    "artifacts": [
        {"name": "house.yaml", "kind": "pack", "version": "1", "sha256": "cd" * 32, "officer": "m.berger"},
        *EPOCH["artifacts"],
    ],
    "software": "auditspan 0",
    "officer": "m.berger",
    "reason": "the board: “from now on”",
}
IN_VAIN = {**ACTIVATED, "artifacts": EPOCH["artifacts"], "officer": "l.ito", "reason": "at the same time"}
STARTED = {"number": 3, "artifacts": ACTIVATED["artifacts"], "software": "auditspan 1"}


def document(governing: str = "no_license_required", **more: Any) -> dict[str, Any]:
    """A facts document that says so."""
    made: dict[str, Any] = {
        "v": 1,
        "facts": {"actor_country": "DE", "quantity": None},
        "known_by": {"actor_country": "party registry"},
        "in_force": {"from": "0", "to": None},
        "rules": [
            {"authority": "law", "flag": False, "governs": True, "id": "us-ear.a", "outcome": governing},
            {"authority": "proposal", "flag": True, "governs": False, "id": "shadow.b", "outcome": "prohibited"},
        ],
        "text": governing,
        "enforced": governing,
        "governing": governing,
        "flagged": False,
        "destination": "DE",
        "eccn": None,
    }
    return made | more


class Journal:
    """Entries of a vector, and the facts of its determined events."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.facts: dict[tuple[int, int], bytes] = {}

    def add(
        self,
        body: bytes,
        *,
        facts: Mapping[int, dict[str, Any]] | None = None,
        kind: str = "otlp",
        arrival: int = NOW,
        emitter: str = "gateway",
        encoding: str = "otlp_proto",
        authentication: str = "bearer",
    ) -> None:
        offset = len(self.entries)
        self.entries.append(Entry(offset, kind, emitter, authentication, arrival, encoding, body))
        for ordinal, said in (facts or {}).items():
            self.facts[offset, ordinal] = jcs(said)

    def own(self, kind: str, body: Any, arrival: int = NOW) -> None:
        self.add(jcs(body), kind=kind, arrival=arrival, emitter="auditspan", encoding="jcs", authentication="internal")


def access(number: int, sequence: int | None = None, **more: Any) -> bytes:
    """A ``model.access`` span."""
    pairs: dict[str, Any] = {
        "audit.event.class": "model.access",
        "audit.record.id": f"record-{number}",
        "audit.action": "chat",
        "audit.outcome": "success",
        "audit.target.id": "model-7b",
        "audit.actor.id": "key:3f",
    }
    if sequence is not None:
        pairs["audit.sequence.number"] = sequence
    return span(number, pairs | more, start=NOW - SECOND, end=NOW)


def ordinary() -> tuple[Log, Journal, list[int]]:
    journal = Journal()
    prohibited = document("prohibited", flagged=True, destination="CN", eccn="4E091")
    journal.add(request(STREAM, [access(1, 0), access(2, 1)]), facts={0: document(), 1: prohibited})
    journal.own("heartbeat", {}, NOW + SECOND)
    other = span(3, {"http.request.method": "GET"}, start=NOW)
    license_ = span(4, {"audit.event.class": "license.granted", "audit.target.id": "D-1"}, start=NOW)
    journal.add(request(FOREIGN, [other, license_]), encoding="otlp_json sha256:" + "cd" * 32)
    long = access(5, 2, **{"audit.target.id": "ü" * 200, "audit.action": "x" * 256, "audit.record.id": ""})
    journal.add(request(STREAM, [long]), facts={0: document("review")}, emitter="g" * 256)
    journal.add(b"", arrival=NOW + 2 * SECOND)
    return LOG, journal, [2, 5]


def strange() -> tuple[Log, Journal, list[int]]:
    journal = Journal()
    good = access(1, 0)
    journal.add(b"\xff\xff", kind="undecodable", encoding="raw")
    journal.add(b"\x0a\x05\x01", encoding="otlp_proto")
    journal.add(delimited(1, delimited(3, b"\xff") + delimited(2, delimited(2, good))))
    twice = delimited(1, delimited(1, STREAM) + delimited(1, FOREIGN) + delimited(2, delimited(2, good)))
    scopes = delimited(2, delimited(1, b"\x0a\x01a") + delimited(1, b"\x0a\x01b") + delimited(2, access(2, 1)))
    plain = delimited(2, delimited(2, access(3, 2)))
    journal.add(twice + delimited(1, delimited(1, STREAM) + scopes + plain), facts={2: document()})
    broken = [
        b"\x0a\xff",
        delimited(5, b"\xff\xfe") + access(4),
        access(5) + varint(20 << 3 | 3) + varint(20 << 3 | 4),
        access(6) + delimited(9, delimited(1, b"\xc3\x28")),
    ]
    journal.add(request(STREAM, broken))
    journal.add(request(delimited(1, delimited(1, b"\xff")), [access(7)]))
    journal.add(request(STREAM, [access(8)], scope=delimited(1, b"\xff")))
    ids = [
        span(9, {}, trace_id=b"\x01" * 15),
        span(9, {}, span_id=b"\x01" * 9),
        span(9, {}, trace_id=bytes(16)),
        span(9, {}, span_id=bytes(8)),
        span(9, {}, trace_id=b"", span_id=b""),
    ]
    journal.add(request(STREAM, ids))
    return LOG, journal, [3, 8]


def attributes_and_classes() -> tuple[Log, Journal, list[int]]:
    journal = Journal()
    kind = ("audit.event.class", "model.access")
    cases: list[tuple[list[tuple[str, Any]], bool]] = [
        ([kind, ("audit.action", 7)], True),
        ([kind, ("audit.action", None)], True),
        ([kind, ("audit.action", ""), ("export_control.quantity", "3")], True),
        ([kind, ("audit.action", "first"), ("audit.action", 2)], True),
        ([kind, ("audit.action", 1), ("audit.action", "second")], True),
        ([kind, ("x", 1), ("x", 2)], True),
        ([kind, ("", 1), ("", 2)], True),
        ([kind, ("export_control.weights_published", True), ("export_control.quantity", -1)], True),
        ([kind, *((f"k{number}", "v") for number in range(1023))], True),
        ([kind, *((f"k{number}", "v") for number in range(1024))], True),
        ([kind, ("x", [["deep", [1.5, b"\x00"]]])], True),
        ([("audit.event.class", "other")], False),
        ([("audit.event.class", "")], False),
        ([("audit.event.class", "audit.batch")], False),
        ([("audit.event.class", "license.")], False),
        ([("audit.event.class", "case.opened"), ("x", 1), ("x", 1)], False),
        ([("audit.event.class", "audit.stream.heartbeat"), ("x", 1), ("x", 1)], False),
        ([("audit.event.class", "export.request"), ("audit.outcome", b"x")], False),
        ([("audit.event.class", 5)], False),
        ([("x", 1), ("x", 1)], False),
        ([("audit.target.id", "nul\0 and ✓")], False),
    ]
    spans = [span(100 + number, pairs, start=NOW) for number, (pairs, _) in enumerate(cases)]
    facts = {number: document() for number, (_, determined) in enumerate(cases) if determined}
    journal.add(request(FOREIGN, spans), facts=facts)
    deep = b""
    for _ in range(200):
        deep = delimited(5, delimited(1, deep))
    nested = access(1) + delimited(9, delimited(1, b"deep") + delimited(2, deep))
    merged = access(2) + delimited(9, delimited(1, b"audit.outcome") + delimited(2, b"\x10\x01"))
    parts = (
        b"\x0a\x01k" + delimited(2, any_value("a").SerializeToString()) + delimited(2, any_value(5).SerializeToString())
    )
    oneof = access(3) + delimited(9, parts)
    unknown = access(4) + delimited(99, b"more") + varint(5 << 3) + b"\x01"
    journal.add(request(FOREIGN, [nested, merged, oneof, unknown]), facts=dict.fromkeys(range(4), document()))
    resources = [
        resource([("audit.source.id", "a"), ("audit.source.id", "b")]),
        resource([("audit.source.id", 5), ("service.name", "x")]),
        resource([("audit.source.id", "")]),
        resource([("audit.source.id", "é" * 64)]),
        resource([("audit.source.id", "é" * 65)]),
        resource([("export_control.end_user", 3)]),
        resource([("audit.action", 3)]),
        b"",
    ]
    for place, one in enumerate(resources):
        journal.add(request(one, [access(200 + place, 0)]), facts={0: document()})
    sequences = [2**53 - 1, 2**53, -1]
    spans = [access(300 + place, sequence) for place, sequence in enumerate(sequences)]
    journal.add(request(STREAM, spans), facts=dict.fromkeys(range(3), document()))
    return LOG, journal, [1, 11]


def times() -> tuple[Log, Journal, list[int]]:
    journal = Journal()
    week, ahead = 7 * DAY, 300 * SECOND
    pairs = {"audit.event.class": "model.transfer"}
    cases = [(NOW - week, 0), (NOW - week - 1, 0), (NOW + ahead, 0), (NOW + ahead + 1, 0), (0, NOW), (0, 0)]
    cases += [(NOW, NOW - 1), (1, 2), (2**64 - 1, 2**64 - 1), (7_258_118_400 * SECOND, 0)]
    spans = [span(10 + number, pairs, start=start, end=end) for number, (start, end) in enumerate(cases)]
    both = {"v": 1, "both": [document("license_required", flagged=True, destination="AE"), document("exception")]}
    lenient = {"v": 1, "both": [document(), document("no_license_required", destination=None)]}
    facts = {0: document(), 1: both, 2: document(), 3: lenient, 4: document(), 5: document(), 6: document("exception")}
    journal.add(request(STREAM, spans), facts=facts | {7: both, 8: lenient, 9: both})
    journal.add(request(STREAM, [span(30, {}, start=1), span(31, {})]))
    return LOG, journal, [2]


def repeats() -> tuple[Log, Journal, list[int]]:
    journal = Journal()
    one = request(STREAM, [access(1, 0), access(2, 1)])
    said = {0: document(), 1: document("license_required")}
    journal.add(one, facts=said)
    journal.add(one)
    other_resource = resource({"audit.source.id": "stream-1", "service.name": "restarted"})
    journal.add(request(other_resource, [access(1, 0)]), facts={0: document()})
    journal.add(request(STREAM, [access(9, 0)]), facts={0: document("prohibited", flagged=True)})
    journal.add(request(other_resource, [access(9, 0), access(1, 0)]), facts={0: document()})
    journal.add(one, emitter="someone else", facts=said)
    foreign = request(FOREIGN, [access(50), span(51, {}, start=NOW)])
    journal.add(foreign, facts={0: document()})
    later = {"v": 1, "both": [document(), document()]}
    journal.add(request(b"", [access(50), span(51, {}, start=NOW)]), facts={0: later}, arrival=NOW + 7 * DAY)
    changed = span(51, {"audit.event.class": "license.used"}, start=NOW)
    journal.add(request(FOREIGN, [access(50, **{"x": 1}), changed]), facts={0: document()}, arrival=NOW + 3 * DAY)
    journal.add(foreign, arrival=NOW + 7 * DAY)
    journal.add(foreign, facts={0: later}, arrival=NOW + 14 * DAY + 1)
    journal.add(foreign, arrival=NOW + 14 * DAY + 2)
    suspect = span(60, {"audit.event.class": "case.opened"}, start=NOW)
    journal.add(request(FOREIGN, [suspect]) + request(STREAM, [suspect]))
    return LOG, journal, [2, 4, 9, 13]


def gaps() -> tuple[Log, Journal, list[int]]:
    journal = Journal()
    minute = 60 * SECOND

    def come(*sequences: int, at: int, stream: str = "stream-1", emitter: str = "gateway") -> None:
        source = resource({"audit.source.id": stream})
        spans = [span(1000 + number, {"audit.sequence.number": number}, start=NOW) for number in sequences]
        journal.add(request(source, spans), arrival=NOW + at, emitter=emitter)

    come(2, 9, at=0)
    come(5, at=1)
    come(3, 1, at=minute - 1, stream="stream-2", emitter="b")
    come(0, at=minute - 1)
    come(20, at=minute)
    come(6, 8, at=minute + 1)
    come(7, 4, 8, at=minute + 2)
    come(0, at=3 * minute, stream="stream-2", emitter="b")
    journal.own("heartbeat", {}, NOW + 4 * minute)
    come(15, 10, 19, at=5 * minute)
    come(2**53 - 1, at=5 * minute, stream="stream-3", emitter="a" * 256)
    journal.own("heartbeat", {}, NOW + 9 * minute)
    return LOG, journal, [1, 3, 5, 6, 7, 9, 12]


def lost() -> tuple[Log, Journal, list[int]]:
    """Retention took what was not sealed: at the very beginning, and between two batches, where a stream has a hole."""
    journal = Journal()
    for number in range(12):
        journal.add(
            request(STREAM, [access(number, number)]), facts={0: document()}, arrival=NOW + number * 30 * SECOND
        )
    for offset in (0, 1, 2, 5, 6, 7, 8):
        journal.facts.pop((offset, 0))
    journal.entries = [entry for entry in journal.entries if entry.offset in (3, 4, 9, 10, 11)]
    return LOG, journal, [3, 5, 9, 12]


def control() -> tuple[Log, Journal, list[int]]:
    journal = Journal()

    def say(name: str, body: Any, arrival: int = NOW, actor: str = "auditspan") -> None:
        journal.own("control", {"class": name, "actor": actor, "body": body}, arrival)

    for log in (CONTROL, LOG):
        opened = {name: getattr(log, name) for name in ("deployment", "journal", "log_id", "partition", "generation")}
        say("audit.log.opened", opened, CONTROL.opened_at)
    key = base64.b64encode(public_key(SIGNING_KEY)).decode()
    say("audit.key.added", {"algorithm": "Ed25519", "public_key": key})
    say("audit.reference.activated", EPOCH, actor="officer@example.org")
    root = hashlib.sha256(b"").digest()
    note = checkpoint_note(LOG.deployment, LOG.log_id, 0, root, SIGNING_KEY)
    checkpoint = {"log_id": LOG.log_id, "size": 0, "root": base64.b64encode(root).decode(), "note": note}
    say("audit.checkpoint", {"checkpoints": [checkpoint]}, NOW + SECOND)
    journal.own("heartbeat", {}, NOW)
    query = {"from": str(NOW), "to": str(NOW + DAY), "where": "flagged = true", "manifest_sha256": "ef" * 32}
    say("evidence.exported", query | {"intervals": [[LOG.log_id, 0, 10]]}, NOW + 2 * SECOND, "auditor ✓")
    return CONTROL, journal, [4, 7]


def activated() -> tuple[Log, Journal, list[int]]:
    """An officer's epoch after that of a start, another officer's that came second, and that of a later version."""
    journal = Journal()
    actors = ("system:auditspan", "officer:m.berger", "officer:l.ito", "system:auditspan")
    for actor, body in zip(actors, (EPOCH, ACTIVATED, IN_VAIN, STARTED), strict=True):
        said = {"class": "audit.reference.activated", "actor": actor, "body": body}
        journal.own("control", said, NOW + SECOND * len(journal.entries))
        journal.own("heartbeat", {}, NOW + SECOND * len(journal.entries))
    return CONTROL, journal, [2, 3, 6, 8]


def closed() -> tuple[Log, Journal, list[int]]:
    """The last log of its kind: one hole is declared, two are younger than a minute when it ends."""
    journal = Journal()
    minute = 60 * SECOND
    journal.add(request(STREAM, [access(n + 1, n) for n in (0, 1, 4)]), facts=dict.fromkeys(range(3), document()))
    journal.add(request(STREAM, [access(8, 7)]), facts={0: document()}, arrival=NOW + minute)
    journal.add(request(FOREIGN, [access(50), span(51, {}, start=NOW)]), facts={0: document()}, arrival=NOW + minute)
    other = resource({"audit.source.id": "stream-0"})
    journal.add(request(other, [access(9, 3)]), facts={0: document()}, arrival=NOW + 2 * minute - 1)
    return OLD, journal, [1, 3, 4]


def unused() -> tuple[Log, Journal, list[int]]:
    """A log to whose partition nothing came, closed."""
    return UNUSED, Journal(), []


def successor() -> tuple[Log, Journal, list[int]]:
    """The next generation after ``closed`` and ``unused``: what they sealed comes again, and what they missed."""
    journal = Journal()
    minute = 60 * SECOND
    journal.own("heartbeat", {}, NOW)
    again = [access(1, 0), access(9, 1), access(4, 3), access(9, 8)]
    journal.add(request(STREAM, again), facts=dict.fromkeys((1, 2, 3), document()), arrival=NOW + minute)
    journal.add(request(RESTARTED, [access(5, 4), access(6, 5)]), facts=dict.fromkeys((0, 1), document()))
    changed = span(51, {"audit.event.class": "license.used"}, start=NOW)
    journal.add(request(FOREIGN, [access(50), changed]), arrival=NOW + 2 * minute)
    journal.add(request(STREAM, [access(12, 11)]), facts={0: document()}, arrival=NOW + 3 * minute)
    later = {"v": 1, "both": [document(), document()]}
    journal.add(request(FOREIGN, [access(50)]), arrival=NOW + minute + 7 * DAY)
    journal.add(request(FOREIGN, [access(50)]), facts={0: later}, arrival=NOW + minute + 7 * DAY + 1)
    journal.add(request(FOREIGN, [access(50)]), arrival=NOW + minute + 7 * DAY + 2)
    return NEXT, journal, [1, 3, 4, 8]


VECTORS: dict[str, Callable[[], tuple[Log, Journal, list[int]]]] = {
    "activated": activated,
    "attributes": attributes_and_classes,
    "closed": closed,
    "control": control,
    "gaps": gaps,
    "lost": lost,
    "ordinary": ordinary,
    "repeats": repeats,
    "strange": strange,
    "successor": successor,
    "times": times,
    "unused": unused,
}
EPOCHS = {"activated": [(0, ""), *((body["number"], epoch_digest(body)) for body in (EPOCH, ACTIVATED, STARTED))]}
"""Vectors in which the epoch changes, and the epoch of each of their batches."""
CLOSED = {"closed": 3, "unused": 3}
"""Vectors of logs that are closed, and how many logs the next generation has."""
EARLIER = {"successor": ("closed", "unused")}
"""Vectors of later generations, and those of the logs of earlier ones."""


def inputs(name: str) -> tuple[Log, Journal, list[Batch]]:
    log, journal, ends = VECTORS[name]()
    # The first batch of the ordinary vector is from before an epoch was activated.
    batches = [
        Batch(end, 0, "", "auditspan 0")
        if name == "ordinary" and end == ends[0]
        else Batch(end, 1, DIGEST, "auditspan 0")
        for end in ends
    ]
    if name in EPOCHS:
        epochs = EPOCHS[name]
        batches = [Batch(end, *epoch, "auditspan 0") for end, epoch in zip(ends, epochs, strict=True)]
    if name in CLOSED:
        batches.append(Batch(len(journal.entries), 1, DIGEST, "auditspan 0", CLOSED[name]))
    return log, journal, batches


def derived_of(name: str) -> Derived:
    log, journal, batches = inputs(name)
    earlier = [derived_of(one) for one in EARLIER.get(name, ())]
    return derive(log, journal.entries, batches, SALT_KEY, journal.facts, earlier)


def made(name: str) -> dict[str, Any]:
    """One vector: inputs, and what comes of them."""
    log, journal, batches = inputs(name)
    derived = derived_of(name)
    tree, size = Tree(derived.leaves), len(derived.leaves)
    ranges = sorted(
        {(0, 0), (0, size), (size // 3, 2 * size // 3), (1, size), (size - 1, size), (size // 2, size // 2)}
    )
    earlier = {"earlier": list(EARLIER[name])} if name in EARLIER else {}
    return earlier | {
        "log": vars(log) | {"opened_at": str(log.opened_at)},
        "salt_key": SALT_KEY.hex(),
        "entries": [_entry(entry) for entry in journal.entries],
        "batches": [
            {key: value for key, value in vars(batch).items() if key != "successor" or value is not None}
            for batch in batches
        ],
        "facts": [[*position, said.decode()] for position, said in sorted(journal.facts.items())],
        "leaves": [leaf.decode() for leaf in derived.leaves],
        "roots": [_base64(tree.root(end)) for end in range(size + 1)],
        "range_proofs": [_range(tree, begin, end, size) for begin, end in ranges],
        "signing_key": SIGNING_KEY.hex(),
        "checkpoint": checkpoint_note(log.deployment, log.log_id, size, tree.root(size), SIGNING_KEY),
    }


def _entry(entry: Entry) -> dict[str, Any]:
    return vars(entry) | {"arrival_time": str(entry.arrival_time), "body": _base64(entry.body)}


def _range(tree: Tree, begin: int, end: int, size: int) -> dict[str, Any]:
    left, right = tree.range_proof(begin, end, size)
    return {"begin": begin, "end": end, "size": size, "left": _all(left), "right": _all(right)}


def _all(hashes: Sequence[bytes]) -> list[str]:
    return [_base64(digest) for digest in hashes]


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def written(vector: Mapping[str, Any]) -> str:
    """The text of a vector's file."""
    return json.dumps(vector, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name in VECTORS:
        Path(__file__).with_name(f"{name}.json").write_text(written(made(name)), encoding="utf-8")
