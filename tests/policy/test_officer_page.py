"""The officer's page shows what the code computes."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import yaml

from auditspan.policy import Reference
from auditspan.policy.countries import Countries
from auditspan.policy.decision import Decider
from auditspan.policy.parties import Parties

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "export-control-officer.md").read_text()
EXAMPLE = DOCS.parent / "examples" / "directive"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_worked_example_prints_what_the_page_says() -> None:
    (program,), (expected,) = blocks("python"), blocks("text")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(program, {})
    assert printed.getvalue() == expected


def test_the_rule_on_the_page_is_the_rule_of_the_pack(reference: Reference) -> None:
    (shown,) = yaml.load(blocks("yaml")[0], Loader=yaml.BaseLoader)
    (rule,) = (rule for rule in reference.packs.rules if rule.id == shown["id"])
    assert (rule.title, list(rule.citations), rule.outcome) == (shown["title"], shown["citations"], shown["outcome"])


def test_the_registry_on_the_page_loads(reference: Reference) -> None:
    countries: Countries = reference.countries
    assert Parties(blocks("yaml")[1].encode(), "parties.yaml", countries).named("lion") is not None


def test_the_letter_on_the_page_binds_the_company_that_it_is_addressed_to() -> None:
    letter, registry = ((EXAMPLE / name).read_bytes() for name in ("directive-acme.yaml", "parties.yaml"))
    artifacts = {**Reference.packaged_artifacts(registry, "acme"), "directive-acme.yaml": letter}
    asked = {"act": "access", "model": "frontier-7", "actor_country": "JP"}
    decider = Decider(Reference.load(artifacts, 1))
    decision = decider.decide(asked, "2026-12-01T17:00")
    assert (decision.governing, decision.flagged) == ("license_required", True)
    assert "directive-acme/frontier-7-access" in decision.rule_ids
    assert "directive-acme/frontier-7-access" not in decider.decide(asked, "2026-12-01T16:59").rule_ids
