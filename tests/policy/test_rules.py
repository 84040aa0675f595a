"""Rules alone judge as the whole reference does, of which they are a part."""

from __future__ import annotations

import pytest

from auditspan.policy.adoptions import with_adoption
from auditspan.policy.errors import PolicyError
from auditspan.policy.given_facts import facts_from
from auditspan.policy.recompute import Recomputer
from auditspan.policy.reference import Reference
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.rules import NEEDED, Rules, names_of_rules

ARTIFACTS = {
    **Reference.packaged_artifacts(),
    "adoptions.yaml": with_adoption(None, "controlled-ai-assets", "officer", "caution"),
}
CHINA = {"act": "transfer", "item_kind": "accelerator", "accelerator_model": "H100 SXM", "destination_country": "CN"}


@pytest.fixture(scope="module")
def whole() -> Reference:
    return Reference.load(ARTIFACTS, 1)


def test_they_are_a_part_of_the_reference(whole: Reference) -> None:
    names = names_of_rules(ARTIFACTS)
    assert set(names) >= {"us-ear.yaml", "adoptions.yaml", *NEEDED}
    assert not {"parties.yaml", "ip_country.mmdb.gz", "accelerators.csv"} & set(names)
    rules = Rules.of({name: ARTIFACTS[name] for name in names})
    assert [rule.id for rule in rules.packs.rules] == [rule.id for rule in whole.packs.rules]
    assert rules.adopted == whole.adopted == {"controlled-ai-assets"}


@pytest.mark.parametrize("day", ["2023-01-01", "2025-06-01", "2026-11-01", "2027-06-01"])
def test_they_make_the_same_documents_again(day: str, whole: Reference) -> None:
    at = parse_instant(day)
    document = whole.engine().determine([facts_from(whole, CHINA, at)], at).document_bytes()
    assert Recomputer(Rules.of(ARTIFACTS)).document(document, [at]) == document


@pytest.mark.parametrize("name", sorted(NEEDED))
def test_what_they_need_must_be_there(name: str) -> None:
    with pytest.raises(PolicyError, match=name):
        Rules.of({other: content for other, content in ARTIFACTS.items() if other != name})
