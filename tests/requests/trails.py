"""Trails of export requests for tests, and a slow second reading of the rules that join them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from auditspan.requests.records import Record

SECOND = 10**9
T0 = 1_795_500_000 * SECOND
GRACE = 10 * SECOND


def party(name: str) -> str:
    """Acme and its id are one party; every other name is itself, case and space aside."""
    plain = " ".join(name.casefold().split())
    return "party:acme" if plain in ("acme", "acme gmbh") else plain


def record(event_class: str, at: float, **more: Any) -> Record:
    """A record that arrived ``at`` seconds after T0, of an action that began then."""
    arrival = T0 + int(at * SECOND)
    given = {
        "log_id": "0" * 32,
        "leaf_index": int(at * 10),
        "record_id": f"{event_class}@{at}",
        "event_class": event_class,
        "request_id": "EXP-1",
        "emitter": "gateway",
        "arrival": arrival,
        "began": arrival,
        "outcome": "success",
    }
    return Record(**{**given, **more})


def asked(at: float = 0.0, **more: Any) -> Record:
    return record("export.request", at, **{"actor": "user:asks", "final_recipient": "acme", **more})


def decided(at: float = 10.0, approval: str = "approved", **more: Any) -> Record:
    given = {"actor": "user:decides", "authority": "Export Control Office", "emitter": "desk", "authorised": True}
    return record("export.decision", at, approval=approval, **{**given, **more})


def moved(at: float = 20.0, **more: Any) -> Record:
    return record("model.transfer", at, **{"actor": "role:release", "final_recipient": "acme", **more})


def moved_twice(at: float = 20.0, took: float = 5.0, **more: Any) -> tuple[Record, Record]:
    """Intent and outcome of one action."""
    intent = moved(at, outcome="started", record_id=f"intent@{at}", **more)
    arrival = intent.arrival + int(took * SECOND)
    outcome = replace(
        intent,
        outcome="success",
        record_id=f"outcome@{at}",
        intent_id=intent.record_id,
        arrival=arrival,
        leaf_index=intent.leaf_index + 5,
    )
    return intent, outcome


# What follows reads the rules of docs/requests.md once more, naively: no early return, no shared helper.


def oracle(this: Record, trail: list[Record]) -> set[str]:
    found = _alone(this, trail)
    if this.event_class in ("export.request", "export.decision") or not this.intent_id:
        return found
    intents = [
        one
        for one in trail
        if one.record_id == this.intent_id
        and one.emitter == this.emitter
        and one.event_class not in ("export.request", "export.decision")
        and not one.intent_id
        and one.order < this.order
        and one.arrival <= this.arrival + GRACE
    ]
    return found - _alone(min(intents, key=lambda one: one.order), trail) if intents else found


def _alone(this: Record, trail: list[Record]) -> set[str]:
    seen = [one for one in trail if one.arrival <= this.arrival + GRACE]
    requests = sorted((one for one in seen if one.event_class == "export.request"), key=lambda one: one.order)
    kinds: set[str] = set()
    if this.event_class == "export.request":
        if this.request_id == "":
            kinds.add("no_request_id")
        elif requests and requests[0].record_id != this.record_id and requests[0].order < this.order:
            kinds.add("request_id_reused")
        return kinds
    if this.event_class == "export.decision":
        if this.approval not in ("approved", "denied", "returned"):
            kinds.add("decision_outcome_unknown")
        if not this.authorised:
            kinds.add("decision_not_authorised")
        if this.request_id == "" or not requests:
            kinds.add("unknown_request")
        elif this.actor and this.actor in [one.actor for one in requests]:
            kinds.add("self_approved")
        return kinds
    if this.outcome == "denied":
        return kinds
    if this.request_id == "":
        return {"transfer_without_decision"}
    count = [
        one
        for one in seen
        if one.event_class == "export.decision"
        and one.authorised
        and one.approval in ("approved", "denied", "returned")
    ]
    if not count:
        return {"transfer_without_decision"}
    in_time = [one for one in count if one.arrival <= this.began]
    if not in_time:
        return {"transfer_before_decision"}
    if {one.approval for one in in_time} != {"approved"}:
        return {"decision_denied"}
    last = sorted(in_time, key=lambda one: one.order)[-1]
    first = requests[0] if requests else None

    def wanted(name: str) -> Any:
        own = getattr(last, name)
        if own not in ("", None):
            return own
        return getattr(first, name) if first else own

    if last.valid_until in {"2000-01-01", "soon"}:
        kinds.add("decision_expired")
    names = ("consignee", "end_user", "final_recipient")
    decided_ = {name: party(wanted(name)) for name in names if wanted(name)}
    said = {name: party(getattr(this, name)) for name in names if getattr(this, name)}
    if not said and decided_ and this.outcome != "started":
        kinds.add("recipient_not_said")
    for name, who in said.items():
        allowed = {decided_[name]} if name in decided_ else set(decided_.values())
        if who not in allowed:
            kinds.add("other_recipient")
    items = ("artifact_digest", "model", "accelerator_model")
    item = {name: wanted(name).casefold() for name in items if wanted(name)}
    here = {name: getattr(this, name).casefold() for name in item if getattr(this, name)}
    if item and not here and this.outcome != "started":
        kinds.add("item_not_said")
    if any(here[name] != item[name] for name in here):
        kinds.add("other_item")
    if not item and this.event_class == "model.transfer" and wanted("target") and this.target:
        inside = this.target == wanted("target") or this.target.startswith(wanted("target").rstrip("/") + "/")
        kinds |= set() if inside else {"other_item"}
    if wanted("destination") and this.destination and wanted("destination") != this.destination:
        kinds.add("other_destination")
    if wanted("quantity") is not None and _sum(this, seen) > wanted("quantity"):
        kinds.add("more_than_decided")
    if this.actor and this.actor == last.actor:
        kinds.add("self_approved")
    return kinds


def _sum(this: Record, seen: list[Record]) -> int:
    transfers = [one for one in seen if one.event_class not in ("export.request", "export.decision")]

    def begin(one: Record) -> tuple[int, str, int]:
        return min(other.order for other in transfers if other.action == one.action)

    total = 0
    for action in {one.action for one in transfers}:
        parts = [one for one in transfers if one.action == action]
        if begin(parts[0]) <= begin(this) and not {one.outcome for one in parts} & {"denied", "failure"}:
            total += max(1 if one.quantity is None else max(one.quantity, 1) for one in parts)
    return total
