"""A server killed with SIGKILL at every point on the way of a response: what the client saw a byte of is recorded."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from killed_server import PIECES
from spool_contents import spooled

HERE = Path(__file__).parent


def environment(spool):
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("AUDITSPAN_", "OTEL_"))}
    return {**clean, "AUDITSPAN_ENDPOINT": "http://127.0.0.1:9", "AUDITSPAN_SPOOL_DIRECTORY": str(spool)}


def seen_by_client(port, shape):
    """Everything the client gets before the connection breaks."""
    seen = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        head = f"POST /v1/{shape} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode())
        try:
            while piece := connection.recv(65536):
                seen += piece
        except ConnectionResetError:
            pass
    return seen


def killed_at(point, shape, spool):
    command = [sys.executable, str(HERE / "killed_server.py"), str(point)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(spool)) as server:
        try:
            seen = seen_by_client(int(server.stdout.readline()), shape)
            code = server.wait(timeout=20)
        finally:
            server.kill()
    return seen, code


def complete(shape, seen):
    """Whether the client can tell that it has the whole response."""
    return seen.endswith(b"0\r\n\r\n") or (shape == "unary" and PIECES["unary"][0] in seen)


@pytest.mark.crash
@pytest.mark.parametrize("shape", list(PIECES))
def test_whatever_the_client_saw_a_byte_of_is_recorded(shape, tmp_path):
    points = range(2 * (len(PIECES[shape]) + 1))

    def trial(point):
        spool = tmp_path / str(point)
        seen, code = killed_at(point, shape, spool)
        return point, seen, code, spooled(spool, "model.access") if spool.exists() else []

    with ThreadPoolExecutor(3) as pool:
        trials = list(pool.map(trial, points))
    outcomes = []
    for point, seen, code, records in trials:
        assert code == -signal.SIGKILL
        named = [record["audit.outcome"] for record in records]
        outcomes.append(named)
        if seen:
            assert named, f"killed at point {point}: the client saw {seen!r} and nothing is recorded"
        if complete(shape, seen):
            assert named[-1] == "success", f"killed at point {point}: the client has it all and no outcome is recorded"
    # The sweep was a sweep: some deaths came before any byte, some in the middle, and one after everything.
    assert not trials[0][1]
    assert trials[-1][1]
    assert outcomes[0]
    if shape != "unary":
        assert outcomes[0] == ["started"]
        assert outcomes[-1] == ["started", "success"]
