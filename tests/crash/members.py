"""The processes of a deployment, and who starts them again: nobody but a supervisor, as systemd or Kubernetes would."""

from __future__ import annotations

import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from broker import Broker
from running_service import PROGRAM
from waiting import until


class Member:
    """A command of ours as a process. It listens at the same places whenever it starts.

    Args:
        name: in reports, and of its log file.
        arguments: of ``auditspan``.
        health: URL whose answer 200 says that it does its work.
        folder: for its log.
        environment: of the process.
    """

    def __init__(
        self, name: str, arguments: Sequence[str | Path], health: str, folder: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._arguments = [str(argument) for argument in arguments]
        self._health = health
        self._log = folder / f"{name}.log"
        self._environment = dict(environment)
        self._unready = "never asked"

    def start(self) -> None:
        assert self.process is None
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, *self._arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
            )

    def ready(self) -> bool:
        if self.process is None:
            return False
        try:
            with urllib.request.urlopen(self._health, timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError) as error:
            self._unready = error.read().decode() if isinstance(error, urllib.error.HTTPError) else str(error)
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def suspend(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def ended_with(self) -> int | None:
        """Its status when it has ended by itself; it can be started again then."""
        if self.process is None or (status := self.process.poll()) is None:
            return None
        self.process = None
        return status

    def stop(self, seconds: float = 90.0) -> int:
        """SIGTERM; the status with which it ends."""
        if self.process is None:
            return 0
        process, self.process = self.process, None
        process.send_signal(signal.SIGCONT)
        process.terminate()
        return process.wait(seconds)

    def said(self) -> str:
        return f"{self._unready}\n" + "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])

    def close(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.kill()


class BrokerMember(Member):
    """A Kafka broker in the same role."""

    def __init__(self, broker: Broker) -> None:
        self.name = f"broker-{broker.number}"
        self._broker = broker

    @property
    def process(self) -> Any:  # type: ignore[override]
        return self._broker.process

    @process.setter
    def process(self, value: Any) -> None:
        self._broker.process = value

    def start(self) -> None:
        self._broker.start(wait=False)

    def ready(self) -> bool:
        if self.process is None:
            return False
        try:
            self._broker.wait()
        except AssertionError:
            return False
        return True

    def said(self) -> str:
        return self._broker.said


class Supervisor:
    """Starts what ended again, but not what is held down; remembers with which status it ended."""

    def __init__(self, members: Mapping[str, Member]) -> None:
        self._members = members
        self._guards = {name: threading.RLock() for name in members}
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor")
        self.ends: Counter[tuple[str, int, str]] = Counter()
        """By kind of member, exit status, and the last thing it said of itself."""

    def __enter__(self) -> Supervisor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    @contextmanager
    def held(self, name: str) -> Iterator[Member]:
        """The member, which nobody else starts meanwhile."""
        with self._guards[name]:
            yield self._members[name]

    def all_ready(self, seconds: float = 120.0) -> None:
        for name, member in self._members.items():
            try:
                until(member.ready, f"{name} to be ready", seconds)
            except AssertionError as error:
                raise AssertionError(f"{error}; it said last:\n{member.said()}") from None

    def _watch(self) -> None:
        while not self._enough.wait(0.2):
            for name, member in self._members.items():
                if not self._guards[name].acquire(blocking=False):
                    continue
                try:
                    status = member.ended_with()
                    if status is not None:
                        lines = [line for line in member.said().splitlines() if "Error: " in line] or [""]
                        self.ends[name.rpartition("-")[0] or name, status, lines[-1][:200]] += 1
                        self._enough.wait(0.1)
                        member.start()
                finally:
                    self._guards[name].release()
