"""The processors of a deployment: real threads, journal, store and signatures."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.checkpointer import Checkpointer
from auditspan.processors.control_entries import ControlLog
from sealing_deployment import KEY, Deployment, artifacts, running
from sealing_inputs import NOW, access, request
from waiting import until

from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import Checkpoint, log_origin, open_checkpoint
from auditspan.ledger.merkle import CompactRange, leaf_hash
from auditspan.ledger.signer import SignerRefused
from auditspan.policy.snapshot import IN_FORCE
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import Fenced, SealedBatch


def leaves_of(store: ClickHouseStore, log_id: str) -> list[bytes]:
    return [h for batch in store.leaves(log_id, 0, 1 << 40) for h in batch.column("header").to_pylist()]


def root_of(leaves: list[bytes]) -> bytes:
    return roots_of(leaves, {len(leaves)})[len(leaves)]


def roots_of(leaves: list[bytes], sizes: set[int]) -> dict[int, bytes]:
    """The root of the first so many leaves, for each of ``sizes``."""
    tree, roots = CompactRange(), {}
    for size in sorted(sizes):
        tree.extend(map(leaf_hash, leaves[tree.end : size]))
        roots[size] = tree.root()
    return roots


def control_entries(store: ClickHouseStore, name: str) -> list[Any]:
    control = next(h for h in opened(store) if h["body"]["partition"] == "control")["log_id"]
    leaves = [json.loads(h) for h in store.log_leaves(control, [name])["header"].to_pylist()]
    return [leaf["body"]["body"] for leaf in leaves if "actor" in leaf["body"]]


def opened(store: ClickHouseStore) -> list[dict[str, Any]]:
    found = store.query("SELECT header FROM auditspan.events WHERE leaf_index = 0")
    return [json.loads(header) for header in found["header"].to_pylist()]


def checkpoints(store: ClickHouseStore) -> list[tuple[str, Checkpoint]]:
    rows = store.query("SELECT log_id, note FROM auditspan.checkpoints").to_pylist()
    return [
        (r["log_id"], open_checkpoint(r["note"], log_origin("plant", r["log_id"]), [KEY.public_key()])) for r in rows
    ]


def signed_everything(deployment: Deployment) -> bool:
    return all(s.lag_entries == 0 and s.checkpoint_size == s.leaves > 0 for s in deployment.pipeline.status())


def check(signed: list[tuple[str, Checkpoint]], logs: dict[str, list[bytes]]) -> None:
    """Each checkpoint is of a prefix of its log."""
    for log_id, leaves in logs.items():
        mine = [checkpoint for owner, checkpoint in signed if owner == log_id]
        roots = roots_of(leaves, {checkpoint.size for checkpoint in mine})
        assert all(checkpoint.size <= len(leaves) and roots[checkpoint.size] == checkpoint.root for checkpoint in mine)


def prove(store: ClickHouseStore) -> dict[str, list[bytes]]:
    """Every checkpoint is of a prefix of its log, and every log's leaves are under one."""
    logs = {head["log_id"]: leaves_of(store, head["log_id"]) for head in opened(store)}
    signed = checkpoints(store)
    check(signed, logs)
    assert {log_id: max(c.size for i, c in signed if i == log_id) for log_id in logs} == {
        log_id: len(leaves) for log_id, leaves in logs.items()
    }
    return logs


def test_from_the_journal_to_signed_leaves(tmp_path: Path) -> None:
    with running(tmp_path, partitions=2) as deployment:
        assert deployment.pipeline.healthy() == (True, "")
        for k in range(6):
            body = request(*(access(50 * k + i) for i in range(50)), stream=f"stream-{k % 2}")
            deployment.append(f"events-{k % 2}", [body], NOW)
        until(lambda: signed_everything(deployment))
        deployment.pipeline.stop()
        assert deployment.pipeline.healthy() == (False, "stopping")
        logs = prove(deployment.store)
        said = [json.loads(h) for leaves in logs.values() for h in leaves]
        assert sum(leaf["class"] == "model.access" for leaf in said) == 300
        judged = [leaf for leaf in said if leaf["class"] == "model.access"]
        assert all(leaf["determination"] == "review" and leaf["facts_hash"] for leaf in judged)
        value = deployment.registry.get_sample_value
        assert sum(value("auditspan_sealed_total", {"partition": f"events-{i}"}) or 0 for i in (0, 1)) == 300
        assert (value("auditspan_checkpoint_size", {"partition": "control"}) or 0) > 0


