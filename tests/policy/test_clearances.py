"""A cleared hit: only that pair, only that time, only when as many persons agreed as the deployment asks for."""

from __future__ import annotations

import datetime
import itertools
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from auditspan.policy import PolicyError, Reference
from auditspan.policy.clearances import CLEARANCES, LISTS, LONGEST_DAYS, Clearance, Clearances
from auditspan.policy.clearing import Clearing, check_clearers, with_clearing
from auditspan.policy.deployment import DEPLOYMENT, needs_second_person
from auditspan.policy.lint import lint
from auditspan.policy.rule_time import parse_instant

TODAY = datetime.date(2026, 11, 27)
LISTED = "Cambricon (Hong Kong) Co., Ltd."
HIT = ("Cambrian Hong Kong", "EL", "005407", LISTED)
ENTRY: dict[str, Any] = {
    "name": HIT[0], "list": "EL", "entry": "005407", "listed_name": LISTED, "by": "m.berger",
    "reason": "another company: register and owner differ", "from": "2026-12-01", "until": "2027-06-30",
}  # fmt: skip
BEGIN, END = parse_instant("2026-12-01T00:00Z"), parse_instant("2027-06-30T00:00Z")


def artifact(*entries: dict[str, Any]) -> bytes:
    return yaml.safe_dump({"clearances": list(entries)}, sort_keys=False).encode()


def of(*entries: dict[str, Any], **options: Any) -> Clearances:
    return Clearances.of(artifact(*entries), **options)


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in ENTRY.items() if name != key}


# What is cleared


def test_it_holds_from_its_first_day_in_utc_until_its_last_one_and_then_the_hit_is_back() -> None:
    clearances = of(ENTRY)
    assert clearances.boundaries == (BEGIN, END)
    for at, holds in ((BEGIN - 1, False), (BEGIN, True), (END - 1, True), (END, False)):
        found = clearances.cleared(*HIT, None, at)
        assert (found is not None) == holds
    found = clearances.cleared(*HIT, "JP", BEGIN)
    assert found is not None and (found.by, found.reason) == (ENTRY["by"], ENTRY["reason"])
    (one,) = clearances
    assert [one.state(at) for at in (BEGIN - 1, BEGIN, END)] == ["begins later", "in force", "expired"]


def test_without_a_rule_time_or_an_artifact_nothing_is_cleared() -> None:
    assert of(ENTRY).cleared(*HIT, None, None) is None
    for nothing in (Clearances.of(None), Clearances.of(b"clearances: []\n")):
        assert nothing.cleared(*HIT, None, BEGIN) is None
        assert (len(nothing), nothing.boundaries) == (0, ())


@pytest.mark.parametrize(
    "other",
    [
        ("Cambrian Hong Kong Ltd", *HIT[1:]),
        (HIT[0], "SDN", *HIT[2:]),
        (HIT[0], "EL", "005408", LISTED),
        (HIT[0], "EL", "5407", LISTED),
        # The list gave the id to somebody else.
        (HIT[0], "EL", "005407", "Cambricon (Nanjing) Co., Ltd."),
    ],
)
def test_another_pair_is_not_cleared(other: tuple[str, str, str, str]) -> None:
    assert of(ENTRY).cleared(*other, None, BEGIN) is None


def test_a_name_is_that_name_in_other_case_and_with_other_space() -> None:
    clearances = of(ENTRY)
    assert clearances.cleared("  CAMBRIAN hong\tkong ", *HIT[1:], None, BEGIN)
    assert clearances.cleared(*HIT[:3], LISTED.upper(), None, BEGIN)


def test_with_a_country_it_holds_for_that_country_alone() -> None:
    clearances = of({**ENTRY, "country": "JP"})
    assert clearances.cleared(*HIT, "JP", BEGIN) and clearances.cleared(*HIT, "jp", BEGIN)
    for country in ("HK", "", None):
        assert clearances.cleared(*HIT, country, BEGIN) is None


