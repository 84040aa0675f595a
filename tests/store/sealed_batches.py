from __future__ import annotations

import hashlib
import json

import pyarrow as pa

from auditspan.store.contract import SealedBatch
from auditspan.store.schema import EVENTS

LOG = "00112233445566778899aabbccddeeff"
OTHER_LOG = "ffeeddccbbaa99887766554433221100"
ARRIVAL = 1_795_500_000_000_000_000


def event_row(index: int, *, log_id: str = LOG, salt: str = "", **values: object) -> dict[str, object]:
    """One event leaf as a row of EVENTS; ``values`` override columns."""
    digest = hashlib.sha256(f"{log_id}/{index}/{salt}".encode()).digest()
    row: dict[str, object] = dict.fromkeys(EVENTS.names)
    row |= {
        "leaf_index": index,
        "sealing_month": 202611,
        "header": json.dumps({"leaf": index, "salt": salt}).encode(),
        "payload": b"\x00\x00\x00\x00\xff\xfe" + digest,
        "salt": digest,
        "facts": b'{"v":1}',
        "log_id": log_id,
        "class": "model.access",
        "record_id": f"record-{index}",
        "emitter": "gateway",
        "stream": "stream-1",
        "sequence": index,
        "event_time": ARRIVAL + index,
        "arrival_time": ARRIVAL + index,
        "time_basis": "event",
        "flagged": False,
        "rule_ids": [],
        "missing_facts": [],
        "faults": [],
        "reference_epoch": 1,
        "trace_id": digest[:16],
        "span_id": digest[16:24],
        "actor_id": "actor",
    }
    return row | values


def batch_row(index: int, *, log_id: str = LOG, watermark: int = ARRIVAL, salt: str = "") -> dict[str, object]:
    """An ``audit.batch`` leaf as a row of EVENTS."""
    row: dict[str, object] = dict.fromkeys(EVENTS.names)
    return row | {
        "leaf_index": index,
        "sealing_month": 202611,
        "header": json.dumps({"class": "audit.batch", "leaf": index, "salt": salt}).encode(),
        "log_id": log_id,
        "class": "audit.batch",
        "arrival_time": watermark,
        "flagged": False,
        "rule_ids": [],
        "missing_facts": [],
        "faults": [],
        "reference_epoch": 1,
    }


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    columns = []
    for field in EVENTS:
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        array = pa.array([row[field.name] for row in rows], kind)
        columns.append(array.dictionary_encode() if pa.types.is_dictionary(field.type) else array)
    return pa.table(columns, schema=EVENTS)


def sealed(first: int, events: int, *, log_id: str = LOG, salt: str = "") -> SealedBatch:
    """``events`` event leaves and the batch leaf after them."""
    rows = [event_row(first + place, log_id=log_id, salt=salt) for place in range(events)]
    rows.append(batch_row(first + events, log_id=log_id, salt=salt))
    return SealedBatch(log_id, first, table_of(rows))
