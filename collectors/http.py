"""OTLP/HTTP (OTLP specification, "OTLP/HTTP"), health and metrics as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .admission import Admission, Media, Received
from .capacity import Slot
from .decide_http import decide
from .deciding import Deciding
from .encoding import CONTENT_ENCODINGS
from .outcome import RETRY_AFTER_SECONDS, Outcome, Refusal, Refused

__all__ = ["Health", "http_app"]

Health = Callable[[], Sequence[str]]
"""Says why the rest of the pipeline cannot do its work; empty when it can. Must not block."""


def http_app(admission: Admission, health: Health = tuple, deciding: Deciding | None = None) -> Starlette:
    """The application: ``POST /v1/traces``, ``POST /v1/decide``, ``GET /livez``, ``/readyz``, ``/metrics``.

    Args:
        admission: decides about requests.
        health: what besides the journal and the disk makes ``/readyz`` red.
        deciding: answers ``/v1/decide``, which is not there without.
    """

    async def traces(request: Request) -> Response:
        return await _export(admission, request)

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reasons = [*await admission.unready(), *health()]
        body = {"status": "not ready" if reasons else "ready", "reasons": reasons}
        return JSONResponse(body, 503 if reasons else 200)

    async def metrics(_: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, admission.metrics.registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    async def decisions(request: Request) -> Response:
        assert deciding is not None
        return await decide(deciding, request)

    return Starlette(
        routes=[
            *([Route("/v1/decide", decisions, methods=["POST"])] if deciding is not None else []),
            Route("/v1/traces", traces, methods=["POST"]),
            Route("/livez", live),
            Route("/readyz", ready),
            Route("/metrics", metrics),
        ]
    )


async def _export(admission: Admission, request: Request) -> Response:
    media = _media(request)
    peer = request.client.host if request.client else None

    async def receive(slot: Slot) -> Received:
        if media is None:
            raise Refused(Refusal.UNSUPPORTED, f"Send content-type {Media.PROTOBUF.value} or {Media.JSON.value}.")
        encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
        if encoding not in CONTENT_ENCODINGS:
            raise Refused(Refusal.UNSUPPORTED, f"Send one of these content encodings: {', '.join(CONTENT_ENCODINGS)}.")
        limits = admission.limits
        try:
            async with asyncio.timeout(limits.body_seconds):
                return Received(await _read(request, slot, limits.max_request_bytes), media, encoding)
        except TimeoutError as error:
            raise Refused(Refusal.BUSY, f"The request did not arrive within {limits.body_seconds:g} s.") from error

    outcome = await admission.answer("http", request.headers.get("authorization"), peer, receive)
    return _response(outcome, media)


async def _read(request: Request, slot: Slot, limit: int) -> bytes:
    """The body, its bytes counted in ``slot``. What is left of a refused one is read and dropped by the server.

    Raises:
        Refused: more than ``limit``, more than there is room for now, or the sender went away.
    """
    too_large = Refused(Refusal.TOO_LARGE, f"Send smaller requests: at most {limit} bytes are accepted.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise too_large
            slot.reserve(len(chunk))
            chunks.append(chunk)
    except ClientDisconnect as error:
        raise Refused(Refusal.DISCONNECTED, "The sender went away.") from error
    return b"".join(chunks)


def _media(request: Request) -> Media | None:
    name = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return next((media for media in Media if media.value == name), None)


def _response(outcome: Outcome, media: Media | None) -> Response:
    """The answer in the encoding of the request; JSON where that was none of ours."""
    headers = {"content-type": (media or Media.JSON).value}
    if outcome.refusal is None:
        content = _accepted_protobuf(outcome) if media is Media.PROTOBUF else _accepted_json(outcome)
        return Response(content, 200, headers)
    answer = outcome.refusal.value
    if answer.retry:
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    if outcome.refusal is Refusal.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    if media is Media.PROTOBUF:
        content = Status(code=answer.grpc_code, message=outcome.message).SerializeToString()
    else:
        content = json.dumps({"code": answer.grpc_code, "message": outcome.message}).encode()
    return Response(content, answer.http_status, headers)


def _accepted_protobuf(outcome: Outcome) -> bytes:
    if not outcome.rejected_spans:
        return b""
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = outcome.rejected_spans
    response.partial_success.error_message = outcome.message
    content: bytes = response.SerializeToString()
    return content


def _accepted_json(outcome: Outcome) -> bytes:
    if not outcome.rejected_spans:
        return b"{}"
    partial = {"rejectedSpans": str(outcome.rejected_spans), "errorMessage": outcome.message}
    return json.dumps({"partialSuccess": partial}).encode()
