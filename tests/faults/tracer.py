"""strace on a process that runs: from outside, chosen system calls are seen, refused, or struck."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def why_impossible() -> str | None:
    """Why no process can be traced here; None when one can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        command = ["strace", "-p", str(process.pid), "-e", "trace=none", "-o", "/dev/null"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stderr is not None
            said = tracer.stderr.readline()
            tracer.terminate()
        process.kill()
    return None if " attached" in said else f"no process can be traced here: {said.strip()}"


def attach(pid: int, seen: Path, syscalls: str, inject: str, paths: Sequence[Path] = ()) -> subprocess.Popen[str]:
    """A tracer on all threads of a process, at work when this returns. It ends with the process, or is killed.

    Args:
        pid: of the process.
        seen: gets a line for every call.
        syscalls: which, separated by commas.
        inject: what becomes of them, in strace's words.
        paths: only calls on these.
    """
    tracer = subprocess.Popen(
        [
            *("strace", "-f", "-y", "-p", str(pid), "-o", str(seen)),
            *(option for path in paths for option in ("-P", str(path))),
            *("-e", f"trace={syscalls}", "-e", f"inject={syscalls}:{inject}"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    for line in tracer.stderr:
        # Resolving a path that does not exist yet is announced before.
        if " attached" in line:
            return tracer
        assert "Requested path" in line, line
    raise AssertionError(f"strace ended with {tracer.wait()}")
