"""OTLP/gRPC (OTLP specification, "OTLP/gRPC"): the trace service on ``grpc.aio``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from auditspan.errors import AuditSpanError

from .admission import Admission, Received
from .capacity import Slot
from .decide_grpc import decision_handler
from .deciding import Deciding
from .outcome import RETRY_AFTER_SECONDS, Outcome, Refusal, Refused

__all__ = ["GrpcServer", "serve_grpc"]

_SERVICE: Final = "opentelemetry.proto.collector.trace.v1.TraceService"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A running server; ``port`` is the one it listens on."""

    server: grpc.aio.Server
    port: int

    async def stop(self, grace: float) -> None:
        """Take no new requests, give those in progress ``grace`` seconds."""
        await self.server.stop(grace)


async def serve_grpc(admission: Admission, host: str, port: int, deciding: Deciding | None = None) -> GrpcServer:
    """Serve OTLP/gRPC, and `decide_grpc` with ``deciding``, without TLS on ``host``; port 0 takes a free one.

    Raises:
        AuditSpanError: the address cannot be listened on.
    """
    limits = admission.limits
    server = grpc.aio.server(
        options=[
            # The core holds this bound before and after decompression: a bomb ends there.
            ("grpc.max_receive_message_length", limits.max_decompressed_bytes),
            ("grpc.max_concurrent_streams", limits.max_concurrent_requests),
            # Two services on one port would share its requests unnoticed.
            ("grpc.so_reuseport", 0),
        ]
    )
    # Neither is given a serializer: requests are framed and journaled as the bytes that came.
    handler = grpc.stream_unary_rpc_method_handler(_Service(admission).export)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler}),))
    if deciding is not None:
        server.add_generic_rpc_handlers((decision_handler(deciding, _authorization, _peer),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise AuditSpanError(f"OTLP/gRPC cannot listen on {address}.", remedy="Choose another address.") from error
    await server.start()
    return GrpcServer(server, bound)


class _Service:
    """The handler of ``Export``, a stream of one request on our side: so it is read only after the sender is known."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    async def export(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        limits = self._admission.limits

        async def receive(slot: Slot) -> Received:
            try:
                async with asyncio.timeout(limits.body_seconds):
                    async for body in requests:
                        slot.reserve(len(body))
                        return Received(body)
            except TimeoutError as error:
                raise Refused(Refusal.BUSY, f"The request did not arrive within {limits.body_seconds:g} s.") from error
            raise Refused(Refusal.MALFORMED, "The call ended without a request.")

        outcome = await self._admission.answer("grpc", _authorization(context), _peer(context.peer()), receive)
        if outcome.refusal is not None:
            await _abort(context, outcome, outcome.refusal)
        response = ExportTraceServiceResponse()
        if outcome.rejected_spans:
            response.partial_success.rejected_spans = outcome.rejected_spans
            response.partial_success.error_message = outcome.message
        answer: bytes = response.SerializeToString()
        return answer


def _authorization(context: grpc.aio.ServicerContext) -> str | None:
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            return value
    return None


def _peer(peer: str) -> str | None:
    """The address in gRPC's ``ipv4:127.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``."""
    family, _, rest = unquote(peer).partition(":")
    if family not in ("ipv4", "ipv6"):
        return None
    return rest.rpartition(":")[0].strip("[]")


async def _abort(context: grpc.aio.ServicerContext, outcome: Outcome, refusal: Refusal) -> None:
    answer = refusal.value
    status = Status(code=answer.grpc_code, message=outcome.message)
    if answer.retry:
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_SECONDS)))
        status.details.append(detail)
    metadata: tuple[tuple[str, Any], ...] = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(_CODES[answer.grpc_code], outcome.message, metadata)
