"""The body of an insert on its way from the socket into memory that the engine can open as a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request

from auditspan.store.insert_statement import END

from .sql_guard import Refused

__all__ = ["InsertFiles", "ReceivedInsert", "received_insert"]

_TOO_LARGE: Final = 396
_TIMEOUT_EXCEEDED: Final = 159
_LONGEST_STATEMENT: Final = 64 * 1024
_END: Final = END.encode()


_KEPT: Final = 96 << 20
"""Bytes of a file that stay for the next insert; what a larger one took is given back."""


class InsertFiles:
    """Files in memory whose pages serve every insert again: clearing new ones costs as much as filling them."""

    def __init__(self) -> None:
        self._idle: list[int] = []

    @contextmanager
    def one(self) -> Iterator[int]:
        """A descriptor at the beginning of a file of any length and content."""
        descriptor = self._idle.pop() if self._idle else os.memfd_create("auditspan-insert")
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            yield descriptor
        finally:
            if os.fstat(descriptor).st_size > _KEPT:
                os.ftruncate(descriptor, 0)
            self._idle.append(descriptor)

    def close(self) -> None:
        """Give everything back."""
        while self._idle:
            os.close(self._idle.pop())


@dataclass(frozen=True, slots=True)
class ReceivedInsert:
    """A statement, and a descriptor of the rows that followed it."""

    statement: str
    descriptor: int


@asynccontextmanager
async def received_insert(
    request: Request, files: InsertFiles, largest: int, deadline: float
) -> AsyncIterator[ReceivedInsert]:
    """The body of a request: a statement that ends in `END`, then its rows, which live in memory until the block ends.

    Args:
        request: whose body has not been read.
        files: where the rows go.
        largest: bytes.
        deadline: on the monotonic clock; a body that is not there by then is given up.

    Raises:
        Refused: the body is too large, too late, or no such statement.
        ClientDisconnect: the client went away, and the body is not whole.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("Send the Arrow file as it is; its buffers may be compressed.", 48, "NOT_IMPLEMENTED")
    promised = request.headers.get("content-length", "")
    if promised.isdigit() and int(promised) > largest:
        raise _too_large(largest)
    with files.one() as descriptor:
        try:
            # The loop's clock is the monotonic one.
            async with asyncio.timeout_at(deadline):
                statement = await _receive(request, descriptor, largest)
        except TimeoutError:
            raise Refused(
                "Timeout exceeded: the rows did not come in the time of the insert.",
                _TIMEOUT_EXCEEDED,
                "TIMEOUT_EXCEEDED",
            ) from None
        yield ReceivedInsert(statement, descriptor)


async def _receive(request: Request, descriptor: int, largest: int) -> str:
    """Write the rows into ``descriptor``; the statement before them. The server checks what Content-Length promised."""
    head = bytearray()
    statement: str | None = None
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > largest:
            raise _too_large(largest)
        rows = chunk
        if statement is None:
            head += chunk
            before, end, rows = bytes(head).partition(_END)
            if not end:
                if len(head) > _LONGEST_STATEMENT:
                    break
                continue
            statement = (before + end).decode(errors="replace")
        left = memoryview(rows)
        while left:
            left = left[os.write(descriptor, left) :]
    if statement is None:
        raise Refused("An insert is a statement that ends in FORMAT Arrow, a line feed, and an Arrow file.")
    # An Arrow file is read from its end: nothing of a longer one may stand behind it.
    os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
    return statement


def _too_large(largest: int) -> Refused:
    return Refused(f"An insert may have {largest} bytes here.", _TOO_LARGE, "TOO_MANY_ROWS_OR_BYTES")
