"""A process that fills a topic, or reads one: what that costs it by itself.

    python -m benchmarks.kafka.topic_io fill DATA SPANS [SPANS_A_MESSAGE]
    python -m benchmarks.kafka.topic_io read DATA SPANS

Both print microseconds of CPU per span, of all threads, as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from auditspan.buffers import keep_buffers
from auditspan.config import load_settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.contract import Journal, NewEntry
from auditspan.journal.opening import open_journal
from benchmarks.kafka.deployment import wait_to_go
from benchmarks.workload import LARGE, SPANS_A_MESSAGE, entries

_PORTION = 16 << 20
"""Bytes that are made before the clock starts, then sent and waited for."""
_READ_ENTRIES = 25_000
_READ_BYTES = 32 << 20


def fill(journal: Journal, spans: int, spans_a_message: int) -> float:
    """CPU-seconds that it takes to append one of them, without making it.

    Streams go to partitions in turn, each to one.
    """
    partitions = journal.own_partitions
    streams = max(8, len(partitions))
    costs: list[float] = []
    place = 0
    for portion in _portions(entries(spans, LARGE, streams=streams, spans_a_message=spans_a_message)):
        begin = time.process_time()
        appended = [
            journal.append([(partitions[(place + index) % len(partitions)], entry)])
            for index, entry in enumerate(portion)
        ]
        for each in appended:
            each.result()
        costs.append((time.process_time() - begin) / (len(portion) * spans_a_message))
        place += len(portion)
    # What the first ones cost is the start of a process.
    return statistics.median(costs[1:] or costs)


def read(journal: Journal, spans: int) -> float:
    """CPU-seconds that it takes to read one of ``spans``, which are all that the topic has."""
    begin = time.process_time()
    for partition in journal.partitions:
        offset, end = 0, journal.high_water_mark(partition)
        while offset < end:
            found = journal.read(partition, offset, max_entries=_READ_ENTRIES, max_bytes=_READ_BYTES)
            offset = found[-1].offset + 1
    return (time.process_time() - begin) / spans


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
    if arguments.what == "read":
        keep_buffers()  # as a processor does
    journal = open_journal(directory, load_settings(directory.settings))
    if arguments.what == "read":
        read(journal, arguments.spans)
    wait_to_go()
    if arguments.what == "fill":
        cost = fill(journal, arguments.spans, arguments.spans_a_message)
    else:
        cost = read(journal, arguments.spans)
    print(json.dumps({"microseconds_a_span": cost * 1e6}), flush=True)
    journal.close()


if __name__ == "__main__":
    main()
