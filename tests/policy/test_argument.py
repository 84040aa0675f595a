"""A determination argued question by question: order, sources, what is unknown, and the named keys of its JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from auditspan.policy import Reference
from auditspan.policy.argument import QUESTIONS, Argument, argue, washington
from auditspan.policy.golden import Judge, shipped_cases
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.stated_facts import state

KEYS = {
    "at", "facts", "text", "enforced", "governing", "flagged", "eccn", "rule_ids", "rules", "citations",
    "review_policy", "destination", "missing_facts", "why",
}  # fmt: skip


def argued(reference: Reference, at: str, **given: Any) -> Argument:
    return argue(reference, reference.engine().determine([state(reference, given).facts], parse_instant(at)))


def answers(argument: Argument, question: int) -> str:
    return "\n".join(argument.steps[question].answers)


def test_the_questions_come_in_their_order_and_each_has_an_answer(reference: Reference) -> None:
    argument = argued(reference, "2026-11-01", act="transfer", accelerator_model="H100", destination="CN")
    assert [step.question for step in argument.steps] == list(QUESTIONS)
    assert all(step.answers for step in argument.steps)
    assert "15 CFR 734.3" in answers(argument, 0)
    assert "ECCN 3A090.a." in answers(argument, 1)
    assert "Country Groups D:1, D:3, D:4, D:5" in answers(argument, 2)
    assert "us-ear/3A090.a-d145: 15 CFR 742.6(a)(6)(iii)(A)" in answers(argument, 2)
    assert "What governs: licence required, and the event is flagged." in answers(argument, 5)


def test_its_json_has_the_named_keys_and_says_what_the_engine_says(reference: Reference) -> None:
    argument = argued(reference, "2026-11-01T08:30", act="transfer", accelerator_model="H100", destination="CN")
    said = json.loads(json.dumps(argument.to_json()))
    verdict = argument.determination.verdict
    assert said.keys() >= KEYS
    assert said["at"] == "2026-11-01T08:30"
    assert [said[name] for name in ("text", "enforced", "governing")] == [
        verdict.text, verdict.enforced, verdict.governing,
    ]  # fmt: skip
    assert said["rule_ids"] == list(argument.determination.rule_ids)
    assert {rule["id"] for rule in said["rules"] if rule["governs"]} == set(said["rule_ids"])
    assert said["facts"]["destination_country"] == said["destination"] == "CN"
    assert said["facts"]["item_3a090_a"] is True
    assert said["review_policy"] == "presumption_of_denial"
    for rule in said["rules"]:
        assert rule["citations"] and rule["effective"]["from"] and rule["explanation"] and rule["status"]


def test_what_lifts_is_no_reason_of_a_refusal(reference: Reference) -> None:
    lifting = "us-ear/diffusion-not-enforced"
    refused = argued(reference, "2026-07-24", act="transfer", accelerator_model="H100", destination="CN")
    assert refused.determination.rule_ids[0] == "us-ear/3A090.a-d145"
    assert lifting not in refused.determination.rule_ids
    assert "BIS statement of 2025-05-13" not in refused.citations
    (beside,) = [rule for rule in refused.to_json()["rules"] if rule["id"] == lifting]
    assert (beside["governs"], beside["lifts"]) == (False, ["us-ear/3A090.a-worldwide"])
    assert "Sets aside us-ear/3A090.a-worldwide" in answers(refused, 5)
    # Where the text asks for more than is enforced, the reason is quoted; where nothing else asks, it governs.
    party = {"end_user_country": "DE", "end_user_listings": []}
    open_parent = argued(reference, "2026-07-24", act="transfer", accelerator_model="H100", destination="DE", **party)
    assert open_parent.determination.rule_ids == ("us-ear/headquarters",)
    assert "BIS statement of 2025-05-13" in open_parent.citations
    party["end_user_parent_country"] = "DE"
    free = argued(reference, "2026-07-24", act="transfer", accelerator_model="H100", destination="DE", **party)
    assert free.determination.rule_ids == (lifting,)


def test_what_is_unknown_is_named(reference: Reference) -> None:
    argument = argued(reference, "2026-11-01", act="transfer", accelerator_model="H100", destination="SG")
    assert {"end_user_country", "end_user_parent_country"} <= set(argument.missing_facts)
    assert argument.to_json()["governing"] == "review"
    h20 = argued(reference, "2026-11-01", act="transfer", accelerator_model="H20", destination="CN")
    assert h20.possible_eccns
    assert h20.determination.verdict.eccn is None
    assert "within limits only" in answers(h20, 1)


def test_a_source_that_is_not_verified_is_said_so(reference: Reference) -> None:
    argument = argued(reference, "2026-11-01", act="access", actor_country="CN", actor_parent_country="CN")
    assert any("us-ear/access-actor rests on a secondary source" in one for one in argument.statuses)
    earlier = argued(reference, "2024-06-01", act="transfer", accelerator_model="H100", destination="CN")
    assert any("Country Groups before" in one for one in earlier.statuses)


def test_a_proposal_is_told_as_one(reference: Reference) -> None:
    argument = argued(
        reference,
        "2027-01-01",
        act="transfer",
        weights_published=False,
        destination="CN",
        end_user_country="CN",
        us_origin_compute=True,
    )
    assert "proposal, in shadow" in answers(argument, 5)
    (shadow,) = (rule for rule in argument.rules if rule["id"] == "controlled-ai-assets/model-transfer")
    assert (shadow["authority"], shadow["governs"]) == ("proposal", False)


def test_rule_times_are_written_in_washington() -> None:
    assert washington(parse_instant("2026-06-12T17:21")) == "2026-06-12T17:21"
    assert washington(parse_instant("2026-01-15")) == "2026-01-15"
    assert washington(parse_instant("2026-06-12T21:21:00Z")) == "2026-06-12T17:21"


@pytest.mark.parametrize("file", [file.file for file in shipped_cases()])
def test_every_golden_case_can_be_argued(reference: Reference, file: str) -> None:
    judge = Judge(reference)
    (cases,) = (one.cases for one in shipped_cases() if one.file == file)
    for case in cases[::5]:
        argument = argue(reference, judge.determination(case))
        told = {rule_id for step in argument.steps for rule_id in step.rule_ids}
        assert told == {rule["id"] for rule in argument.rules}
        assert "{" not in "".join(answer for step in argument.steps for answer in step.answers)
        json.dumps(argument.to_json())
