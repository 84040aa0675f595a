"""A record of a request's trail: who asked, who decided, and what was transferred to whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from auditspan.semconv import EventClass

__all__ = ["RECIPIENTS", "TRANSFERS", "Record", "record_of"]

TRANSFERS: Final = frozenset(
    {EventClass.MODEL_TRANSFER, EventClass.ACCELERATOR_TRANSFER, EventClass.ACCELERATOR_PROVISION}
)
"""Classes of events that a decision can be needed for."""

RECIPIENTS: Final = ("consignee", "end_user", "final_recipient")
"""What a record may say of who receives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One sealed record, as far as the join reads it. An empty text, or None, was not said.

    Attributes:
        log_id, leaf_index: where it is sealed.
        event_class: ``export.request``, ``export.decision``, or a class of `TRANSFERS`.
        emitter: whose credential sent it; everything else but the times is the emitter's word.
        arrival: nanoseconds, by the collector's clock.
        began: nanoseconds; when the action began, as far as its emitter may say so: never after ``arrival``.
        outcome: ``audit.outcome``.
        intent_id: record id of the intent that an outcome completes.
        approval: ``export_control.approval.outcome`` as it came.
        authorised: of a decision, whether its emitter might decide under the epoch in which it was sealed.
    """

    log_id: str
    leaf_index: int
    record_id: str
    event_class: str
    request_id: str
    emitter: str = ""
    actor: str = ""
    arrival: int
    began: int
    outcome: str = ""
    intent_id: str = ""
    epoch: int = 0
    target: str = ""
    artifact_digest: str = ""
    model: str = ""
    accelerator_model: str = ""
    quantity: int | None = None
    destination: str = ""
    consignee: str = ""
    end_user: str = ""
    final_recipient: str = ""
    license: str = ""
    approval: str = ""
    authority: str = ""
    valid_until: str = ""
    conditions: str = ""
    authorised: bool = False

    @property
    def order(self) -> tuple[int, str, int]:
        """Records of a trail are read in order of arrival; where several arrived at once, by place."""
        return self.arrival, self.log_id, self.leaf_index

    @property
    def is_request(self) -> bool:
        """Whether somebody asks."""
        return self.event_class == EventClass.EXPORT_REQUEST

    @property
    def is_decision(self) -> bool:
        """Whether somebody decides."""
        return self.event_class == EventClass.EXPORT_DECISION

    @property
    def is_transfer(self) -> bool:
        """Whether something is transferred."""
        return self.event_class in TRANSFERS

    @property
    def action(self) -> tuple[str, str]:
        """What an intent and its outcome have in common. Nobody can add to the action of another emitter."""
        return self.emitter, self.intent_id or self.record_id

    @property
    def recipient(self) -> str:
        """Whoever it names last in the chain of those who receive; empty where it names nobody."""
        return self.final_recipient or self.end_user or self.consignee


_NAMES: Final = frozenset(field.name for field in fields(Record))


def record_of(row: Mapping[str, Any]) -> Record:
    """The record that a row of the table ``auditspan.request_records`` holds; times as nanoseconds."""
    return Record(**{name: value for name, value in row.items() if name in _NAMES})
