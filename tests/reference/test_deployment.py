"""A whole deployment, stopped and started again: what it sealed and signed follows from its journal alone."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from auditspan.processors.pipeline import Pipeline
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from waiting import until

from auditspan.journal.contract import CONTROL_PARTITION, EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import public_bytes
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

from .derive import derive, epoch_digest
from .journal import batches_of, journal_entries, opened_logs
from .notes import checkpoint_note
from .tree import Tree

sys.path.insert(0, str(Path(__file__).parents[1] / "vectors"))

import generate

SALT_KEY = b"s" * 32
SECRET = b"k" * 32


def _run(root: Path, entries: list[tuple[str, NewEntry]]) -> None:
    """Start a deployment, journal ``entries`` one by one, and stop it."""
    journal = SqliteJournal(root / "journal.sqlite", 2)
    store = ClickHouseStore.embedded(root / "store")
    key = Ed25519PrivateKey.from_private_bytes(SECRET)
    signer = Signer(key, root / "signer", "plant")
    pipeline = Pipeline(
        journal,
        store.reader,
        signer,
        salt_key=SALT_KEY,
        public_key=base64.b64encode(public_bytes(key.public_key())).decode(),
        deployment="plant",
        artifacts=Reference.packaged_artifacts(),
        reference_folder=root / "reference",
        registry=CollectorRegistry(),
        checkpoint_seconds=0.05,
    )
    pipeline.start()
    for place, entry in enumerate(entries):
        journal.append([entry]).result()
        if place % 5 == 4:
            # So that batches end in different places.
            until(lambda: not any(log.lag_entries for log in pipeline.status() if log.partition != CONTROL_PARTITION))
    pipeline.stop()
    assert pipeline.healthy() == (False, "stopping")
    signer.close()
    store.close()
    journal.close()


def test_leaves_and_checkpoints_follow_from_the_journal(tmp_path: Path) -> None:
    for name in ("reference", "signer"):
        (tmp_path / name).mkdir()
    sent = []
    for name in ("ordinary", "attributes", "repeats", "strange", "times", "gaps"):
        _, vector, _ = generate.VECTORS[name]()
        for entry in vector.entries:
            new = NewEntry(
                EntryKind(entry.kind),
                entry.emitter,
                entry.authentication,
                entry.arrival_time,
                entry.encoding,
                entry.body,
            )
            sent.append((f"events-{len(sent) % 2}", new))
    _run(tmp_path, sent[: len(sent) // 2])
    _run(tmp_path, sent[len(sent) // 2 :])

    store = ClickHouseStore.embedded(tmp_path / "store")
    logs = opened_logs(journal_entries(tmp_path / "journal.sqlite", "control"))
    assert sorted(logs) == ["control", "events-0", "events-1"]
    epochs, signed = {}, {}
    for partition in sorted(logs):
        log = logs[partition]
        rows = store.query(
            "SELECT header, facts FROM auditspan.events WHERE log_id = {log_id:String} ORDER BY leaf_index",
            {"log_id": log.log_id},
        ).to_pylist()
        leaves = [row["header"] for row in rows]
        facts = {tuple(json.loads(row["header"])["position"]): row["facts"] for row in rows if row["facts"]}
        batches = batches_of(leaves)
        entries = journal_entries(tmp_path / "journal.sqlite", partition)
        assert batches[-1].to == len(entries)
        assert len(batches) > 3
        derived = derive(log, entries, batches, SALT_KEY, facts)
        for number, (made, expected) in enumerate(zip(leaves, derived.leaves, strict=False)):
            assert json.loads(made) == json.loads(expected), number
        assert leaves == derived.leaves
        tree = Tree(leaves)
        if partition == "control":
            for leaf in map(json.loads, leaves):
                if leaf["class"] == "audit.reference.activated":
                    epochs[leaf["body"]["body"]["number"]] = epoch_digest(leaf["body"]["body"])
                for one in leaf["body"]["body"]["checkpoints"] if leaf["class"] == "audit.checkpoint" else ():
                    signed.setdefault(one["log_id"], []).append(one)
        assert {(batch.epoch_number, batch.epoch_digest) for batch in batches} <= {(0, ""), *epochs.items()}
        checkpoints = store.query(
            "SELECT DISTINCT size, root, note FROM auditspan.checkpoints WHERE log_id = {log_id:String} ORDER BY size",
            {"log_id": log.log_id},
        ).to_pylist()
        assert checkpoints
        for one in [*checkpoints, *signed.get(log.log_id, ())]:
            assert one["root"] == base64.b64encode(tree.root(one["size"])).decode()
            assert one["note"] == checkpoint_note("plant", log.log_id, one["size"], tree.root(one["size"]), SECRET)
        assert checkpoints[-1]["size"] == len(leaves)
    store.close()
    assert set(signed) == {logs["events-0"].log_id, logs["events-1"].log_id}
