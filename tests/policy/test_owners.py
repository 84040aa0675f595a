"""Owners that contradict themselves, or the registry, are refused at their line with what to do."""

from __future__ import annotations

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.lint import lint
from auditspan.policy.owners import MOST_DATES, WHOLE, as_per_cent
from auditspan.policy.parties import Parties

HEAD = """\
parties:
  - {id: kirin, name: Kirin Chips, country: CN}
  - {id: lotus, name: Lotus Trading, country: SG}
  - {id: twin-a, name: Twin, country: SG}
  - {id: twin-b, name: Twin, country: SG}
  - id: x
    name: X Pte
    owners:
"""
FIRST = 9


def parties(reference: Reference, *owners: str, head: str = HEAD) -> Parties:
    text = head + "".join(f"      - {owner}\n" for owner in owners)
    return Parties(text.encode(), "registry.yaml", reference.countries)


@pytest.mark.parametrize(
    ("owners", "line", "says"),
    [
        (["{party: nobody, share: 10}"], FIRST, "no party 'nobody'"),
        (["{name: kirin  CHIPS, share: 10}"], FIRST, "is the name of the party kirin"),
        (["{name: Twin, share: 10}"], FIRST, "is the name of several parties, twin-a, twin-b"),
        (["{party: kirin, share: 60}", "{party: lotus, share: 60}"], FIRST + 1, "cannot each own more than half of"),
        (["{party: kirin, share: 50}", "{party: lotus, share: 50}", "{name: N, share: 1}"], FIRST + 2, "hold 101 per"),
        (["{party: kirin, share: 101}"], FIRST, "the share is '101'"),
        (['{party: kirin, share: "100.000001"}'], FIRST, "the share is '100.000001'"),
        (["{party: kirin, share: -1}"], FIRST, "the share is '-1'"),
        (["{party: kirin, share: a half}"], FIRST, "the share is 'a half'"),
        (["{party: kirin, share: 1e2}"], FIRST, "the share is '1e2'"),
        (['{party: kirin, share: "0.0000001"}'], FIRST, "the share is"),
        (["{party: kirin, share: 10, from: 2026-02-01, to: 2026-01-01}"], FIRST, "`to` is not after `from`"),
        (["{party: kirin, share: 10, from: 2026-02-01, to: 2026-02-01}"], FIRST, "`to` is not after `from`"),
        (["{party: kirin, share: 10, from: 2026-02-30}"], FIRST, "day is out of range"),
        (["{party: kirin, share: 10, to: soon}"], FIRST, "'soon' is not YYYY-MM-DD"),
        (["{party: kirin, share: 10}", "{party: kirin, share: 20, from: 2026-01-01}"], FIRST + 1, "twice at one time"),
        (["{party: kirin, share: 10, from: 2026-01-01}", "{party: kirin, share: 20}"], FIRST, "twice at one time"),
        (["{name: N, country: Atlantis, share: 1}"], FIRST, "'Atlantis' is no country"),
        (["{name: N, country: SG, share: 1}", "{name: n, country: MY, share: 1, to: 2020-01-01}"], FIRST + 1, "of SG"),
        (["{party: kirin, name: N, share: 1}"], FIRST, "owners/0"),
        (["{party: kirin, listings: [sdn], share: 1}"], FIRST, "listings stands beside it"),
        (["{share: 1}"], FIRST, "owners/0"),
        (["{party: kirin}"], FIRST, "share"),
        (["{party: kirin, share: 1.5}", "{party: lotus, share: true}"], FIRST + 1, "share"),
    ],
)
def test_what_cannot_be_is_refused(reference: Reference, owners: list[str], line: int, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parties(reference, *owners)
    assert says in caught.value.message
    assert (caught.value.file, caught.value.line) == ("registry.yaml", line)
    assert caught.value.remedy


def test_more_than_there_is_counts_at_each_moment(reference: Reference) -> None:
    one = "{party: kirin, share: 60, to: 2026-01-01}"
    assert parties(reference, one, "{party: lotus, share: 60, from: 2026-01-01}").named("x") is not None
    with pytest.raises(PolicyError, match="cannot each own more than half of 'x' from 2025-12-31 on"):
        parties(reference, one, "{party: lotus, share: 60, from: 2025-12-31}")


def test_a_majority_owner_of_a_party_without_a_parent_is_refused(reference: Reference) -> None:
    head = HEAD.replace("    name: X Pte\n", "    name: X Pte\n    ultimate_parent: self\n")
    with pytest.raises(PolicyError, match="said to have no parent, and 'Kirin Chips' owns 51 per cent") as caught:
        parties(reference, "{party: kirin, share: 51}", head=head)
    assert caught.value.line == FIRST + 1
    assert parties(reference, "{party: kirin, share: 50}", head=head).named("x") is not None
    assert parties(reference, "{party: kirin, share: 51, to: 2020-01-01}", head=head).named("x") is not None


def test_too_many_dates_are_refused(reference: Reference) -> None:
    lines = [
        f"  - {{id: p{n}, name: P{n}, owners: "
        f"[{{party: kirin, share: 1, to: 2026-01-01T{n // 60 % 24:02}:{n % 60:02}:0{n // 1440}}}]}}"
        for n in range(MOST_DATES + 1)
    ]
    head = HEAD.replace("    owners:\n", "") + "\n".join(lines)
    with pytest.raises(PolicyError, match="4,096 different dates"):
        parties(reference, head=head)


def test_lint_says_it_too(reference: Reference) -> None:
    beside = {artifact.name: artifact.content for artifact in reference.artifacts}
    (fault,) = lint([("own/parties.yaml", (HEAD + "      - {party: nobody, share: 1}\n").encode())], beside)
    assert (fault.file, fault.line) == ("own/parties.yaml", FIRST)


def test_a_registry_with_owners_needs_the_table_of_who_counts(reference: Reference) -> None:
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    del artifacts["ownership_rules.csv"]
    assert Reference.load(artifacts, 1).parties.named("x") is None
    artifacts["parties.yaml"] = (HEAD + "      - {party: kirin, share: 1}\n").encode()
    with pytest.raises(PolicyError, match="nothing says which of them count"):
        Reference.load(artifacts, 1)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("blocking,sdn,50", "blocked,sdn,50", "no rule 'blocked'"),
        ("blocking,sdn,50", "blocking,sdn,", "'blocking' has no list that counts"),
        ("blocking,entity-list,", "blocking,sdn,", "'sdn' stands there twice"),
        ("affiliates,sdn,50", "affiliates,sdn,40", "line is 40"),
        ("blocking,sdn,50", "blocking,sdn,101", "line is 101"),
        ("blocking,sdn,50", "blocking,sdn,half", "line is 'half'"),
    ],
)
def test_a_faulty_table_of_who_counts_is_refused(reference: Reference, old: str, new: str, says: str) -> None:
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    text = artifacts["ownership_rules.csv"].decode()
    assert old in text
    changed = text.replace(old, new).encode()
    with pytest.raises(PolicyError, match=says):
        Reference.load({**artifacts, "ownership_rules.csv": changed}, 1)
    assert any(says in fault.message for fault in lint([("ownership_rules.csv", changed)], artifacts))


@pytest.mark.parametrize(("share", "text"), [(WHOLE, "100"), (WHOLE // 3, "33.333333"), (500_000, "0.5"), (0, "0")])
def test_a_share_as_a_person_writes_it(share: int, text: str) -> None:
    assert as_per_cent(share) == text
