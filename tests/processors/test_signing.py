"""What was signed before is found wherever it is written, and a tree without it is not signed."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from auditspan.processors.control_entries import ControlLog
from auditspan.processors.signing import SignerPlaces, check_against_signed, journaled_checkpoints
from auditspan.processors.stored_tree import SignedTree
from sealing_deployment import KEY, running
from sealing_inputs import NOW, access, request
from test_pipeline import control_entries, signed_everything
from waiting import until

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.checkpoint import Checkpoint, log_origin, sign_checkpoint
from auditspan.ledger.merkle import EMPTY_ROOT
from auditspan.ledger.signer import SignerRefused
from auditspan.store.clickhouse import ClickHouseStore

A, B = "aa" * 16, "bb" * 16
KEYS = [KEY.public_key()]


def stated(log_id: str, size: int, root: bytes = b"r" * 32) -> dict:
    note = sign_checkpoint(Checkpoint(log_origin("plant", log_id), size, root), KEY)
    return {"log_id": log_id, "size": size, "root": base64.b64encode(root).decode(), "note": note}


def journal_round(journal: SqliteJournal, *checkpoints: dict, **more: dict) -> None:
    ControlLog(journal).append("audit.checkpoint", "system:auditspan", {"checkpoints": list(checkpoints), **more})


def test_each_process_of_a_directory_has_a_place_and_all_places_count(tmp_path: Path) -> None:
    places = SignerPlaces(KEY, tmp_path, "plant")
    with places.hold() as first, SignerPlaces(KEY, tmp_path, "plant").hold() as second:
        first.sign(A, 0, EMPTY_ROOT, lambda _: [])
        second.sign(A, 1, b"x" * 32, lambda _: [])
        assert sorted(tree.size for tree in places.remembered(A)) == [0, 1]
    with places.hold() as again:
        assert again.last(A) is not None, "the first place is taken again"
        assert again.last(A).size == 0
    assert places.remembered(B) == []
    assert {path.name for path in tmp_path.iterdir()} == {"2", "lock", f"{A}.json"}


def test_the_largest_tree_of_the_last_rounds_counts(journal: SqliteJournal) -> None:
    assert journaled_checkpoints(journal, "plant", KEYS, [A, B]) == {}
    journal_round(journal, stated(A, 5), stated(B, 9))
    journal_round(journal, stated(A, 8), stated(B, 9), control=stated("cc" * 16, 4))
    # A process that lost the control log may journal once more what it saw before.
    journal_round(journal, stated(A, 7), stated(B, 9))
    found = journaled_checkpoints(journal, "plant", KEYS, [A, B, "cc" * 16])
    assert {log_id: tree.size for log_id, tree in found.items()} == {A: 8, B: 9, "cc" * 16: 4}


def test_rounds_are_looked_for_as_far_back_as_needed(journal: SqliteJournal) -> None:
    journal_round(journal, stated(A, 5))
    entries = ControlLog(journal)
    entries.append_all([("evidence.exported", "officer", {"n": n}) for n in range(3000)])
    journal_round(journal, stated(B, 9))
    found = journaled_checkpoints(journal, "plant", KEYS, [A, B])
    assert {log_id: tree.size for log_id, tree in found.items()} == {A: 5, B: 9}


def test_a_strangers_round_counts_for_nothing_and_a_forged_one_stops_everything(journal: SqliteJournal) -> None:
    body = json.dumps({"class": "audit.checkpoint", "actor": "x", "body": {"checkpoints": [stated(A, 99)]}}).encode()
    journal.append([("control", NewEntry(EntryKind.CONTROL, "kafka:c/t", "none", NOW, "jcs", body))]).result()
    assert journaled_checkpoints(journal, "plant", KEYS, [A]) == {}
    journal_round(journal, stated(A, 5) | {"note": stated(A, 5)["note"].replace("\n5\n", "\n6\n")})
    with pytest.raises(SignerRefused, match=r"keys/ and trust\.json"):
        journaled_checkpoints(journal, "plant", KEYS, [A])


def test_a_smaller_or_another_tree_is_refused_and_says_where_the_signature_is(store: ClickHouseStore) -> None:
    check_against_signed(store, A, 0, [])
    check_against_signed(store, A, 0, [SignedTree(0, EMPTY_ROOT, "somewhere")])
    with pytest.raises(SignerRefused, match="the tree of 4 signed before, as somewhere says"):
        check_against_signed(store, A, 3, [SignedTree(0, EMPTY_ROOT, "here"), SignedTree(4, b"x" * 32, "somewhere")])


@pytest.mark.parametrize("partition", ["events-0", "control"])
def test_a_machine_without_state_refuses_a_store_that_lost_what_the_journal_says_was_signed(
    tmp_path: Path, partition: str
) -> None:
    with running(tmp_path) as deployment:
        for k in range(3):
            deployment.append("events-0", [request(access(k))], NOW)
            until(lambda: signed_everything(deployment))
        log_id = next(s.log_id for s in deployment.pipeline.status() if s.partition == partition)
        rounds = control_entries(deployment.store, "audit.checkpoint")
        assert rounds[-1]["control"]["size"] > 0
    store = ClickHouseStore.embedded(tmp_path / "store")
    batches = store.log_leaves(log_id, ["audit.batch"])["leaf_index"].to_pylist()
    # As a store restored from a backup: the log, and what was signed, end earlier.
    for table, column, keep in (("events", "leaf_index", batches[1] + 1), ("checkpoints", "size", batches[1] + 2)):
        store._connection.command(
            f"ALTER TABLE auditspan.{table} DELETE WHERE log_id = '{log_id}' AND {column} >= {keep} "
            "SETTINGS mutations_sync = 2"
        )
    store.close()
    for path in (tmp_path / "signer").glob("*.json"):
        path.unlink()
    with (
        pytest.raises(SignerRefused, match="as the control partition of the journal says"),
        running(tmp_path),
    ):
        pass
