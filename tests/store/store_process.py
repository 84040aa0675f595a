"""`auditspan store serve` as a process of its own. It keeps its port when it starts again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from auditspan.data_directory import DataDirectory
from auditspan.store.clickhouse import ClickHouseStore

PROGRAM = Path(sys.executable).parent / "auditspan"


class StoreProcess:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.directory = DataDirectory(data)
        self.listen = "127.0.0.1:0"
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data.with_suffix(".log")

    def spawn(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AUDITSPAN_")}
        with self.log.open("ab") as output:
            return subprocess.Popen(
                [PROGRAM, "store", "serve", "--data", self.data, "--listen", self.listen, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def start(self, *, wait: bool = True) -> None:
        self.directory.endpoints.unlink(missing_ok=True)
        self.process = self.spawn()
        if wait:
            self.wait_ready()

    def wait_ready(self, seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.ready():
            assert self.process is not None
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, "the store did not become ready"
            time.sleep(0.02)

    def ready(self) -> bool:
        if not self.directory.endpoints.exists():
            return False
        url = json.loads(self.directory.endpoints.read_text())["sql"]
        self.listen = urlsplit(url).netloc
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=10) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    @property
    def url(self) -> str:
        return f"http://{self.listen}"

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    def options(self, user: str = "writer") -> dict[str, Any]:
        token = self.directory.write_token if user == "writer" else self.directory.read_token
        return {"host": "127.0.0.1", "port": self.port, "username": user, "password": token.read_text().strip()}

    def client(self, user: str = "writer", **options: Any) -> ClickHouseStore:
        return ClickHouseStore.http(**self.options(user) | options)

    def kill(self) -> None:
        """SIGKILL: nothing in the process gets to say a last word."""
        assert self.process is not None
        self.process.kill()
        assert self.process.wait(60) == -signal.SIGKILL

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(60)
