"""The HTTP form of ``/v1/decide``: JSON in and out, problems as RFC 9457 says."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .deciding import Deciding, Problem, question_of_json
from .outcome import Refusal, Refused

__all__ = ["decide"]


async def decide(deciding: Deciding, request: Request) -> Response:
    """The answer to ``POST /v1/decide``."""

    async def receive(limit: int) -> Mapping[str, Any]:
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
            raise Refused(Refusal.UNSUPPORTED, "Send the question as application/json, not compressed.")
        return question_of_json(await _read(request, limit))

    peer = request.client.host if request.client else None
    found = await deciding.answer("http", request.headers.get("authorization"), peer, receive)
    if isinstance(found, Problem):
        headers = {"content-type": "application/problem+json"}
        if found.retry_after is not None:
            headers["retry-after"] = str(found.retry_after)
        if found.status == 401:
            headers["www-authenticate"] = "Bearer"
        return Response(_encoded(found.to_json()), found.status, headers)
    return Response(_encoded(found.to_json()), 200, {"content-type": "application/json", "cache-control": "no-store"})


async def _read(request: Request, limit: int) -> bytes:
    too_large = Refused(Refusal.TOO_LARGE, f"A question has at most {limit} bytes.")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
    except ClientDisconnect as error:
        raise Refused(Refusal.DISCONNECTED, "Who asked went away.") from error
    return bytes(body)


def _encoded(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
