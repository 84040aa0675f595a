"""Judges: processes that make determinations again under the rule packs of a package (`.judge`)."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

from auditspan.errors import AuditSpanError

from .judge import Told, read_message, write_message

__all__ = ["Judge", "JudgeFailed", "Judges", "Limits"]

_MOST_AT_ONCE: Final = 256
"""Documents in one message."""
_MOST_BYTES_AT_ONCE: Final = 4 << 20
_MOST_JUDGES: Final = 2
_SECONDS_TO_END: Final = 5.0


class JudgeFailed(Exception):
    """Packs cannot be loaded, or a judge ended; says why."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a judge may take. The shipped packs need 90 MiB and a second; a determination takes a millisecond.

    Attributes:
        memory: bytes of address space.
        loading_seconds: of the processor, until it judges.
        documents_a_second: how many it must judge in a second of the processor, on average.
    """

    memory: int = 1 << 30
    loading_seconds: int = 60
    documents_a_second: int = 50


class Judge:
    """One rule set, in a process of its own.

    Args:
        artifacts: what its rules are made of, content by name.
        limits: what the process may take.

    Raises:
        JudgeFailed: they cannot be loaded within the limits.
        AuditSpanError: no such process can be started here.
    """

    def __init__(self, artifacts: Mapping[str, bytes], limits: Limits | None = None) -> None:
        self._process = _started(limits or Limits())
        self.judged = 0
        try:
            answer = self._ask({"load": {name: content.decode("latin-1") for name, content in artifacts.items()}})
            if "refused" in answer:
                raise JudgeFailed(answer["refused"])
        except BaseException:
            self.close()
            raise
        self.boundaries: Sequence[int] = answer["boundaries"]
        """Instants, in nanoseconds, between which a determination does not depend on the rule time."""

    def compare(self, documents: Iterable[tuple[bytes, Sequence[int]]]) -> list[Told | None]:
        """For each facts document, judged again at its rule times, where it differs: ``(expected, actual)``, or None.

        Raises:
            JudgeFailed: it ended on the way.
        """
        found: list[Told | None] = []
        waiting: list[tuple[bytes, Sequence[int]]] = []
        size = 0
        for document, times in documents:
            waiting.append((document, times))
            size += len(document)
            if len(waiting) >= _MOST_AT_ONCE or size >= _MOST_BYTES_AT_ONCE:
                found += self._found(waiting)
                waiting, size = [], 0
        if waiting:
            found += self._found(waiting)
        return found

    def _found(self, documents: Sequence[tuple[bytes, Sequence[int]]]) -> list[Told | None]:
        self.judged += len(documents)
        lengths = [(len(document), times) for document, times in documents]
        answer = self._ask({"judge": lengths}, b"".join([document for document, _ in documents]))
        return [None if each is None else (each[0], each[1]) for each in answer["found"]]

    def _ask(self, message: Mapping[str, Any], following: bytes = b"") -> dict[str, Any]:
        try:
            write_message(cast(BinaryIO, self._process.stdin), message, following)
            answer = read_message(cast(BinaryIO, self._process.stdout))
        except (OSError, EOFError, ValueError):
            answer = None
        if answer is None:
            self.close()
            raise JudgeFailed(self._how_it_ended())
        return cast(dict[str, Any], answer)

    def _how_it_ended(self) -> str:
        status = self._process.returncode
        if status == -signal.SIGXCPU:
            return "judging by them takes more time than any honest packs do"
        return f"a process that judged by them came to its end with status {status}"

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                cast(BinaryIO, pipe).close()
        try:
            self._process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _started(limits: Limits) -> subprocess.Popen[bytes]:
    # -P: nothing is imported from the working directory, which may be the package.
    command = [sys.executable, "-P", "-m", "auditspan.exporters.evidence.judge"]
    command += map(str, (limits.memory, limits.loading_seconds, limits.documents_a_second))
    try:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        ready = read_message(cast(BinaryIO, process.stdout))
    except (OSError, EOFError) as error:
        raise _no_process(str(error)) from error
    if ready is None:
        raise _no_process(f"it ended with status {process.wait()}")
    return process


def _no_process(why: str) -> AuditSpanError:
    return AuditSpanError(
        f"No process can be started here in which determinations are made again: {why}.",
        remedy="See that this installation is whole: pip install 'auditspan[verify]'",
    )


class Judges:
    """Judges by rule set. Two live at once: epochs follow each other, and each has a process."""

    def __init__(self) -> None:
        self._alive: OrderedDict[object, Judge] = OrderedDict()
        self._failed: dict[object, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for judge in self._alive.values():
            judge.close()
        self._alive.clear()

    def of(self, key: object, artifacts: Callable[[], Mapping[str, bytes] | None]) -> Judge | None:
        """The judge by a rule set, which ``key`` names; None where ``artifacts``, asked for its content, gives none.

        Raises:
            JudgeFailed: there is none, now or any more.
        """
        if key in self._failed:
            raise JudgeFailed(self._failed[key])
        judge = self._alive.get(key)
        if judge is None:
            try:
                content = artifacts()
                if content is None:
                    return None
                while len(self._alive) >= _MOST_JUDGES:
                    self._alive.popitem(last=False)[1].close()
                judge = self._alive[key] = Judge(content)
            except JudgeFailed as error:
                self.failed(key, error)
                raise
        self._alive.move_to_end(key)
        return judge

    def failed(self, key: object, error: JudgeFailed) -> None:
        """Note that the rule set ``key`` cannot be judged by; it is not tried again."""
        self._failed[key] = str(error)
        judge = self._alive.pop(key, None)
        if judge is not None:
            judge.close()
