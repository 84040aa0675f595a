"""Stored determinations judged again: identical, or named; and what other packs or dates would change. A real store."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "processors")]

from sealing_deployment import running  # noqa: E402
from sealing_inputs import NOW, SECOND, access, request  # noqa: E402
from waiting import until  # noqa: E402

from auditspan.errors import AuditSpanError  # noqa: E402
from auditspan.policy.artifact_files import with_files  # noqa: E402
from auditspan.policy.impact import ImpactReport, impact  # noqa: E402
from auditspan.policy.reach import reach  # noqa: E402
from auditspan.policy.recheck import Differing, RecheckReport, recheck  # noqa: E402
from auditspan.policy.recompute import Recomputer, UnreadableFacts, stated_by, stated_in  # noqa: E402
from auditspan.policy.reference import Reference  # noqa: E402
from auditspan.policy.rule_time import parse_instant  # noqa: E402
from auditspan.policy.stored_determinations import Interval, StoredDeterminations  # noqa: E402
from auditspan.policy.stored_epochs import EpochNotKept, StoredEpochs  # noqa: E402
from auditspan.policy.stored_event import find_event  # noqa: E402
from auditspan.store.clickhouse import ClickHouseStore  # noqa: E402

DAY = 86_400 * SECOND
REGISTRY = b"""
parties:
  - {id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:a"]}
  - {id: shc, name: Shanghai Compute, country: CN, ultimate_parent: self, credentials: ["sha256:b"]}
"""
PACK = b"""\
pack: own
version: "1"
title: own rules
source: nobody
rules:
  - id: own/germany
    title: everything to Germany is looked at
    citations: [internal note 1]
    authority: company_policy
    status: verified
    effective: {from: 2026-01-01}
    when: [destination_country == 'DE']
    outcome: review
    flag: true
    explanation: "{destination_country} is looked at"
  - id: own/proposal
    title: access is prohibited
    citations: [internal note 2]
    authority: proposal
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'access']
    outcome: prohibited
    explanation: no access
