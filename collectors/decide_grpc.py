"""The gRPC form of ``/v1/decide``: ``auditspan.v1.DecisionService``, with ``google.protobuf.Struct`` both ways.

::

    syntax = "proto3";
    package auditspan.v1;
    import "google/protobuf/struct.proto";

    service DecisionService {
      rpc Decide(google.protobuf.Struct) returns (google.protobuf.Struct);
    }

The fields of both are those of the JSON: so a client needs no generated code of ours. A whole number is an integer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from google.protobuf import json_format
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from .deciding import Deciding, Problem
from .outcome import Refusal, Refused

__all__ = ["SERVICE", "decision_handler"]

SERVICE: Final = "auditspan.v1.DecisionService"
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_EXACT: Final = 2**53


def decision_handler(deciding: Deciding, authorization: Any, peer: Any) -> Any:
    """The generic handler of the service; ``authorization`` and ``peer`` read a call's context."""

    # A stream of one request on our side, so that it is read only after the sender is known.
    async def decide(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> bytes:
        async def receive(limit: int) -> Mapping[str, Any]:
            async for body in requests:
                if len(body) > limit:
                    raise Refused(Refusal.TOO_LARGE, f"A question has at most {limit} bytes.")
                return _question(body)
            raise Refused(Refusal.MALFORMED, "The call ended without a question.")

        found = await deciding.answer("grpc", authorization(context), peer(context.peer()), receive)
        if isinstance(found, Problem):
            await _abort(context, found)
        answer = Struct()
        json_format.ParseDict(found.to_json(), answer)
        content: bytes = answer.SerializeToString()
        return content

    handler = grpc.stream_unary_rpc_method_handler(decide)
    return grpc.method_handlers_generic_handler(SERVICE, {"Decide": handler})


def _question(body: bytes) -> Mapping[str, Any]:
    try:
        question = json_format.MessageToDict(Struct.FromString(body))
    except (DecodeError, json_format.Error, RecursionError) as error:
        raise Refused(Refusal.MALFORMED, "The question is no google.protobuf.Struct that can be read.") from error
    found: dict[str, Any] = _whole(question)
    return found


def _whole(value: Any) -> Any:
    """``value`` with whole numbers as integers: a Struct knows doubles only."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {name: _whole(item) for name, item in value.items()}
    return value


async def _abort(context: grpc.aio.ServicerContext, problem: Problem) -> NoReturn:
    message = f"{problem.detail} {problem.remedy}".strip()
    status = Status(code=problem.grpc_code, message=message)
    details = [ErrorInfo(reason=problem.name, domain="auditspan.dev")]
    if problem.retry_after is not None:
        details.append(RetryInfo(retry_delay=Duration(seconds=problem.retry_after)))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    metadata: tuple[tuple[str, Any], ...] = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(_CODES[problem.grpc_code], message, metadata)
    raise AssertionError("an aborted call goes no further")
