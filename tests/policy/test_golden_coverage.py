"""What cases leave untried: each kind of missing case is found, and no longer when it is there."""

from __future__ import annotations

import pytest

from auditspan.policy import Reference
from auditspan.policy.artifact_files import with_files
from auditspan.policy.golden import parse_cases
from auditspan.policy.golden_coverage import coverage

PACK = b"""\
pack: own
version: "1"
title: own rules
source: nobody
rules:
  - id: own/many
    title: many accelerators
    citations: [internal note 1]
    authority: company_policy
    status: verified
    effective: {from: 2026-03-01, to: 2026-06-01}
    when: [act == 'provision', quantity >= 100]
    outcome: review
    explanation: many
"""
CASE = """\
  - name: {name}
    at: {at}
    given: {{act: provision, accelerator_model: T4, destination_country: US, quantity: {quantity}}}
    text: nlr
    enforced: nlr
    governing: nlr
    flagged: false
    eccn: null
    reviewed: false
"""
WHOLE = [
    ("2026-02-28", 100),
    ("2026-03-01", 100),
    ("2026-03-02", 99),
    ("2026-05-31", 100),
    ("2026-06-01", 100),
]


@pytest.fixture(scope="module")
def own() -> Reference:
    return Reference.load(with_files(Reference.packaged_artifacts(), [("own.yaml", PACK)]), 1)


def missing(own: Reference, cases: list[tuple[str, int]], **options: bool) -> list[tuple[str, str]]:
    text = "cases:\n" + "".join(
        CASE.format(name=f"case {number}", at=at, quantity=quantity) for number, (at, quantity) in enumerate(cases)
    )
    return [
        (one.kind, one.wanted) for one in coverage(own, parse_cases(text.encode(), "own").cases, ["own"], **options)
    ]


def test_nothing_is_missing_when_every_side_is_tried(own: Reference) -> None:
    assert missing(own, WHOLE) == []


@pytest.mark.parametrize(
    ("without", "kind", "wanted"),
    [
        (0, "day before", "before 2026-03-01"),
        (1, "first day", "from 2026-03-01"),
        (2, "does not apply", "surely does not apply"),
        (2, "number", "quantity = 99"),
        (3, "day before", "before 2026-06-01"),
        (4, "first day", "from 2026-06-01"),
    ],
)
def test_each_case_that_is_left_out_is_missed(own: Reference, without: int, kind: str, wanted: str) -> None:
    found = missing(own, [case for number, case in enumerate(WHOLE) if number != without])
    assert any(kind == one and wanted in text for one, text in found), found


def test_a_rule_without_any_case(own: Reference) -> None:
    kinds = {kind for kind, _ in missing(own, [("2020-01-01", 1)])}
    assert kinds == {"applies", "does not apply", "first day", "day before", "number"}


def test_a_number_may_be_asked_for_at_the_line_or_on_either_side(own: Reference) -> None:
    wide = [(at, 5_000 if quantity == 100 else 1) for at, quantity in WHOLE]
    assert [kind for kind, _ in missing(own, wide)] == ["number", "number"]
    assert missing(own, wide, adjacent=False) == []
    assert [kind for kind, _ in missing(own, [case for case in wide if case[1] > 1], adjacent=False)] == [
        "does not apply",
        "number",
    ]
