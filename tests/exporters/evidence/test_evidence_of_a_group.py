"""Evidence of what happens where many share a journal: entries that were lost, logs that were opened twice."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from auditspan.exporters.evidence.export import export_package
from auditspan.exporters.evidence.verify import verify_package
from auditspan.processors.pipeline import Pipeline
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry
from waiting import until

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import public_bytes
from auditspan.ledger.trust import Trust
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
PARTITION = "events-0"


@contextmanager
def sealing(root: Path, journal: SqliteJournal, store: ClickHouseStore) -> Iterator[Pipeline]:
    with Signer(KEY, root / "signer", "plant") as signer:
        pipeline = Pipeline(
            journal,
            store.reader,
            signer,
            salt_key=b"k" * 32,
            public_key=base64.b64encode(public_bytes(KEY.public_key())).decode(),
            deployment="plant",
            artifacts=Reference.packaged_artifacts(),
            reference_folder=root / "reference",
            registry=CollectorRegistry(),
            checkpoint_seconds=0.05,
            heartbeat_seconds=3600.0,
        )
        try:
            pipeline.start()
            yield pipeline
        finally:
            pipeline.stop()


def test_lost_entries_and_logs_opened_twice_are_told_and_are_no_fault(tmp_path: Path) -> None:
    for name in ("signer", "reference"):
        (tmp_path / name).mkdir()
    journal = SqliteJournal(tmp_path / "journal.sqlite", 1)
    store = ClickHouseStore.embedded(tmp_path / "store")

    def junk(count: int) -> None:
        entry = NewEntry(EntryKind.UNDECODABLE, "gateway", "bearer", time.time_ns(), "raw", b"\x00junk")
        journal.append([(PARTITION, entry)] * count).result()

    try:
        with sealing(tmp_path, journal, store) as pipeline:
            for partition in ("control", PARTITION):
                body = {
                    "deployment": "plant",
                    "journal": journal.identity,
                    "log_id": "ab" * 16,
                    "partition": partition,
                    "generation": 1,
                }
                pipeline.append_control("audit.log.opened", "system:auditspan", body)
            junk(2)
            until(lambda: all(s.checkpoint_size == s.leaves and not s.lag_entries for s in pipeline.status()))
        begin = journal.high_water_mark(PARTITION)
        junk(7)
        journal.trim(PARTITION, begin + 5)
        with sealing(tmp_path, journal, store) as pipeline:
            until(lambda: all(s.checkpoint_size == s.leaves and not s.lag_entries for s in pipeline.status()))
        export_package(
            store,
            lambda digest: (tmp_path / "reference" / digest).read_bytes(),
            KEY,
            "plant",
            tmp_path / "package",
            time_from=0,
            time_to=2**62,
            record=lambda _: None,
        )
    finally:
        store.close()
        journal.close()
    report = verify_package(tmp_path / "package", Trust("plant", (KEY.public_key(),)))
    assert report.verdict == "VALID", report.faults[:5]
    assert [log["partition"] for log in report.logs if log["partition"] != "control"] == [PARTITION]
    (gap,) = report.gaps
    assert (gap["journal_from"], gap["journal_to"]) == (str(begin), str(begin + 5))
    assert report.counts["journal_entries_lost"] == 5
    assert report.counts["quarantined"] == 4
