"""May it happen? What a hook asks before the intent is written, and what its records say of the answer."""

from __future__ import annotations

import logging

from ... import semconv
from ..encode import Attributes, AttributeValue
from ..faults import note_fault
from ..recorder import AuditRefused, Recorder
from .asking import Answer, Failure, NoDecision, ask
from .break_glass import reason_given
from .question import question
from .settings import EnforcementSettings

__all__ = ["ExportRefused", "permit"]

_log = logging.getLogger(__name__)

_OUTCOMES = {
    "license_required": "a licence is required",
    "prohibited": "it is prohibited",
    "review": "it needs a review",
}
_CLOSED = "Look for the cause, or ask the export-control officer whether it may go on."


class ExportRefused(AuditRefused):
    """The action must not happen: the rules in force do not allow it, or nobody could say whether they do.

    Attributes:
        event_class: class of the action.
        governing: governing outcome of the decision; ``None`` where there was none.
        rule_ids, citations, why: of the decision.
        epoch: number of its reference epoch.
        failure: why there was no decision, or ``stale``; ``None`` where the decision itself refuses.
        attributes: what the record of the refusal says of it.
    """

    def __init__(
        self,
        message: str,
        *,
        remedy: str,
        event_class: str,
        answer: Answer | None,
        failure: Failure | None,
        attributes: dict[str, AttributeValue],
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.event_class = event_class
        self.governing = answer.governing if answer else None
        self.rule_ids = answer.rule_ids if answer else ()
        self.citations = answer.citations if answer else ()
        self.why = answer.why if answer else ""
        self.epoch = answer.epoch if answer else None
        self.failure = failure
        self.attributes = attributes


def permit(event_class: str, attributes: Attributes, recorder: Recorder) -> dict[str, AttributeValue]:
    """Return when an action may happen, with what its records say of the decision; nothing where it is not enforced.

    Blocks for the time of one question (``EnforcementSettings.timeout``).

    Raises:
        ExportRefused: it must not. The caller records it, with ``attributes`` of the refusal.
    """
    settings = recorder.settings.enforcement
    if not recorder.enabled or not settings.covers(event_class):
        return {}
    answer, failure, detail = _decision(event_class, attributes, recorder)
    said: dict[str, AttributeValue] = {semconv.DECISION_FAILURE: failure}
    if answer is not None:
        said |= {
            semconv.DECISION_OUTCOME: answer.governing,
            semconv.DECISION_RULE_IDS: list(answer.rule_ids),
            semconv.DECISION_EPOCH: answer.epoch,
        }
    if failure is not None:
        refused = settings.closes(event_class)
        level = logging.ERROR if refused else logging.WARNING
        _log.log(level, "%s: no decision (%s).", event_class, detail.rstrip("."))
    else:
        assert answer is not None
        refused = _refuses(answer, settings)
    if not refused:
        return said
    reason = reason_given(settings)
    if reason:
        _log.warning("%s: what would be refused goes on by break-glass; the record says why.", event_class)
        return {**said, semconv.BREAK_GLASS_REASON: reason}
    raise _refusal(event_class, attributes, answer, failure, detail, said)


def _decision(
    event_class: str, attributes: Attributes, recorder: Recorder
) -> tuple[Answer | None, Failure | None, str]:
    """The answer; why it does not count, or is not there; and the same for people."""
    settings = recorder.settings
    try:
        end_user = recorder.resource.attributes.get(semconv.END_USER)
        answer = ask(settings, question(event_class, attributes, end_user))
    except NoDecision as none:
        return None, none.failure, none.detail
    except Exception as error:  # a bug of ours is no decision, and the settings say what becomes of the action
        note_fault("enforcement", error, "there is no decision")
        return None, "fault", f"a fault of AuditSpan ({type(error).__name__})"
    largest = settings.enforcement.largest_age
    if largest and (answer.age is None or answer.age > largest):
        age = "an unknown time" if answer.age is None else f"{answer.age:.0f} s"
        return answer, "stale", f"that epoch {answer.epoch} is in force was last known {age} ago"
    return answer, None, ""


def _refuses(answer: Answer, settings: EnforcementSettings) -> bool:
    if answer.license is not None and answer.governing != "prohibited":
        return False
    return answer.governing in settings.outcomes or (answer.flagged and "flagged" in settings.outcomes)


def _refusal(
    event_class: str,
    attributes: Attributes,
    answer: Answer | None,
    failure: Failure | None,
    detail: str,
    said: dict[str, AttributeValue],
) -> ExportRefused:
    what = f"{attributes.get(semconv.AUDIT_ACTION) or event_class} of {attributes.get(semconv.AUDIT_TARGET_ID)}"
    if failure is not None or answer is None:
        message = f"{what} is refused: whether it may happen is not known ({failure}: {detail.rstrip('.')})."
        remedy = _CLOSED
    else:
        outcome = _OUTCOMES.get(answer.governing, f"it is flagged ({answer.governing})")
        rules = ", ".join(answer.rule_ids) or "no single rule"
        message = f"{what} is refused: {outcome} under {rules} (reference epoch {answer.epoch}). {answer.why}"
        if answer.citations:
            message += f" Citations: {'; '.join(answer.citations)}."
        remedy = answer.remedy or "Ask the export-control officer."
    return ExportRefused(
        message, remedy=remedy, event_class=event_class, answer=answer, failure=failure, attributes=said
    )