def test_what_is_judged_as_one_country_is_cleared_as_one() -> None:
    """The registry and the rules have a party of Hong Kong in China; the officer clears it where it says it is."""
    artifacts = {**Reference.packaged_artifacts(), CLEARANCES: artifact({**ENTRY, "country": "HK"})}
    clearances = Reference.load(artifacts, 1).clearances
    for country, holds in (("HK", True), ("CN", True), ("JP", False), (None, False)):
        assert (clearances.cleared(*HIT, country, BEGIN) is not None) == holds
    assert [one.country for one in clearances] == ["HK"], "as the officer wrote it"


NAMES = st.sampled_from(["Acme", "ACME ", "Acme Ltd", "Аcme", "Ăcme"])
CODES = st.sampled_from(["EL", "SDN", "DPL"])
IDS = st.sampled_from(["1", "2", "01"])
COUNTRIES = st.sampled_from([None, "CN", "JP"])
DAYS = st.integers(0, 400).map(lambda days: datetime.date(2026, 1, 1) + datetime.timedelta(days))
SPANS = st.tuples(DAYS, st.integers(1, LONGEST_DAYS))
PAIRS = st.tuples(NAMES, CODES, IDS, NAMES, COUNTRIES)


@given(st.lists(st.tuples(PAIRS, SPANS, st.booleans()), max_size=6), PAIRS, DAYS, st.integers(-1, 1))
def test_only_that_pair_and_only_that_time(
    given_ones: list[tuple[Any, tuple[datetime.date, int], bool]], asked: Any, day: datetime.date, beside: int
) -> None:
    """Against the words of the promise, one clearance after the other."""
    entries: list[dict[str, Any]] = []
    expected = False
    at = parse_instant(f"{day}T00:00Z") + beside
    known: list[tuple[Any, datetime.date, datetime.date]] = []
    for (name, code, entry, listed, country), (start, days), waits in given_ones:
        until = start + datetime.timedelta(days)
        pair = (name.strip().casefold(), code, entry, listed.strip().casefold(), country)
        if any(pair == other and start < before_end and before < until for other, before, before_end in known):
            continue
        known.append((pair, start, until))
        entries.append(
            {
                "name": name, "list": code, "entry": entry, "listed_name": listed, "by": "m.berger", "reason": "so",
                "from": str(start), "until": str(until),
                **({"country": country} if country else {}), **({"second": None} if waits else {}),
            }
        )  # fmt: skip
        name_asked, code_asked, entry_asked, listed_asked, country_asked = asked
        expected |= (
            not waits
            and pair[:4] == (name_asked.strip().casefold(), code_asked, entry_asked, listed_asked.strip().casefold())
            and country in (None, country_asked)
            and parse_instant(f"{start}T00:00Z") <= at < parse_instant(f"{until}T00:00Z")
        )
    clearances = of(*entries)
    assert (clearances.cleared(*asked, at) is not None) == expected
    # Between two boundaries no answer changes.
    if at not in clearances.boundaries:
        assert (clearances.cleared(*asked, at - 1) is not None) == expected


# Two persons


def test_what_waits_for_its_second_person_suppresses_nothing() -> None:
    waiting = of({**ENTRY, "second": None})
    assert waiting.cleared(*HIT, None, BEGIN) is None
    assert waiting.boundaries == ()
    (one,) = waiting
    assert one.waits and one.state(BEGIN) == "waiting" and one.state(END) == "expired"
    agreed = of({**ENTRY, "second": "l.ito"})
    found = agreed.cleared(*HIT, None, BEGIN)
    assert found is not None and found.second == "l.ito"