def test_the_control_log_says_which_logs_keys_and_epochs_there_are(tmp_path: Path) -> None:
    with running(tmp_path, partitions=2) as deployment:
        deployment.pipeline.stop()
        store = deployment.store
        heads = {head["body"]["partition"]: head for head in opened(store)}
        assert set(heads) == {"control", "events-0", "events-1"}
        assert all(head["body"]["log_id"] == head["log_id"] for head in heads.values())
        assert all(head["body"]["journal"] == deployment.journal.identity for head in heads.values())
        entries = control_entries(store, "audit.log.opened")
        assert [e["partition"] for e in entries] == ["control", "events-0", "events-1"]
        assert [e["log_id"] for e in entries] == [heads[e["partition"]]["log_id"] for e in entries]
        assert control_entries(store, "audit.key.added")[0]["algorithm"] == "Ed25519"
        (epoch,) = control_entries(store, "audit.reference.activated")
        assert epoch["number"] == 1
        kept = {path.name for path in (tmp_path / "reference").iterdir()}
        assert kept == {artifact["sha256"] for artifact in epoch["artifacts"]} | {IN_FORCE}
        assert json.loads((tmp_path / "reference" / IN_FORCE).read_bytes()) == epoch
        rounds = control_entries(store, "audit.checkpoint")
        data = sorted(heads[p]["log_id"] for p in ("events-0", "events-1"))
        assert all([c["log_id"] for c in r["checkpoints"]] == data for r in rounds)
        for checkpoint in rounds[-1]["checkpoints"]:
            leaves = leaves_of(store, checkpoint["log_id"])
            assert base64.b64decode(checkpoint["root"]) == root_of(leaves[: checkpoint["size"]])
            note = open_checkpoint(checkpoint["note"], log_origin("plant", checkpoint["log_id"]), [KEY.public_key()])
            assert note.size == checkpoint["size"]


def test_quiet_makes_no_leaf_that_makes_a_leaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[bool] = []
    run_once = Checkpointer.run_once

    def counted(checkpointer: Checkpointer) -> bool:
        rounds.append(run_once(checkpointer))
        return rounds[-1]

    monkeypatch.setattr(Checkpointer, "run_once", counted)
    with running(tmp_path, checkpoint_seconds=0.01) as deployment:
        until(lambda: signed_everything(deployment))
        before = [s.leaves for s in deployment.pipeline.status()]
        signed = len(checkpoints(deployment.store))
        quiet = len(rounds) + 20
        until(lambda: len(rounds) >= quiet)
        assert [s.leaves for s in deployment.pipeline.status()] == before
        assert len(checkpoints(deployment.store)) == signed


def test_an_idle_log_has_heartbeats_and_the_watermark_moves(tmp_path: Path) -> None:
    with running(tmp_path, heartbeat_seconds=0.1) as deployment:
        first = deployment.pipeline.status()[0].watermark
        until(lambda: deployment.pipeline.status()[0].leaves >= 8 and deployment.pipeline.status()[1].leaves >= 20)
        assert deployment.pipeline.status()[0].watermark > first
        deployment.pipeline.stop()
        for leaves in prove(deployment.store).values():
            assert sum(json.loads(h)["class"] == "audit.heartbeat" for h in leaves) >= 2


