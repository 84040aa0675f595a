"""Real Apache Kafka for tests: KRaft brokers in processes of their own, on free loopback ports.

``python tests/kafka/broker.py`` runs one for a person until Ctrl-C (``make kafka``).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
LIBRARIES = HERE.parent.parent / "build" / "kafka" / "libs"
JOURNAL_KEY = b"k" * 32
"""Of the tests."""
_POM = HERE / "pom.xml"
_START_SECONDS = 90.0
# A test broker lives for seconds: the second compiler and a parallel collector only cost it.
_JVM = ("-Xms96m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")


def missing() -> str | None:
    """Why no broker can be started here; None when one can."""
    absent = [program for program in ("java", *(() if _resolved() else ("mvn",))) if shutil.which(program) is None]
    return f"a Kafka broker needs {' and '.join(absent)}" if absent else None


def resolve() -> Path:
    """The folder with the broker's jars; fetched once, and again when the pom changes."""
    if not _resolved():
        shutil.rmtree(LIBRARIES, ignore_errors=True)
        LIBRARIES.mkdir(parents=True)
        done = subprocess.run(
            ["mvn", "-q", "-B", "-f", _POM, "dependency:copy-dependencies", f"-DoutputDirectory={LIBRARIES}"],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"mvn could not resolve the broker:\n{done.stdout}{done.stderr}")
        (LIBRARIES / "pom.xml").write_bytes(_POM.read_bytes())
    return LIBRARIES


def _resolved() -> bool:
    marker = LIBRARIES / "pom.xml"
    return marker.is_file() and marker.read_bytes() == _POM.read_bytes()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


@dataclass
class Broker:
    """One broker (and controller). Its ports and its data stay the same when it starts again."""

    number: int
    folder: Path
    client_port: int
    controller_port: int
    launch: Sequence[str] = ()
    """What its command begins with."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def said(self) -> str:
        return "\n".join((self.folder / "broker.log").read_text(errors="replace").splitlines()[-30:])

    def start(self, wait: bool = True) -> None:
        assert self.process is None
        with (self.folder / "broker.log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *self.launch,
                    "java",
                    *_JVM,
                    "-cp",
                    f"{LIBRARIES}/*",
                    "kafka.Kafka",
                    self.folder / "server.properties",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
            )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Until it accepts connections."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            assert self.process is not None
            assert self.process.poll() is None, f"the broker ended:\n{self.said}"
            assert time.monotonic() < deadline, f"the broker does not start:\n{self.said}"
            try:
                with socket.create_connection(("127.0.0.1", self.client_port), 1.0):
                    return
            except OSError:
                time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """SIGTERM: a controlled shutdown."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)
        self.process = None

    def ended(self, seconds: float = 60.0) -> int:
        """Wait until it ends by itself; the status with which it does."""
        assert self.process is not None
        status = self.process.wait(seconds)
        self.process = None
        return status

    def suspend(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@dataclass
class Kafka:
    """A cluster, or the address of a given one (``brokers`` is empty then)."""

    bootstrap: str
    brokers: list[Broker] = field(default_factory=list)
    secured: dict[str, str] = field(default_factory=dict)
    """Addresses of further listeners, by security protocol."""

    @property
    def url(self) -> str:
        return f"kafka://{self.bootstrap}"

    def close(self) -> None:
        for broker in self.brokers:
            if broker.process is not None:
                broker.resume()
                broker.kill()


@contextmanager
def running(
    folder: Path,
    brokers: int = 1,
    *,
    secured: Sequence[str] = (),
    properties: Mapping[str, object] | None = None,
    scram: Sequence[tuple[str, str]] = (),
    launch: Sequence[str] = (),
) -> Iterator[Kafka]:
    """A new cluster below ``folder`` for the time of the block.

    Args:
        folder: for data, configuration and logs.
        brokers: 1 or 3; each is also a controller.
        secured: security protocols of further listeners, of a single broker.
        properties: further lines of ``server.properties``.
        scram: (user, password) that exist from the start, for both SCRAM mechanisms.
        launch: what the commands of all brokers begin with, to run them under something else.
    """
    resolve()
    *ports, last = free_ports(2 * brokers + len(secured) + 1)
    del last
    further = {protocol: f"127.0.0.1:{port}" for protocol, port in zip(secured, ports[2 * brokers :], strict=True)}
    nodes = [Broker(i + 1, folder / f"broker-{i + 1}", ports[2 * i], ports[2 * i + 1], launch) for i in range(brokers)]
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "x")
    for node in nodes:
        _format(node, nodes, cluster, further, properties or {}, scram)
    kafka = Kafka(",".join(node.address for node in nodes), nodes, further)
    try:
        for node in nodes:
            node.start(wait=False)
        for node in nodes:
            node.wait()
        yield kafka
    finally:
        kafka.close()


def _format(
    node: Broker,
    nodes: Sequence[Broker],
    cluster: str,
    secured: Mapping[str, str],
    properties: Mapping[str, object],
    scram: Sequence[tuple[str, str]],
) -> None:
    node.folder.mkdir(parents=True)
    replicas = min(3, len(nodes))
    listeners = [f"CLIENT://{node.address}", *(f"{name}://{address}" for name, address in secured.items())]
    protocols = ["CLIENT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name}:{name}" for name in secured)]
    lines: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node.number,
        "controller.quorum.voters": ",".join(f"{one.number}@127.0.0.1:{one.controller_port}" for one in nodes),
        "controller.listener.names": "CONTROLLER",
        "listeners": ",".join([*listeners, f"CONTROLLER://127.0.0.1:{node.controller_port}"]),
        "advertised.listeners": ",".join(listeners),
        "listener.security.protocol.map": ",".join(protocols),
        "inter.broker.listener.name": "CLIENT",
        "log.dirs": node.folder / "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 3,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 16 << 20,
        "log.cleaner.backoff.ms": 500,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        **properties,
    }
    path = node.folder / "server.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    users = [
        f"{mechanism}=[name={user},password={password}]"
        for user, password in scram
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
    ]
    done = subprocess.run(
        [
            *node.launch,
            "java",
            *_JVM,
            "-cp",
            f"{LIBRARIES}/*",
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            path,
        ]
        + [part for user in users for part in ("--add-scram", user)],
        capture_output=True,
        text=True,
        cwd=node.folder,
    )
    if done.returncode:
        raise RuntimeError(f"the broker's storage could not be formatted:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Run one broker and print where it is."""
    reason = missing()
    if reason is not None:
        sys.exit(f"{reason}.")
    with tempfile.TemporaryDirectory(prefix="auditspan-kafka-") as folder, running(Path(folder)) as kafka:
        print(f"{kafka.url}\nSet AUDITSPAN_TEST_KAFKA={kafka.bootstrap} for the tests. Ctrl-C ends it.", flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: sys.exit(0))
        kafka.brokers[0].process.wait()  # type: ignore[union-attr]
        os.write(2, kafka.brokers[0].said.encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