def test_where_the_deployment_asks_for_two_one_alone_waits_and_so_it_is_sealed() -> None:
    assert of(ENTRY, second_person=True).cleared(*HIT, None, BEGIN) is None
    assert of({**ENTRY, "second": "l.ito"}, second_person=True).cleared(*HIT, None, BEGIN)
    both = {**Reference.packaged_artifacts(clearance_second_person=True), CLEARANCES: artifact(ENTRY)}
    assert both[DEPLOYMENT] == b"clearance_second_person: true\n"
    asks = Reference.load(both, 1)
    assert asks.clearance_second_person and asks.exporter is None
    assert asks.clearances.cleared(*HIT, None, BEGIN) is None
    alone = Reference.load({**both, DEPLOYMENT: b"clearance_second_person: false\n"}, 1)
    assert alone.clearances.cleared(*HIT, None, BEGIN)
    for text in (b"{}\n", b"clearance_second_person: maybe\n"):
        with pytest.raises(PolicyError, match="deployment"):
            Reference.load({**both, DEPLOYMENT: text}, 1)


def test_the_deployment_says_both_and_what_it_said_before_it_says_in_the_same_bytes() -> None:
    parties = b"parties: [{id: acme, name: Acme}]\n"
    assert Reference.packaged_artifacts(parties, "acme")[DEPLOYMENT] == b'exporter: "acme"\n'
    assert DEPLOYMENT not in Reference.packaged_artifacts(parties)
    both = Reference.packaged_artifacts(parties, "acme", clearance_second_person=True)
    reference = Reference.load(both, 1)
    assert (reference.exporter, reference.clearance_second_person) == ("acme", True)
    assert needs_second_person(both[DEPLOYMENT]) and not needs_second_person(None)


# In a reference


def test_a_reference_has_its_clearances_and_their_boundaries(reference: Reference) -> None:
    assert len(reference.clearances) == 0
    cleared = Reference.load({**Reference.packaged_artifacts(), CLEARANCES: artifact(ENTRY)}, 1)
    (found,) = (one for one in cleared.artifacts if one.name == CLEARANCES)
    assert found.kind == "clearances" and found.version
    assert set(cleared.engine().boundaries) == {*reference.engine().boundaries, BEGIN, END}
    others = [one for one in cleared.artifacts if one.name != CLEARANCES]
    assert [(one.name, one.sha256) for one in others] == [(one.name, one.sha256) for one in reference.artifacts]
    facts = {"act": "transfer", "accelerator_model": "H100 SXM", "destination_country": "CN"}
    from auditspan.policy.decision import Decider

    for at in ("2026-11-01", "2027-01-01"):
        assert Decider(cleared).decide(facts, at).document == Decider(reference).decide(facts, at).document


# Bad input


WRONG: list[tuple[dict[str, Any], str]] = [
    ({**ENTRY, "until": "2026-12-01"}, r"clearances\.yaml:\d+: `until` \(2026-12-01\) is not after `from`"),
    ({**ENTRY, "until": "2026-01-01"}, "is not after `from`"),
    ({**ENTRY, "until": "2027-12-03"}, "would hold 367 days"),
    ({**ENTRY, "until": "2027-02-30"}, "there is no day '2027-02-30'"),
    ({**ENTRY, "from": "1.12.2026"}, "is not YYYY-MM-DD"),
    ({**ENTRY, "from": "1969-12-31"}, "between 1970 and 2261"),
    ({**ENTRY, "list": "Entity List"}, "'Entity List' is no code of a list"),
    ({**ENTRY, "reason": ""}, "reason"),
    ({**ENTRY, "reason": " \n"}, "reason"),
    ({**ENTRY, "reason": "x" * 1001}, "reason"),
    ({**ENTRY, "name": " "}, "name"),
    ({**ENTRY, "country": "China"}, "country"),
    ({**ENTRY, "entry": 5407}, "entry"),
    ({**ENTRY, "second": "m.berger"}, "'m.berger' cannot be the second person of the own clearance"),
    ({**ENTRY, "seconded": "l.ito"}, "seconded"),
    *((without(key), key) for key in ("until", "from", "listed_name", "by", "reason")),
]


