"""A process that seals partitions of a topic into a store over HTTP, and says what it spent.

    python -m benchmarks.kafka.seal DATA STORE_URL PASSWORD_FILE PARTITION[,PARTITION...] WARM_UP [SPANS ...]

One thread for each partition. ``WARM_UP`` spans of each are sealed before it says that it is ready; then all there is,
measured after every so many ``SPANS``. With one partition its stages are timed.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time

from auditspan.processors.control import find_logs
from auditspan.processors.processor import BatchLimits, LogProcessor

from auditspan.buffers import keep_buffers
from auditspan.config import load_settings
from auditspan.data_directory import DataDirectory
from auditspan.journal.kafka import KafkaJournal
from auditspan.journal.opening import open_journal
from auditspan.store.opening import open_store
from benchmarks.kafka.deployment import wait_to_go
from benchmarks.sealing import DEPLOYMENT, Measured, StageClock, context_of, peak_memory, processor_of, seal_until


def _fetches(thread: threading.Thread) -> bool:
    """Whether it is of the client library's network: its only work while we seal is to fetch ahead."""
    return thread.name.startswith("kafka-io")


def _one(processor: LogProcessor, end: int, clock: StageClock | None, marks: Sequence[int]) -> list[Measured]:
    slices = [seal_until(processor, processor.tree.size + mark, end, clock) for mark in marks]
    if processor.tree.sealed_to < end:
        slices.append(seal_until(processor, None, end, clock))
    return slices


def _several(processors: Sequence[LogProcessor], ends: Sequence[int]) -> Measured:
    before = sum(processor.tree.size for processor in processors)
    cpu, wall = process_time(), perf_counter()
    with ThreadPoolExecutor(len(processors)) as threads:
        list(threads.map(lambda each: seal_until(each[0], None, each[1]), zip(processors, ends, strict=True)))
    cpu, wall = process_time() - cpu, perf_counter() - wall
    return Measured(sum(processor.tree.size for processor in processors) - before, cpu, wall, peak_memory(), {})


def main() -> None:
    """Seal them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("store_url")
    parser.add_argument("password_file")
    parser.add_argument("partitions", type=lambda text: text.split(","))
    parser.add_argument("warm_up", type=int)
    parser.add_argument("marks", type=int, nargs="*")
    arguments = parser.parse_args()
    keep_buffers()
    directory = DataDirectory(arguments.data)
    store_settings = {"url": arguments.store_url, "password_file": arguments.password_file}
    settings = load_settings(directory.settings, {"store": store_settings})
    clock = None
    if len(arguments.partitions) == 1:
        clock = StageClock([(KafkaJournal, "read"), (KafkaJournal, "wait")], _fetches)
    journal = open_journal(directory, settings)
    store = open_store(directory, settings)
    logs = find_logs(journal, store, DEPLOYMENT)
    assert logs is not None
    contexts = [context_of(logs.of(name)) for name in arguments.partitions]
    ends = [journal.high_water_mark(name) for name in arguments.partitions]
    warm_up = BatchLimits(rows=arguments.warm_up)
    for context, end in zip(contexts, ends, strict=True):
        seal_until(processor_of(journal, store, context, warm_up), 1, end)
    processors = [processor_of(journal, store.reader(), context) for context in contexts]
    wait_to_go()
    if len(processors) == 1:
        done = _one(processors[0], ends[0], clock, arguments.marks)
    else:
        done = [_several(processors, ends)]
    print(json.dumps({"slices": [asdict(each) for each in done]}), flush=True)
    journal.close()
    store.close()


if __name__ == "__main__":
    main()
