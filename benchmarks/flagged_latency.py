"""From "request answered" to "visible as flagged in the store": a real `auditspan up`, asked through its SQL endpoint.

    python -m benchmarks.flagged_latency [--rate N] [--seconds S] [--json]

Flagged requests arrive at a steady rate, each an OTLP request of its own; first with nothing else to do, then while
evidence is exported and a heavy query runs, over and over, then while an officer activates one registry of parties
after the other. The time between two looks at the store counts too, and a request that is never seen as flagged fails
the measurement. Figure: p99 ≤ 2 s in each. Exits 1 below 70 % of it.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from auditspan import semconv
from auditspan.data_directory import DataDirectory
from auditspan.tokens import TokenRegistry
from benchmarks.workload import LARGE, requests

TARGET = 2.0
TOLERANCE = 0.7
LOOK_EVERY = 0.05
_BETWEEN_ACTIVATIONS = 1.0
SENDERS = 4
PROGRAM = Path(sys.executable).parent / "auditspan"
_FLAGGED = "SELECT record_id, leaf_index FROM auditspan.events WHERE flagged AND leaf_index >= {first:UInt64}"
_HEAVY = (
    "SELECT actor_id, count(), uniqExact(record_id), max(length(replaceAll(payload, 'a', 'bb'))), "
    "sum(cityHash64(header)) FROM auditspan.events GROUP BY actor_id ORDER BY 2 DESC LIMIT 10"
)


class Service:
    """`auditspan up` in a new data directory, and a token to send with."""

    def __init__(self, data: Path) -> None:
        self.directory = DataDirectory(data)
        listen = ["--otlp-http=127.0.0.1:0", "--otlp-grpc=127.0.0.1:0", "--sql=127.0.0.1:0"]
        with data.with_suffix(".log").open("wb") as log:
            command = [PROGRAM, "up", "--data", data, *listen]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _until(self._is_ready, "the service to be ready")
        self.token = TokenRegistry(self.directory.tokens).create("bench")

    def _is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the service ended with {self.process.returncode}")
        return self.directory.endpoints.exists()

    def _where(self, endpoint: str) -> tuple[str, int]:
        url = urlsplit(str(self.directory.read_endpoints()[endpoint]))
        return str(url.hostname), int(url.port or 0)

    def sender(self) -> Callable[[bytes], None]:
        """Something that posts OTLP requests on one connection until each is accepted."""
        connection = http.client.HTTPConnection(*self._where("otlp_http"), timeout=60)
        headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {self.token}"}

        def send(body: bytes) -> None:
            while True:
                connection.request("POST", "/v1/traces", body, headers)
                answer = connection.getresponse()
                answer.read()
                if answer.status == 200:
                    return
                if answer.status != 503:
                    raise RuntimeError(f"refused with {answer.status}")
                time.sleep(0.1)

        return send

    def client(self) -> Any:
        """A client of the SQL endpoint."""
        host, port = self._where("sql")
        return clickhouse_connect.get_client(
            host=host, port=port, password=self.directory.read_token.read_text().strip()
        )

    def close(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


def _until(holds: Callable[[], Any], what: str, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s in vain for {what}")
        time.sleep(0.05)


def flagged_request(record: str) -> bytes:
    """One access from China to a controlled accelerator."""
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "bench"
    span = group.scope_spans.add().spans.add(trace_id=os.urandom(16), span_id=os.urandom(8), name="provision")
    span.start_time_unix_nano = span.end_time_unix_nano = time.time_ns()
    for key, value in {
        semconv.AUDIT_EVENT_CLASS: str(semconv.EventClass.ACCELERATOR_PROVISION),
        semconv.AUDIT_RECORD_ID: record,
        semconv.AUDIT_ACTION: "provision",
        semconv.AUDIT_OUTCOME: "success",
        semconv.AUDIT_ACTOR_ID: "bench",
        semconv.ACCELERATOR_MODEL: "H100",
        semconv.DESTINATION_COUNTRY: "CN",
    }.items():
        span.attributes.add(key=key).value.string_value = value
    return made.SerializeToString()


def preload(service: Service, spans: int) -> None:
    """Seal ``spans`` ordinary events, so that an export and a query have something to work on."""
    send = service.sender()
    for body, _ in requests(spans, LARGE):
        send(body)
    client = service.client()
    _until(
        lambda: client.query("SELECT count() FROM auditspan.events").first_row[0] >= spans, "the preload to be sealed"
    )


def measure(service: Service, rate: float, seconds: float) -> list[float]:
    """Seconds from answer to visibility, of requests sent at ``rate`` a second for ``seconds``."""
    answered: dict[str, float] = {}
    seen: dict[str, float] = {}
    sent = threading.Event()
    failures: list[Exception] = []
    begin = time.monotonic()
    turns = itertools.count()

    def deliver() -> None:
        send = service.sender()
        try:
            while (due := begin + next(turns) / rate) < begin + seconds:
                time.sleep(max(0.0, due - time.monotonic()))
                record = str(uuid.uuid4())
                body = flagged_request(record)
                send(body)
                answered[record] = time.monotonic()
        except (OSError, RuntimeError) as error:
            failures.append(error)

    def look() -> None:
        client = service.client()
        first = 0
        deadline = begin + seconds + 120
        while time.monotonic() < deadline and not (sent.is_set() and answered.keys() <= seen.keys()):
            try:
                rows = client.query(_FLAGGED, parameters={"first": first}).result_rows
            except Error as error:
                failures.append(error)
                return
            now = time.monotonic()
            for record, leaf in rows:
                seen.setdefault(record, now)
                first = max(first, leaf + 1)
            time.sleep(LOOK_EVERY)

    looker = threading.Thread(target=look)
    senders = [threading.Thread(target=deliver) for _ in range(SENDERS)]
    for thread in (looker, *senders):
        thread.start()
    for thread in senders:
        thread.join()
    sent.set()
    looker.join()
    if failures:
        raise failures[0]
    lost = answered.keys() - seen.keys()
    if lost:
        raise RuntimeError(f"{len(lost)} of {len(answered)} requests were never seen as flagged")
    return [max(0.0, seen[record] - at) for record, at in answered.items()]


@contextmanager
def load(service: Service, folder: Path) -> Iterator[dict[str, int]]:
    """Exports and heavy queries, one of each at a time, until the block ends; how many of each were done."""
    over = threading.Event()
    done = {"exports": 0, "queries": 0}

    def export() -> None:
        while not over.is_set():
            out = folder / "package"
            shutil.rmtree(out, ignore_errors=True)
            command = [PROGRAM, "evidence", "export", "--data", service.directory.root, "--out", out]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)
            if ended.returncode:
                raise RuntimeError(f"the export failed: {ended.stderr}")
            done["exports"] += 1

    def query() -> None:
        client = service.client()
        while not over.is_set():
            try:
                client.query(_HEAVY)
                done["queries"] += 1
            except Error:
                time.sleep(0.1)  # refused for its memory or time: it was heavy all the same

    threads = [threading.Thread(target=export), threading.Thread(target=query)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def activations(service: Service, folder: Path) -> Iterator[dict[str, int]]:
    """One activation after the other by `auditspan policy activate`, each of another registry, until the block ends."""
    over = threading.Event()
    done = {"activations": 0}
    failures: list[str] = []
    token = TokenRegistry(service.directory.tokens).create("officer", ("officer",))
    registry = folder / "parties.yaml"
    command = [PROGRAM, "policy", "activate", registry, "--reason", "benchmark", "--data", service.directory.root]

    def activate() -> None:
        lines = ["parties:"]
        while not over.is_set() and not failures:
            lines.append(f"  - {{id: p{len(lines)}, name: Party {len(lines)}, country: SG}}")
            registry.write_text("\n".join(lines) + "\n")
            environment = {**os.environ, "AUDITSPAN_OFFICER_TOKEN": token}
            ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
            if ended.returncode:
                failures.append(ended.stderr)
            done["activations"] += 1
            over.wait(_BETWEEN_ACTIVATIONS)

    officer = threading.Thread(target=activate)
    officer.start()
    try:
        yield done
    finally:
        over.set()
        officer.join()
    if failures:
        raise RuntimeError(f"an activation failed: {failures[0]}")


def summary(latencies: list[float]) -> dict[str, float]:
    """p50, p99 and the largest, in seconds."""
    return {
        "requests": len(latencies),
        "p50_s": statistics.median(latencies),
        "p99_s": statistics.quantiles(latencies, n=100)[98],
        "max_s": max(latencies),
    }


def main() -> int:
    """Measure, print, and say by the exit status whether the figure is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the three parts")
    parser.add_argument("--preload", type=int, default=200_000, help="ordinary events that are there before")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="auditspan-latency-")))
        service = Service(folder / "data")
        stack.callback(service.close)
        preload(service, arguments.preload)
        figures: dict[str, Any] = {"quiet": summary(measure(service, arguments.rate, arguments.seconds))}
        with load(service, folder) as done:
            loaded = summary(measure(service, arguments.rate, arguments.seconds))
        figures["under load"] = loaded | done
        with activations(service, folder) as done:
            changed = summary(measure(service, arguments.rate, arguments.seconds))
        figures["during activations"] = changed | done
    worst = max(part["p99_s"] for part in figures.values())
    passed = worst <= TARGET / TOLERANCE
    if arguments.json:
        print(json.dumps({"cores": os.cpu_count(), "figures": figures, "target": TARGET, "passed": passed}, indent=2))
        return 0 if passed else 1
    for name, part in figures.items():
        also = "".join(f", {part[each]} {each}" for each in ("exports", "queries", "activations") if each in part)
        print(f"{name}: p50 {part['p50_s']:.2f} s, p99 {part['p99_s']:.2f} s, max {part['max_s']:.2f} s{also}")
    print(f"p99 {worst:.2f} s (target {TARGET} s): {'met' if worst <= TARGET else 'ok' if passed else 'MISSED'}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