@pytest.mark.parametrize(("entry", "says"), WRONG)
def test_what_is_wrong_is_said_with_its_line_and_a_remedy(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        of({**ENTRY, "name": "Somebody Else"}, entry)
    assert caught.value.file == CLEARANCES and caught.value.line > 9 and caught.value.remedy
    faults = lint([("mine.yaml", artifact({**ENTRY, "name": "Somebody Else"}, entry))], Reference.packaged_artifacts())
    assert [(fault.file, fault.line) for fault in faults] == [("mine.yaml", caught.value.line)]


def test_at_the_right_line() -> None:
    text = artifact(ENTRY, {**ENTRY, "name": "Somebody", "until": "2026-01-01"})
    line = 1 + text.decode().splitlines().index("  until: '2026-01-01'")
    with pytest.raises(PolicyError) as caught:
        Clearances.of(text)
    assert caught.value.line == line


def test_one_hit_is_not_cleared_for_two_names_of_one_place() -> None:
    """Hong Kong is judged as China: ending one of the two would leave the hit cleared by the other."""
    countries = Reference.packaged().countries
    for entries in itertools.permutations([{**ENTRY, "country": "CN"}, {**ENTRY, "country": "HK", "by": "l.ito"}]):
        with pytest.raises(PolicyError, match="is cleared already"):
            of(*entries, countries=countries)
        assert len(of(*entries)) == 2, "who knows no countries compares what is written"
    assert len(of({**ENTRY, "country": "CN"}, {**ENTRY, "country": "TW"}, countries=countries)) == 2


def test_one_hit_is_not_cleared_twice_at_a_time() -> None:
    again = {**ENTRY, "name": "CAMBRIAN HONG KONG", "from": "2027-06-29", "until": "2027-07-30", "by": "l.ito"}
    said = r"is cleared already, by m\.berger from 2026-12-01 until 2027-06-30"
    with pytest.raises(PolicyError, match=said) as caught:
        of(ENTRY, again)
    assert "2027-06-30" in caught.value.remedy
    renewed = of(ENTRY, {**again, "from": "2027-06-30"})
    found = renewed.cleared(*HIT, None, END)
    assert found is not None and found.by == "l.ito"


def test_too_many_days_are_refused() -> None:
    first = datetime.date(1990, 1, 1)
    entries = [
        {**ENTRY, "name": f"n{n}", "from": str(day), "until": str(day + datetime.timedelta(1))}
        for n, day in enumerate(first + datetime.timedelta(2 * n) for n in range(2100))
    ]
    with pytest.raises(PolicyError, match="4,200 different days"):
        of(*entries)


# What officers may change


def clearing(act: Any = "clear", **changed: Any) -> Clearing:
    usual = {
        "name": HIT[0], "list": "EL", "entry": "005407", "listed_name": LISTED, "start": "2026-12-01",
        "until": "2027-06-30",
    }  # fmt: skip
    return Clearing(act, **{**usual, **changed})


def changed(
    text: bytes | None, officer: str, act: Any = "clear", *, second_person: bool = False, **other: Any
) -> bytes:
    options: dict[str, Any] = {"second_person": second_person, "today": TODAY}
    done = with_clearing(text, clearing(act, **other), officer, "seen", **options)
    check_clearers(done, text, officer, **options)
    return done


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.strip()), st.booleans())
def test_any_name_is_read_as_it_was_written(name: str, second_person: bool) -> None:
    text = changed(None, "m.berger", name=name, listed_name=name, second_person=second_person)
    (one,) = Clearances.of(text)
    assert (one.name, one.listed_name, one.waits, one.by) == (name, name, second_person, "m.berger")


def test_an_officer_clears_another_seconds_and_anybody_ends_it() -> None:
    first = changed(None, "m.berger", second_person=True)
    (one,) = Clearances.of(first)
    assert one.waits
    with pytest.raises(PolicyError, match=r"'m\.berger' cleared the hit, and cannot be its second person"):
        changed(first, "m.berger", "second", second_person=True)
    agreed = changed(first, "l.ito", "second", second_person=True, listed_name="", start="", until="")
    (one,) = Clearances.of(agreed)
    assert (one.by, one.second, one.waits) == ("m.berger", "l.ito", False)
    with pytest.raises(PolicyError, match="waits for nobody"):
        changed(agreed, "a.third", "second", second_person=True)
    assert list(Clearances.of(changed(agreed, "a.third", "end", until=""))) == []
    with pytest.raises(PolicyError, match="there is no clearance of 'Cambrian Hong Kong' in JP on EL 005407"):
        changed(agreed, "a.third", "end", country="JP")
    for nothing in (None, first):
        with pytest.raises(PolicyError, match="there is no clearance of 'Other'"):
            changed(nothing, "l.ito", "second", name="Other", until="")


