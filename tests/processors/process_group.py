"""A deployment of real processes on a real Kafka and a real store: killed, stopped and told to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sealing_inputs import access, request
from waiting import until

from auditspan.cli.keys import make_keys
from auditspan.config import Settings, load_settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.contract import EntryKind, Journal, JournalUnavailable, NewEntry
from auditspan.journal.kafka_topics import make_topics
from auditspan.journal.opening import open_journal
from auditspan.ledger.checkpoint import Checkpoint, log_origin, open_checkpoint
from auditspan.ledger.merkle import CompactRange, leaf_hash
from auditspan.ledger.trust import load_trust
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.opening import open_store

DEPLOYMENT = "plant"
PROGRAM = [sys.executable, "-m", "auditspan.cli.main"]


class Process:
    """A command that says JSON once it is there, and logs on standard error."""

    def __init__(self, name: str, arguments: list[str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as errors:
            self.popen = subprocess.Popen(
                [*PROGRAM, *arguments, "--json"], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self.endpoints: dict[str, str] = {}

    def _listen(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            for line in lines:
                self.said.append(line)

    def wait_started(self, seconds: float = 60.0) -> None:
        def document() -> Any:
            assert self.popen.poll() is None, f"{self.name} ended with {self.popen.returncode}: {self.errors()}"
            try:
                return json.loads("".join(self.said))
            except ValueError:
                return None

        self.endpoints = until(document, f"the start of {self.name}", seconds)

    def errors(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.endpoints["health"] + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready(self) -> bool:
        assert self.popen.poll() is None, f"{self.name} ended with {self.popen.returncode}: {self.errors()}"
        return self.get("/readyz")[0] == 200

    def ended_or_ready(self) -> bool:
        """It answers no more for a moment before it has ended."""
        if self.popen.poll() is not None:
            return True
        try:
            return self.get("/readyz")[0] == 200
        except OSError:
            return False

    def owns(self) -> set[str]:
        """The partitions that it says it owns."""
        found = set()
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith("auditspan_log_owned{") and line.endswith(" 1.0"):
                found.add(line.split('"')[1])
        return found

    def signal(self, number: int) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()

    def terminate(self, seconds: float = 60.0) -> int:
        self.popen.terminate()
        status = self.popen.wait(seconds)
        self._listener.join(seconds)
        return status


class Group:
    """Store, topics and processors of one deployment below ``root``."""

    def __init__(
        self, root: Path, kafka_url: str, partitions: int = 4, foreign_topics: Sequence[str] = (), **processor: Any
    ) -> None:
        self.root = root
        self.directory = DataDirectory(root / "data")
        self.store_directory = DataDirectory(root / "store-data")
        self.processes: list[Process] = []
        make_keys(self.directory, DEPLOYMENT)
        self.store_process = self.start_store("127.0.0.1:0")
        (self.directory.write_token).write_text(self.store_directory.write_token.read_text())
        (self.directory.write_token).chmod(0o600)
        self.directory.read_token.write_text(self.store_directory.read_token.read_text())
        topic = f"events-{os.urandom(4).hex()}"
        options = {"batch_seconds": 0.05, "heartbeat_seconds": 5, "drain_seconds": 20} | processor
        options["flagged_topic"] = f"{topic}.flagged"
        self.flagged_topic = options["flagged_topic"]
        lines = [f'deployment = "{DEPLOYMENT}"', "[journal]", f'url = "{kafka_url}"', f"partitions = {partitions}"]
        lines += ["[kafka]", f'topic = "{topic}"', f'group = "{topic}"', "replication_factor = 1"]
        lines += [
            f"foreign_topics = {json.dumps(list(foreign_topics))}",
            "min_insync_replicas = 1",
            "session_timeout_seconds = 6",
            "retention_days = 0",
        ]
        lines += ["[store]", f'url = "{self.store_url}"']
        lines += ["[processor]", *(f"{name} = {json.dumps(value)}" for name, value in options.items())]
        self.directory.settings.write_text("\n".join(lines) + "\n")
        self.settings: Settings = load_settings(self.directory.settings)
        make_topics(kafka_url, self.settings.kafka, partitions)
        self.journal: Journal = open_journal(self.directory, self.settings)
        self.store: ClickHouseStore = open_store(self.directory, self.settings)
        self.sent: Counter[tuple[str, int]] = Counter()

    @property
    def store_url(self) -> str:
        return self.store_process.endpoints["sql"]

    def start_store(self, listen: str) -> Process:
        made = Process(
            "store",
            ["store", "serve", "--data", str(self.store_directory.root), "--listen", listen],
            self.root / "store.log",
        )
        made.wait_started()
        return made

    def start(self, name: str = "") -> Process:
        name = name or f"processor-{len(self.processes) + 1}"
        made = Process(
            name,
            ["process", "--data", str(self.directory.root), "--listen", "127.0.0.1:0"],
            self.root / f"{name}.log",
        )
        self.processes.append(made)
        made.wait_started()
        return made

    def send(self, partition: int, stream: str, begin: int, count: int, **attributes: object) -> None:
        """Journal ``count`` records of a stream from sequence ``begin`` on, acknowledged when it returns."""
        body = request(*(access(begin + i, **attributes) for i in range(count)), stream=stream)
        entry = NewEntry(EntryKind.OTLP, "gateway", "bearer", time.time_ns(), "otlp_proto", body)
        self._last = (partition, entry)
        self._append(self._last)
        self.sent.update((stream, begin + i) for i in range(count))

    def send_again(self) -> None:
        """The last request once more, as a sender does that did not hear the acknowledgement."""
        self._append(self._last)

    def _append(self, sent: tuple[int, NewEntry]) -> None:
        """Until it is acknowledged, as senders do."""
        partition, entry = sent

        def acknowledged() -> bool:
            try:
                return bool(self.journal.append([(self.journal.own_partitions[partition], entry)]).result(60))
            except JournalUnavailable:
                return False

        until(acknowledged)

    def reconfigure(self, partitions: int) -> None:
        """Every process that starts from now on has this many partitions, and so has the journal that `send` uses."""
        before = f"partitions = {self.settings.journal.partitions}\n"
        said = self.directory.settings.read_text()
        assert before in said
        self.directory.settings.write_text(said.replace(before, f"partitions = {partitions}\n"))
        self.settings = load_settings(self.directory.settings)
        self.journal.close()
        self.journal = open_journal(self.directory, self.settings)

    def sealed(self) -> Counter[tuple[str, int]]:
        rows = self.store.query(
            "SELECT stream, assumeNotNull(sequence) AS number FROM auditspan.events WHERE class = 'model.access' "
            "AND events.sequence IS NOT NULL"
        )
        return Counter(zip(rows["stream"].to_pylist(), rows["number"].to_pylist(), strict=True))

    def sealed_all(self) -> bool:
        count = self.store.query("SELECT count() AS n FROM auditspan.events WHERE class = 'model.access'")
        return int(count["n"][0].as_py()) >= len(self.sent)

    def close(self) -> None:
        for process in [*self.processes, self.store_process]:
            if process.popen.poll() is None:
                process.signal(signal.SIGCONT)
                process.kill()
            process._listener.join(10)
        self.journal.close()
        self.store.close()

    # What must hold

    def prove(self) -> None:
        """Every acknowledged record once; leaves and journal positions contiguous; every checkpoint of a prefix."""
        assert self.sealed() == self.sent
        trusted = load_trust(self.directory.trust).keys
        for log_id, leaves in self.logs().items():
            batches = [leaf["body"] for leaf in map(json.loads, leaves) if leaf["class"] == "audit.batch"]
            assert [b["from"] for b in batches] == [0, *(b["to"] for b in batches[:-1])]
            assert [b["first_leaf"] + b["sealed"] + 1 for b in batches] == [
                *(b["first_leaf"] for b in batches[1:]),
                len(leaves),
            ]
            roots, tree = {}, CompactRange()
            for leaf in leaves:
                tree.append(leaf_hash(leaf))
                roots[tree.end] = tree.root()
            signed = self.checkpoints(log_id, trusted)
            assert signed, "every log has a checkpoint"
            assert all(checkpoint.size == 0 or roots[checkpoint.size] == checkpoint.root for checkpoint in signed)

    def logs(self) -> dict[str, list[bytes]]:
        found = self.store.query("SELECT DISTINCT log_id FROM auditspan.events")["log_id"].to_pylist()
        return {log_id: self.leaves(log_id) for log_id in found}

    def leaves(self, log_id: str) -> list[bytes]:
        leaves: list[bytes] = []
        for block in self.store.leaves(log_id, 0, self.store.next_leaf(log_id)):
            assert block.column("leaf_index").to_pylist() == list(range(len(leaves), len(leaves) + len(block)))
            leaves += block.column("header").to_pylist()
        return leaves

    def checkpoints(self, log_id: str, keys: Any) -> list[Checkpoint]:
        """Those that the store keeps, and those that the control log witnesses."""
        rows = self.store.query(
            "SELECT note FROM auditspan.checkpoints WHERE log_id = {log_id:String}", {"log_id": log_id}
        )
        notes = rows["note"].to_pylist()
        found = self.store.query("SELECT header FROM auditspan.events WHERE class = 'audit.checkpoint'")
        for header in found["header"].to_pylist():
            body = json.loads(header)["body"]["body"]
            notes += [c["note"] for c in (*body["checkpoints"], body.get("control")) if c and c["log_id"] == log_id]
        return [open_checkpoint(note, log_origin(DEPLOYMENT, log_id), keys) for note in notes]


@contextmanager
def group(root: Path, kafka_url: str, **options: Any) -> Iterator[Group]:
    made = Group(root, kafka_url, **options)
    try:
        yield made
    finally:
        made.close()
