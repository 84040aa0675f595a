"""The join: what is wrong with a record, given the trail of its request. Pure: sealed records in, findings out.

Only what had arrived within `GRACE` of a record counts for it, so the answer does not depend on when it is asked for,
and another owner of the control log, or a replay, gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from auditspan.semconv import Approval, EventClass, Outcome

from .findings import Finding, FindingKind
from .records import RECIPIENTS, Record

__all__ = ["GRACE", "MOST_RECORDS", "judge", "valid_to"]

GRACE: Final = 10 * 10**9
"""Nanoseconds after the arrival of a record within which what else arrives counts for it. It bridges logs that seal at
different times, and collectors whose clocks differ; no decision is backdated by it."""

MOST_RECORDS: Final = 5_000
"""Records of one request that are joined, the earliest ones."""

_REFUSALS: Final = (Approval.DENIED, Approval.RETURNED)
_ITEMS: Final = ("artifact_digest", "model", "accelerator_model")
_NOTHING_MOVED: Final = frozenset({Outcome.DENIED, Outcome.FAILURE})

PartyKey = Callable[[str], str]
"""What two names have in common that mean the same party."""


def judge(record: Record, trail: Iterable[Record], party: PartyKey) -> list[Finding]:
    """What is wrong with ``record``.

    A decision that leaves recipient, item, quantity or destination out decides on what was asked for. The latest
    approval before a transfer counts, and no approval counts beside a denial or return before it, whichever came
    first: after a denial it takes a new request.

    Args:
        record: of a transfer without a request id: one for which the deployment demands it.
        trail: records of the same request, this one among them, in any order; of more than `MOST_RECORDS` at least
            the earliest so many. Those that arrived too late to count do no harm.
        party: makes names comparable.

    Returns:
        Findings in order of `FindingKind`. On the outcome of an action, those that its intent does not have already.
    """
    known = sorted((one for one in trail if one.arrival <= record.arrival + GRACE), key=lambda one: one.order)
    known = known[:MOST_RECORDS]
    if all((one.log_id, one.leaf_index) != (record.log_id, record.leaf_index) for one in known):
        return [
            Finding(
                FindingKind.TOO_MANY_RECORDS,
                f"The request {record.request_id} has more than {MOST_RECORDS:,} records before this one.",
            )
        ]
    if record.is_request:
        found = list(_of_request(record, known))
    elif record.is_decision:
        found = list(_of_decision(record, known))
    else:
        found = _of_transfer(record, known, party)
        if (intent := _intent(record, known)) is not None:
            before = {one.kind for one in judge(intent, known, party)}
            found = [one for one in found if one.kind not in before]
    order = list(FindingKind)
    return sorted(found, key=lambda one: order.index(one.kind))


def valid_to(text: str) -> int | None:
    """The first nanosecond at which an approval valid until ``text`` (ISO 8601) is over; None when it is unreadable.

    A day is valid to its end; a time is the last one itself. Both are UTC unless they say otherwise.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    is_day = "T" not in text and " " not in text.strip()
    try:
        moment = moment.replace(tzinfo=moment.tzinfo or UTC) + (timedelta(days=1) if is_day else timedelta(0))
        whole = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    except OverflowError:
        return None
    return whole if is_day else whole + 1


def _of_request(record: Record, known: Sequence[Record]) -> Iterator[Finding]:
    if not record.request_id:
        yield Finding(FindingKind.NO_REQUEST_ID, "The request has no id, so that nobody can decide on it.")
        return
    first = next((one for one in known if one.is_request), record)
    if first.record_id != record.record_id and first.order < record.order:
        yield Finding(
            FindingKind.REQUEST_ID_REUSED,
            f"{_who(first)} asked under the id {record.request_id} before; that request counts, and not this one.",
        )


