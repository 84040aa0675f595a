"""What the crash matrix is run against: one process, or Kafka with a store, collectors and processors of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import clickhouse_connect
from broker import Broker, free_ports, running
from full_disk import RefusedWrites
from kafka_entries import ends, entries_of
from members import BrokerMember, Member
from reference.derive import Entry
from reference.journal import journal_entries
from running_service import PROGRAM
from tcp_proxy import TcpProxy
from tracer import why_impossible
from waiting import until

from auditspan.data_directory import DataDirectory
from auditspan.tokens import TokenRegistry

BYTES = dict.fromkeys(("header", "payload", "facts", "salt"), "bytes")
SESSION_TIMEOUT = 6.0
"""Seconds after which a silent processor loses its partitions: the least that the setting takes."""
_SETTINGS = {"processor__checkpoint_seconds": "0.25", "processor__heartbeat_seconds": "2"}


class Topology(Protocol):
    """A deployment of real processes: the matrix kills `members`, loads send, checks ask."""

    members: Mapping[str, Member]
    weights: Mapping[str, float]
    """How often each member is chosen to be killed."""
    zombies: tuple[str, ...]
    """Members that share their work: suspended for long enough, another one takes it over."""
    store_ways: Mapping[str, TcpProxy]
    """The way of a member to the store, where it can be disturbed."""
    fillable: Sequence[str]
    """Members whose disk can be made full."""
    fences: frozenset[int]
    """Exit statuses with which a process may end by itself, to be started again."""
    data: Path
    """Data directory with keys and settings, for commands."""
    directory: DataDirectory

    @property
    def otlp_http(self) -> list[str]: ...

    @property
    def otlp_grpc(self) -> list[str]: ...

    def token(self, emitter: str) -> str: ...

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]: ...

    def entries(self, partition: str) -> list[Entry]: ...

    def journal_ends(self) -> dict[str, int]: ...

    def run(self, *arguments: str | Path) -> tuple[int, str]: ...

    def full_disk(self, member: str) -> AbstractContextManager[None]: ...


class _Base(ABC):
    """What both have in common."""

    data: Path
    directory: DataDirectory
    members: dict[str, Member]
    environment: dict[str, str]
    store_ways: Mapping[str, TcpProxy] = {}
    fillable: Sequence[str] = ()
    fences: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self._clients = threading.local()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDITSPAN_")}

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What the ordinary client reads."""
        client = getattr(self._clients, "open", None)
        if client is None:
            host, _, port = self._sql.rpartition(":")
            password = self.directory.read_token.read_text().strip()
            client = self._clients.open = clickhouse_connect.get_client(
                host=host, port=int(port), username="reader", password=password, autogenerate_session_id=False
            )
        result = client.query(sql, parameters=dict(parameters or {}), column_formats=BYTES)
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def run(self, *arguments: str | Path) -> tuple[int, str]:
        """Exit status and output of a command of ours."""
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, env=self.environment)
        return done.returncode, done.stdout + done.stderr

    def full_disk(self, member: str) -> AbstractContextManager[None]:
        """Every write to the disk of one of `fillable` is refused for the time of the block."""
        raise AssertionError(f"the disk of {member} cannot be filled")

    def command(self, *arguments: str | Path) -> None:
        status, said = self.run(*arguments)
        assert status == 0, f"{arguments} ended with {status}:\n{said}"

    @property
    @abstractmethod
    def _sql(self) -> str:
        """Host and port of what answers SQL."""

    def _member(self, name: str, health: str, *arguments: str | Path, **settings: str) -> Member:
        environment = self.environment | {f"AUDITSPAN_{key.upper()}": value for key, value in settings.items()}
        return Member(name, arguments, health, self.data.parent, environment)


class SingleService(_Base):
    """`auditspan up`: collectors, journal, processors and store in one process."""

    weights: Mapping[str, float] = {"service": 1.0}
    zombies: tuple[str, ...] = ()

    def __init__(self, root: Path, partitions: int = 4) -> None:
        super().__init__()
        self.data = root / "data"
        self.directory = DataDirectory(self.data)
        self.command("keys", "init", "--data", self.data)
        self._http, self._grpc, self._sql_port = free_ports(3)
        addresses = [
            f"--otlp-http=127.0.0.1:{self._http}",
            f"--otlp-grpc=127.0.0.1:{self._grpc}",
            f"--sql=127.0.0.1:{self._sql_port}",
        ]
        settings = _SETTINGS | {"journal__partitions": str(partitions)}
        health = f"http://127.0.0.1:{self._http}/readyz"
        self.members = {"service": self._member("service", health, "up", "--data", self.data, *addresses, **settings)}

    @property
    def otlp_http(self) -> list[str]:
        return [f"127.0.0.1:{self._http}"]

    @property
    def otlp_grpc(self) -> list[str]:
        return [f"127.0.0.1:{self._grpc}"]

    @property
    def _sql(self) -> str:
        return f"127.0.0.1:{self._sql_port}"

    def token(self, emitter: str) -> str:
        return TokenRegistry(self.directory.tokens).create(emitter)

    def entries(self, partition: str) -> list[Entry]:
        return journal_entries(self.directory.journal, partition)

    def journal_ends(self) -> dict[str, int]:
        import sqlite3

        with sqlite3.connect(f"file:{self.directory.journal}?mode=ro", uri=True) as journal:
            rows = journal.execute(
                "SELECT name, (SELECT count(*) FROM entries WHERE position >> 48 = id) FROM partitions"
            ).fetchall()
        journal.close()
        return dict(rows)


