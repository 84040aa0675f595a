"""A process that sends OTLP requests to a collector, as fast as it answers or at a fixed rate.

    python -m benchmarks.kafka.load URL SECONDS [--rate REQUESTS_A_SECOND] [--connections N]     token on standard input

Open loop at a fixed rate: a request has its moment, and its time counts from there, whether or not a connection was
free to send it. Prints requests, seconds, the generator's own CPU, and times in milliseconds as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.kafka.deployment import wait_to_go
from benchmarks.workload import LARGE, SPANS_A_MESSAGE, requests

_BODIES = 400
"""Different requests, sent in turn: 40 MB, far beyond what compression looks back to."""
_BUFFER = 1 << 20


@dataclass
class Sent:
    """What became of the requests; times in seconds."""

    times: list[float] = field(default_factory=list)
    refused: int = 0


class Connection:
    """One connection that is kept."""

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port

    async def open(self) -> None:
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, limit=_BUFFER)

    async def send(self, request: bytes) -> int:
        """Send one request; the status of its answer."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        await self._reader.readexactly(int(length))
        return int(head.split(b" ", 2)[1])

    def close(self) -> None:
        """Let go of it."""
        self._writer.close()


def made_requests(host: str, port: int, token: str) -> list[bytes]:
    """Whole requests, head and body."""
    made = []
    for body, _ in requests(_BODIES * SPANS_A_MESSAGE, LARGE):
        head = (
            f"POST /v1/traces HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: application/x-protobuf\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    return made


async def run(connections: list[Connection], bodies: list[bytes], seconds: float, rate: float | None) -> Sent:
    """Send for ``seconds``."""
    sent = Sent()
    turns = itertools.count()
    begin = time.perf_counter()

    async def use(connection: Connection) -> None:
        while True:
            turn = next(turns)
            due = time.perf_counter() if rate is None else begin + turn / rate
            if due >= begin + seconds:
                return
            while (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
            status = await connection.send(bodies[turn % len(bodies)])
            if status == 200:
                sent.times.append(time.perf_counter() - due)
            elif status == 503:
                sent.refused += 1
            else:
                raise RuntimeError(f"refused with {status}")

    await asyncio.gather(*map(use, connections))
    return sent


async def measure(url: str, token: str, seconds: float, rate: float | None, count: int) -> dict[str, float]:
    """Connect, warm up for a second, wait to go, send."""
    where = urlsplit(url)
    host, port = str(where.hostname), int(where.port or 0)
    bodies = made_requests(host, port, token)
    connections = [Connection(host, port) for _ in range(count)]
    await asyncio.gather(*(connection.open() for connection in connections))
    await run(connections, bodies, 1.0, rate)
    wait_to_go()
    cpu, wall = time.process_time(), time.perf_counter()
    sent = await run(connections, bodies, seconds, rate)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    for connection in connections:
        connection.close()
    percentiles = statistics.quantiles(sent.times, n=100)
    return {
        "requests": len(sent.times),
        "refused": sent.refused,
        "seconds": wall,
        "cpu_seconds": cpu,
        "p50_ms": percentiles[49] * 1e3,
        "p99_ms": percentiles[98] * 1e3,
        "max_ms": max(sent.times) * 1e3,
    }


def main() -> None:
    """Send them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--rate", type=float, default=None)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    token = sys.stdin.readline().strip()
    found = asyncio.run(measure(arguments.url, token, arguments.seconds, arguments.rate, arguments.connections))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
