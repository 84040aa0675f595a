"""Two packages of one deployment: what each covers may differ, what both hold may not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.compare import compare_packages
from auditspan.exporters.evidence.zipped import zip_package
from exported import export
from sealed_world import SECOND, T0, World
from tampering import statement_of

from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore


def test_a_package_agrees_with_itself(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    zip_package(packages["all"], tmp_path / "all.zip")
    compared = compare_packages(packages["all"], tmp_path / "all.zip", world.trust)
    assert compared.exit_code == 0 and compared.differences == {} and compared.contradictions == []
    for log in compared.logs:
        assert log["both"] == log["intervals"][0][1] - log["intervals"][0][0] > 0
        assert log["only_in_a"] == log["only_in_b"] == log["shown_in_a_only"] == log["shown_in_b_only"] == 0


def test_what_differs_is_said_and_no_contradiction(packages: dict[str, Path], world: World) -> None:
    compared = compare_packages(packages["all"], packages["flagged"], world.trust)
    assert compared.exit_code == 0 and compared.to_dict()["contradictions_total"] == 0
    assert compared.differences["where"] == (None, "flagged = true")
    assert {"time_from", "time_to"} <= compared.differences.keys()
    logs = {log["log_id"]: log for log in compared.logs}
    for evidence in statement_of(packages["flagged"])["predicate"]["logs"]:
        log, (begin, end) = logs[evidence["log_id"]], evidence["interval"]
        assert log["intervals"][1] == [begin, end] and log["both"] == end - begin and log["only_in_b"] == 0
        assert log["only_in_a"] == log["intervals"][0][1] - (end - begin)
        sealed = next(one for one in world.logs if one.log_id == evidence["log_id"]).rows[begin:end]
        withheld = sum(row["payload"] is not None and not row["flagged"] for row in sealed)
        assert log["shown_in_a_only"] == withheld > 0 and log["shown_in_b_only"] == 0
    other_way = {log["log_id"]: log for log in compare_packages(packages["flagged"], packages["all"], world.trust).logs}
    for log_id, log in logs.items():
        assert other_way[log_id]["shown_in_b_only"] == log["shown_in_a_only"]
        assert other_way[log_id]["only_in_b"] == log["only_in_a"]


def test_packages_of_other_times_agree(packages: dict[str, Path], world: World) -> None:
    compared = compare_packages(packages["flagged"], packages["last minute"], world.trust)
    assert compared.exit_code == 0
    assert all(log["contradictions"] == 0 for log in compared.logs)


def history(name: str, *events: dict[str, Any], epoch: bool = False) -> World:
    """One of several histories of one deployment, all with its key."""
    world = World(name, logs=1)
    for number, options in enumerate(events):
        world.logs[0].event(T0 + number, sequence=number, **options)
    world.batch(T0 + SECOND)
    if epoch:
        world.activate(2)
        world.logs[0].event(T0 + 2 * SECOND, sequence=90)
        world.batch(T0 + 3 * SECOND)
    return world


def exported(store: ClickHouseStore, world: World, out: Path, **options: Any) -> Path:
    world.store_into(store)
    export(store, world, out, **{"time_from": 0, "time_to": 2**62} | options)
    return out


@pytest.fixture
def stores(tmp_path: Path) -> Any:
    made: list[ClickHouseStore] = []

    def make(name: str) -> ClickHouseStore:
        # One process has one embedded store at a time.
        if made:
            made.pop().close()
        store = ClickHouseStore.embedded(tmp_path / name)
        store.migrate()
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


def test_a_split_view_is_found_at_its_leaf(stores: Callable[[str], ClickHouseStore], tmp_path: Path) -> None:
    """The operator shows each of two auditors a history of its own. Each is valid."""
    honest = history("split", {"flagged": True}, {"country": "DE"})
    hidden = history("split", {"flagged": True}, {"country": "FR"})
    one = exported(stores("s1"), honest, tmp_path / "one")
    other = exported(stores("s2"), hidden, tmp_path / "other")
    compared = compare_packages(one, other, honest.trust)
    assert [report.verdict for report in compared.reports] == ["VALID", "VALID"]
    assert compared.exit_code == 1 and compared.contradicting >= 2
    log_id = honest.logs[0].log_id
    of_leaves = [one for one in compared.contradictions if one["log_id"] == log_id and "leaf_index" in one]
    assert [one["leaf_index"] for one in of_leaves] == [2]
    assert {"destination", "facts_hash"} <= set(of_leaves[0]["fields"])
    roots = [one for one in compared.contradictions if one["log_id"] == log_id and "size" in one]
    assert [one["size"] for one in roots] == [len(honest.logs[0].rows)]
    assert json.loads(json.dumps(compared.to_dict()))["result"].startswith("They contradict")


def test_a_split_view_shows_in_roots_where_no_leaf_is_shared(
    stores: Callable[[str], ClickHouseStore], tmp_path: Path
) -> None:
    one, other = (history("apart", {"country": country}) for country in ("DE", "FR"))
    folders = []
    for name, world, (begin, end) in (("s1", one, (0, T0)), ("s2", other, (T0 + 50 * SECOND, T0 + 200 * SECOND))):
        world.logs[0].event(T0 + 100 * SECOND, sequence=9)
        world.batch(T0 + 101 * SECOND)
        folders.append(exported(stores(name), world, tmp_path / name[1:], time_from=begin, time_to=end))
    compared = compare_packages(*folders, one.trust)
    log = next(log for log in compared.logs if log["log_id"] == one.logs[0].log_id)
    assert log["both"] <= 1 and compared.exit_code == 1
    assert any(entry["what"] == "roots of one size" for entry in compared.contradictions)


def test_epochs_that_one_has_alone_are_a_difference(stores: Callable[[str], ClickHouseStore], tmp_path: Path) -> None:
    world = history("epochs", {}, epoch=True)
    store = stores("s1")
    later = exported(store, world, tmp_path / "later")
    early = exported(store, world, tmp_path / "early", time_to=T0)
    compared = compare_packages(early, later, world.trust)
    assert compared.exit_code == 0
    one, other = compared.differences["epochs"]
    assert set(one) < set(other) and other["1"] == one["1"]


def test_a_package_that_is_not_valid_is_not_compared(
    copy: Callable[[str], Path], packages: dict[str, Path], world: World
) -> None:
    folder = copy("all")
    (folder / "VERIFY.md").unlink()
    compared = compare_packages(folder, packages["all"], world.trust)
    assert compared.exit_code == 2 and compared.logs == [] and compared.to_dict()["result"] is None
    (folder / "SUMMARY.html").write_text("x")
    assert compare_packages(packages["all"], folder, world.trust).exit_code == 1
    with pytest.raises(AuditSpanError, match="cannot be opened"):
        compare_packages(folder / "none", folder, world.trust)
