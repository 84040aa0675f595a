"""`auditspan up` as a process of its own, started, killed and asked as its users do."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from waiting import until

from auditspan.data_directory import DataDirectory
from auditspan.tokens import TokenRegistry

PROGRAM = Path(sys.executable).parent / "auditspan"
_BYTES = dict.fromkeys(("header", "payload", "facts", "salt"), "bytes")


@dataclass(frozen=True)
class Answer:
    """To one request."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Service:
    """`auditspan up` on ``data``, with settings from the environment. Its ports stay the same when it starts again."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        self.directory = DataDirectory(data)
        self.log = data.with_suffix(".log")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AUDITSPAN_")},
            **{f"AUDITSPAN_{name.upper()}": str(value) for name, value in settings.items()},
        }
        self.process: subprocess.Popen[bytes] | None = None
        self._clients = threading.local()
        self._listen = {"otlp_http": "127.0.0.1:0", "otlp_grpc": "127.0.0.1:0", "sql": "127.0.0.1:0"}

    # Its life

    def start(self, *, wait: bool = True) -> None:
        assert self.process is None
        self.directory.endpoints.unlink(missing_ok=True)
        options = [f"--{name.replace('_', '-')}={address}" for name, address in self._listen.items()]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, "up", "--data", self.data, *options],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        until(self.ready, "the service to be ready")

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.said()}"
        if not self.directory.endpoints.exists():
            return False
        endpoints = self.directory.read_endpoints()
        self._listen = {name: urlsplit(str(endpoints[name])).netloc for name in self._listen}
        try:
            with urllib.request.urlopen(f"{endpoints['otlp_http']}/readyz", timeout=10) as answer:
                return answer.status == 200
        except OSError:  # not ready, or gone: the next look says what it said
            return False

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets to say a last word."""
        assert self.process is not None
        self.process.kill()
        self.ended(-signal.SIGKILL)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        self.ended(0)

    def ended(self, status: int, timeout: float = 60.0) -> None:
        """Wait for the end of the process, which must be with ``status``."""
        assert self.process is not None
        found = self.process.wait(timeout)
        self.process = None
        assert found == status, f"it ended with {found}:\n{self.said()}"

    def said(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    # Sending

    @property
    def otlp_http(self) -> str:
        return f"http://{self._listen['otlp_http']}"

    @property
    def otlp_grpc(self) -> str:
        return self._listen["otlp_grpc"]

    def token(self, emitter: str) -> str:
        return TokenRegistry(self.directory.tokens).create(emitter)

    def revoke(self, emitter: str) -> None:
        TokenRegistry(self.directory.tokens).revoke(emitter)

    def post(
        self, body: bytes, token: str | None, content_type: str | None = "application/x-protobuf", **headers: str
    ) -> Answer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        if content_type is not None:
            sent["content-type"] = content_type
        connection = http.client.HTTPConnection(self._listen["otlp_http"], timeout=30)
        try:
            connection.request("POST", "/v1/traces", body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    # Asking

    def entries(self, partition: str) -> list[Any]:
        """What the journal's file has of a partition, as the slow deriver takes it."""
        from reference.journal import journal_entries

        return journal_entries(self.directory.journal, partition)

    def journal_ends(self) -> dict[str, int]:
        """How many entries each partition has."""
        with sqlite3.connect(f"file:{self.directory.journal}?mode=ro", uri=True) as journal:
            rows = journal.execute(
                "SELECT name, (SELECT count(*) FROM entries WHERE position >> 48 = id) FROM partitions"
            ).fetchall()
        journal.close()
        return dict(rows)

    def client(self, **options: Any) -> Any:
        """The ordinary client, on the read-only endpoint."""
        host, _, port = self._listen["sql"].rpartition(":")
        password = self.directory.read_token.read_text().strip()
        return clickhouse_connect.get_client(host=host, port=int(port), password=password, **options)

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What the ordinary client reads; one client per thread and life of the service."""
        process, client = getattr(self._clients, "open", (None, None))
        if process is not self.process:
            client = self.client()
            self._clients.open = (self.process, client)
        result = client.query(sql, parameters=dict(parameters or {}), column_formats=_BYTES)
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def run(self, *arguments: str | Path, status: int = 0) -> Any:
        """The JSON of a command of ours on this data directory, which must exit with ``status``."""
        done = subprocess.run([PROGRAM, *arguments, "--json"], capture_output=True, text=True, env=self.environment)
        assert done.returncode == status, f"{arguments} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
        return json.loads(done.stdout)
