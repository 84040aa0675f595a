"""Starting, awaiting and ending the processes of the demonstration."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

PROGRAMS = Path(sys.executable).parent
"""Where the environment that runs this keeps its commands."""


class DemoFailed(Exception):
    """Something is not what it should be; the demonstration exits non-zero."""


def free_port() -> int:
    """A TCP port on loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Return as soon as ``condition`` holds; fail with ``what`` when it does not within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise DemoFailed(f"waited {timeout:.0f} s in vain for: {what}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether ``url`` answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


class Process:
    """A child process with its output in a file, ended with the ``with`` block."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.command = list(command)
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Process:
        """Start it, or start it again."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self._environment
            )
        return self

    def running(self) -> bool:
        """Whether it runs; a child that ended by itself is a failure of the demonstration."""
        if self._process is not None and self._process.poll() is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise DemoFailed(f"{self.command[0]} ended with status {self._process.returncode}:\n{tail}")
        return self._process is not None

    def kill(self) -> None:
        """SIGKILL, and wait for the end: nothing in the process gets to say a last word."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after 20 seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def __enter__(self) -> Process:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run(command: Sequence[str], environment: Mapping[str, str] | None = None, expect: int = 0) -> str:
    """Run a command to its end and give its standard output; another exit status than ``expect`` is a failure."""
    done = subprocess.run(
        list(command), capture_output=True, text=True, env={**os.environ, **(environment or {})}, check=False
    )
    if done.returncode != expect:
        raise DemoFailed(
            f"{' '.join(command)} ended with status {done.returncode} instead of {expect}:\n{done.stdout}{done.stderr}"
        )
    return done.stdout
