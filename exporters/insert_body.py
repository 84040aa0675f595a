"""The body of an insert on its way from the socket into memory that the engine can open as a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.requests import ClientDisconnect, Request

from .sql_guard import Refused

__all__ = ["received_body"]

_TOO_LARGE: Final = 396
_TIMEOUT_EXCEEDED: Final = 159


@asynccontextmanager
async def received_body(request: Request, largest: int, deadline: float) -> AsyncIterator[int]:
    """A descriptor of the whole body, which lives in memory alone and ends with the block.

    Args:
        request: whose body has not been read.
        largest: bytes.
        deadline: on the loop's clock, which is the monotonic one; a body that is not there by then is given up.

    Raises:
        Refused: the body is too large, too late, or compressed as a whole.
        ClientDisconnect: the client went away, and the body is not whole.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Refused("Send the Arrow file as it is; its buffers may be compressed.", 48, "NOT_IMPLEMENTED")
    promised = request.headers.get("content-length", "")
    if promised.isdigit() and int(promised) > largest:
        raise _too_large(largest)
    descriptor = os.memfd_create("auditspan-insert")
    try:
        try:
            async with asyncio.timeout_at(deadline):
                received = await _receive(request, descriptor, largest)
        except TimeoutError:
            raise Refused(
                "Timeout exceeded: the rows did not come in the time of the insert.",
                _TIMEOUT_EXCEEDED,
                "TIMEOUT_EXCEEDED",
            ) from None
        if promised.isdigit() and received != int(promised):
            raise ClientDisconnect
        yield descriptor
    finally:
        os.close(descriptor)


async def _receive(request: Request, descriptor: int, largest: int) -> int:
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > largest:
            raise _too_large(largest)
        left = memoryview(chunk)
        while left:
            left = left[os.write(descriptor, left) :]
    return received


def _too_large(largest: int) -> Refused:
    return Refused(f"An insert may have {largest} bytes here.", _TOO_LARGE, "TOO_MANY_ROWS_OR_BYTES")
