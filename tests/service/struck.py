"""SIGKILL at one exact system call of a running process, given by a tracer from outside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from running_service import Service
from tracer import attach


@dataclass(frozen=True)
class Boundary:
    """Where to strike: on entry into the ``count``-th ``syscall`` of a thread (on one of ``paths``, where given).

    The call itself is not carried out. ``called`` is what the tracer must have seen last, so that a strike somewhere
    else does not pass for this one.
    """

    name: str
    syscall: str
    called: str
    paths: Sequence[Path] = ()
    count: int = 1


class Strike:
    """A tracer on a running service; the service dies at the boundary once something leads it there."""

    def __init__(self, service: Service, boundary: Boundary, seen: Path) -> None:
        assert service.process is not None
        self._service = service
        self._boundary = boundary
        self._seen = seen
        self._tracer = attach(
            service.process.pid,
            seen,
            boundary.syscall,
            f"signal=SIGKILL:when={boundary.count}",
            boundary.paths,
        )

    def __enter__(self) -> Strike:
        return self

    def __exit__(self, *_: object) -> None:
        self._tracer.kill()
        self._tracer.communicate()

    def struck(self) -> bool:
        """Wait for the death of the service; whether it died at this boundary, and not at a call that looks like it."""
        self._service.ended(-9)
        self._tracer.communicate(timeout=30)
        ends = ("+++", "---", "<...")
        calls = [line for line in self._seen.read_text().splitlines() if not any(end in line for end in ends)]
        return bool(calls) and re.search(self._boundary.called, calls[-1]) is not None