def test_a_second_start_goes_on_with_the_same_logs(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        deployment.append("events-0", [request(access(0))], NOW)
    with running(tmp_path) as deployment:
        deployment.append("events-0", [request(access(0), access(1))], NOW)
        deployment.pipeline.stop()
        logs = prove(deployment.store)
        assert len(logs) == 2
        assert len(control_entries(deployment.store, "audit.reference.activated")) == 1
        assert len(control_entries(deployment.store, "audit.key.added")) == 1
        data = [json.loads(h) for h in logs[deployment.pipeline.status()[0].log_id]]
        assert [leaf["sequence"] for leaf in data if leaf["class"] == "model.access"] == [0, 1]


def test_logs_are_found_again_when_their_openings_were_trimmed_from_the_journal(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        until(lambda: signed_everything(deployment))
        ids = {head["log_id"] for head in opened(deployment.store)}
        for status in deployment.pipeline.status():
            deployment.journal.trim(status.partition, status.signed_to)
    with running(tmp_path) as deployment:
        deployment.append("events-0", [request(access(0))], NOW)
        deployment.pipeline.stop()
        assert set(prove(deployment.store)) == ids | {s.log_id for s in deployment.pipeline.status()} == ids


def test_other_artifacts_are_a_new_epoch(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    changed = {**artifacts(), "parties.yaml": b"parties: []\n# reviewed\n"}
    with running(tmp_path, artifacts=changed) as deployment:
        deployment.append("events-0", [request(access(0))], NOW)
        deployment.pipeline.stop()
        epochs = control_entries(deployment.store, "audit.reference.activated")
        assert [epoch["number"] for epoch in epochs] == [1, 2]
        leaves = leaves_of(deployment.store, deployment.pipeline.status()[0].log_id)
        assert json.loads(leaves[-1])["body"]["epoch"]["number"] == 2


def test_a_restored_backup_of_the_store_is_refused_at_the_start(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        log_id = deployment.pipeline.status()[0].log_id
    # What the signer remembers is beyond what the store has.
    path = tmp_path / "signer" / f"{log_id}.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps(state | {"size": state["size"] + 10}))
    with pytest.raises(SignerRefused, match="put the newest one back"), running(tmp_path):
        pass
    path.write_text(json.dumps(state | {"root": base64.b64encode(b"x" * 32).decode()}))
    with pytest.raises(SignerRefused, match="put the newest one back"), running(tmp_path):
        pass


def test_an_empty_journal_beside_a_full_store_is_refused(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    for path in tmp_path.glob("journal.sqlite*"):
        path.unlink()
    with pytest.raises(AuditSpanError, match="is empty"), running(tmp_path):
        pass


def test_a_deployment_keeps_its_name(tmp_path: Path) -> None:
    with running(tmp_path):
        pass
    with pytest.raises(AuditSpanError, match="'plant'"), running(tmp_path, deployment="other"):
        pass


def test_a_worker_that_dies_makes_the_pipeline_unhealthy(tmp_path: Path) -> None:
    class Lost(ClickHouseStore):
        def append_batch(self, batch: SealedBatch) -> None:
            if any(c == "model.access" for c in batch.leaves["class"].to_pylist()):
                raise Fenced("Another owns it.", remedy="Stop the other.")
            super().append_batch(batch)

    deployment = Deployment(tmp_path, store_factory=lambda: Lost.embedded(tmp_path / "store"))
    try:
        deployment.pipeline.start()
        deployment.append("events-0", [request(access(0))], NOW)
        until(lambda: not deployment.pipeline.healthy()[0])
        assert deployment.pipeline.healthy() == (False, "events-0 stopped: Another owns it. Stop the other.")
    finally:
        deployment.close()


def test_before_the_start_it_is_not_healthy(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    assert deployment.pipeline.healthy() == (False, "not started")
    deployment.close()


def test_control_entries_of_others_are_sealed_and_signed(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        body = {"from": "0", "to": "1", "where": None, "manifest_sha256": "ab", "intervals": []}
        deployment.pipeline.append_control("evidence.exported", "officer", body)
        until(lambda: control_entries(deployment.store, "evidence.exported") == [body])
        until(lambda: signed_everything(deployment))
        with pytest.raises(ValueError, match="does not fit a leaf"):
            ControlLog(deployment.journal).append("evidence.exported", "officer", {"x": "y" * 70_000})


def test_what_is_flagged_is_visible_within_two_seconds(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        seen = deployment.store.reader()
        took = []
        for k in range(10):
            begun = time.monotonic()
            deployment.append("events-0", [request(access(k))], NOW)
            until(
                lambda k=k: len(seen.query("SELECT 1 FROM auditspan.events WHERE sequence = {s:Int64}", {"s": k})) == 1
            )
            took.append(time.monotonic() - begun)
        seen.close()
    # Not the slowest: one stall of the machine is none of the pipeline.
    assert sorted(took)[len(took) // 2] < 2.0, took


@pytest.mark.crash
def test_a_killed_process_loses_nothing_and_seals_nothing_twice(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    old: list[tuple[str, Checkpoint]] = []
    for attempt in range(3):
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("sealing_deployment.py"), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        begun = 0.0
        for line in process.stdout:
            begun = begun or time.monotonic()
            acknowledged.append(int(line))
            if time.monotonic() - begun > 0.5 + 0.37 * attempt:
                process.kill()
                break
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
        process.stdout.close()
        process.wait()
    with running(tmp_path) as deployment:
        old += checkpoints(deployment.store)
        until(lambda: signed_everything(deployment))
        deployment.pipeline.stop()
        logs = prove(deployment.store)
        check(old, logs)
        sealed = [json.loads(h) for h in logs[deployment.pipeline.status()[0].log_id]]
        numbers = [leaf["sequence"] for leaf in sealed if leaf["class"] == "model.access"]
        assert len(set(numbers)) == len(numbers)
        assert {n + i for n in acknowledged for i in range(10)} <= set(numbers)
        assert len(acknowledged) > 10
        bounds = [leaf["body"] for leaf in sealed if leaf["class"] == "audit.batch"]
        assert [b["from"] for b in bounds] == [0, *(b["to"] for b in bounds[:-1])]


def test_the_clock_of_leaves_is_the_journals(tmp_path: Path) -> None:
    with running(tmp_path, clock=lambda: NOW) as deployment:
        deployment.append("events-0", [request(access(0))], NOW - 5)
        deployment.pipeline.stop()
        times = {json.loads(h)["arrival_time"] for leaves in prove(deployment.store).values() for h in leaves}
        assert times == {str(NOW), str(NOW - 5)}
        assert replace(deployment.pipeline.status()[0], lag_seconds=0.0).lag_entries == 0
