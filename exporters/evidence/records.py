"""Single records of a verified package, with what proves each: for whoever prints them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import log_origin

from .headers import ParsedHeaders, parse_headers
from .layout import EVENT_FILE, PAYLOAD_NAMES, WITHHELD_FILE
from .leaf_files import LeafFiles
from .package import Package
from .query import Query
from .report import Faults
from .statement import LogEvidence, Manifest
from .windows import Window, merge

__all__ = ["MOST_RECORDS", "Record", "TooManyRecords", "select_records"]

MOST_RECORDS: Final = 500
"""Records that are given at once."""


class TooManyRecords(AuditSpanError):
    """More records match than can be printed at once."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event of a package. ``sent`` are its typed columns from the payload, ``facts`` its facts document.

    Both are None where the package holds the header alone.
    """

    log_id: str
    partition: str
    leaf_index: int
    header: dict[str, Any]
    leaf_hash: str
    sent: dict[str, Any] | None
    facts: dict[str, Any] | None
    origin: str
    checkpoint_size: int
    checkpoint_root: str


def select_records(
    package: Package, manifest: Manifest, *, record_id: str | None = None, query: Query | None = None
) -> list[Record]:
    """The events of a verified package with this record id, or that a query selects, or all.

    Raises:
        TooManyRecords: more than `MOST_RECORDS` match; says how many.
    """
    found: list[Record] = []
    matching = 0
    for log in manifest.logs:
        for window in _windows(package, manifest, log):
            parsed = parse_headers(window.headers)
            rows = np.flatnonzero(_wanted(parsed, record_id, query))
            matching += len(rows)
            if matching <= MOST_RECORDS:
                found += _records(manifest, log, window, rows)
    if matching > MOST_RECORDS:
        raise TooManyRecords(
            f"{matching:,} records match, and at most {MOST_RECORDS} are printed at once.",
            remedy="Narrow the query, for example by arrival_time, and print several documents.",
        )
    return found


def _windows(package: Package, manifest: Manifest, log: LogEvidence) -> Any:
    faults, signed = Faults(), frozenset(manifest.subjects)
    sides = [
        LeafFiles(package, log.log_id, log.files.get(side, ()), schema, signed, faults).pieces()
        for side, schema in (("events", EVENT_FILE), ("withheld", WITHHELD_FILE))
    ]
    return merge(log.log_id, log.begin, log.end, sides[0], sides[1], faults)


def _wanted(parsed: ParsedHeaders, record_id: str | None, query: Query | None) -> npt.NDArray[np.bool_]:
    events = parsed.events()
    if record_id is not None:
        same = pc.fill_null(pc.equal(parsed.table["record_id"], record_id), False)
        events &= same.to_numpy(zero_copy_only=False)
    if query is not None:
        events &= query.select(parsed.table).to_numpy(zero_copy_only=False)
    return events


def _records(manifest: Manifest, log: LogEvidence, window: Window, rows: npt.NDArray[np.int64]) -> list[Record]:
    _, size, root = log.checkpoint.split("\n")[:3]
    # Of the leaves that are shown, the rows stand beside their columns in the same order.
    place = np.cumsum(window.revealed) - 1
    made = []
    for row in rows.tolist():
        leaf = window.headers[row].as_py()
        shown = bool(window.revealed[row])
        made.append(
            Record(
                log_id=log.log_id,
                partition=log.partition,
                leaf_index=int(window.index[row]),
                header=json.loads(leaf),
                leaf_hash=hashlib.sha256(b"\x00" + leaf).hexdigest(),
                sent=_sent(window.events, int(place[row])) if shown else None,
                facts=_facts(window.events, int(place[row])) if shown else None,
                origin=log_origin(manifest.deployment, log.log_id),
                checkpoint_size=int(size),
                checkpoint_root=root,
            )
        )
    return made


def _sent(events: pa.RecordBatch, row: int) -> dict[str, Any]:
    return {name: events[name][row].as_py() for name in PAYLOAD_NAMES}


def _facts(events: pa.RecordBatch, row: int) -> dict[str, Any] | None:
    document = events["facts"][row].as_py()
    return None if document is None else dict(json.loads(document))
