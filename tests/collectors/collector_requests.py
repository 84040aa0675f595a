"""Requests for the collectors' tests."""

from __future__ import annotations

import os

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def a_request(spans: int = 1, stream: str | None = None, padding: int = 0, name: str = "span") -> bytes:
    """A request of ``spans`` spans under one resource."""
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="service.name").value.string_value = "test"
    if stream is not None:
        resource_spans.resource.attributes.add(key="audit.source.id").value.string_value = stream
    scope_spans = resource_spans.scope_spans.add()
    for number in range(spans):
        span = scope_spans.spans.add(
            trace_id=os.urandom(16), span_id=os.urandom(8), name=f"{name} {number}", start_time_unix_nano=1, kind=2
        )
        if padding:
            span.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


def span_names(body: bytes) -> list[str]:
    return [
        span.name
        for resource_spans in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope_spans in resource_spans.scope_spans
        for span in scope_spans.spans
    ]
