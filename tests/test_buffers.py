"""Buffers stay with the process from batch to batch."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import resource, sys
import pyarrow as pa
from auditspan.buffers import keep_buffers

if sys.argv[1] == "keep":
    keep_buffers()

def batch():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    buffers = [b"x" * (30 << 20) for _ in range(4)]
    del buffers
    pa.array(range(1000)).to_pylist()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

batch()
print(pa.default_memory_pool().backend_name, min(batch() for _ in range(3)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="a promise about glibc")
def test_what_a_batch_took_is_there_for_the_next_one() -> None:
    def faults(mode: str) -> tuple[str, int]:
        said = subprocess.run([sys.executable, "-c", _PROGRAM, mode], check=True, capture_output=True, text=True).stdout
        backend, count = said.split()
        return backend, int(count)

    backend, kept = faults("keep")
    assert backend == "system"
    assert kept < 1_000
    assert faults("leave")[1] > 5_000
