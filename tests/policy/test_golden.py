"""Golden cases: each provision, date and set of facts gives the outcome that was written down before the rule."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from auditspan.policy import Reference
from auditspan.policy.given_facts import facts_from
from auditspan.policy.rule_time import parse_instant

GOLDEN = Path(__file__).parents[1] / "golden" / "us-ear.yaml"
TABLE = yaml.load(GOLDEN.read_text(), Loader=yaml.BaseLoader)
TYPED = yaml.safe_load(GOLDEN.read_text())
SHORT = {"nlr": "no_license_required"}


@pytest.mark.parametrize("number", range(len(TABLE["cases"])), ids=[case["name"] for case in TABLE["cases"]])
def test_case(reference: Reference, number: int) -> None:
    case, instant = TYPED["cases"][number], TABLE["cases"][number]["at"]
    facts = facts_from(reference, {**TYPED["defaults"]["end_user"], **case["given"]})
    found = reference.engine().determine([facts], parse_instant(instant))
    verdict = found.verdict
    expected = [SHORT.get(case[key], case[key]) for key in ("text", "enforced", "governing")]
    assert [verdict.text, verdict.enforced, verdict.governing] == expected
    assert verdict.flagged is case["flagged"]
    assert verdict.eccn == case["eccn"]
    assert found.rule_ids == tuple(sorted(f"us-ear/{name}" for name in case["rules"]))


def test_every_rule_in_force_has_a_case_for_it(reference: Reference) -> None:
    quoted = {f"us-ear/{name}" for case in TYPED["cases"] for name in case["rules"]}
    # What is lifted in every case stands in the text outcome, not among the rules that govern.
    lifted = {"us-ear/3A090.a-worldwide", "us-ear/4E091-worldwide"}
    assert {rule.id for rule in reference.packs.rules if rule.pack == "us-ear"} == quoted | lifted
