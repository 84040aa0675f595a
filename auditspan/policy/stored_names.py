"""Who stored events name besides their actor: consignees, end users and final recipients, from their payloads.

The store finds the payloads that name somebody; a name is in no column of it, since it may be a person's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from auditspan import semconv
from auditspan.ledger.payload_attributes import payload_attributes
from auditspan.semconv import EventClass, Outcome
from auditspan.store.contract import Store

__all__ = ["COMPLETED", "NAMED_ROLES", "named_in"]

NAMED_ROLES: Final = {
    "consignee": semconv.CONSIGNEE,
    "end_user": semconv.END_USER,
    "final_recipient": semconv.FINAL_RECIPIENT,
}
"""What somebody is to an event, and the attribute that says who."""

COMPLETED: Final = {
    "transfers": [EventClass.MODEL_TRANSFER.value, EventClass.ACCELERATOR_TRANSFER.value],
    "success": Outcome.SUCCESS.value,
}
"""Parameters of a statement that tells completed transfers from other events."""

_NAMING: Final = """
SELECT payload, record_id, toUnixTimestamp64Nano(assumeNotNull(events.arrival_time)) AS arrival,
       class IN {transfers:Array(String)} AND outcome = {success:String} AS completed,
       simpleJSONExtractString(facts, 'end_user_party') AS end_user_party,
       simpleJSONExtractRaw(facts, 'end_user_listings') AS end_user_listings,
       simpleJSONExtractRaw(facts, 'end_user_possible_listings') AS end_user_possible,
       simpleJSONExtractRaw(facts, 'consignee_listings') AS consignee_listings,
       simpleJSONExtractRaw(facts, 'consignee_possible_listings') AS consignee_possible
FROM auditspan.events
WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64} AND facts != ''
  AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
  AND multiSearchAny(payload, {attributes:Array(String)})
ORDER BY leaf_index
"""
_KEY: Final = ["name", "listings", "possible"]


def named_in(store: Store, log_id: str, begin: int, end: int, since: int) -> Iterator[dict[str, Any]]:
    """Whom leaves ``[begin, end)`` of a log name that arrived from ``since`` on (nanoseconds).

    They are read page after page, since an endpoint bounds every result. An end user that was a party of the registry
    when the event was judged is left out: its facts say so.

    Returns:
        Rows ``role`` (of `NAMED_ROLES`), ``name``, ``listings`` and ``possible`` (of the event's facts, JSON or
        empty), ``events``, ``transfers`` (completed ones), ``since``, ``first_record``, ``until``, ``last_record``.
        A name comes again with every page that has it.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    known = dict.fromkeys(NAMED_ROLES.values(), "string")
    parameters = {"log_id": log_id, "since": since, "attributes": [*NAMED_ROLES.values()], **COMPLETED}
    for batch in store.pages(_NAMING, parameters, begin, end):
        said = payload_attributes(batch.column("payload"), known)
        for role, attribute in NAMED_ROLES.items():
            for row in _grouped(batch, role, said[attribute]):
                yield {"role": role, **row}


def _grouped(batch: pa.RecordBatch, role: str, names: pa.Array) -> list[dict[str, Any]]:
    nothing = pa.array([""] * batch.num_rows, pa.string())
    facts = {
        part: batch.column(f"{role}_{part}").cast(pa.string()) if f"{role}_{part}" in batch.schema.names else nothing
        for part in ("listings", "possible")
    }
    table = pa.table(
        {
            "name": pc.utf8_trim_whitespace(names.cast(pa.string()).fill_null("")),
            **facts,
            "record_id": batch.column("record_id").cast(pa.string()),
            "arrival": batch.column("arrival").cast(pa.int64()),
            "completed": batch.column("completed").cast(pa.int64()),
        }
    )
    wanted = pc.not_equal(table["name"], "")
    if role == "end_user":
        wanted = pc.and_(wanted, pc.equal(batch.column("end_user_party").cast(pa.string()), ""))
    ordered = table.filter(wanted).sort_by("arrival")
    # In one thread, so that "first" and "last" are those of the order.
    grouped = ordered.group_by(_KEY, use_threads=False).aggregate(
        [
            ("arrival", "count"), ("completed", "sum"),
            ("arrival", "min"), ("record_id", "first"), ("arrival", "max"), ("record_id", "last"),
        ]
    )  # fmt: skip
    renamed = {
        "arrival_count": "events", "completed_sum": "transfers", "arrival_min": "since",
        "record_id_first": "first_record", "arrival_max": "until", "record_id_last": "last_record",
    }  # fmt: skip
    rows: list[dict[str, Any]] = grouped.rename_columns(
        [renamed.get(name, name) for name in grouped.schema.names]
    ).to_pylist()
    return rows
