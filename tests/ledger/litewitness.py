"""A witness that others wrote: ``litewitness`` of filippo.io/torchwood, with its key in an ``ssh-agent``.

Its database is prepared as its ``witnessctl`` does, which needs modules that a witness does not.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

__all__ = ["Litewitness", "RunningWitness"]

_VERSION = "v0.9.0"
_EMPTY_TREE = base64.b64encode(hashlib.sha256(b"").digest()).decode()
_WITHIN = 60.0


@dataclass
class RunningWitness:
    """A witness that listens: where, under which name and key, and the database in which `know` adds logs."""

    url: str
    name: str
    key: Ed25519PrivateKey
    database: Path

    @property
    def vkey(self) -> str:
        """Its verifier key, made here as the specification says, apart from the product."""
        raw = b"\x04" + self.key.public_key().public_bytes_raw()
        key_id = hashlib.sha256(self.name.encode() + b"\n" + raw).digest()[:4]
        return f"{self.name}+{key_id.hex()}+{base64.b64encode(raw).decode()}"

    def know(self, origin: str, vkey: str) -> None:
        """Have it accept checkpoints of this origin, signed by this key."""
        with closing(sqlite3.connect(self.database, timeout=30)) as database, database:
            known = "INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, ?)"
            database.execute(known, (origin, _EMPTY_TREE))
            database.execute("INSERT INTO key (origin, key) VALUES (?, ?)", (origin, vkey))

    def page(self) -> str:
        """What it says of itself."""
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            return str(answer.read().decode())


class Litewitness:
    """The programs, built once.

    Raises:
        RuntimeError: they cannot be built, or there is no ``ssh-agent``.
    """

    def __init__(self, folder: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise RuntimeError("Go is not installed")
        if not shutil.which("ssh-agent") or not shutil.which("ssh-add"):
            raise RuntimeError("ssh-agent is not installed, which holds the witness's key")
        self._folder = folder
        done = subprocess.run(
            [go, "install", f"filippo.io/torchwood/cmd/litewitness@{_VERSION}"],
            env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "-buildvcs=false"},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        if done.returncode:
            raise RuntimeError(f"litewitness {_VERSION} cannot be built: {done.stderr.strip()[-300:]}")

    @contextmanager
    def running(self, name: str, port: int = 0, database: Path | None = None) -> Iterator[RunningWitness]:
        """A witness of this name, until the end of the block. Its database may be an earlier one's."""
        with ExitStack() as stack:
            # A socket's path must be short.
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="w", dir="/tmp")))
            key = Ed25519PrivateKey.generate()
            agent = place / "agent"
            stack.enter_context(_process(["ssh-agent", "-D", "-a", str(agent)]))
            _until(agent.exists)
            private = place / "key"
            private.touch(0o600)
            private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            subprocess.run(
                ["ssh-add", str(private)],
                env={**os.environ, "SSH_AUTH_SOCK": str(agent)},
                check=True,
                capture_output=True,
                timeout=60,
            )
            public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
            fingerprint = base64.b64encode(hashlib.sha256(base64.b64decode(public)).digest()).decode().rstrip("=")
            port = port or _free_port()
            database = database or place / "witness.db"
            stack.enter_context(
                _process(
                    [
                        str(self._folder / "litewitness"),
                        "-name",
                        name,
                        "-db",
                        str(database),
                        "-ssh-agent",
                        str(agent),
                        "-key",
                        f"SHA256:{fingerprint}",
                        "-listen",
                        f"127.0.0.1:{port}",
                    ]
                )
            )
            _until(lambda: _listens(port))
            yield RunningWitness(f"http://127.0.0.1:{port}", name, key, database)


@contextmanager
def _process(command: list[str]) -> Iterator[None]:
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            yield
        except AssertionError as error:
            said.seek(0)
            raise AssertionError(f"{error}; {command[0]} said: {said.read()[-500:]!r}") from error
        finally:
            process.terminate()
            process.wait(30)


def _until(holds: object) -> None:
    deadline = time.monotonic() + _WITHIN
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not start"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
