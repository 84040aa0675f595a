"""What one event takes of one license, and why it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from auditspan.licensing.allocation import Allocation, Balance, Event, Named, judge
from auditspan.licensing.balances import balances, round_of
from auditspan.licensing.register import artifact_of, read_register
from auditspan.policy.licenses import LICENSE_COLUMNS, LICENSES, Licenses
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.tables import parse_table

REGISTER = """\
number,exporter,consignees,end_users,items,quantity,unit,valid_from,valid_to
D1,plant,Pier 9,harbour,3A090;H200,10,,2026-01-01,2026-12-31
D2,,,Harbour Compute,H200,,,,2027-12-31
D3,,,orchid,model:orchid-2;4E091,1,transfer,,2026-12-31
"""
NOON = parse_instant("2026-11-24T12:00")
EVENT = Event(
    log_id="a" * 32,
    leaf_index=7,
    record_id="r-7",
    event_class="accelerator.transfer",
    epoch=3,
    times=(NOON,),
    exporter=Named.of("plant", "The Plant"),
    end_user=Named.of("harbour", "Harbour Compute"),
    consignee=Named.of("pier  9"),
    eccn="3A090.a",
    accelerator="H200",
    model="",
    quantity=4,
    declared="D1",
)


def licenses(text: str = REGISTER) -> Licenses:
    return Licenses(parse_table(artifact_of(read_register(text.encode(), "l.csv")), LICENSES, LICENSE_COLUMNS))


def judged(used: int = 0, **changes: object) -> Allocation:
    found = judge(replace(EVENT, **changes), licenses(), {"D1": Balance(1, used)})  # type: ignore[arg-type]
    assert found is not None
    return found


def test_what_is_covered_is_taken() -> None:
    found = judged(used=5)
    assert (found.license, found.outcome, found.quantity, found.remaining, found.taken) == ("D1", "covered", 4, 1, 4)
    assert found.why == "License D1 covers 4 accelerators, and 1 of 10 is left."
    assert judged(used=6).remaining == 0
    unlimited = judged(declared="D2")
    assert (unlimited.outcome, unlimited.remaining) == ("covered", None)
    assert unlimited.why == "License D2 covers 4 accelerators, and has no limit."


REFUSED: list[tuple[dict[str, object], str, str]] = [
    ({"declared": "D9"}, "unknown_license", "The register of reference epoch 3 has no license D9."),
    (
        {"times": (parse_instant("2025-12-31T23:59"),)},
        "not_yet_valid",
        "License D1 is valid from 2026-01-01, and the event is of 2025-12-31.",
    ),
    (
        {"times": (parse_instant("2027-01-01"),)},
        "expired",
        "License D1 was valid to 2026-12-31, and the event is of 2027-01-01.",
    ),
    # The emitter's clock does not choose: it must be valid at both times.
    (
        {"times": (NOON, parse_instant("2027-01-01"))},
        "expired",
        "License D1 was valid to 2026-12-31, and the event is of 2027-01-01.",
    ),
    (
        {"exporter": Named()},
        "wrong_exporter",
        "License D1 is plant's, and the exporter is nobody that the deployment names: set policy.exporter.",
    ),
    ({"exporter": Named.of("other")}, "wrong_exporter", "License D1 is plant's, and the exporter is other."),
    (
        {"eccn": "4A090", "accelerator": "B200"},
        "wrong_item",
        "License D1 covers 3A090, H200, and the item is B200 (4A090).",
    ),
    (
        {"eccn": "", "accelerator": ""},
        "wrong_item",
        "License D1 covers 3A090, H200, and the item is an item that is not known.",
    ),
    # 3A0901 begins like 3A090 and is another entry.
    (
        {"eccn": "3A0901", "accelerator": ""},
        "wrong_item",
        "License D1 covers 3A090, H200, and the item is an item that is not known (3A0901).",
    ),
    ({"end_user": Named.of("orchid")}, "wrong_end_user", "License D1 names harbour, and the end user is orchid."),
    ({"end_user": Named()}, "wrong_end_user", "License D1 names harbour, and the end user is not known."),
    (
        {"consignee": Named.of("Pier 10")},
        "wrong_consignee",
        "License D1 names Pier 9 as consignee, and the consignee is Pier 10.",
    ),
    (
        {"quantity": None},
        "unknown_quantity",
        "License D1 counts accelerators, and how many the event is about is not known.",
    ),
    (
        {"quantity": 0},
        "unknown_quantity",
        "License D1 counts accelerators, and how many the event is about is not known.",
    ),
    ({"quantity": 11}, "exhausted", "License D1 has 10 of 10 accelerators left, and the event takes 11."),
]


@pytest.mark.parametrize(
    ("changes", "outcome", "why"), REFUSED, ids=[f"{o}-{n}" for n, (_, o, _) in enumerate(REFUSED)]
)
def test_why_it_does_not(changes: dict[str, object], outcome: str, why: str) -> None:
    found = judged(**changes)
    assert (found.outcome, found.why, found.taken) == (outcome, why, 0)


def test_a_provisioning_has_no_consignee() -> None:
    assert judged(event_class="accelerator.provision", consignee=Named()).outcome == "covered"


def test_an_event_that_declares_none_takes_of_the_one_that_ends_first_and_covers_it() -> None:
    assert judged(declared=None).license == "D1"
    assert judged(declared=None, used=8).license == "D2"
    assert judged(declared=None, used=8, quantity=2).license == "D1"
    refused = judged(declared=None, times=(parse_instant("2030-01-01"),))
    assert (refused.license, refused.outcome) == ("D2", "expired")
    assert judge(replace(EVENT, declared=None, end_user=Named.of("nobody")), licenses(), {}) is None


def test_an_exception_and_what_nobody_can_read_take_nothing() -> None:
    for declared in ("NAC", "TMP", ""):
        assert judge(replace(EVENT, declared=declared), licenses(), {}) is None


def test_a_transfer_is_one_unit_and_an_item_may_be_a_model() -> None:
    weights = {
        "event_class": "model.transfer", "eccn": "", "accelerator": "", "model": "Orchid-2", "quantity": None,
        "end_user": Named.of("orchid"), "declared": "d3",
    }  # fmt: skip
    found = judged(**weights)
    assert (found.outcome, found.quantity, found.remaining) == ("covered", 1, 0)
    assert judged(**{**weights, "model": "", "eccn": "4E091"}).outcome == "covered"
    assert judged(**{**weights, "model": "other"}).outcome == "wrong_item"


def test_a_round_takes_in_order_and_numbers_each_license_for_itself() -> None:
    register = licenses()
    events = [
        (replace(EVENT, leaf_index=1, quantity=8), register),
        (replace(EVENT, leaf_index=2, quantity=8), register),
        (replace(EVENT, leaf_index=3, declared="NAC"), register),
        (replace(EVENT, leaf_index=4, declared="D2"), register),
        (replace(EVENT, leaf_index=5, declared="nothing 9"), register),
        (replace(EVENT, leaf_index=6, quantity=2), register),
    ]
    before = balances([])
    body = round_of(before, events, {EVENT.log_id: 7})
    assert body is not None and (before.number, before.of) == (0, {})
    made = [(a["license"], a["sequence"], a["leaf_index"], a["outcome"], a["remaining"]) for a in body["allocations"]]  # type: ignore
    assert made == [
        ("D1", 1, 1, "covered", 2),
        ("D1", 2, 2, "exhausted", 2),
        ("D2", 1, 4, "covered", None),
        (None, 1, 5, "unknown_license", None),
        ("D1", 3, 6, "covered", 0),
    ]
    after = balances([body, body])
    assert after.number == 1 and after.considered == {EVENT.log_id: 7}
    assert after.of == {"D1": Balance(3, 10), "D2": Balance(1, 4), "": Balance(1, 0)}
    assert round_of(after, [(replace(EVENT, declared="NAC"), register)], {}) is None
