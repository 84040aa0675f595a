"""The process in which rule packs of a package are loaded, and determinations are made again.

    python -P -m auditspan.exporters.evidence.judge MEMORY LOADING_SECONDS DOCUMENTS_A_SECOND

Whoever signed a package has written its packs. They are data, and still may be made to take all memory or to never end:
so they are looked at here, within limits that the system enforces, and whatever becomes of this process the verifier
goes on. `auditspan.exporters.evidence.judging` starts it; messages are JSON, each after its length in 4 bytes. Bytes of
artifacts stand in them as Latin-1; documents follow the message that says how long they are.
"""

from __future__ import annotations

import gc
import json
import resource
import struct
import sys
import time
from collections.abc import Sequence
from typing import Any, BinaryIO, Final

from auditspan.policy.recompute import Recomputer, UnreadableFacts, differences
from auditspan.policy.rules import Rules

__all__ = ["Told", "main", "read_message", "write_message"]

_SPARE_SECONDS: Final = 10
_LENGTH: Final = struct.Struct(">I")
_MOST_TOLD: Final = 4
_LONGEST_TOLD: Final = 120
# What a person looks for first.
_FIRST: Final = ("governing", "enforced", "text", "flagged", "rules", "destination", "eccn", "in_force")

Told = tuple[str, str]
"""What was expected, and what is there."""


def read_message(source: BinaryIO) -> Any:
    """The next message; None at the end.

    Raises:
        EOFError: the other side ended within one.
    """
    head = source.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(head)
    content = source.read(length)
    if len(content) < length:
        raise EOFError
    return json.loads(content)


def write_message(sink: BinaryIO, message: Any, following: bytes = b"") -> None:
    """Send a message, and bytes that follow it."""
    # Half a surrogate pair may stand in what a stranger wrote.
    content = json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
    sink.write(_LENGTH.pack(len(content)) + content + following)
    sink.flush()


def main(memory: int, loading_seconds: int, documents_a_second: int) -> None:
    """Answer until the other side ends.

    Args:
        memory: bytes of address space that this process may take.
        loading_seconds: of the processor, for the packs.
        documents_a_second: how many it must at least judge in a second of the processor.
    """
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_CPU, loading_seconds)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    write_message(sink, {"ready": True})
    recomputer: Recomputer | None = None
    judged = 0
    while (message := read_message(source)) is not None:
        if recomputer is None:
            loaded = _loaded(message["load"])
            if isinstance(loaded, str):
                answer: dict[str, Any] = {"refused": loaded}
            else:
                recomputer = loaded
                answer = {"boundaries": recomputer.engine.boundaries}
                # What is loaded stays: looking through it for what does not takes a tenth of the time.
                gc.freeze()
        else:
            documents = message["judge"]
            judged += len(documents)
            _limit(resource.RLIMIT_CPU, loading_seconds + judged // documents_a_second + _SPARE_SECONDS)
            answer = {"found": [_compared(recomputer, source.read(length), times) for length, times in documents]}
        write_message(sink, {**answer, "seconds": time.process_time()})


def _limit(what: int, most: int) -> None:
    """Lower a limit, as far as the system lets it be changed."""
    _, hard = resource.getrlimit(what)
    wanted = most if hard == resource.RLIM_INFINITY else min(most, hard)
    try:
        resource.setrlimit(what, (wanted, hard))
    except (ValueError, OSError):  # not every system has each of them
        return


def _loaded(artifacts: dict[str, str]) -> Recomputer | str:
    """What judges by these artifacts, or why nothing does."""
    try:
        return Recomputer(Rules.of({name: content.encode("latin-1") for name, content in artifacts.items()}))
    except MemoryError:
        return "they take more memory than any honest packs do"
    except Exception as error:
        return str(error)[:400] or type(error).__name__


def _compared(recomputer: Recomputer, document: bytes, times: Sequence[int]) -> Told | None:
    """Where a document is not what its facts lead to; None where it is."""
    try:
        found = differences(document, recomputer.document(document, times))
    except UnreadableFacts as error:
        return "a facts document as section 6", error.message
    except Exception as error:
        return "a facts document that can be judged", f"{type(error).__name__}: {error}"[:_LONGEST_TOLD]
    if not found:
        return None
    ranks = {name: rank for rank, name in enumerate(_FIRST)}
    told = sorted(found, key=lambda one: ranks.get(one[0], len(ranks)))[:_MOST_TOLD]
    expected = ", ".join(f"{name} {_said(name, again)}" for name, _, again in told)
    return expected, ", ".join(f"{name} {_said(name, stored)}" for name, stored, _ in told)


def _said(name: str, value: Any) -> str:
    if name == "rules" and isinstance(value, list):
        value = sorted(str(rule.get("id")) for rule in value if isinstance(rule, dict) and rule.get("governs") is True)
    return str(value)[:_LONGEST_TOLD]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