class KafkaGroup(_Base):
    """Kafka, `auditspan store serve`, collectors and processors, each processor with a way to the store of its own."""

    fences = frozenset({1, 3})

    def __init__(
        self, root: Path, brokers: list[Broker], partitions: int = 4, collectors: int = 2, processors: int = 2
    ) -> None:
        super().__init__()
        self.data = root / "data"
        self.directory = DataDirectory(self.data)
        self._partitions = partitions
        self._brokers = {f"broker-{broker.number}": broker for broker in brokers}
        self._bootstrap = ",".join(broker.address for broker in brokers)
        self.topic = "auditspan.events"
        replicas = min(len(brokers), 3)
        self.environment |= {
            "AUDITSPAN_JOURNAL__URL": f"kafka://{self._bootstrap}",
            "AUDITSPAN_JOURNAL__PARTITIONS": str(partitions),
            "AUDITSPAN_KAFKA__REPLICATION_FACTOR": str(replicas),
            "AUDITSPAN_KAFKA__MIN_INSYNC_REPLICAS": str(max(replicas - 1, 1)),
            "AUDITSPAN_KAFKA__SESSION_TIMEOUT_SECONDS": str(SESSION_TIMEOUT),
        }
        self.command("keys", "init", "--data", self.data)
        self.command("kafka", "init", "--data", self.data)
        sql_port, *ports = free_ports(1 + 2 * collectors + processors)
        self._sql_port = sql_port
        store_data = root / "store-data"
        listen = f"127.0.0.1:{sql_port}"
        store = self._member(
            "store", f"http://{listen}/readyz", "store", "serve", "--data", store_data, f"--listen={listen}"
        )
        store.start()
        self.members = {f"broker-{broker.number}": BrokerMember(broker) for broker in brokers} | {"store": store}
        until(store.ready, "the store to be ready")
        for name in ("read.token", "write.token"):
            shutil.copy(store_data / name, self.data / name)
        self.environment["AUDITSPAN_STORE__URL"] = f"http://{listen}"
        self._http, self._grpc = ports[:collectors], ports[collectors : 2 * collectors]
        self._registries: list[DataDirectory] = []
        for number, (http, grpc) in enumerate(zip(self._http, self._grpc, strict=True), 1):
            directory = DataDirectory(root / f"collector-{number}")
            directory.root.mkdir(mode=0o700)
            shutil.copy(self.directory.journal_key, directory.journal_key)
            self._registries.append(directory)
            addresses = (f"--otlp-http=127.0.0.1:{http}", f"--otlp-grpc=127.0.0.1:{grpc}")
            health = f"http://127.0.0.1:{http}/readyz"
            name = f"collector-{number}"
            self.members[name] = self._member(name, health, "collect", "--data", directory.root, *addresses)
        self.store_ways = {}
        for number, port in enumerate(ports[2 * collectors :], 1):
            name = f"processor-{number}"
            way = self.store_ways[name] = TcpProxy(("127.0.0.1", sql_port))
            self.members[name] = self._member(
                name,
                f"http://127.0.0.1:{port}/readyz",
                *("process", "--data", self.data, f"--listen=127.0.0.1:{port}"),
                **_SETTINGS,
                store__url=f"http://127.0.0.1:{way.port}",
                store__insert_seconds="5",
                processor__batch_seconds="0.1",
                processor__flagged_topic="",
            )
        self.fillable = tuple(self._brokers) if why_impossible() is None else ()
        self.zombies = tuple(name for name in self.members if name.startswith("processor"))
        kinds = {"broker": 0.6 / len(brokers), "store": 0.8, "collector": 0.8, "processor": 1.2}
        self.weights = {name: kinds[name.partition("-")[0]] for name in self.members}

    @property
    def otlp_http(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self._http]

    @property
    def otlp_grpc(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self._grpc]

    @property
    def _sql(self) -> str:
        return f"127.0.0.1:{self._sql_port}"

    def token(self, emitter: str) -> str:
        """A token that every collector knows."""
        first, *others = self._registries
        token = TokenRegistry(first.tokens).create(emitter)
        for other in others:
            temporary = other.root / "tokens.new"
            shutil.copy(first.tokens, temporary)
            temporary.replace(other.tokens)
        return token

    def entries(self, partition: str) -> list[Entry]:
        return entries_of(self._bootstrap, *self._place(partition))

    def journal_ends(self) -> dict[str, int]:
        names = ["control", *(f"events-{number}" for number in range(self._partitions))]
        return ends(self._bootstrap, {name: self._place(name) for name in names})

    def _place(self, partition: str) -> tuple[str, int]:
        if partition == "control":
            return f"{self.topic}.control", 0
        return self.topic, int(partition.removeprefix("events-"))

    @contextmanager
    def full_disk(self, member: str) -> Iterator[None]:
        broker = self._brokers[member]
        disk = RefusedWrites(broker.folder)
        disk.fill(broker)
        try:
            yield
        finally:
            disk.close()

    def close(self) -> None:
        for way in self.store_ways.values():
            way.__exit__()


@contextmanager
def single(root: Path, **options: Any) -> Iterator[SingleService]:
    made = SingleService(root, **options)
    try:
        yield made
    finally:
        for member in made.members.values():
            member.close()


@contextmanager
def on_kafka(root: Path, brokers: int = 1, **options: Any) -> Iterator[KafkaGroup]:
    with ExitStack() as stack:
        # What is not on two disks at least must be on one before it is acknowledged.
        cluster = stack.enter_context(
            running(root / "kafka", brokers, properties={"min.insync.replicas": max(brokers - 1, 1)})
        )
        made = KafkaGroup(root, cluster.brokers, **options)
        stack.callback(made.close)
        for name, member in made.members.items():
            if not name.startswith("broker"):
                stack.callback(member.close)
        yield made
