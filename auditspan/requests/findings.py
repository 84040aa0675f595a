"""What can be wrong with a request's trail."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from .records import Record

__all__ = ["CITATION", "MEANINGS", "Finding", "FindingKind"]

CITATION: Final = "2026 blueprint, audit trail"
"""Who asks for the trail: a proposal, which binds where a company adopts it."""


class FindingKind(StrEnum):
    """One kind is found at most once of an action."""

    TRANSFER_WITHOUT_DECISION = "transfer_without_decision"
    TRANSFER_BEFORE_DECISION = "transfer_before_decision"
    DECISION_DENIED = "decision_denied"
    DECISION_EXPIRED = "decision_expired"
    OTHER_RECIPIENT = "other_recipient"
    RECIPIENT_NOT_SAID = "recipient_not_said"
    OTHER_ITEM = "other_item"
    ITEM_NOT_SAID = "item_not_said"
    OTHER_DESTINATION = "other_destination"
    MORE_THAN_DECIDED = "more_than_decided"
    TOO_MANY_RECORDS = "too_many_records"
    UNKNOWN_REQUEST = "unknown_request"
    SELF_APPROVED = "self_approved"
    DECISION_NOT_AUTHORISED = "decision_not_authorised"
    DECISION_OUTCOME_UNKNOWN = "decision_outcome_unknown"
    NO_REQUEST_ID = "no_request_id"
    REQUEST_ID_REUSED = "request_id_reused"


MEANINGS: Final[dict[FindingKind, str]] = {
    FindingKind.TRANSFER_WITHOUT_DECISION: "a transfer that names a request nobody decided on, or names none where the "
    "deployment demands one",
    FindingKind.TRANSFER_BEFORE_DECISION: "the decision arrived after the transfer had begun",
    FindingKind.DECISION_DENIED: "a transfer although the request was denied, or returned without action",
    FindingKind.DECISION_EXPIRED: "a transfer after the last day of the approval, or one whose last day cannot be read",
    FindingKind.OTHER_RECIPIENT: "consignee, end user or final recipient is not who was decided on",
    FindingKind.RECIPIENT_NOT_SAID: "a completed transfer that does not say who receives, where that was decided",
    FindingKind.OTHER_ITEM: "digest, model or accelerator model is not what was decided on",
    FindingKind.ITEM_NOT_SAID: "a completed transfer that says nothing of the item by which it was decided",
    FindingKind.OTHER_DESTINATION: "the destination is not the one decided on",
    FindingKind.MORE_THAN_DECIDED: "with this transfer, more was transferred than was decided on",
    FindingKind.TOO_MANY_RECORDS: "the request has more records than are joined; nothing is known of this one",
    FindingKind.UNKNOWN_REQUEST: "a decision on something nobody asked for",
    FindingKind.SELF_APPROVED: "who decided is also who asked, or who transfers",
    FindingKind.DECISION_NOT_AUTHORISED: "the emitter of the decision is none that may decide; it does not count",
    FindingKind.DECISION_OUTCOME_UNKNOWN: "the decision is none of approved, denied and returned; it does not count",
    FindingKind.NO_REQUEST_ID: "a request without an id, which nothing can be joined with",
    FindingKind.REQUEST_ID_REUSED: "a second request under the id of another; the first one counts",
}
"""Every kind in one line."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one record, and ``why`` in one sentence; ``decision`` is the decision that it was held to."""

    kind: FindingKind
    why: str
    decision: Record | None = None
