"""What the log reads of a span's attributes and times (section 4 and appendix A)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .wire import Attributes, Span

DAY = 86_400 * 10**9
DETERMINED = {
    "model.access",
    "model.transfer",
    "accelerator.provision",
    "accelerator.transfer",
    "accelerator.inventory",
}
SENT = DETERMINED | {
    "export.request",
    "export.decision",
    "audit.stream.opened",
    "audit.stream.heartbeat",
    "audit.stream.closed",
    "audit.gap",
}
SENT_PREFIXES = ("license.", "provenance.", "evidence.", "case.")

SPAN_STRINGS = [
    "audit.event.class",
    "audit.record.id",
    "audit.action",
    "audit.outcome",
    "audit.target.id",
    "audit.target.type",
    "audit.actor.id",
    "audit.actor.type",
    "user.id",
    "client.address",
    "gen_ai.request.model",
    "gen_ai.response.model",
    "cloud.provider",
    "cloud.region",
    "host.type",
    "export_control.destination.country",
    "export_control.destination.basis",
    "export_control.consignee",
    "export_control.end_user",
    "export_control.ultimate_parent",
    "export_control.eccn",
    "export_control.license",
    "export_control.accelerator.model",
    "export_control.training_operations",
    "export_control.transfer.direction",
    "export_control.break_glass.reason",
]
SPAN_KINDS = (
    dict.fromkeys(SPAN_STRINGS, "string_value")
    | {"audit.sequence.number": "int_value", "export_control.quantity": "int_value"}
    | {"export_control.weights_published": "bool_value"}
)
RESOURCE_KINDS = dict.fromkeys(["audit.source.id", "service.name", "export_control.end_user"], "string_value")


def known(attributes: Attributes, kinds: Mapping[str, str], faults: set[str]) -> dict[str, Any]:
    """The attributes of appendix A that have their type."""
    found = {}
    for key, kind in kinds.items():
        if key in attributes.first:
            sent, value = attributes.first[key]
            if sent == kind:
                found[key] = value
            else:
                faults.add("attribute.wrong_type")
    return found


def class_of(sent: str | None, faults: set[str]) -> str:
    if sent is None:
        return "other"
    if sent in SENT or sent.startswith(SENT_PREFIXES):
        return sent
    faults.add("class.unknown")
    return "other"


def time_of(span: Span, arrival: int, faults: set[str]) -> tuple[int, str]:
    if span.start and span.end and span.end < span.start:
        faults.add("time.end_before_start")
    event = span.start or span.end
    if not event:
        faults.add("time.missing")
        return arrival, "arrival"
    if arrival - 7 * DAY <= event <= arrival + 300 * 10**9:
        return event, "event"
    faults.add("time.outside_window")
    return event, "both"


def stream_of(stream: str | None, sequence: int | None) -> tuple[Any, Any]:
    if stream is None or sequence is None or not 1 <= len(stream.encode()) <= 128 or not 0 <= sequence <= 2**53 - 1:
        return None, None
    return stream, sequence
