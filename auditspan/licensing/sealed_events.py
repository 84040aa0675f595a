"""Sealed events that need a license, as a store gives them back, and what of each a license turns on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from auditspan import semconv
from auditspan.ledger.payloads import split_payloads
from auditspan.otlp.values import key_values, run_of
from auditspan.otlp.wire import FIELD_1, WireError, content, fields
from auditspan.policy.facts import UNDECLARED
from auditspan.policy.parties import Parties, Party
from auditspan.policy.recompute import times_of
from auditspan.store.contract import Store

from .allocation import Event, Named

__all__ = ["events_in", "read_events"]

_SPAN_ATTRIBUTES: Final = 0x4A
"""Tag of field 9 of a Span, length-delimited."""
_LARGEST_PAYLOAD: Final = 256 << 10

# An intent may not come to pass, and what failed or was refused did not: what is done takes of a license. An event that
# may be the repetition of another does not. A span that is not of a class that was judged has no determination.
_EVENTS: Final = f"""
SELECT log_id, leaf_index, record_id, class, time_basis, reference_epoch, CAST(facts, 'String') AS document,
       if(length(events.payload) > {_LARGEST_PAYLOAD}, '', events.payload) AS payload,
       ifNull(toUnixTimestamp64Nano(events.event_time), toInt64(0)) AS event,
       ifNull(toUnixTimestamp64Nano(events.arrival_time), toInt64(0)) AS arrival
FROM auditspan.events
WHERE log_id = {{log_id:String}} AND leaf_index >= {{begin:UInt64}} AND leaf_index < {{end:UInt64}}
  AND determination = 'license_required' AND reference_epoch IN {{epochs:Array(Int64)}}
  AND outcome NOT IN ('started', 'failure', 'denied') AND NOT has(faults, 'duplicate_suspect')
  AND (class IN ('model.transfer', 'accelerator.transfer', 'accelerator.provision')
       OR class = 'model.access' AND position(facts, '"declared_license":"undeclared"') = 0)
ORDER BY leaf_index LIMIT {{limit:UInt32}}
"""  # noqa: S608 - composed of constants; values are parameters


def read_events(
    store: Store, log_id: str, begin: int, end: int, epochs: Sequence[int], limit: int
) -> list[Mapping[str, Any]]:
    """Rows of the first ``limit`` events of leaves ``[begin, end)`` of a log that may ask for a license.

    Transfers and provisionings that were judged under one of ``epochs`` to need one, and accesses that declare one.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    given = {"log_id": log_id, "begin": begin, "end": end, "epochs": list(epochs), "limit": limit}
    rows: list[Mapping[str, Any]] = store.query(_EVENTS, given).to_pylist()
    return rows


def events_in(rows: Sequence[Mapping[str, Any]], parties_of: Mapping[int, Parties]) -> list[Event]:
    """The events of ``rows``; ``parties_of`` has the party registry of each of their reference epochs."""
    parts = split_payloads(pa.array([row["payload"] for row in rows], pa.binary()))
    resources, spans = parts.resource.to_pylist(), parts.span.to_pylist()
    return [
        _event(
            row, parties_of[row["reference_epoch"]], _attributes(resource, FIELD_1), _attributes(span, _SPAN_ATTRIBUTES)
        )
        for row, resource, span in zip(rows, resources, spans, strict=True)
    ]


def _event(row: Mapping[str, Any], parties: Parties, resource: Mapping[str, Any], span: Mapping[str, Any]) -> Event:
    document = json.loads(row["document"])
    # Judged at two times, an event has one document for each; what a license turns on is the same in both.
    document = document["both"][-1] if "both" in document else document
    facts = document["facts"]
    stated = _text(span.get(semconv.END_USER)) or _text(resource.get(semconv.END_USER))
    end_user = _named(parties.by_id(facts.get("end_user_party")), stated)
    consignee = _text(span.get(semconv.CONSIGNEE))
    declared = facts.get("declared_license")
    declared_eccn = facts.get("declared_eccn")
    return Event(
        log_id=row["log_id"],
        leaf_index=row["leaf_index"],
        record_id=row["record_id"],
        event_class=row["class"],
        epoch=row["reference_epoch"],
        times=times_of(row["time_basis"], row["event"], row["arrival"]),
        exporter=_named(parties.by_id(facts.get("exporter"))),
        end_user=end_user,
        # Nobody else is named: the end user receives it himself. What cannot be read may name somebody.
        consignee=_named(parties.named(consignee), consignee) if consignee else end_user if span else Named(),
        eccn=document.get("eccn") or ("" if declared_eccn in (None, UNDECLARED) else declared_eccn),
        accelerator=facts.get("accelerator_model") or "",
        model=_model(facts),
        quantity=_accelerators(facts),
        # Declared in a form that nobody can read, it is declared all the same: no license is to be chosen for it.
        declared=None if declared == UNDECLARED else declared or "",
    )


def _accelerators(facts: Mapping[str, Any]) -> int | None:
    """How many accelerators: the quantity counts accelerators, or instances with so many each."""
    quantity, per_unit = facts.get("quantity"), facts.get("accelerators_per_unit")
    if not isinstance(quantity, int) or per_unit == 0:
        return None  # not said, or fractions of accelerators
    return quantity * (per_unit or 1)


def _model(facts: Mapping[str, Any]) -> str:
    model = facts.get("model")
    return model if isinstance(model, str) and model != UNDECLARED else ""


def _named(party: Party | None, stated: str = "") -> Named:
    """A party of the registry by id and name; or what an event states, which the registry does not know."""
    return Named.of(party.id, party.name) if party is not None else Named.of(stated)


def _attributes(message: bytes, tag: int) -> dict[str, Any]:
    """Attributes of a resource or a span; none where it does not parse."""
    try:
        found = [content(message, place) for one, place in fields(message, 0, len(message)) if one == tag]
        return key_values(b"".join(map(run_of, found)))
    except (WireError, ValueError):
        return {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
