"""Requests whose every byte is known, and senders that come again until they are acknowledged."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

from reference.derive import payload_of
from reference.requests import SCOPE, request, resource, span
from reference.wire import SpanBytes, spans_of
from running_service import Service


@dataclass(frozen=True)
class Request:
    """An OTLP request, and the payload that each of its spans must be stored with (evidence format, section 3)."""

    body: bytes
    payloads: tuple[bytes, ...]


def request_of(resource_bytes: bytes, spans: Iterable[bytes], scope: bytes = SCOPE) -> Request:
    spans = tuple(spans)
    payloads = tuple(payload_of(SpanBytes(resource_bytes, scope, one, True)) for one in spans)
    return Request(request(resource_bytes, spans, scope), payloads)


def payloads_in(body: bytes) -> list[bytes]:
    """The payloads of a request of unknown making."""
    return [payload_of(raw) for raw in spans_of(body)]


def an_access(pairs: Mapping[str, Any] | None = None, **options: Any) -> bytes:
    """A span of class ``model.access`` with ids of its own, of now unless ``start`` says otherwise."""
    said = {
        "audit.event.class": "model.access",
        "audit.action": "chat",
        "audit.outcome": "success",
        "audit.target.id": "frontier-7",
        "audit.actor.id": "sha256:9f86d081",
        "export_control.destination.country": "DE",
        **(pairs or {}),
    }
    options = {"trace_id": os.urandom(16), "span_id": os.urandom(8), "start": time.time_ns()} | options
    return span(0, {name: value for name, value in said.items() if value is not None}, **options)


def foreign_request(count: int, service_name: str = "gateway") -> Request:
    """Spans as any OpenTelemetry SDK sends them, without a stream."""
    return request_of(resource({"service.name": service_name}), [an_access() for _ in range(count)])


def stream_request(stream: str, first: int, count: int) -> Request:
    """Spans that carry a stream and a sequence."""
    spans = [
        an_access({"audit.sequence.number": number, "audit.record.id": f"{stream}:{number}"})
        for number in range(first, first + count)
    ]
    return request_of(resource({"service.name": "gateway", "audit.source.id": stream}), spans)


@dataclass
class Sent:
    """What one emitter sent, and what of it was acknowledged."""

    emitter: str
    token: str
    acknowledged: list[Request] = field(default_factory=list)
    attempts: int = 0
    refused: int = 0

    def deliver(self, service: Service, sending: Request, giving_up: threading.Event) -> bool:
        """Send until it is acknowledged; whether it was."""
        while not giving_up.is_set():
            self.attempts += 1
            try:
                answer = service.post(sending.body, self.token)
            except (OSError, HTTPException):
                giving_up.wait(0.05)
                continue
            if answer.status == 200:
                assert answer.body == b""
                self.acknowledged.append(sending)
                return True
            assert answer.status == 503, answer
            self.refused += 1
            giving_up.wait(0.05)
        return False

    def payloads(self) -> list[bytes]:
        return [payload for sending in self.acknowledged for payload in sending.payloads]
