"""What the ASGI hook costs a request, as a ratio to OpenTelemetry's own ASGI middleware on the same application.

    python -m benchmarks.asgi_hook [--requests N] [--rounds N] [--json]

Every variant lives in a process of its own, and the rounds of all are interleaved, so that a busy machine troubles them
alike. Requests come at a steady pace; both ship to the same sink over OTLP/HTTP. Two ways are measured: the application
called in the process (the cost of the middleware is not hidden by a server), and over HTTP through uvicorn.

Figure: p50 of the hook in mode ``local`` ≤ 1.5 times that of ``opentelemetry-instrumentation-asgi`` with a
BatchSpanProcessor, called in the process. Exits 1 when the figure is missed by more than the 70 % rule allows.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

RATIO = 1.5
TOLERANCE = 0.7
PACE = 0.001
VARIANTS = ("plain", "opentelemetry", "local", "local_sync", "receipt")
MODES = VARIANTS[2:]

REQUEST = json.dumps(
    {"model": "paperwork-4gram", "messages": [{"role": "user", "content": "What is a licence? " * 40}]}
).encode()
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "model": "paperwork-4gram-1",
        "choices": [{"message": {"role": "assistant", "content": "A letter with a memory. " * 30}}],
        "usage": {"prompt_tokens": 160, "completion_tokens": 150, "total_tokens": 310},
    }
).encode()
HEADERS = [
    (b"host", b"127.0.0.1"),
    (b"authorization", b"Bearer demo-key-fjord-d0461b8c"),
    (b"content-type", b"application/json"),
    (b"content-length", str(len(REQUEST)).encode()),
    (b"user-agent", b"benchmark"),
]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An endpoint without a model: what is left is what the middleware costs."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def wrapped(variant: str, sink: str, spool: str) -> Any:
    """The application as the variant serves it."""
    if variant == "plain":
        return application
    if variant == "opentelemetry":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{sink}/v1/traces")))
        return OpenTelemetryMiddleware(application, tracer_provider=provider)
    os.environ.update(AUDITSPAN_ENDPOINT=sink, AUDITSPAN_SPOOL_DIRECTORY=spool, AUDITSPAN_MODE=variant)
    from auditspan.instrumentation.serving.asgi import AuditMiddleware

    return AuditMiddleware(application)


def scope() -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "root_path": "",
        "query_string": b"",
        "headers": HEADERS,
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8000),
    }


async def one_round(app: Any, requests: int) -> tuple[list[float], float]:
    """Latencies of the requests in microseconds, and CPU microseconds a request, all threads counted."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": REQUEST, "more_body": False}

    async def send(message: Any) -> None:
        return None

    latencies = []
    cpu = time.process_time()
    for _ in range(requests):
        began = time.perf_counter()
        await app(scope(), receive, send)
        took = time.perf_counter() - began
        latencies.append(took * 1e6)
        await asyncio.sleep(max(0.0, PACE - took))
    return latencies, (time.process_time() - cpu) / requests * 1e6