"""
EVENTS: list[dict[str, Any]] = [
    *(
        access(number, **{"audit.actor.id": "sha256:a", "export_control.destination.country": "DE"})
        for number in range(6)
    ),
    *(access(number, **{"audit.actor.id": "sha256:b", "audit.target.id": "frontier-7"}) for number in range(6, 9)),
    access(9, **{"audit.actor.id": "sha256:nobody", "audit.target.id": "frontier-7"}),
    # Its clock says three months ago: both times are judged.
    access(10, **{"audit.actor.id": "sha256:a", "_start": NOW - 90 * DAY, "export_control.destination.country": "US"}),
    {
        "audit.event.class": "accelerator.transfer",
        "audit.record.id": "record-11",
        "audit.sequence.number": 11,
        "audit.actor.id": "sha256:a",
        "export_control.accelerator.model": "NVIDIA H100 80GB HBM3",
        "export_control.destination.country": "CN",
        "export_control.end_user": "shc",
    },
]


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sealed")
    with running(root, artifacts=Reference.packaged_artifacts(REGISTRY)) as deployment:
        deployment.append("events-0", [request(*EVENTS)], NOW)
        count = "SELECT count() AS found FROM auditspan.events WHERE facts != ''"
        until(lambda: deployment.store.query(count)["found"][0].as_py() == len(EVENTS), "all events sealed")
    return root


@pytest.fixture
def store(sealed: Path) -> Iterator[ClickHouseStore]:
    made = ClickHouseStore.embedded(sealed / "store")
    yield made
    made.close()


@pytest.fixture
def epochs(store: ClickHouseStore, sealed: Path) -> StoredEpochs:
    return StoredEpochs(store, sealed / "reference")


@pytest.fixture
def altered(sealed: Path, tmp_path: Path) -> Iterator[ClickHouseStore]:
    """A copy that a test may alter."""
    import shutil

    shutil.copytree(sealed, tmp_path / "copy", symlinks=True)
    made = ClickHouseStore.embedded(tmp_path / "copy" / "store")
    yield made
    made.close()


def rechecked(store: ClickHouseStore, folder: Path, **interval: int) -> RecheckReport:
    return recheck(store, StoredEpochs(store, folder), Interval(**interval))


def alter(store: ClickHouseStore, statement: str) -> None:
    store.command(f"ALTER TABLE auditspan.events UPDATE {statement} SETTINGS mutations_sync = 1")


def replace_in(store: ClickHouseStore, record: str, old: str, new: str) -> None:
    """Alter one stored facts document."""
    before = store.query("SELECT facts FROM auditspan.events WHERE record_id = {r:String}", {"r": record})["facts"][0]
    assert old.encode() in before.as_py()
    store.command(
        "ALTER TABLE auditspan.events UPDATE facts = replaceOne(facts, {old:String}, {new:String}) "
        "WHERE record_id = {record:String} SETTINGS mutations_sync = 1",
        {"old": old, "new": new, "record": record},
    )


def differing_in(store: ClickHouseStore, sealed: Path) -> list[Differing]:
    report = rechecked(store, sealed / "reference")
    assert (report.verdict, report.exit_code, report.differing_events) == ("different", 1, 1)
    return report.differing


# Recheck


def test_every_determination_comes_out_byte_for_byte(store: ClickHouseStore, sealed: Path) -> None:
    report = rechecked(store, sealed / "reference")
    assert (report.verdict, report.exit_code, report.differing) == ("identical", 0, [])
    assert report.events == len(EVENTS)
    assert report.documents == 5
    assert report.epochs == {1: len(EVENTS)}


def test_an_interval_is_of_arrival_times(store: ClickHouseStore, sealed: Path) -> None:
    assert rechecked(store, sealed / "reference", since=NOW + 1).events == 0
    assert rechecked(store, sealed / "reference", until=NOW).events == 0
    assert rechecked(store, sealed / "reference", since=NOW, until=NOW + 1).events == len(EVENTS)


def test_a_judged_event_whose_facts_are_gone_is_named(altered: ClickHouseStore, sealed: Path) -> None:
    alter(altered, "facts = '' WHERE record_id = 'record-3'")
    (differing,) = differing_in(altered, sealed)
    assert (differing.record_id, [name for name, *_ in differing.fields]) == (
        "record-3",
        ["facts", "header.determination"],
    )
    # Also where it is the only one, and outside of the interval not at all.
    alter(altered, "facts = '' WHERE facts != ''")
    report = rechecked(altered, sealed / "reference")
    assert (report.exit_code, report.events, report.differing_events) == (1, 0, len(EVENTS))
    assert rechecked(altered, sealed / "reference", until=NOW - SECOND).differing_events == 0


def test_a_span_in_quarantine_is_to_be_reviewed_and_does_not_differ(altered: ClickHouseStore, sealed: Path) -> None:
    alter(altered, "facts = '', class = 'audit.quarantined' WHERE record_id = 'record-3'")
    report = rechecked(altered, sealed / "reference")
    assert (report.exit_code, report.events, report.differing_events) == (0, len(EVENTS) - 1, 0)


@pytest.mark.parametrize(
    ("record", "old", "new", "field"),
    [
        ("record-9", '"governing":"review"', '"governing":"exception"', "governing"),
        ("record-11", "us-ear/headquarters", "us-ear/headquarter", "rules"),
        ("record-11", '"eccn":"3A090.a"', '"eccn":"3A090.b"', "eccn"),
        ("record-11", '"D:5"', '"D:2"', "facts.destination_groups"),
        ("record-11", '"destination_country":"CN"', '"destination_country":"JP"', "rules"),
        ("record-3", '{"destination"', '{ "destination"', "facts"),
    ],
)
def test_an_altered_document_is_named(
    altered: ClickHouseStore, sealed: Path, record: str, old: str, new: str, field: str
) -> None:
    replace_in(altered, record, old, new)
    (differing,) = differing_in(altered, sealed)
    assert differing.record_id == record
    assert field in [name for name, _, _ in differing.fields], differing.fields


@pytest.mark.parametrize(
    ("record", "statement", "field"),
    [
        ("record-3", "facts = 'nothing'", "facts"),
        ("record-9", "determination = 'exception'", "header.determination"),
        ("record-11", "flagged = false", "header.flagged"),
        ("record-11", "rule_ids = []", "header.rule_ids"),
        ("record-11", "eccn = ''", "header.eccn"),
    ],
)
def test_what_a_header_says_beside_its_document_is_named(
    altered: ClickHouseStore, sealed: Path, record: str, statement: str, field: str
) -> None:
    alter(altered, f"{statement} WHERE record_id = '{record}'")
    (differing,) = differing_in(altered, sealed)
    assert (differing.record_id, differing.events) == (record, 1)
    assert field in [name for name, _, _ in differing.fields], differing.fields


def test_a_fact_that_was_declared_later_is_no_difference(altered: ClickHouseStore, sealed: Path) -> None:
    """An older version knew fewer facts, and some that this one no longer declares."""
    replace_in(altered, "record-3", '"actor_exempt":false,', "")
    replace_in(altered, "record-3", '"act":"access"', '"act":"access","act_formerly":7')
    (row,) = altered.query("SELECT facts FROM auditspan.events WHERE record_id = 'record-3'").to_pylist()
    document = json.loads(row["facts"])
    for name in [name for name in document["known_by"] if name not in document["facts"]]:
        replace_in(altered, "record-3", f'"{name}":"{document["known_by"][name]}",', "")
    assert b"act_formerly" in row["facts"] and "actor_exempt" not in document["facts"]
    assert rechecked(altered, sealed / "reference").exit_code == 0


def test_an_epoch_whose_packs_are_gone_is_incomplete(store: ClickHouseStore, tmp_path: Path) -> None:
    epochs = StoredEpochs(store, tmp_path)
    kept = store.query("SELECT count() AS found FROM auditspan.reference_artifacts")["found"][0].as_py()
    assert kept, "artifacts are in the store as well"
    assert recheck(store, epochs, Interval()).exit_code == 0
    (tmp_path / epochs._bodies[1]["artifacts"][0]["sha256"]).write_bytes(b"altered")
    assert rechecked(store, tmp_path).exit_code == 0, "the store has a good copy"
    store.command("TRUNCATE TABLE auditspan.reference_artifacts")
    report = rechecked(store, tmp_path)
    assert (report.verdict, report.exit_code, report.events) == ("incomplete", 2, 0)
    assert report.not_recomputed[0]["events"] == len(EVENTS)
    assert "of epoch 1 is not kept" in report.not_recomputed[0]["reason"]
    with pytest.raises(EpochNotKept, match="no epoch 7"):
        epochs.reference(7)


def test_windows_and_forgetting_change_nothing(store: ClickHouseStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from auditspan.policy import stored_determinations

    def walked(window: int) -> list[tuple[int, bytes]]:
        walk = StoredDeterminations(store, [0], lambda document, _: document, window).walk(Interval())
        found = [(group.events, document) for group, document in walk]
        return sorted((events, document) for events, document in found)

    whole = walked(1_000)
    assert sum(events for events, _ in whole) == len(EVENTS)
    monkeypatch.setattr(stored_determinations, "MOST_REMEMBERED", 1)
    monkeypatch.setattr(stored_determinations, "_DOCUMENTS", 1)
    assert walked(1_000) == whole
    assert sum(events for events, _ in walked(2)) == len(EVENTS)


def test_a_document_that_is_none_is_refused(store: ClickHouseStore) -> None:
    for wrong in (b"", b"[]", b"{}", b'{"v":2}', b'{"v":1,"facts":{}}', b'{"v":1,"both":[]}', b"[" * 100_000):
        with pytest.raises(UnreadableFacts):
            stated_in(wrong)


def test_what_a_document_states_is_what_judging_it_states(store: ClickHouseStore, epochs: StoredEpochs) -> None:
    recomputer = Recomputer(epochs.reference(1))
    for number in (0, 8, 9, 10, 11):
        event = find_event(store, f"record-{number}")
        assert stated_by(recomputer.determinations(event.facts, event.times)) == stated_in(event.facts)
        assert recomputer.document(event.facts, event.times) == event.facts
    assert len(find_event(store, "record-10").times) == 2


# What would change


def impacted(store: ClickHouseStore, epochs: StoredEpochs, *files: bytes, at: str | None = None) -> ImpactReport:
    artifacts = with_files(epochs.artifacts(1), [(f"{number}.yaml", content) for number, content in enumerate(files)])
    instant = None if at is None else parse_instant(at)
    return impact(store, Reference.load(artifacts, 1), Interval(), instant)


def test_the_same_packs_change_nothing(store: ClickHouseStore, epochs: StoredEpochs) -> None:
    report = impacted(store, epochs)
    assert (report.events, report.changed, report.changes, report.in_shadow) == (len(EVENTS), 0, [], {})


def test_a_pack_of_ones_own_shows_what_it_changes_and_what_it_proposes(
    store: ClickHouseStore, epochs: StoredEpochs
) -> None:
    report = impacted(store, epochs, PACK)
    change, uncertain = report.changes
    # Where nobody knows the destination it could be Germany: the rule is quoted, and what comes out stays as it was.
    assert (uncertain.record_id, uncertain.before, uncertain.after) == ("record-9", "review", "review")
    assert uncertain.rules_added == ("own/germany",)
    assert (change.events, change.before, change.after) == (6, "no_license_required", "review")
    assert (change.flagged_before, change.flagged_after) == (False, True)
    assert (change.rules_added, change.rules_removed) == (("own/germany",), ())
    assert change.record_id == "record-0"
    assert report.in_shadow == {("own/proposal", "prohibited"): 11}
    adopted = impacted(store, epochs, PACK, b"adopted: [{pack: own, by: officer, reason: a test of mine}]")
    assert sum(change.events for change in adopted.changes if change.after == "prohibited") == 11


def test_another_date_changes_what_the_law_of_that_date_does(store: ClickHouseStore, epochs: StoredEpochs) -> None:
    report = impacted(store, epochs, at="2022-01-01")
    changes = {change.record_id: change for change in report.changes}
    transfer = changes["record-11"]
    assert (transfer.before, transfer.after, transfer.flagged_after) == (
        "license_required",
        "no_license_required",
        False,
    )
    assert "us-ear/3A090.a-d145" in transfer.rules_removed
    assert report.documents <= len(EVENTS)


# Who was reached


def test_who_touched_a_model_and_whose_nationality_is_not_known(store: ClickHouseStore) -> None:
    actors = list(reach(store, ["frontier-7"], [], 0))
    assert {(actor.actor, actor.party, actor.events) for actor in actors} == {
        ("shc", "shc", 3),
        ("sha256:nobody", "", 1),
    }
    nobody = next(actor for actor in actors if not actor.party)
    assert not nobody.nationality_known
    assert nobody.first == nobody.last == NOW
    shc = next(actor for actor in actors if actor.party)
    assert (shc.country, shc.parent_country, shc.assets) == ("CN", "CN", ("frontier-7",))
    assert list(reach(store, ["frontier-8"], [], 0)) == list(reach(store, ["frontier-7"], [], NOW + 1)) == []


def test_whom_a_rule_met_or_could_have(store: ClickHouseStore) -> None:
    met = list(reach(store, [], ["us-ear/access-actor"], 0))
    assert {actor.actor for actor in met} == {"shc", "sha256:nobody"}
    # A prefix of an id is another rule, and a parameter is never a part of the statement.
    assert list(reach(store, [], ["us-ear/access"], 0)) == []
    assert list(reach(store, ["' OR 1 = 1 --"], [], 0)) == []
    assert list(reach(store, ["frontier-7"], ["us-ear/3A090.a-d145"], 0)) == []


# One event


def test_an_event_is_found_by_its_record_id_or_leaf(store: ClickHouseStore) -> None:
    event = find_event(store, "record-11")
    assert find_event(store, f"{event.log_id}/{event.leaf}") == event
    assert json.loads(event.facts)["governing"] == event.determination == "license_required"
    for wrong in ("record-12", f"{event.log_id}/99999", "' OR 1=1", f"{event.log_id}/0"):
        with pytest.raises(AuditSpanError) as caught:
            find_event(store, wrong)
        assert caught.value.remedy
