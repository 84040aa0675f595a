"""A collector for tests: a real HTTP server that reads OTLP and can be told to be difficult."""

from __future__ import annotations

import gzip
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)


@dataclass(frozen=True)
class Received:
    stream: str
    sequence: int
    attributes: dict
    resource: bytes
    span: object

    @property
    def event_class(self) -> str:
        return self.attributes["audit.event.class"]


def value_of(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@dataclass
class Script:
    status: int
    headers: dict = field(default_factory=dict)
    body: bytes = b""


class LoopbackCollector:
    def __init__(self) -> None:
        self.received: list[Received] = []
        self.requests = 0
        self.authorization: list[str | None] = []
        self.script: deque[Script] = deque()
        self.always: Script | None = None
        self.rejects: Callable[[Received], bool] | None = None
        self.largest = 1 << 30
        self.delay = threading.Event()
        self.delay_seconds = 0.0
        self._changed = threading.Condition()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 65536

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, headers, answer = outer._handle(self.path, self.headers, body)
                self.send_response(status)
                for name, text in headers.items():
                    self.send_header(name, text)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                self.wfile.flush()

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.delay.set()
        self._server.shutdown()
        self._server.server_close()

    def _handle(self, path, headers, body):
        if self.delay_seconds:
            self.delay.wait(self.delay_seconds)
        with self._changed:
            self.requests += 1
            self.authorization.append(headers.get("Authorization"))
            script = self.script.popleft() if self.script else self.always
            self._changed.notify_all()
        if script is not None:
            return script.status, script.headers, script.body
        assert path == "/v1/traces"
        assert headers["Content-Type"] == "application/x-protobuf"
        if headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        if len(body) > self.largest:
            return 413, {}, b""
        found = []
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = {pair.key: value_of(pair.value) for pair in resource_spans.resource.attributes}
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    attributes = {pair.key: value_of(pair.value) for pair in span.attributes}
                    found.append(
                        Received(
                            resource["audit.source.id"],
                            attributes["audit.sequence.number"],
                            attributes,
                            resource_spans.resource.SerializeToString(),
                            span,
                        )
                    )
        answer = ExportTraceServiceResponse()
        if self.rejects is not None:
            bad = [item for item in found if self.rejects(item)]
            answer.partial_success.rejected_spans = len(bad)
            found = [item for item in found if not self.rejects(item)]
        with self._changed:
            self.received += found
            self._changed.notify_all()
        return 200, {"Content-Type": "application/x-protobuf"}, answer.SerializeToString()

    def once(self) -> dict[tuple[str, int], Received]:
        """Records by identity, as a log keeps them: the same identity always came with the same bytes."""
        found: dict[tuple[str, int], Received] = {}
        for item in list(self.received):
            earlier = found.setdefault((item.stream, item.sequence), item)
            assert earlier.span == item.span
            assert earlier.resource == item.resource
        return found

    def of_class(self, event_class: str) -> list[Received]:
        return [item for item in self.once().values() if item.event_class == event_class]

    def actions(self, event_class: str = "model.access") -> list[str]:
        """``audit.action`` of every record of a class, once per identity, sorted."""
        return sorted(item.attributes["audit.action"] for item in self.of_class(event_class))

    def wait_for(self, condition: Callable[[LoopbackCollector], bool], timeout: float = 20.0) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: condition(self), timeout)
