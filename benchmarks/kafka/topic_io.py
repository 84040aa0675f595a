"""A process that fills a topic, or reads one: what that costs it by itself.

    python -m benchmarks.kafka.topic_io fill DATA SPANS [SPANS_A_MESSAGE]
    python -m benchmarks.kafka.topic_io read DATA

Both print microseconds of CPU per span, of all threads, as JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

from auditspan.config import load_settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.contract import Journal, NewEntry
from auditspan.journal.opening import open_journal
from benchmarks.kafka.deployment import wait_to_go
from benchmarks.workload import LARGE, SPANS_A_MESSAGE, entries

_PORTION = 32 << 20
"""Bytes that are made before the clock starts, then sent and waited for."""
_READ_ENTRIES = 25_000
_READ_BYTES = 32 << 20


def fill(journal: Journal, spans: int, spans_a_message: int) -> float:
    """CPU-seconds that it takes to append them, without making them.

    Streams go to partitions in turn, each to one.
    """
    partitions = journal.own_partitions
    spent = 0.0
    place = 0
    streams = max(8, len(partitions))
    for portion in _portions(entries(spans, LARGE, streams=streams, spans_a_message=spans_a_message)):
        begin = time.process_time()
        appended = [
            journal.append([(partitions[(place + index) % len(partitions)], entry)])
            for index, entry in enumerate(portion)
        ]
        for each in appended:
            each.result()
        spent += time.process_time() - begin
        place += len(portion)
    return spent


def read(journal: Journal) -> float:
    """CPU-seconds that it takes to read every data partition from its beginning."""
    begin = time.process_time()
    for partition in journal.partitions:
        offset, end = 0, journal.high_water_mark(partition)
        while offset < end:
            found = journal.read(partition, offset, max_entries=_READ_ENTRIES, max_bytes=_READ_BYTES)
            offset = found[-1].offset + 1
    return time.process_time() - begin


def _portions(made: Iterator[NewEntry]) -> Iterator[list[NewEntry]]:
    portion: list[NewEntry] = []
    size = 0
    for entry in made:
        portion.append(entry)
        size += len(entry.body)
        if size >= _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def main() -> None:
    """Do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["fill", "read"])
    parser.add_argument("data", type=Path)
    parser.add_argument("spans", type=int)
    parser.add_argument("spans_a_message", type=int, nargs="?", default=SPANS_A_MESSAGE)
    arguments = parser.parse_args()
    directory = DataDirectory(arguments.data)
    journal = open_journal(directory, load_settings(directory.settings))
    wait_to_go()
    if arguments.what == "fill":
        spent = fill(journal, arguments.spans, arguments.spans_a_message)
    else:
        spent = read(journal)
    print(json.dumps({"microseconds_a_span": spent / arguments.spans * 1e6}), flush=True)
    journal.close()


if __name__ == "__main__":
    main()
