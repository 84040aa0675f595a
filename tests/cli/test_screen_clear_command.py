"""`screen clear`, `second`, `unclear`, `clearances`: as two officers use them, and every wrong argument."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from command_line import auditspan, fails, gives
from running_service import Service
from waiting import until

pytestmark = [pytest.mark.usefixtures("screening_here"), pytest.mark.timeout(900)]

EXTRACT = Path(__file__).parents[1] / "screening" / "data" / "csl_extract.json"
NAME = "Cambrian Hong Kong"
HIT = (NAME, "--list", "EL", "--entry", "005407")


def today() -> date:
    return datetime.now(UTC).date()


UNTIL = str(today() + timedelta(200))


class Plant:
    """A service that asks for two officers, with a list and with the officers' tokens."""

    def __init__(self, folder: Path) -> None:
        self.service = Service(folder / "data", policy__clearance_second_person="true")
        self.data = self.service.data
        self.service.run("keys", "init", "--data", self.data)
        gives("lists", "import", EXTRACT, "--data", self.data)
        self.tokens = {name: self._token(folder, name, role) for name, role in OFFICERS.items()}

    def _token(self, folder: Path, name: str, role: str) -> Path:
        made = gives("token", "create", name, "--role", role, "--data", self.data)
        path = folder / f"{name}.token"
        path.touch(mode=0o600)
        path.write_text(made["token"])
        return path

    def by(self, officer: str, reason: str = "owner and register differ") -> list[str | Path]:
        return ["--data", self.data, "--token-file", self.tokens[officer], "--reason", reason]

    def hits(self, name: str = NAME, *options: str) -> list[Any]:
        found: list[Any] = gives("screen", name, *options, "--data", self.data)
        return found

    def clearances(self) -> list[Any]:
        found: list[Any] = gives("screen", "clearances", "--data", self.data)
        return found


OFFICERS = {"m.berger": "officer", "l.ito": "officer", "gateway": "emitter"}


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    made = Plant(tmp_path_factory.mktemp("plant"))
    made.service.start()
    yield made
    made.service.close()


def test_two_officers_clear_a_hit_it_is_shown_as_cleared_and_one_ends_it(plant: Plant) -> None:
    assert [hit["cleared"] for hit in plant.hits()] == [None]
    assert plant.clearances() == []
    assert "0 clearances" in auditspan("screen", "clearances", "--data", plant.data).out
    tried = gives("screen", "clear", *HIT, "--until", UNTIL, *plant.by("m.berger"), "--dry-run")
    assert (tried["dry_run"], tried["journaled"]) == (True, None)

    said = gives("screen", "clear", *HIT, "--until", UNTIL, *plant.by("m.berger"))
    assert said["in_use"] and said["officer"] == "m.berger"
    expected = {
        "name": NAME, "country": None, "list": "EL", "entry": "005407",
        "listed_name": "Cambricon (Hong Kong) Co., Ltd.", "by": "m.berger", "second": None, "waits": True,
        "reason": "owner and register differ", "from": str(today()), "until": UNTIL,
    }  # fmt: skip
    assert said["clearance"] == expected
    assert plant.clearances() == [{**expected, "state": "waiting"}]
    assert [hit["cleared"] for hit in plant.hits()] == [None]
    assert "cannot be its second person" in fails("screen", "second", *HIT, *plant.by("m.berger"))

    spoken = auditspan("screen", "second", *HIT, *plant.by("l.ito", "register seen"))
    assert spoken.status == 0 and "is in force, activated by l.ito" in spoken.out
    assert "by m.berger, with l.ito." in " ".join(spoken.out.split())
    assert plant.clearances() == [{**expected, "second": "l.ito", "waits": False, "state": "in force"}]
    table = auditspan("screen", "clearances", "--data", plant.data).out
    assert "1 clearance, 1 in force." in table and "l.ito" in table and "register differ" in " ".join(table.split())

    (hit,) = plant.hits()
    assert hit["cleared"] == {
        "by": "m.berger", "second": "l.ito", "reason": expected["reason"], "from": str(today()), "until": UNTIL,
    }  # fmt: skip
    text = auditspan("screen", NAME, "--data", plant.data).out
    assert "0 hits, 1 cleared on list" in text and "cleared by" in text
    # Only that pair: another name of the entry, and another entry of the name, stand.
    assert [hit["cleared"] for hit in plant.hits("Cambricon Hong Kong")] == [None]

    shown = gives("policy", "show", "--data", plant.data)
    assert (shown["officer"], shown["reason"]) == ("l.ito", "register seen")
    assert [one["kind"] for one in shown["artifacts"] if one["name"] == "clearances.yaml"] == ["clearances"]

    assert "is cleared already, by m.berger" in fails("screen", "clear", *HIT, "--until", UNTIL, *plant.by("l.ito"))
    ended = auditspan("screen", "unclear", *HIT, *plant.by("l.ito", "new owner"))
    assert ended.status == 0 and "is a hit on EL 005407 again." in ended.out
    assert [hit["cleared"] for hit in plant.hits()] == [None]
    assert plant.clearances() == []


