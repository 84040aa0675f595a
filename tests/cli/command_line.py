"""The program as its users run it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running_service import PROGRAM


@dataclass(frozen=True)
class Done:
    """How a command ended. Whatever a user does, there is no traceback."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


def auditspan(*arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float = 240.0) -> Done:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AUDITSPAN_")}
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**clean, "COLUMNS": "100", **(env or {})},
        stdin=subprocess.DEVNULL,
        timeout=timeout,
    )
    assert "Traceback" not in done.stdout + done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def fails(*arguments: str | Path, status: int = 1, env: Mapping[str, str] | None = None) -> str:
    """What a command says that must fail with ``status``."""
    document = auditspan(*arguments, "--json", env=env)
    assert document.status == status, document
    said = document.json()
    assert set(said) == {"error", "message", "remedy"}
    assert said["error"], said
    assert said["message"], said
    return f"{said['message']} {said['remedy']}"


def gives(*arguments: str | Path, status: int = 0, env: Mapping[str, str] | None = None) -> Any:
    """The JSON of a command that must end with ``status``."""
    done = auditspan(*arguments, "--json", env=env)
    assert done.status == status, done
    return done.json()
