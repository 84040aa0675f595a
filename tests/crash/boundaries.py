"""SIGKILL at each boundary of persistence on Kafka, found from outside by what passes through a proxy."""

from __future__ import annotations

import re
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from final_checks import Witness
from matrix import Load
from members import Supervisor
from tcp_proxy import Fault, TcpProxy
from topologies import Topology
from waiting import until

EVENTS = b"INSERT INTO auditspan.events"
CHECKPOINTS = b"INSERT INTO auditspan.checkpoints"
_PATIENCE = 300.0
_LONG = 120.0
"""Seconds that a request or an answer is held: until the kill, whenever that is."""

Make = Callable[[], Fault]


class Boundaries:
    """Strikes at named boundaries of a topology under load.

    Args:
        topology: on Kafka with one broker, so that suspending it stands for a journal that does not answer.
        load: at work.
        supervisor: of its members.
        witness: looks at the signer after each kill.
    """

    def __init__(self, topology: Topology, load: Load, supervisor: Supervisor, witness: Witness) -> None:
        self._topology = topology
        self._load = load
        self._supervisor = supervisor
        self._witness = witness
        self.struck: Counter[str] = Counter()
        self.all: Mapping[str, Callable[[], None]] = {
            "collector: received, not journaled": self._collector_waits,
            "collector: journaled, not acknowledged": self._collector_answers,
            "processor: encoded, not inserted": lambda: self._processor(lambda: Fault.hold_request(EVENTS, 0, _LONG)),
            "processor: insert half sent": lambda: self._processor(lambda: Fault.hold_request(EVENTS, 3000, _LONG)),
            "processor: inserted, not told": lambda: self._processor(lambda: Fault.delay_answer(EVENTS, _LONG)),
            "processor: signed and journaled, note not stored": lambda: self._processor(
                lambda: Fault.hold_request(CHECKPOINTS, 0, _LONG)
            ),
            "processor: note stored, not told": lambda: self._processor(lambda: Fault.delay_answer(CHECKPOINTS, _LONG)),
            "store: insert half arrived": lambda: self._store(lambda: Fault.hold_request(EVENTS, 3000, _LONG)),
            "store: insert done, not told": lambda: self._store(lambda: Fault.delay_answer(EVENTS, _LONG)),
            "broker: records under way": self._broker,
        }

    def strike_each(self, times: int) -> None:
        """Kill so often at every boundary, in turns, each once there was progress since the last."""
        for _ in range(times):
            for name, strike in self.all.items():
                before = self._load.acknowledged()
                until(lambda before=before: self._load.acknowledged() > before, f"progress before {name}", _PATIENCE)
                strike()
                self._witness.read_signer()
                self.struck[name] += 1

    def _kill(self, name: str) -> None:
        with self._supervisor.held(name) as member:
            if member.process is not None and member.ended_with() is None:
                member.kill()
            member.start()

    def _collector_waits(self) -> None:
        # Without a journal it could not start.
        until(self._topology.members["collector-1"].ready, "collector-1 to be ready", _PATIENCE)
        with self._supervisor.held("broker-1") as broker:
            broker.suspend()
            try:
                # What comes now waits for the journal, in a request that nobody has answered.
                before = self._received()
                until(lambda: self._received() > before, "a request that waits for the journal", _PATIENCE)
                self._kill("collector-1")
            finally:
                broker.resume()

    def _received(self) -> float:
        """Spans that came to the first collector since it started, journaled or not."""
        with urllib.request.urlopen(f"http://{self._topology.otlp_http[0]}/metrics", timeout=10) as answer:
            found = re.search(rb"^auditspan_received_spans_total (\S+)$", answer.read(), re.MULTILINE)
        assert found is not None
        return float(found[1])

    def _collector_answers(self) -> None:
        killed = threading.Event()

        def kill(address: str) -> None:
            self._kill(f"collector-{self._topology.otlp_http.index(address) + 1}")
            killed.set()

        self._load.balancer.before_answer = kill
        assert killed.wait(_PATIENCE), "no collector answered"

    def _broker(self) -> None:
        self._kill("broker-1")

    def _processor(self, make: Make) -> None:
        with self._caught(make) as name:
            self._kill(name)

    def _store(self, make: Make) -> None:
        with self._caught(make):
            self._kill("store")

    @contextmanager
    def _caught(self, make: Make) -> Iterator[str]:
        """The first processor that comes to the fault, held there for the time of the block."""
        ways: dict[str, tuple[TcpProxy, Fault]] = {}
        for name, way in self._topology.store_ways.items():
            ways[name] = way, way.inject(make())
        try:
            yield until(
                lambda: next((name for name, (_, fault) in ways.items() if fault.struck.is_set()), None),
                "a processor that comes to the fault",
                _PATIENCE,
            )
        finally:
            for way, fault in ways.values():
                way.heal()
                fault.release.set()
