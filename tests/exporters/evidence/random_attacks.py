"""Attacks at random places of a package, each with the code and the leaves that must be found."""

from __future__ import annotations

import base64
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from auditspan.exporters.evidence.layout import HEADER_NAMES, PAYLOAD_NAMES
from auditspan.exporters.evidence.report import Report
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tampering import Rows, header, repair, rows_of, write_rows

__all__ = ["ATTACKS", "MANIFEST_ATTACKS", "Found", "attacked"]


@dataclass(frozen=True)
class Found:
    """What a verifier must find: a code, and the leaf where there is one."""

    attack: str
    code: str
    leaf: tuple[str, int] | None

    def is_in(self, report: Report) -> bool:
        """Whether a report says so, and says so by its verdict."""
        places = [fault.leaf for fault in report.faults if fault.code == self.code]
        return report.exit_code == 1 and bool(places) and (self.leaf is None or self.leaf in places)


@dataclass
class Target:
    """A file of leaves that is attacked. ``place`` is the row that an attack is aimed at."""

    log_id: str
    side: str
    rows: Rows
    place: int
    chance: random.Random

    @property
    def row(self) -> dict[str, Any]:
        return self.rows[self.place]

    @property
    def leaf(self) -> tuple[str, int]:
        return self.log_id, self.row["leaf_index"]


Attack = Callable[[Target], tuple[str, tuple[str, int] | None] | None]
"""Changes rows; the code and the leaf, or None where it cannot be done here."""


def _flipped(value: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(value))
    return value[:at] + bytes([value[at] ^ (1 << chance.randrange(8))]) + value[at + 1 :]


def flip_header(it: Target) -> tuple[str, None]:
    it.row["header"] = _flipped(it.row["header"], it.chance)
    return "range.root", None


def _flip(column: str) -> Attack:
    def act(it: Target) -> tuple[str, tuple[str, int]] | None:
        if not it.row.get(column):
            return None
        it.row[column] = _flipped(it.row[column], it.chance)
        return f"{'payload' if column == 'salt' else column}.hash", it.leaf

    return act


def remove(column: str, code: str) -> Attack:
    def act(it: Target) -> tuple[str, tuple[str, int]] | None:
        if it.row.get(column) is None:
            return None
        it.row[column] = None
        return code, it.leaf

    return act


def delete(it: Target) -> tuple[str, tuple[str, int]]:
    leaf = it.leaf
    count = min(it.chance.choice((1, 1, 3, 10)), len(it.rows) - it.place)
    following = it.rows[it.place : it.place + count]
    # The other side of the query may hold leaves between them.
    del it.rows[it.place : it.place + count]
    assert following[0]["leaf_index"] == leaf[1]
    return "leaf.missing", leaf


def truncate(it: Target) -> tuple[str, tuple[str, int]]:
    leaf = it.leaf
    del it.rows[it.place :]
    return "leaf.missing", leaf


def repeat(it: Target) -> tuple[str, tuple[str, int]]:
    it.rows.insert(it.place, dict(it.row))
    return "leaf.duplicate", it.leaf


def exchange(it: Target) -> tuple[str, tuple[str, int]] | None:
    if it.place == 0:
        return None
    before = it.place - 1
    it.rows[before], it.rows[it.place] = it.rows[it.place], it.rows[before]
    return "leaf.order", it.leaf


def exchange_and_renumber(it: Target) -> tuple[str, None] | None:
    if it.place == 0:
        return None
    one, other = it.rows[it.place - 1], it.row
    one["leaf_index"], other["leaf_index"] = other["leaf_index"], one["leaf_index"]
    it.rows[it.place - 1], it.rows[it.place] = other, one
    return "range.root", None


def exchange_payloads(it: Target) -> tuple[str, tuple[str, int]] | None:
    others = [row for row in it.rows if row.get("payload") and row is not it.row]
    if not others or not it.row.get("payload"):
        return None
    other = it.chance.choice(others)
    for column in ("payload", "salt"):
        it.row[column], other[column] = other[column], it.row[column]
    return "payload.hash", it.leaf


def column(it: Target) -> tuple[str, tuple[str, int]] | None:
    if it.side == "withheld":
        return None
    name = it.chance.choice((*HEADER_NAMES, *PAYLOAD_NAMES))
    value = it.row[name]
    if isinstance(value, bool):
        it.row[name] = not value
    elif isinstance(value, list):
        it.row[name] = [*value, "another"]
    elif isinstance(value, str) or value is None:
        it.row[name] = _another(name, value)
    elif isinstance(value, int):
        it.row[name] = value + 1
    else:
        it.row[name] = None
    return "column.mismatch", it.leaf


def _another(name: str, value: str | None) -> Any:
    if name in ("sequence", "reference_epoch"):
        return 7
    if name in ("event_time", "arrival_time"):
        return 7
    return "another" if value != "another" else None