def test_a_file_of_parties_counts_no_cleared_hit(plant: Plant, tmp_path: Path) -> None:
    putin = next(hit for hit in plant.hits("Vladimir Putin") if hit["list"] == "SDN")
    pair = ("Vladimir Putin", "--list", "sdn", "--entry", putin["entry_id"], "--country", "de")
    file = tmp_path / "customers.csv"
    file.write_text("name,country\nVladimir Putin,DE\nVladimir Putin,RU\n")
    waits = gives("screen", "clear", *pair, "--until", UNTIL, *plant.by("l.ito"))["clearance"]
    assert (waits["country"], waits["list"]) == ("DE", "SDN")
    gives("screen", "second", *pair, *plant.by("m.berger"))
    done = auditspan("screen", "batch", file, "--data", plant.data)
    assert "line 2" not in done.out and "line 3" in done.out
    assert "2 parties on list" in done.err and ": 1 with a hit" in done.err
    gives("screen", "unclear", *pair, *plant.by("m.berger"))


def test_while_no_service_runs_it_is_journaled_and_in_force_from_the_next_start(plant: Plant) -> None:
    env = {"AUDITSPAN_POLICY__CLEARANCE_SECOND_PERSON": "true"}
    plant.service.stop()
    try:
        said = gives("screen", "clear", *HIT, "--until", UNTIL, *plant.by("m.berger"), env=env)
        assert (said["sealed"], said["in_use"], said["clearance"]["waits"]) == (False, False, True)
        gives("screen", "second", *HIT, *plant.by("l.ito"), env=env)
        assert [hit["cleared"] for hit in plant.hits()] == [None]
    finally:
        plant.service.start()
    until(lambda: [one["state"] for one in plant.clearances()] == ["in force"])
    until(lambda: all(hit["cleared"] for hit in plant.hits()))
    gives("screen", "unclear", *HIT, *plant.by("m.berger"))


WRONG: list[tuple[tuple[str | timedelta, ...], str]] = [
    ((NAME, "--list", "XYZ", "--entry", "005407", "--until", UNTIL), "has no list 'XYZ'"),
    ((NAME, "--list", "EL", "--entry", "1", "--until", UNTIL), "EL has no entry '1' on the list 2026-07-31/"),
    (("Quiet Meadow Bakery", *HIT[1:], "--until", UNTIL), "'Quiet Meadow Bakery' is no hit on EL 005407, Cambricon"),
    (("???", *HIT[1:], "--until", UNTIL), "nothing to screen"),
    ((*HIT, "--until", timedelta(0)), "is not after"),
    ((*HIT, "--until", "2020-01-01"), "is not after"),
    ((*HIT, "--until", timedelta(367)), "would hold 367 days"),
    ((*HIT, "--until", "next year"), "is not YYYY-MM-DD"),
    ((*HIT, "--until", "2027-02-30"), "there is no day"),
    ((*HIT, "--until", UNTIL, "--from", "2026-01-01"), "is before today"),
    ((*HIT, "--until", UNTIL, "--country", "China"), "is no country"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG)
def test_a_wrong_argument_is_refused_and_says_so(
    plant: Plant, arguments: tuple[str | timedelta, ...], says: str
) -> None:
    # Days are counted when the test runs: it may be another day than when it was collected.
    given = [str(today() + each) if isinstance(each, timedelta) else each for each in arguments]
    said = fails("screen", "clear", *given, *plant.by("m.berger"))
    assert says in said
    assert plant.clearances() == []


def test_reason_and_credential_are_asked_for(plant: Plant, tmp_path: Path) -> None:
    for reason in ("", "  ", "x" * 1001):
        assert "The reason has" in fails("screen", "clear", *HIT, "--until", UNTIL, *plant.by("m.berger", reason))
    assert "not that of an officer" in fails("screen", "clear", *HIT, "--until", UNTIL, *plant.by("gateway"))
    for word in ("second", "unclear"):
        assert "there is no clearance of 'Cambrian Hong Kong'" in fails("screen", word, *HIT, *plant.by("m.berger"))
        assert "is not YYYY-MM-DD" in fails("screen", word, *HIT, "--until", "x", *plant.by("m.berger"))
        assert "not that of an officer" in fails("screen", word, *HIT, *plant.by("gateway"))
        assert auditspan("screen", word, NAME, *plant.by("m.berger")).status == 2
    assert "auditspan up" in fails("screen", "clear", *HIT, "--until", UNTIL, "--data", tmp_path / "none",
                                   "--token-file", plant.tokens["m.berger"], "--reason", "so")  # fmt: skip
    said = fails("screen", "clear", *HIT, "--until", UNTIL, "--data", without_a_list(plant, tmp_path),
                 "--token-file", plant.tokens["m.berger"], "--reason", "so")  # fmt: skip
    assert "There is no list" in said
    assert plant.clearances() == []


def without_a_list(plant: Plant, tmp_path: Path) -> Path:
    """A directory that knows the officers, and has no list."""
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    (other / "tokens.json").write_bytes((plant.data / "tokens.json").read_bytes())
    (other / "tokens.json").chmod(0o600)
    return other


def test_a_clearance_that_cannot_be_read_is_no_clearance(plant: Plant, tmp_path: Path) -> None:
    """Never shown as a hit less: the command ends with an error that says what to do."""
    other = tmp_path / "other"
    gives("lists", "import", EXTRACT, "--data", other)
    assert [hit["cleared"] for hit in gives("screen", NAME, "--data", other)] == [None]
    folder = other / "reference"
    folder.mkdir()
    (folder / "in-force.json").write_text('{"artifacts": [{"name": "clearances.yaml", "sha256": "' + "0" * 64 + '"}]}')
    assert "clearances.yaml of the epoch in force is not in" in fails("screen", NAME, "--data", other)
    (folder / "in-force.json").write_text("{")
    assert "cannot be read" in fails("screen", NAME, "--data", other)
