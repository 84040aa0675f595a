"""One stored event with its determination, to be argued again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from auditspan.errors import AuditSpanError
from auditspan.store.contract import Store

from .recompute import times_of

__all__ = ["StoredEvent", "find_event"]

_FIND: Final = """
SELECT record_id, log_id, leaf_index, class, time_basis, CAST(facts, 'String') AS document, reference_epoch,
       determination, flagged, faults, ifNull(toUnixTimestamp64Nano(events.event_time), toInt64(0)) AS event,
       ifNull(toUnixTimestamp64Nano(events.arrival_time), toInt64(0)) AS arrival
FROM auditspan.events
WHERE record_id = {record_id:String} AND class NOT IN ('audit.batch')
ORDER BY (document = ''), events.arrival_time, leaf_index LIMIT 3
"""
_LEAF: Final = _FIND.replace(
    "record_id = {record_id:String}", "log_id = {log_id:String} AND leaf_index = {leaf:UInt64}"
)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A judged event. Times are nanoseconds; ``times`` are those at which it is judged."""

    record_id: str
    log_id: str
    leaf: int
    event_class: str
    facts: bytes
    epoch: int
    times: tuple[int, ...]
    determination: str
    flagged: bool
    faults: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `explain --json` says of it."""
        return {
            "record_id": self.record_id,
            "log_id": self.log_id,
            "leaf": self.leaf,
            "class": self.event_class,
            "epoch": self.epoch,
            "determination": self.determination,
            "flagged": self.flagged,
            "faults": list(self.faults),
        }


def find_event(store: Store, name: str) -> StoredEvent:
    """The event with this record id, or at ``LOG_ID/LEAF``; of several with one record id, the first that was judged.

    Raises:
        AuditSpanError: there is none, or it is of a class that is not judged.
    """
    log_id, slash, leaf = name.rpartition("/")
    rows = store.query(_FIND, {"record_id": name}).to_pylist()
    if not rows and slash and leaf.isdigit() and len(leaf) < 19:
        rows = store.query(_LEAF, {"log_id": log_id, "leaf": int(leaf)}).to_pylist()
    if not rows:
        raise AuditSpanError(
            f"There is no event {name!r}.",
            remedy="`auditspan events --json` lists record ids; a leaf may be named as LOG_ID/LEAF.",
        )
    row = rows[0]
    if not row["document"]:
        raise AuditSpanError(
            f"The event {name!r} of class {row['class']} is not judged.",
            remedy="Accesses, transfers, provisionings and inventories are.",
        )
    return StoredEvent(
        row["record_id"],
        row["log_id"],
        row["leaf_index"],
        row["class"],
        row["document"].encode(),
        row["reference_epoch"],
        times_of(row["time_basis"], row["event"], row["arrival"]),
        row["determination"],
        bool(row["flagged"]),
        tuple(row["faults"]),
    )
