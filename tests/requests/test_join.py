"""The join, case by case, and against a slow second reading of its rules."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trails import GRACE, SECOND, T0, asked, decided, moved, moved_twice, oracle, party, record

from auditspan.requests.findings import MEANINGS, FindingKind
from auditspan.requests.join import MOST_RECORDS, judge, valid_to
from auditspan.requests.records import Record


def kinds(this: Record, *others: Record) -> list[str]:
    return [one.kind.value for one in judge(this, [*others, this], party)]


def test_what_was_decided_is_not_found_wrong() -> None:
    request, decision, transfer = asked(quantity=2), decided(valid_until="2027-06-30"), moved(quantity=2)
    for one in (request, decision, transfer):
        assert judge(one, [transfer, decision, request], party) == []


@pytest.mark.parametrize(
    ("decision", "transfer", "kind"),
    [
        (None, moved(), "transfer_without_decision"),
        (None, moved(request_id=""), "transfer_without_decision"),
        (decided(25.0), moved(20.0), "transfer_before_decision"),
        (decided(15.0), moved(20.0, began=T0 + 12 * SECOND), "transfer_before_decision"),
        (decided(30.1), moved(20.0), "transfer_without_decision"),
        (decided(approval="denied"), moved(), "decision_denied"),
        (decided(approval="returned"), moved(), "decision_denied"),
        (decided(valid_until="2026-11-23"), moved(), "decision_expired"),
        (decided(valid_until="soon"), moved(), "decision_expired"),
        (decided(), moved(final_recipient="Other Ltd"), "other_recipient"),
        (decided(final_recipient="Bolt"), moved(), "other_recipient"),
        (decided(), moved(consignee="A forwarder nobody named"), "other_recipient"),
        (decided(), moved(final_recipient=""), "recipient_not_said"),
        (decided(artifact_digest="sha256:aa"), moved(artifact_digest="sha256:bb"), "other_item"),
        (decided(target="s3://models/frontier-7"), moved(target="s3://models/frontier-70"), "other_item"),
        (decided(model="Frontier 7"), moved(), "item_not_said"),
        (decided(destination="SG"), moved(destination="CN"), "other_destination"),
        (decided(quantity=1), moved(quantity=2), "more_than_decided"),
        (decided(), moved(actor="user:decides"), "self_approved"),
        (decided(authorised=False), moved(), "transfer_without_decision"),
        (decided(approval="perhaps"), moved(), "transfer_without_decision"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_transfer(decision: Record | None, transfer: Record, kind: str) -> None:
    trail = [asked(), *([decision] if decision else []), transfer]
    (found,) = judge(transfer, trail, party)
    assert found.kind == kind
    assert found.why.endswith(".") and len(found.why) > 20


@pytest.mark.parametrize(
    ("decision", "others", "expected"),
    [
        (decided(), [], ["unknown_request"]),
        (decided(request_id=""), [], ["unknown_request"]),
        (decided(), [asked(20.1)], ["unknown_request"]),
        (decided(), [asked(19.9)], []),
        (decided(actor="user:asks"), [asked()], ["self_approved"]),
        (decided(authorised=False), [asked()], ["decision_not_authorised"]),
        (decided(approval=""), [asked()], ["decision_outcome_unknown"]),
        (decided(approval="Approved"), [asked()], ["decision_outcome_unknown"]),
    ],
)
def test_what_is_wrong_with_a_decision(decision: Record, others: list[Record], expected: list[str]) -> None:
    assert kinds(decision, *others) == expected


def test_a_request_without_an_id_and_one_under_the_id_of_another() -> None:
    assert kinds(asked(request_id="")) == ["no_request_id"]
    assert kinds(asked(5.0, actor="user:late"), asked()) == ["request_id_reused"]
    assert kinds(asked(), asked(5.0)) == [], "the first one stands"
    again = replace(asked(), leaf_index=7, arrival=T0 + SECOND)
    assert kinds(again, asked()) == [], "the same record, sent again"
    wider = asked(5.0, final_recipient="Other Ltd")
    assert kinds(moved(final_recipient="Other Ltd"), asked(), wider, decided()) == ["other_recipient"]


def test_a_denial_stands_whichever_decision_came_first() -> None:
    for first, second in (("approved", "denied"), ("denied", "approved"), ("returned", "approved")):
        trail = [asked(), decided(5.0, first), decided(6.0, second)]
        assert kinds(moved(), *trail) == ["decision_denied"]
    late = [asked(), decided(5.0), decided(25.0, "denied")]
    assert kinds(moved(), *late) == [], "a denial after the transfer began revokes nothing"


def test_the_latest_approval_counts() -> None:
    trail = [asked(), decided(5.0, final_recipient="Bolt"), decided(6.0, final_recipient="acme")]
    assert kinds(moved(), *trail) == []
    assert kinds(moved(final_recipient="Bolt"), *trail) == ["other_recipient"]


def test_a_party_is_the_same_by_id_and_by_name() -> None:
    assert kinds(moved(final_recipient=" ACME  gmbh"), asked(), decided()) == []
    assert kinds(moved(consignee="Acme GmbH"), asked(), decided()) == [], "decided on as final recipient"


def test_quantities_add_up_over_actions_and_not_over_their_records() -> None:
    trail = [asked(), decided(quantity=4)]
    first, second = moved_twice(20.0, quantity=2), moved_twice(40.0, quantity=2)
    third = moved_twice(60.0, quantity=1)
    assert kinds(second[1], *trail, *first, *second) == []
    assert kinds(third[0], *trail, *first, *second, third[1]) == ["more_than_decided"]
    assert kinds(third[1], *trail, *first, *second, third[0]) == [], "found of its intent already"
    failed = replace(first[1], outcome="failure")
    assert kinds(third[0], *trail, first[0], failed, *second) == [], "what failed is not transferred"
    assert kinds(moved(50.0, quantity=-5), *trail, *first, *second) == ["more_than_decided"]


def test_nobody_hides_in_the_action_of_another_emitter() -> None:
    first, _ = moved_twice(20.0, quantity=4)
    hidden = moved(30.0, quantity=4, intent_id=first.record_id, emitter="other")
    assert kinds(hidden, asked(), decided(quantity=4), first) == ["more_than_decided"]


def test_an_intent_may_leave_out_what_its_outcome_says() -> None:
    intent, outcome = moved_twice(final_recipient="")
    trail = [asked(), decided(artifact_digest="sha256:aa")]
    assert kinds(intent, *trail) == []
    assert kinds(outcome, *trail, intent) == ["recipient_not_said", "item_not_said"]
    told = replace(outcome, final_recipient="Other Ltd", artifact_digest="SHA256:AA")
    assert kinds(told, *trail, intent) == ["other_recipient"]


def test_what_was_refused_is_no_transfer() -> None:
    assert kinds(moved(outcome="denied")) == []


def test_a_trail_beyond_what_is_joined_says_so() -> None:
    trail = [asked(), decided()] + [replace(moved(20.0), leaf_index=1000 + i, record_id=str(i)) for i in range(5000)]
    assert kinds(trail[MOST_RECORDS - 1], *trail[:-1]) == []
    last = replace(moved(21.0), leaf_index=9999)
    assert kinds(last, *trail) == ["too_many_records"]


def test_validity_ends_with_its_day_or_its_moment() -> None:
    day = 86_400 * SECOND
    assert valid_to("1970-01-01") == day
    assert valid_to("1970-01-01T00:00:01") == SECOND + 1
    assert valid_to("1970-01-01T01:00:01+01:00") == SECOND + 1
    assert valid_to("9999-12-31") is None and valid_to("") is None and valid_to("never") is None
    trail = [asked(), decided(valid_until="2026-11-24")]
    last = valid_to("2026-11-24")
    assert last is not None
    at_end = replace(moved(), arrival=last - 1, began=last - 1)
    assert kinds(at_end, *trail) == []
    assert kinds(replace(at_end, arrival=last, began=last), *trail) == ["decision_expired"]


def test_every_kind_has_its_meaning() -> None:
    assert set(MEANINGS) == set(FindingKind)


names = st.sampled_from(["", "acme", "Acme GmbH", "bolt", "Bolt "])
_PARTIES = {"final_recipient": names, "consignee": names, "end_user": names}
_ITEMS = {
    "artifact_digest": st.sampled_from(["", "sha256:aa", "SHA256:AA", "sha256:bb"]),
    "model": st.sampled_from(["", "Frontier 7", "Other"]),
    "accelerator_model": st.sampled_from(["", "H100"]),
    "quantity": st.one_of(st.none(), st.integers(-1, 4)),
    "destination": st.sampled_from(["", "SG", "CN"]),
    "target": st.sampled_from(["", "s3://m/a", "s3://m/a/b", "s3://m/ab"]),
}


@st.composite
def records(draw: st.DrawFn) -> Record:
    at = draw(st.integers(0, 40))
    cls = draw(st.sampled_from(["export.request", "export.decision", "model.transfer", "accelerator.provision"]))
    given: dict[str, object] = {name: draw(values) for name, values in {**_PARTIES, **_ITEMS}.items()}
    given |= {
        "log_id": draw(st.sampled_from(["0" * 32, "1" * 32])),
        "actor": draw(st.sampled_from(["", "a", "b"])),
        "emitter": draw(st.sampled_from(["desk", "gateway"])),
        "record_id": f"r{draw(st.integers(0, 12))}",
        "outcome": draw(st.sampled_from(["started", "success", "failure", "denied", "unknown"])),
        "began": T0 + draw(st.integers(0, at)) * SECOND,
    }
    if cls == "export.decision":
        given |= {
            "approval": draw(st.sampled_from(["approved", "approved", "approved", "denied", "returned", "maybe"])),
            "valid_until": draw(st.sampled_from(["", "2000-01-01", "2030-01-01", "soon"])),
            "authorised": draw(st.sampled_from([True, True, False])),
        }
    if cls not in ("export.request", "export.decision"):
        given["intent_id"] = draw(st.sampled_from(["", "", "r1", "r2", "r3"]))
        given["request_id"] = draw(st.sampled_from(["EXP-1", "EXP-1", "EXP-1", ""]))
    return record(cls, at, **given)


@settings(max_examples=400, deadline=None)
@given(st.lists(records(), min_size=1, max_size=9), st.integers(0, 8), st.randoms(use_true_random=False))
def test_the_join_agrees_with_a_second_reading_of_its_rules(given_: list[Record], which: int, order: object) -> None:
    placed = [replace(one, leaf_index=place) for place, one in enumerate(given_)]
    this = placed[which % len(placed)]
    trail = [one for one in placed if one.request_id == this.request_id] if this.request_id else [this]
    expected = oracle(this, trail)
    order.shuffle(trail)  # type: ignore[attr-defined]
    assert {one.kind.value for one in judge(this, trail, party)} == expected
    later = replace(decided(), arrival=this.arrival + GRACE + 1, leaf_index=99)
    assert {one.kind.value for one in judge(this, [*trail, later], party)} == expected, "what came too late counts not"
