"""A whole deployment's processors on one directory. Run as a program, it seals until it is killed."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from auditspan.processors.pipeline import Pipeline
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

from auditspan.journal.contract import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import public_bytes
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)


@cache
def artifacts() -> dict[str, bytes]:
    return {artifact.name: artifact.content for artifact in Reference.packaged().artifacts}


class Deployment:
    """Journal, store, signer and pipeline of one directory; `close` lets go of all."""

    def __init__(self, root: Path, partitions: int = 1, **options: Any) -> None:
        for name in ("signer", "reference"):
            (root / name).mkdir(exist_ok=True)
        self.root = root
        self.journal = options.pop("journal", None) or SqliteJournal(root / "journal.sqlite", partitions)
        self.store = ClickHouseStore.embedded(root / "store")
        self.signer = Signer(KEY, root / "signer", "plant")
        self.registry = CollectorRegistry()
        self.pipeline = Pipeline(
            self.journal,
            options.pop("store_factory", self.store.reader),
            self.signer,
            salt_key=b"k" * 32,
            public_key=base64.b64encode(public_bytes(KEY.public_key())).decode(),
            deployment=options.pop("deployment", "plant"),
            artifacts=options.pop("artifacts", None) or artifacts(),
            reference_folder=root / "reference",
            registry=self.registry,
            **{"checkpoint_seconds": 0.05, "heartbeat_seconds": 3600.0, **options},
        )

    def append(self, partition: str, bodies: Sequence[bytes], arrival: int) -> None:
        new = [NewEntry(EntryKind.OTLP, "gateway", "bearer", arrival, "otlp_proto", body) for body in bodies]
        self.journal.append([(partition, entry) for entry in new]).result()

    def close(self) -> None:
        self.pipeline.stop()
        self.signer.close()
        self.store.close()
        self.journal.close()


@contextmanager
def running(root: Path, partitions: int = 1, **options: Any) -> Iterator[Deployment]:
    """A deployment that is started, and stopped in the end."""
    deployment = Deployment(root, partitions, **options)
    try:
        deployment.pipeline.start()
        yield deployment
    finally:
        deployment.close()


def main(root: Path) -> None:
    """Seal what a feeder journals in this very process, saying what was acknowledged, until killed."""
    from sealing_inputs import NOW, access, request

    deployment = Deployment(root, heartbeat_seconds=0.2)
    deployment.pipeline.start()
    begin = deployment.journal.high_water_mark("events-0")
    for number in range(begin * 10, begin * 10 + 100_000, 10):
        body = request(*(access(number + i) for i in range(10)), stream=f"run-{begin}")
        deployment.append("events-0", [body], NOW)
        print(number, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
