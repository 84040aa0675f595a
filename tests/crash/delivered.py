"""What was sent and what of it was acknowledged, written down by those who sent it, in files that outlive them.

One JSON document a line: ``{"sent": n, "emitter": …, "body": base64}`` before a request leaves, ``{"acknowledged": n}``
once the answer says that it is durable; ``{"begun": text}`` and ``{"recorded": id, "begun": text}`` around a call of
the recording API.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sent_spans import payloads_in


class Diary:
    """Appends lines that a SIGKILL right after leaves whole: each is one write to a file opened for appending."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._numbers = itertools.count()
        # Several lives of a sender write to one file.
        self._life = f"{os.getpid()}-{os.urandom(4).hex()}"
        self.acknowledgements = 0
        self._guard = threading.Lock()

    def sent(self, emitter: str, body: bytes) -> str:
        number = f"{self._life}-{next(self._numbers)}"
        self._write({"sent": number, "emitter": emitter, "body": base64.b64encode(body).decode()})
        return number

    def acknowledged(self, number: str) -> None:
        self._write({"acknowledged": number})
        with self._guard:
            self.acknowledgements += 1

    def begun(self, text: str) -> None:
        self._write({"begun": text})

    def recorded(self, text: str, record_id: str) -> None:
        self._write({"recorded": record_id, "begun": text})

    def _write(self, line: dict[str, Any]) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")


@dataclass
class Delivered:
    """What the diaries say, by emitter."""

    sent: dict[str, set[bytes]] = field(default_factory=dict)
    """Payloads that may be stored."""
    acknowledged: dict[str, set[bytes]] = field(default_factory=dict)
    """Payloads that must be stored."""
    recorded: dict[str, set[str]] = field(default_factory=dict)
    """Record ids that must be stored: the recording call had returned."""
    begun: dict[str, int] = field(default_factory=dict)
    """Calls of the recording API that had begun."""


def read_diaries(paths: Iterable[Path]) -> Delivered:
    """Diaries whose name is that of the emitter where they hold recordings."""
    found = Delivered()
    for path in paths:
        bodies: dict[str, tuple[str, set[bytes]]] = {}
        for line in map(json.loads, path.read_bytes().splitlines()):
            if "sent" in line:
                payloads = set(payloads_in(base64.b64decode(line["body"])))
                bodies[line["sent"]] = line["emitter"], payloads
                found.sent.setdefault(line["emitter"], set()).update(payloads)
            elif "acknowledged" in line:
                emitter, payloads = bodies[line["acknowledged"]]
                found.acknowledged.setdefault(emitter, set()).update(payloads)
            elif "recorded" in line:
                found.recorded.setdefault(path.stem, set()).add(line["recorded"])
            else:
                found.begun[path.stem] = found.begun.get(path.stem, 0) + 1
    return found
