"""A process with the official OTLP exporters, until its standard input ends.

``python exporting.py NAME DIARY HTTP_URL GRPC_ADDRESS…``, with the token in ``AUDITSPAN_TOKEN``. What an exporter calls
a failure is exported again, as an application would that must not lose anything. Acknowledgements of gRPC are written
down here; those of HTTP by the balancer that it speaks to.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "service")]

from delivered import Diary  # noqa: E402
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans  # noqa: E402
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcExporter  # noqa: E402
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpExporter  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult  # noqa: E402


class Ended(SpanExporter):
    """Keeps what ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def spans_of_work(provider: TracerProvider, ended: Ended, count: int) -> list[ReadableSpan]:
    """What applications do: nested spans, of which some are audit records and some are not."""
    tracer = provider.get_tracer("crash")
    for number in range(count):
        with tracer.start_as_current_span("handle") as outer:
            outer.set_attributes({"number": number, "ok": True, "names": ["ä", "b"]})
            with tracer.start_as_current_span("chat") as span:
                span.set_attributes({"audit.event.class": "model.access", "audit.action": "chat"})
    made, ended.spans = ended.spans, []
    return made


def deliver(exporters: Sequence[Any], spans: list[ReadableSpan], told: threading.Event) -> bool:
    """Try one exporter after the other until one succeeds; whether one did."""
    turn = random.randrange(len(exporters))
    while not told.is_set():
        if exporters[turn % len(exporters)].export(spans) is SpanExportResult.SUCCESS:
            return True
        turn += 1
        told.wait(0.05)
    return False


def main(name: str, path: Path, http_url: str, grpc_addresses: Sequence[str]) -> None:
    logging.disable(logging.CRITICAL)  # the exporters say of every killed collector that it is not there
    headers = {"authorization": f"Bearer {os.environ['AUDITSPAN_TOKEN']}"}
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    ended = Ended()
    provider.add_span_processor(SimpleSpanProcessor(ended))
    over_http = [HttpExporter(f"{http_url}/v1/traces", headers=headers, timeout=10)]
    over_grpc = [GrpcExporter(address, insecure=True, headers=headers, timeout=5) for address in grpc_addresses]
    diary = Diary(path)
    told = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
    while not told.is_set():
        spans = spans_of_work(provider, ended, random.choice([1, 2, 10, 40]))
        if random.random() < 0.5:
            deliver(over_http, spans, told)
        else:
            number = diary.sent(name, encode_spans(spans).SerializeToString())
            if deliver(over_grpc, spans, told):
                diary.acknowledged(number)
        told.wait(random.expovariate(6))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
