"""Columns of the sealed event stream, one place for store, export and verifier.

``header``, ``payload``, ``salt`` and ``facts`` are kept verbatim; every other column is derived from them and can be
rebuilt (``docs/evidence-format.md`` section 14).
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

__all__ = ["DATABASE", "EVENTS", "EVENTS_TABLE", "HEADER_COLUMNS", "PAYLOAD_COLUMNS"]

DATABASE: Final = "auditspan"
EVENTS_TABLE: Final = "events"

_TEXT: Final = pa.dictionary(pa.int32(), pa.string())
_TIME: Final = pa.timestamp("ns", tz="UTC")

HEADER_COLUMNS: Final = pa.schema(
    [
        pa.field("log_id", _TEXT, nullable=False),
        pa.field("class", _TEXT, nullable=False),
        pa.field("record_id", pa.string()),
        pa.field("emitter", _TEXT),
        pa.field("stream", _TEXT),
        pa.field("sequence", pa.int64()),
        pa.field("event_time", _TIME),
        pa.field("arrival_time", _TIME),
        pa.field("time_basis", _TEXT),
        pa.field("action", _TEXT),
        pa.field("outcome", _TEXT),
        pa.field("asset", pa.string()),
        pa.field("eccn", _TEXT),
        pa.field("destination_country", _TEXT),
        pa.field("determination", _TEXT),
        pa.field("flagged", pa.bool_(), nullable=False),
        pa.field("rule_ids", pa.list_(pa.string())),
        pa.field("faults", pa.list_(pa.string())),
        pa.field("reference_epoch", pa.int64()),
    ]
)
"""Typed columns derived from the header. Null: the header says null, or the text is empty."""

PAYLOAD_COLUMNS: Final = pa.schema(
    [
        pa.field("trace_id", pa.binary()),
        pa.field("span_id", pa.binary()),
        pa.field("span_name", _TEXT),
        pa.field("actor_id", _TEXT),
        pa.field("actor_type", _TEXT),
        pa.field("target_id", pa.string()),
        pa.field("target_type", _TEXT),
        pa.field("client_address", _TEXT),
        pa.field("service_name", _TEXT),
    ]
)
"""Typed columns derived from the payload: raw ids here, hexadecimal for whoever reads the store or a package."""

EVENTS: Final = pa.schema(
    [
        pa.field("leaf_index", pa.uint64(), nullable=False),
        pa.field("sealing_month", pa.uint32(), nullable=False),
        pa.field("header", pa.binary(), nullable=False),
        pa.field("payload", pa.binary()),
        pa.field("salt", pa.binary()),
        pa.field("facts", pa.dictionary(pa.int32(), pa.binary())),
        *HEADER_COLUMNS,
        *PAYLOAD_COLUMNS,
        pa.field("citations", _TEXT),
        pa.field("why", _TEXT),
        pa.field("missing_facts", pa.list_(pa.string())),
    ]
)
"""A batch as the processor hands it to the store.

``sealing_month`` is ``YYYYMM`` of the log's arrival watermark; ``citations``, ``why`` and ``missing_facts`` are
rendered from facts and rule packs for whoever reads the store, and are no part of the evidence.
"""