def test_what_has_expired_is_neither_seconded_nor_ended() -> None:
    old = artifact({**ENTRY, "from": "2026-10-01", "until": "2026-11-27", "second": None})
    for act in ("second", "end"):
        with pytest.raises(PolicyError, match=r"no clearance of .* that has not expired"):
            changed(old, "l.ito", act, until="")


def test_several_that_wait_are_told_apart_by_their_end() -> None:
    text = artifact({**ENTRY, "second": None}, {**ENTRY, "second": None, "from": "2027-06-30", "until": "2027-07-30"})
    with pytest.raises(PolicyError, match="2 clearances of it wait") as caught:
        changed(text, "l.ito", "second", until="")
    assert "2027-06-30, 2027-07-30" in caught.value.remedy
    agreed = list(Clearances.of(changed(text, "l.ito", "second", until="2027-07-30")))
    assert [one.second for one in agreed] == [None, "l.ito"]
    (left,) = Clearances.of(changed(text, "l.ito", "end", until="2027-06-30"))
    assert str(left.until) == "2027-07-30"


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({**ENTRY, "name": "X"}, "'X' is cleared by 'm.berger', and the credential is that of 'l.ito'"),
    ({**ENTRY, "name": "X", "by": "l.ito", "second": "m.berger"}, "'m.berger' is named as second person"),
    ({**ENTRY, "name": "X", "by": "l.ito", "list": "XYZ"}, "there is no list 'XYZ'"),
    ({**ENTRY, "name": "X", "by": "l.ito", "from": "2026-11-26"}, "is before today"),
    # Another's clearance may not be made longer, seconded for somebody, or given another reason.
    ({**ENTRY, "until": "2027-07-30"}, "is cleared by 'm.berger'"),
    ({**ENTRY, "second": "a.third"}, "is cleared by 'm.berger'"),
    ({**ENTRY, "reason": "because"}, "is cleared by 'm.berger'"),
]


@pytest.mark.parametrize(("entry", "says"), REFUSED)
def test_nobody_writes_in_anothers_name(entry: dict[str, Any], says: str) -> None:
    before = artifact({**ENTRY, "second": None})
    after = artifact(entry)
    with pytest.raises(PolicyError, match=says) as caught:
        check_clearers(after, before, "l.ito", second_person=False, today=TODAY)
    assert caught.value.line and caught.value.remedy


def test_one_alone_is_refused_where_two_are_asked_for() -> None:
    options: dict[str, Any] = {"second_person": True, "today": TODAY}
    with pytest.raises(PolicyError, match="asks for a second person"):
        check_clearers(artifact(ENTRY), None, "m.berger", **options)
    check_clearers(artifact({**ENTRY, "second": None}), None, "m.berger", **options)
    # What one gave before two were asked for stays, waits, and can be seconded.
    check_clearers(artifact(ENTRY), artifact(ENTRY), "l.ito", **options)
    check_clearers(artifact({**ENTRY, "second": "l.ito"}), artifact(ENTRY), "l.ito", **options)
    check_clearers(artifact(), artifact(ENTRY), "l.ito", **options)


def test_the_lists_are_those_whose_effect_is_known() -> None:
    from auditspan.screening.policies import list_policies

    assert set(LISTS) == set(list_policies()) - {"*"}


def test_a_clearance_says_all_of_itself() -> None:
    (one,) = of({**ENTRY, "country": "JP", "second": "l.ito"})
    assert isinstance(one, Clearance)
    assert one.document() == {**ENTRY, "country": "JP", "second": "l.ito", "waits": False}
