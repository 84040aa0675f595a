"""SIGKILL at any moment loses nothing that was acknowledged."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest

from auditspan.journal.sqlite import SqliteJournal

# Several threads append at once, so that kills also fall into group commits; each line is written whole.
_APPENDER = """
import os, sys, threading
from auditspan.journal import EntryKind, NewEntry
from auditspan.journal.sqlite import SqliteJournal

journal = SqliteJournal(sys.argv[1], 2)

def append(thread):
    number = 0
    while True:
        body = f"{sys.argv[2]}/{thread}/{number}".encode() + bytes(thread * 4000)
        partition = f"events-{number % 2}"
        entry = NewEntry(EntryKind.OTLP, "e", "bearer", 1, "otlp_proto", body)
        [offset] = journal.append([(partition, entry)]).result()
        os.write(1, f"{partition} {offset} {sys.argv[2]}/{thread}/{number}\\n".encode())
        number += 1

for thread in range(4):
    threading.Thread(target=append, args=(thread,)).start()
"""


@pytest.mark.crash
def test_everything_acknowledged_survives_sigkill(tmp_path):
    path = tmp_path / "journal.sqlite"
    acknowledged: dict[tuple[str, int], bytes] = {}
    chance = random.Random(7)
    for run in range(8):
        command = [sys.executable, "-c", _APPENDER, str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            first = process.stdout.readline()
            time.sleep(chance.uniform(0, 0.12))
            process.send_signal(signal.SIGKILL)
            rest = process.stdout.read()
        *lines, torn = (first + rest).split(b"\n")
        assert torn == b""
        assert lines
        for line in lines:
            partition, offset, name = line.decode().split()
            assert (partition, int(offset)) not in acknowledged
            acknowledged[partition, int(offset)] = name.encode()
    with closing(SqliteJournal(path, 2)) as journal:
        for partition in journal.partitions:
            entries = journal.read(partition, 0, max_entries=1_000_000, max_bytes=1 << 40)
            assert [one.offset for one in entries] == list(range(journal.high_water_mark(partition)))
            found = {(partition, one.offset): one.body.rstrip(b"\0") for one in entries}
            mine = {key: name for key, name in acknowledged.items() if key[0] == partition}
            assert mine
            assert mine.items() <= found.items()