def _of_decision(record: Record, known: Sequence[Record]) -> Iterator[Finding]:
    requests = [one for one in known if one.is_request]
    if record.approval not in list(Approval):
        yield Finding(
            FindingKind.DECISION_OUTCOME_UNKNOWN,
            f"The decision says {record.approval!r}, which is none of {', '.join(Approval)}; it does not count.",
            record,
        )
    if not record.authorised:
        yield Finding(
            FindingKind.DECISION_NOT_AUTHORISED,
            f"{record.emitter} is none of the emitters that may decide (`requests.approving_emitters`); the decision "
            "does not count.",
            record,
        )
    if not (record.request_id and requests):
        said = f"the id {record.request_id}" if record.request_id else "no id"
        yield Finding(FindingKind.UNKNOWN_REQUEST, f"The decision names {said}, and no request has it.", record)
    elif record.actor and any(one.actor == record.actor for one in requests):
        yield Finding(
            FindingKind.SELF_APPROVED, f"{record.actor} asked, and decided: it takes a second person.", record
        )


def _of_transfer(record: Record, known: Sequence[Record], party: PartyKey) -> list[Finding]:
    if record.outcome == Outcome.DENIED:
        return []
    if not record.request_id:
        return [
            Finding(
                FindingKind.TRANSFER_WITHOUT_DECISION,
                f"A {record.event_class} must name its export request here, and this one names none.",
            )
        ]
    counting = [one for one in known if one.is_decision and one.authorised and one.approval in list(Approval)]
    before = [one for one in counting if one.arrival <= record.began]
    if not before:
        return [_undecided(record, known, counting)]
    refused = [one for one in before if one.approval in _REFUSALS]
    if refused:
        last = max(refused, key=lambda one: (one.approval == Approval.DENIED, one.order))
        return [
            Finding(FindingKind.DECISION_DENIED, f"{_who(last)} {last.approval} the request {record.request_id}.", last)
        ]
    decision = max(before, key=lambda one: one.order)
    request = next((one for one in known if one.is_request), None)
    found = (
        _expired(record, decision),
        _other_recipient(record, decision, request, party),
        _other_item(record, decision, request),
        _other_destination(record, decision, request),
        _more(record, decision, request, known),
        _by_himself(record, decision),
    )
    return [one for one in found if one is not None]


def _undecided(record: Record, known: Sequence[Record], counting: Sequence[Record]) -> Finding:
    if counting:
        first = counting[0]
        return Finding(
            FindingKind.TRANSFER_BEFORE_DECISION,
            f"The decision on {record.request_id} arrived {_seconds(first.arrival - record.began)} after the transfer "
            "had begun.",
            first,
        )
    void = next((one for one in known if one.is_decision), None)
    says = "nobody decided on it" if void is None else f"the decision of {_who(void)} does not count"
    return Finding(
        FindingKind.TRANSFER_WITHOUT_DECISION, f"The transfer names the request {record.request_id}, and {says}.", void
    )


def _expired(record: Record, decision: Record) -> Finding | None:
    if not decision.valid_until:
        return None
    end = valid_to(decision.valid_until)
    if end is not None and record.began < end:
        return None
    says = "cannot be read" if end is None else "was over when the transfer began"
    return Finding(
        FindingKind.DECISION_EXPIRED, f"The approval is valid until {decision.valid_until}, which {says}.", decision
    )


def _other_recipient(record: Record, decision: Record, request: Record | None, party: PartyKey) -> Finding | None:
    decided = {name: value for name in RECIPIENTS if (value := _decided(name, decision, request))}
    said = {name: value for name in RECIPIENTS if (value := getattr(record, name))}
    if not said:
        if not decided or record.outcome == Outcome.STARTED:
            return None
        return Finding(
            FindingKind.RECIPIENT_NOT_SAID,
            f"The transfer does not say who receives; decided was {_listed(decided)}.",
            decision,
        )
    keys = {name: party(value) for name, value in decided.items()}
    other = {
        name: value
        for name, value in said.items()
        if (party(value) != keys[name] if name in keys else party(value) not in keys.values())
    }
    if not other:
        return None
    return Finding(
        FindingKind.OTHER_RECIPIENT,
        f"The transfer goes to {_listed(other)}; decided was {_listed(decided) or 'nobody'}.",
        decision,
    )


