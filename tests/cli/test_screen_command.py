"""`lists` and `screen`: import, one party, many, labelled pairs; and what a person is told when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import auditspan, fails, gives

pytestmark = pytest.mark.usefixtures("screening_here")

EXTRACT = Path(__file__).parents[1] / "screening" / "data" / "csl_extract.json"
LABELLED = EXTRACT.with_name("labelled.csv")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    kept = gives("lists", "import", EXTRACT, "--data", folder)
    assert (kept["entries"], kept["current"]) == (273, True)
    return folder


def test_the_current_list_is_shown(data: Path) -> None:
    (kept,) = gives("lists", "show", "--data", data)
    assert kept["version"].startswith("2026-07-31/")
    assert kept["lists"]["CAP"] == 1
    text = auditspan("lists", "show", "--data", data).out
    assert "Prohibited: General Prohibition 4" in " ".join(text.replace("│", " ").split())
    assert kept["digest"] in text


def test_one_party_is_screened_with_and_without_naming_the_command(data: Path) -> None:
    short = gives("screen", "Cambrian Hong Kong", "--country", "CN", "--data", data)
    assert short == gives("screen", "name", "Cambrian Hong Kong", "--country", "CN", "--data", data)
    assert short == gives("screen", "--data", data, "--country", "CN", "Cambrian Hong Kong")
    (hit,) = short
    assert (hit["list"], hit["matched_name"], hit["parts"]) == (
        "EL", "Cambrian Hong Kong", {"name": 1.0, "country": 0.02},
    )  # fmt: skip
    text = auditspan("screen", "Cambrian Hong Kong", "--data", data).out
    assert "alias: Cambrian Hong Kong" in text
    assert "1 hit on list 2026-07-31/" in text


def test_a_country_that_is_none_is_refused_and_lowers_no_score(data: Path, tmp_path: Path) -> None:
    for none in ("China", "ZZ", "CHN"):
        assert "is no country" in fails("screen", "Cambrian Hong Kong", "--country", none, "--data", data)
    (hit,) = gives("screen", "Cambrian Hong Kong", "--country", "hk", "--data", data)
    assert hit["parts"] == {"name": 1.0, "country": 0.02}, "Hong Kong counts as China, as where events are judged"
    path = tmp_path / "customers.csv"
    path.write_text("name,country\nCambrian Hong Kong,China\nCambrian Hong Kong,HK\nCambrian Hong Kong,\n")
    done = auditspan("screen", "batch", path, "--data", data, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert done.status == 3
    assert "country is 'China'" in rows[0]["error"]
    assert [[hit["parts"] for hit in row["hits"]] for row in rows] == [
        [], [{"name": 1.0, "country": 0.02}], [{"name": 1.0}],
    ]  # fmt: skip


def test_no_hit_is_an_empty_list(data: Path) -> None:
    assert gives("screen", "Quiet Meadow Bakery", "--data", data) == []
    assert "0 hits" in auditspan("screen", "Quiet Meadow Bakery", "--data", data).out


def test_a_file_of_parties(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "customers.csv"
    path.write_text(
        "id,name,country\nc1,Vladimir PUTIN,RU\nc2,Quiet Meadow Bakery,\nc3,!!!,\nc4,\x1b[31mVladimir Putin,\n"
    )
    done = auditspan("screen", "batch", path, "--data", data, "--json")
    assert done.status == 3
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [(row["line"], row["id"], len(row["hits"]), bool(row["error"])) for row in rows] == [
        (2, "c1", 1, False), (3, "c2", 0, False), (4, "c3", 0, True), (5, "c4", 0, False),
    ]  # fmt: skip
    text = auditspan("screen", "batch", path, "--data", data)
    assert (text.status, "SDN PUTIN, Vladimir Vladimirovich" in text.out) == (3, True)
    assert "\x1b[31m" not in text.out + text.err
    assert "4 parties" in text.err


def test_labelled_pairs_need_no_list() -> None:
    found = gives("screen", "evaluate", LABELLED)
    assert set(found["kinds"]) == {"organization", "person", "vessel"}
    assert found["overall"]["pairs"] == sum(kind["pairs"] for kind in found["kinds"].values())
    assert found["overall"]["f1"] >= 0.88
    assert found["thresholds"]["organization"] < 1
    nothing = gives("screen", "evaluate", LABELLED, "--threshold", "1")
    assert nothing["overall"]["recall"] < found["overall"]["recall"]
    assert nothing["thresholds"]["person"] == 1
    text = auditspan("screen", "evaluate", LABELLED, "--wrong").out
    assert "precision" in text
    assert ", missed, " in text


def test_errors_say_what_to_do(data: Path, tmp_path: Path) -> None:
    assert "auditspan lists import" in fails("screen", "Acme", "--data", tmp_path / "none")
    assert "auditspan lists import" in fails("lists", "show", "--data", tmp_path / "none")
    assert "nothing to screen" in fails("screen", "???", "--data", data)
    assert "1000 at most" in fails("screen", "A" * 2000, "--data", data)
    cut = tmp_path / "cut.json"
    cut.write_bytes(EXTRACT.read_bytes()[:5000])
    before = gives("lists", "show", "--data", data)
    said = fails("lists", "import", cut, "--data", data)
    assert "cut.json:" in said
    assert "record" in said
    assert gives("lists", "show", "--data", data) == before
    fails("screen", "evaluate", tmp_path / "none.csv")
