"""Flagged events for SIEMs: one JSON document each, of the same bytes however often it is published.

At least once: a batch's documents are published after the batch was read back and before the next one is begun, and a
process that takes a log over publishes its last batch again. Readers tell repetitions by the key, the record id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, Protocol

from auditspan.canonical import canonical_json
from auditspan.store.contract import Store

__all__ = ["FlaggedPublisher", "flagged_documents", "publish_flagged"]

_AT_ONCE: Final = 1000
_FLAGGED: Final = """
SELECT leaf_index, header, citations, why, actor_id, actor_type, target_id, target_type, client_address, service_name,
       trace_id, span_id
FROM auditspan.events
WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64} AND flagged
ORDER BY leaf_index LIMIT {most:UInt64}
"""
_FROM_HEADER: Final = (
    "record_id", "class", "event_time", "arrival_time", "action", "outcome", "asset", "eccn", "destination",
    "determination", "rule_ids", "faults", "emitter", "authentication", "stream", "sequence", "log_id",
    "reference_epoch",
)  # fmt: skip


class FlaggedPublisher(Protocol):
    """Where flagged events go besides the store. Safe to call from several threads."""

    def publish(self, documents: Sequence[tuple[bytes, bytes]]) -> None:
        """Publish ``(key, document)`` pairs in order; durable when it returns.

        Raises:
            JournalUnavailable: it is not known which got through; publishing all of them again is right.
        """

    def close(self) -> None:
        """Let go of the connection."""


def publish_flagged(store: Store, publisher: FlaggedPublisher, log_id: str, begin: int, end: int) -> int:
    """Publish what is flagged among leaves ``[begin, end)``, as the store shows it; how many that were.

    Raises:
        StoreUnavailable: the store cannot be read now.
        JournalUnavailable: the publisher could not publish. Both: nothing is lost by trying again.
    """
    published = 0
    while begin < end:
        rows = store.query(_FLAGGED, {"log_id": log_id, "begin": begin, "end": end, "most": _AT_ONCE}).to_pylist()
        if not rows:
            break
        publisher.publish(flagged_documents(rows))
        published += len(rows)
        begin = int(rows[-1]["leaf_index"]) + 1
    return published


def flagged_documents(rows: Sequence[dict[str, Any]]) -> list[tuple[bytes, bytes]]:
    """``(record id, canonical JSON)`` of rows of the table of events.

    Sealed fields come from the header, under its names and in its forms (times are nanoseconds as decimal text). The
    rest is derived from the payload; an empty text is left out.
    """
    documents = []
    for row in rows:
        header = json.loads(row["header"])
        document = {name: header[name] for name in _FROM_HEADER}
        document |= {name: value for name, value in row.items() if name != "header" and value != ""}
        record_id = header["record_id"]
        key = record_id if isinstance(record_id, str) else record_id["sha256"]
        documents.append((key.encode(), canonical_json(document)))
    return documents