def _other_item(record: Record, decision: Record, request: Record | None) -> Finding | None:
    decided = {name: value for name in _ITEMS if (value := _decided(name, decision, request))}
    said = {name: value for name in decided if (value := getattr(record, name))}
    if not decided:
        target = _decided("target", decision, request)
        # An instance is not named when it is asked for; an artifact is, or the folder that it is in.
        if record.event_class != EventClass.MODEL_TRANSFER or not target or not record.target:
            return None
        if record.target == target or record.target.startswith(target.rstrip("/") + "/"):
            return None
        return Finding(FindingKind.OTHER_ITEM, f"The transfer is of {record.target}; decided was {target}.", decision)
    if not said:
        if record.outcome == Outcome.STARTED:
            return None
        return Finding(
            FindingKind.ITEM_NOT_SAID,
            f"The transfer says nothing of its {' or '.join(_words(name) for name in decided)}; decided was "
            f"{_listed(decided)}.",
            decision,
        )
    other = {name: value for name, value in said.items() if _plain(value) != _plain(decided[name])}
    if not other:
        return None
    expected = {name: decided[name] for name in other}
    return Finding(
        FindingKind.OTHER_ITEM, f"The transfer is of {_listed(other)}; decided was {_listed(expected)}.", decision
    )


def _other_destination(record: Record, decision: Record, request: Record | None) -> Finding | None:
    decided = _decided("destination", decision, request)
    if not decided or not record.destination or _plain(decided) == _plain(record.destination):
        return None
    return Finding(
        FindingKind.OTHER_DESTINATION, f"The transfer goes to {record.destination}; decided was {decided}.", decision
    )


def _more(record: Record, decision: Record, request: Record | None, known: Sequence[Record]) -> Finding | None:
    decided = decision.quantity
    if decided is None:
        decided = request.quantity if request is not None else None
    if decided is None:
        return None
    actions: dict[tuple[str, str], list[Record]] = {}
    for one in known:
        if one.is_transfer:
            actions.setdefault(one.action, []).append(one)
    this = actions.get(record.action, [record])
    total = sum(
        max(_pieces(one) for one in records)
        for records in actions.values()
        if records[0].order <= this[0].order and not any(one.outcome in _NOTHING_MOVED for one in records)
    )
    if total <= decided:
        return None
    return Finding(
        FindingKind.MORE_THAN_DECIDED, f"With this transfer it is {total:,} in all; decided was {decided:,}.", decision
    )


def _by_himself(record: Record, decision: Record) -> Finding | None:
    if not record.actor or record.actor != decision.actor:
        return None
    return Finding(
        FindingKind.SELF_APPROVED, f"{record.actor} decided, and transfers: it takes a second person.", decision
    )


def _intent(record: Record, known: Sequence[Record]) -> Record | None:
    """The intent that ``record`` completes."""
    if not record.intent_id:
        return None
    for one in known:
        if one.is_transfer and one.action == record.action and one.order < record.order and not one.intent_id:
            return one
    return None


def _decided(name: str, decision: Record, request: Record | None) -> str:
    return str(getattr(decision, name) or (getattr(request, name) if request is not None else ""))


def _pieces(record: Record) -> int:
    """How many a record says; nobody makes a sum smaller by saying less than one."""
    return max(record.quantity if record.quantity is not None else 1, 1)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _words(name: str) -> str:
    return name.replace("_", " ")


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{_words(name)} {value}" for name, value in values.items())


def _who(record: Record) -> str:
    return record.authority or record.actor or record.emitter or "somebody"


def _seconds(duration: int) -> str:
    return f"{duration / 10**9:,.1f} s"