def worker(variant: str, sink: str, spool: str) -> None:
    """Serve the variant over HTTP on a free port, and run rounds in the process on demand."""
    import uvicorn

    app = wrapped(variant, sink, spool)
    # With the protocol named: only then does asyncio switch Nagle's algorithm off, which costs 40 ms a response.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, lifespan="off", log_level="error", access_log=False)
    server = uvicorn.Server(config)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        serving = loop.create_task(server.serve(sockets=[listener]))
        print(listener.getsockname()[1], flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            latencies, cpu = await one_round(app, int(line))
            print(json.dumps([latencies, cpu]), flush=True)
        server.should_exit = True
        await serving

    asyncio.run(main())


def http_round(port: int, requests: int) -> list[float]:
    """Latencies over one connection, microseconds."""
    head = b"POST /v1/chat/completions HTTP/1.1\r\n" + b"".join(b"%s: %s\r\n" % pair for pair in HEADERS) + b"\r\n"
    latencies = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            began = time.perf_counter()
            connection.sendall(head + REQUEST)
            seen = b""
            while not seen.endswith(ANSWER):
                piece = connection.recv(65536)
                if not piece:
                    raise ConnectionError("the server closed the connection")
                seen += piece
            took = time.perf_counter() - began
            latencies.append(took * 1e6)
            time.sleep(max(0.0, PACE - took))
    return latencies


class _Sink(BaseHTTPRequestHandler):
    """Acknowledges every OTLP request at once."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def sink() -> None:
    """Serve as the collector of all variants."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


def start(*arguments: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "benchmarks.asgi_hook", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        raise RuntimeError("no pipe")
    return process, int(process.stdout.readline())


def ask(process: subprocess.Popen[str], requests: int) -> tuple[list[float], float]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("no pipe")
    process.stdin.write(f"{requests}\n")
    process.stdin.flush()
    latencies, cpu = json.loads(process.stdout.readline())
    return latencies, cpu


def measure(requests: int, rounds: int) -> dict[str, dict[str, float]]:
    """p50 and p99 of every variant, in the process and over HTTP, and CPU a request; microseconds."""
    inside: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    over_http: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    cpu: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        collector, collector_port = start("--sink")
        url = f"http://127.0.0.1:{collector_port}"
        workers = {variant: start("--worker", variant, url, f"{folder}/{variant}") for variant in VARIANTS}
        try:
            for number in range(rounds + 1):
                for variant, (process, port) in workers.items():
                    latencies, used = ask(process, requests)
                    http = http_round(port, requests // 4)
                    # The first round warms up.
                    if number:
                        inside[variant] += latencies
                        over_http[variant] += http
                        cpu[variant].append(used)
        finally:
            for process, _ in (*workers.values(), (collector, 0)):
                process.communicate()
    return {
        variant: {
            "p50_us": statistics.median(inside[variant]),
            "p99_us": statistics.quantiles(inside[variant], n=100)[98],
            "cpu_us": statistics.median(cpu[variant]),
            "http_p50_us": statistics.median(over_http[variant]),
            "http_p99_us": statistics.quantiles(over_http[variant], n=100)[98],
        }
        for variant in VARIANTS
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="What the ASGI hook costs a request.")
    parser.add_argument("--requests", type=int, default=1000, help="requests a round and variant")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return 0
    if arguments.sink:
        sink()
        return 0
    figures = measure(arguments.requests, arguments.rounds)
    base = figures["opentelemetry"]
    ratios = {mode: figures[mode]["p50_us"] / base["p50_us"] for mode in MODES}
    http_ratios = {mode: figures[mode]["http_p50_us"] / base["http_p50_us"] for mode in MODES}
    passed = ratios["local"] <= RATIO / TOLERANCE
    if arguments.json:
        result = {
            "cores": os.cpu_count(),
            "figures": figures,
            "ratios": ratios,
            "http_ratios": http_ratios,
            "target": RATIO,
            "met": ratios["local"] <= RATIO,
            "passed": passed,
        }
        print(json.dumps(result, indent=2))
    else:
        print(
            f"{'':15}{'p50 µs':>9}{'p99 µs':>9}{'CPU µs':>9}{'ratio':>7}   {'HTTP p50':>9}{'HTTP p99':>9}{'ratio':>7}"
        )
        for variant in VARIANTS:
            row, mark, over = figures[variant], ratios.get(variant), http_ratios.get(variant)
            print(
                f"{variant:15}{row['p50_us']:9.0f}{row['p99_us']:9.0f}{row['cpu_us']:9.0f}"
                f"{'' if mark is None else format(mark, '.2f'):>7}   {row['http_p50_us']:9.0f}{row['http_p99_us']:9.0f}"
                f"{'' if over is None else format(over, '.2f'):>7}"
            )
        verdict = "met" if ratios["local"] <= RATIO else "missed, within 70 %" if passed else "MISSED"
        print(f"local: {ratios['local']:.2f} times OpenTelemetry's middleware (target {RATIO}): {verdict}")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
