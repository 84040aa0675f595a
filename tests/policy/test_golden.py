"""Golden cases: each provision, date and set of facts gives the outcome that was written down before the rule."""

from __future__ import annotations

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.golden import Case, Judge, parse_cases, run, shipped_cases
from auditspan.policy.golden_coverage import coverage

FILES = shipped_cases()
CASES = [case for file in FILES for case in file.cases]


@pytest.fixture(scope="module")
def judge(reference: Reference) -> Judge:
    return Judge(reference)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_case(judge: Judge, case: Case) -> None:
    assert judge.result(case).differences == (), f"{case.file}:{case.line}"


def test_there_are_as_many_cases_as_were_promised_and_no_name_stands_twice() -> None:
    assert len(CASES) >= 150
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_rule_number_and_date_has_its_cases_on_each_side(reference: Reference) -> None:
    assert coverage(reference, CASES) == []


def test_three_cases_in_ten_stack_provisions(judge: Judge) -> None:
    stacked = [case for case in CASES if sum(e.certain for e in judge.determination(case).verdict.entries) >= 2]
    assert len(stacked) >= 0.3 * len(CASES)


# The runner itself


HEAD = "defaults: {end_user: {end_user_country: US, end_user_parent_country: US}}\ncases:\n"
SOUND = """\
  - name: H100 to China
    at: 2026-11-01
    given: {act: transfer, accelerator_model: H100 SXM, destination_country: CN}
    text: license_required
    enforced: license_required
    governing: license_required
    flagged: true
    eccn: 3A090.a
    reviewed: false
"""


def result_of(reference: Reference, text: str) -> list[tuple[str, object, object]]:
    (result,) = run(reference, parse_cases(text.encode(), "own.yaml").cases)
    return [(one.field, one.expected, one.found) for one in result.differences]


def test_a_case_passes_when_all_that_it_names_comes_out(reference: Reference) -> None:
    assert result_of(reference, HEAD + SOUND) == []


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("governing: license_required", "governing: nlr", "governing"),
        ("enforced: license_required", "enforced: prohibited", "enforced"),
        ("text: license_required", "text: review", "text"),
        ("flagged: true", "flagged: false", "flagged"),
        ("eccn: 3A090.a", "eccn: null", "eccn"),
        ("reviewed: false", "reviewed: false\n    rules: []", "rules"),
        ("reviewed: false", "reviewed: false\n    review_policy: presumption_of_approval", "review_policy"),
        ("reviewed: false", "reviewed: false\n    shadow: prohibited", "shadow"),
        ("reviewed: false", "reviewed: false\n    citations: [15 CFR 999]", "citations"),
        ("destination_country: CN", "destination_country: US", "text"),
        ("at: 2026-11-01", "at: 2020-01-01", "text"),
    ],
)
def test_a_case_fails_at_what_differs(reference: Reference, old: str, new: str, field: str) -> None:
    assert old in SOUND
    assert field in [name for name, _, _ in result_of(reference, HEAD + SOUND.replace(old, new))]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("act: transfer", "acts: transfer", "no fact 'acts'"),
        ("act: transfer", "act: 4", "'act'"),
        ("at: 2026-11-01", "at: tomorrow", "tomorrow"),
        ("flagged: true", "flagged: perhaps", "perhaps"),
        ("    eccn: 3A090.a\n", "", "eccn"),
        ("reviewed: false", "reviewed: false\n    adopted: [nobody]", "no pack 'nobody'"),
        ("reviewed: false", "reviewed: false\n    colour: red", "colour"),
    ],
)
def test_a_case_that_cannot_be_run_is_refused_at_its_line(reference: Reference, old: str, new: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        result_of(reference, HEAD + SOUND.replace(old, new))
    assert caught.value.file == "own.yaml"
    assert caught.value.line >= 3
    assert caught.value.remedy


def test_a_name_is_given_once() -> None:
    with pytest.raises(PolicyError, match="occurs twice"):
        parse_cases((HEAD + SOUND + SOUND).encode(), "own.yaml")


def test_a_proposal_in_a_case_is_in_shadow_until_the_case_adopts_it(reference: Reference) -> None:
    proposed = """\
  - name: weights of a controlled asset to China, {0}
    at: 2027-01-01
    given: {{act: transfer, item_kind: model_weights, destination_country: CN, weights_published: false, us_origin_compute: true}}
    text: review
    enforced: review
    governing: {1}
    flagged: true
    eccn: null
    reviewed: false
    adopted: {2}
"""  # noqa: E501
    shadow = result_of(reference, HEAD + proposed.format("shadow", "review", "[]"))
    adopted = result_of(reference, HEAD + proposed.format("adopted", "license_required", "[controlled-ai-assets]"))
    assert "governing" not in [name for name, _, _ in shadow + adopted]
