"""Hits: which entry, by which alias, with which evidence; and what is no hit."""

from __future__ import annotations

import needs_screening  # noqa: F401 - skips where it is not installed
import pytest

from auditspan.screening.errors import ScreeningError
from auditspan.screening.lists import import_list
from auditspan.screening.screener import Party, Screener, open_screener, write_index


def entries(screener: Screener, *party, **known) -> list[str]:
    return [hit.listed_as for hit in screener.screen(Party(*party, **known))]


def test_every_name_of_every_entry_is_found_with_its_own_entry_first(screener: Screener) -> None:
    asked = 0
    for row in screener.entries.to_pylist():
        for each in row["names"]:
            asked += 1
            hits = screener.screen(Party(each["name"]))
            own = [hit for hit in hits if hit.entry_id == row["entry_id"]]
            assert own, each["name"]
            assert own[0].score == hits[0].score, each["name"]
    assert asked > 400


def test_a_hit_names_list_entry_alias_score_and_parts(screener: Screener) -> None:
    (hit,) = screener.screen(Party("Cambrian Hong Kong", country="CN"))
    assert (hit.list, hit.entry_id, hit.listed_as) == ("EL", "005407", "Cambricon (Hong Kong) Co., Ltd.")
    assert (hit.matched_name, hit.role) == ("Cambrian Hong Kong", "alias")
    assert hit.parts == {"name": 1.0, "country": 0.02}
    assert hit.corroborated_by == ("country",)
    assert hit.score == 1.0 >= hit.threshold
    assert "744.11" in hit.citation
    assert "734.9(e)(2)" in hit.entry["license_requirement"]
    assert hit.document()["parts"] == {"name": 1.0, "country": 0.02}


def test_each_list_has_its_own_effect(screener: Screener) -> None:
    effects = {hit.list: hit.effect for name in ("Bank of Kunlun", "China Telecom", "Davoud Baniameri")
               for hit in screener.screen(Party(name))}  # fmt: skip
    assert "Prohibited" in effects["DPL"]
    assert "no export ban" in effects["CMIC"]
    assert "no export ban" in effects["CAP"]


def test_another_country_takes_from_the_score_and_can_end_the_hit(screener: Screener) -> None:
    (here,) = screener.screen(Party("DAVUD BANIAMERI", country="US"))
    (there,) = screener.screen(Party("DAVUD BANIAMERI", country="NZ"))
    assert here.score > there.score
    assert (there.parts["country"], there.corroborated_by) == (-0.06, ())


def test_a_weak_name_counts_when_it_is_equal_or_corroborated(screener: Screener) -> None:
    (hit,) = screener.screen(Party("Vaso"))
    assert (hit.entry_id, hit.weak) == ("003987", True)
    assert not screener.screen(Party("Vaspo"))
    assert not screener.screen(Party("Vaso Gardens GmbH"))
    assert entries(screener, "Vaspo", country="RU") == [hit.listed_as]


def test_a_company_is_not_taken_for_a_ship_of_one_of_its_words(screener: Screener) -> None:
    assert entries(screener, "Lyra") == ["LYRA"]
    assert not screener.screen(Party("Lyra Systems GmbH"))


def test_the_name_in_a_text_that_embeds_it(screener: Screener) -> None:
    listed = next(r["listed_as"] for r in screener.entries.to_pylist() if "Affiliated Entity:" in r["listed_as"])
    own = listed.partition("Affiliated Entity: ")[2]
    assert entries(screener, listed)[0] == entries(screener, own)[0] == listed


def test_an_identifier_finds_an_entry_whatever_the_name(tmp_path, list_file) -> None:
    ids = [{"type": "Vessel Registration Identification", "number": "IMO 9187629"}]
    import_list(list_file({"name": "OCEAN STAR", "type": "Vessel", "ids": ids}), tmp_path / "kept", prepare=write_index)
    (hit,) = open_screener(tmp_path / "kept").screen(Party("New Hope", identifiers=("9187629",)))
    assert (hit.score, hit.parts, hit.corroborated_by) == (1.0, {"name": 0.0, "identifier": 1.0}, ("identifier",))


def test_an_address_that_is_an_entry_finds_whoever_is_there(tmp_path, list_file) -> None:
    place = {"address": "Unit 1903, 19/F, Wayson Commercial Building, 28 Connaught Road West", "country": "HK"}
    path = list_file({"name": "Address 01", "addresses": [place]})
    import_list(path, tmp_path / "kept", prepare=write_index)
    screener = open_screener(tmp_path / "kept")
    asked = "19/F Wayson Commercial Bldg, 28 Connaught Rd West, Unit 1903"
    (hit,) = screener.screen(Party("Any Trading Ltd", address=asked))
    assert (hit.kind, hit.role) == ("address", "address")
    assert not screener.screen(Party("Any Trading Ltd", address="30 Connaught Rd West"))
    assert not screener.screen(Party("Address 01"))


@pytest.mark.parametrize("name", ["", "   ", "!!! ???", "🚀", "\u202e"])
def test_nothing_to_screen_is_an_error_not_a_clearance(screener: Screener, name: str) -> None:
    with pytest.raises(ScreeningError, match="nothing to screen"):
        screener.screen(Party(name))


def test_a_name_of_10_kb_is_refused(screener: Screener) -> None:
    with pytest.raises(ScreeningError, match="10000 characters"):
        screener.screen(Party("A" * 10_000))


def test_disguises_of_a_name_do_not_help(screener: Screener) -> None:
    for name in (
        "\u202eVladimir\u200b Putin",
        "Vlаdіmіr Рutіn",
        "ＰＵＴＩＮ Ｖｌａｄｉｍｉｒ",
        "Vladimir 🚀 Putin",
        "Владимир Путин",
    ):
        assert entries(screener, name) == ["PUTIN, Vladimir Vladimirovich"], name


def test_answers_are_remembered_by_list_and_party_within_a_bound(kept) -> None:
    whole = open_screener(kept)
    screener = Screener(whole.list, whole.entries, whole._index, remembered=2)
    first = screener.screen(Party("Vladimir Putin"))
    assert screener.screen(Party("Vladimir Putin")) is first
    assert (screener.asked, screener.answered_from_memory) == (2, 1)
    screener.screen(Party("Vladimir Putin", country="NZ"))
    screener.screen(Party("Acme"))
    assert screener.screen(Party("Vladimir Putin")) is not first
    assert screener.answered_from_memory == 1
