"""Services that do not decide: silent, slow, gone, or answering something else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def answering(*parts: bytes, every: float = 0.0, close: bool = True) -> Iterator[str]:
    """A service that answers each question with ``parts``, ``every`` seconds between two; it may then never close."""
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()
    open_connections: list[socket.socket] = []

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            open_connections.append(connection)
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection: socket.socket) -> None:
        try:
            connection.recv(65_536)
            for part in parts:
                connection.sendall(part)
                if every and ended.wait(every):
                    break
            if close:
                connection.close()
        except OSError:
            return

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        # Shut before it is closed: closing alone does not wake who accepts.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in open_connections:
            connection.close()


def http(status: str, body: bytes, kind: str = "application/json") -> bytes:
    """One HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
