"""Real parts: a broker, topics, stores as services, and what each process spent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from auditspan.cli.keys import make_keys
from auditspan.config import Settings, load_settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.kafka import KafkaJournal
from auditspan.journal.kafka_topics import make_topics
from auditspan.journal.opening import open_journal
from benchmarks.sealing import DEPLOYMENT

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "kafka"))

import broker  # noqa: E402

PROGRAM = Path(sys.executable).parent / "auditspan"
_PATIENCE = 120.0


@dataclass(frozen=True)
class Topic:
    """A topic with a control topic, and the data directory of those who use it."""

    name: str
    partitions: int
    directory: DataDirectory
    kafka_folder: Path

    def settings(self, **sections: Mapping[str, Any]) -> Settings:
        """Its settings, with ``sections`` over them."""
        return load_settings(self.directory.settings, {name: dict(section) for name, section in sections.items()})

    def open(self) -> KafkaJournal:
        """Its journal."""
        journal = open_journal(self.directory, self.settings())
        assert isinstance(journal, KafkaJournal)
        return journal

    def stored_bytes(self) -> int:
        """Bytes of its records on the broker's disk."""
        return sum(path.stat().st_size for path in self.kafka_folder.glob(f"{self.name}-[0-9]*/*.log"))


class Cluster:
    """One broker, and a folder for everything else. Whoever measures makes topics and stores of their own."""

    def __init__(self, folder: Path, kafka: broker.Kafka) -> None:
        self.folder = folder
        self._kafka = kafka

    def topic(self, name: str, partitions: int = 1, *, compression: str = "lz4") -> Topic:
        """A new topic."""
        directory = DataDirectory(self.folder / name)
        make_keys(directory, DEPLOYMENT)
        lines = [
            f'deployment = "{DEPLOYMENT}"',
            "[journal]",
            f'url = "{self._kafka.url}"',
            f"partitions = {partitions}",
        ]
        lines += ["[kafka]", f'topic = "{name}"', "replication_factor = 1", "min_insync_replicas = 1"]
        lines += [f'compression = "{compression}"', "retention_days = 0"]
        directory.settings.write_text("\n".join(lines) + "\n")
        topic = Topic(name, partitions, directory, self._kafka.brokers[0].folder / "data")
        make_topics(self._kafka.url, topic.settings().kafka, partitions)
        return topic

    @contextmanager
    def store(self) -> Iterator[Service]:
        """A new, empty `auditspan store serve`; its data is gone afterwards."""
        with tempfile.TemporaryDirectory(dir=self.folder, prefix="store-") as folder:
            data = Path(folder) / "data"
            with service(["store", "serve", "--data", data, "--listen", "127.0.0.1:0"], data) as started:
                yield started


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A new broker for the time of the block. Ask `missing` before."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auditspan-bench-")))
        yield Cluster(folder, stack.enter_context(broker.running(folder / "kafka")))


def missing() -> str | None:
    """Why there can be no broker here; None when there can."""
    return broker.missing()


class Service:
    """A command that says where it is as JSON."""

    def __init__(self, process: subprocess.Popen[bytes], directory: DataDirectory) -> None:
        self._process = process
        self._seen = psutil.Process(process.pid)
        self.directory = directory

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Where it listens."""
        return dict(json.loads(self.directory.endpoints.read_text()))

    def cpu_seconds(self) -> float:
        """CPU time of all its threads so far."""
        spent = self._seen.cpu_times()
        return float(spent.user + spent.system)

    def peak_memory(self) -> int:
        """Largest resident size so far, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024

    def check(self) -> None:
        """Raises: RuntimeError: it has ended."""
        if self._process.poll() is not None:
            said = self.directory.root.with_suffix(".log").read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args} ended with {self._process.returncode}:\n{said}")


@contextmanager
def service(arguments: list[str | Path], data: Path) -> Iterator[Service]:
    """`auditspan` with ``arguments``, ready, for the time of the block."""
    directory = DataDirectory(data)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDITSPAN_")}
    with data.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [PROGRAM, *arguments, "--json"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    started = Service(process, directory)
    try:
        until(lambda: started.check() is None and directory.endpoints.exists(), "a service to be ready")
        yield started
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(holds: Callable[[], Any], what: str) -> None:
    """Raises: TimeoutError: it took too long."""
    deadline = time.monotonic() + _PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE:.0f} s in vain for {what}")
        time.sleep(0.02)


class Helper:
    """A program of the benchmarks in a process of its own: it says a line when it is ready and waits for one to go."""

    def __init__(self, module: str, *arguments: object, say_first: str | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.kafka.{module}", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        if say_first is not None:
            self._say(say_first)

    def wait_ready(self) -> None:
        """Until it could begin at once."""
        self._line()

    def go(self) -> None:
        """Let it begin."""
        self._say("")

    def result(self) -> dict[str, Any]:
        """What it found."""
        found: dict[str, Any] = json.loads(self._line())
        self._process.communicate()
        return found

    def end(self) -> None:
        """Let nothing of it go on."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return line


@contextmanager
def helpers(*wanted: Callable[[], Helper]) -> Iterator[list[Helper]]:
    """Helpers that are ready, all of them, for the time of the block."""
    made: list[Helper] = []
    try:
        made += [make() for make in wanted]
        for helper in made:
            helper.wait_ready()
        yield made
    finally:
        for helper in made:
            helper.end()


def wait_to_go() -> None:
    """For a helper: say that it is ready, and wait."""
    print("ready", flush=True)
    sys.stdin.readline()