def another_log(it: Target) -> tuple[str, tuple[str, int]]:
    header(it.row, log_id="0" * 32)
    return "leaf.log_id", it.leaf


def no_header(it: Target) -> tuple[str, tuple[str, int]]:
    it.row["header"] = it.chance.choice((b"", b"{}", b"[" * 50_000, b'{"action":null}', b"\xff", b"null"))
    return "leaf.malformed", it.leaf


ATTACKS: dict[str, Attack] = {
    "a bit of a header": flip_header,
    "a bit of a payload": _flip("payload"),
    "a bit of a salt": _flip("salt"),
    "a bit of facts": _flip("facts"),
    "no payload": remove("payload", "payload.hash"),
    "no salt": remove("salt", "salt.missing"),
    "no facts": remove("facts", "facts.hash"),
    "leaves gone": delete,
    "the tail gone": truncate,
    "a leaf twice": repeat,
    "two exchanged": exchange,
    "two exchanged and renumbered": exchange_and_renumber,
    "payloads exchanged": exchange_payloads,
    "a typed column": column,
    "a leaf of another log": another_log,
    "no header": no_header,
}


def _drop_log(predicate: dict[str, Any], chance: random.Random) -> str | None:
    if not predicate["logs"]:
        return None
    predicate["logs"].pop(chance.randrange(len(predicate["logs"])))
    return "log.missing"


def _another_checkpoint(predicate: dict[str, Any], chance: random.Random) -> str | None:
    logs = [*predicate["logs"], predicate["control"]]
    if len(logs) < 2:
        return None
    one, other = chance.sample(logs, 2)
    one["checkpoint"] = other["checkpoint"]
    return "checkpoint.origin"


def _another_proof(predicate: dict[str, Any], chance: random.Random) -> str | None:
    proofs = [
        log["range_proof"][side]
        for log in (*predicate["logs"], predicate["control"])
        for side in ("left", "right")
        if log["range_proof"][side]
    ]
    if not proofs:
        return None
    proof = chance.choice(proofs)
    place = chance.randrange(len(proof))
    proof[place] = base64.b64encode(_flipped(base64.b64decode(proof[place]), chance)).decode()
    return "range.root"


def _another_count(predicate: dict[str, Any], chance: random.Random) -> str:
    predicate["counts"][chance.choice(("leaves", "selected", "withheld", "flagged"))] += 1
    return "manifest.malformed"


MANIFEST_ATTACKS: dict[str, Callable[[dict[str, Any], random.Random], str | None]] = {
    "a log less": _drop_log,
    "a checkpoint of another log": _another_checkpoint,
    "another proof": _another_proof,
    "other counts": _another_count,
}


def attacked(
    package: Path, key: Ed25519PrivateKey, chance: random.Random, folder: Path, attacks: int
) -> Iterator[tuple[Path, Found]]:
    """Copies of a package, each with one attack by somebody who has the key and repairs the manifest."""
    for number in range(attacks):
        copy = folder / f"attack-{number}"
        shutil.copytree(package, copy)
        try:
            found = _attack(copy, key, chance)
            if found is not None:
                yield copy, found
        finally:
            shutil.rmtree(copy)


def _attack(folder: Path, key: Ed25519PrivateKey, chance: random.Random) -> Found | None:
    name = chance.choice(sorted((*ATTACKS, *MANIFEST_ATTACKS, _HIDE)))
    if name in MANIFEST_ATTACKS:
        codes: list[str | None] = []
        repair(folder, key, lambda predicate: codes.append(MANIFEST_ATTACKS[name](predicate, chance)))
        return None if codes[0] is None else Found(name, codes[0], None)
    if name == _HIDE:
        found = _hide(folder, chance)
    else:
        files = sorted(path for path in folder.rglob("*.parquet") if pq.read_metadata(path).num_rows)
        if not files:
            return None
        path = chance.choice(files)
        rows = rows_of(path)
        target = Target(path.name[:32], path.parent.name, rows, chance.randrange(len(rows)), chance)
        found = ATTACKS[name](target)
        write_rows(path, target.rows)
    repair(folder, key)
    return None if found is None else Found(name, *found)


_HIDE: Final = "an event moved to withheld"


def _hide(folder: Path, chance: random.Random) -> tuple[str, tuple[str, int]] | None:
    for path in sorted((folder / "withheld").glob("*.parquet")):
        events = folder / "events" / path.name
        shown = rows_of(events) if events.exists() else []
        places = [place for place, row in enumerate(shown) if row["payload"] is not None]
        if places:
            row = shown.pop(chance.choice(places))
            write_rows(events, shown)
            write_rows(path, sorted([*rows_of(path), row], key=lambda each: each["leaf_index"]))
            return "selection.omitted", (path.name[:32], row["leaf_index"])
    return None
