"""An officer activates a screening list on a running deployment: the next event of a listed party is flagged by it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from auditspan.processors.activation import Change, NotActivated
from sealing_deployment import running
from sealing_inputs import NOW, access, request
from waiting import until

from auditspan.policy.errors import PolicyError
from auditspan.policy.recheck import recheck
from auditspan.policy.stored_determinations import Interval
from auditspan.policy.stored_epochs import StoredEpochs

EXTRACT = Path(__file__).parents[1] / "screening" / "data" / "csl_extract.json"
NAME = "screening_list.json.gz"


def listed(number: int) -> dict[str, object]:
    return access(number, **{"export_control.end_user": "Cambrian Hong Kong"})


@pytest.fixture(scope="module")
def content(screening_here: None, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    from auditspan.screening.activated import artifact_of
    from auditspan.screening.lists import import_list

    folder = tmp_path_factory.mktemp("screening")
    name, packed = artifact_of(import_list(EXTRACT, folder), folder)
    assert name == NAME
    return packed


def test_from_its_activation_until_its_withdrawal_events_are_screened(tmp_path: Path, content: bytes) -> None:
    with running(tmp_path) as deployment:
        deployment.append("events-0", [request(listed(0))], NOW)
        done = deployment.pipeline.activate(Change("m.berger", "list of 31 July", {NAME: content}))
        assert done.in_use
        (artifact,) = (one for one in done.body["artifacts"] if one["kind"] == "screening_list")
        assert (artifact["name"], artifact["officer"]) == (NAME, "m.berger")
        assert artifact["version"].startswith("2026-07-31/")
        deployment.append("events-0", [request(listed(1))], NOW)
        again = deployment.pipeline.activate(Change("m.berger", "take it back", withdrawn=[NAME]))
        assert NAME not in {one["name"] for one in again.body["artifacts"]}
        deployment.append("events-0", [request(listed(2))], NOW)
        query = (
            "SELECT record_id, flagged, why, CAST(facts, 'String') AS facts FROM auditspan.events "
            "WHERE facts != '' ORDER BY record_id"
        )
        until(lambda: deployment.store.query(query).num_rows == 3, "3 events")
        before, screened, after = deployment.store.query(query).to_pylist()
        assert [row["flagged"] for row in (before, screened, after)] == [False, True, False]
        assert (
            "“Cambrian Hong Kong”, an alias of “Cambricon (Hong Kong) Co., Ltd.”, EL 005407, score 1.00"
            in (screened["why"])
        )
        assert json.loads(screened["facts"])["facts"]["end_user_possible_listings"] == ["entity-list"]
        assert not any(b"possible" in row["facts"] for row in (before, after))
        epochs = StoredEpochs(deployment.store, tmp_path / "reference")
        report = recheck(deployment.store, epochs, Interval())
        assert (report.verdict, report.events) == ("identical", 3)


def test_without_the_extra_it_is_refused_and_the_last_good_epoch_judges_on(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path) as deployment:
        monkeypatch.setitem(sys.modules, "auditspan.screening.activated", None)
        with pytest.raises(PolicyError) as raised:
            deployment.pipeline.activate(Change("m.berger", "list of 31 July", {NAME: content}))
        assert "auditspan[screening]" in raised.value.remedy
        with pytest.raises(NotActivated):
            deployment.pipeline.activate(Change("m.berger", "take it back", withdrawn=[NAME]))
        deployment.append("events-0", [request(listed(0))], NOW)
        query = "SELECT reference_epoch FROM auditspan.events WHERE facts != ''"
        until(lambda: deployment.store.query(query)["reference_epoch"].to_pylist() == [1], "1 event")


def test_a_list_in_another_format_takes_the_place_of_the_one_before(tmp_path: Path, content: bytes) -> None:
    import gzip

    table = "_id,source,name\n1,Entity List (EL) - Bureau of Industry and Security,Cambrian Hong Kong\n"
    other = gzip.compress(table.encode(), mtime=0)
    with running(tmp_path) as deployment:
        deployment.pipeline.activate(Change("m.berger", "list of 31 July", {NAME: content}))
        done = deployment.pipeline.activate(Change("m.berger", "as a table", {"screening_list.csv.gz": other}))
        lists = [one for one in done.body["artifacts"] if one["kind"] == "screening_list"]
        assert [(one["name"], one["version"].split("/")[0]) for one in lists] == [("screening_list.csv.gz", "undated")]
