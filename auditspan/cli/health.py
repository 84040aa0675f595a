"""Health and metrics of a process that has no other server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

__all__ = ["health_app"]


def health_app(troubles: Callable[[], Sequence[str]], registry: CollectorRegistry) -> Starlette:
    """``GET /livez``: the process answers; ``/readyz``: 200, or 503 with ``troubles``; ``/metrics`` for Prometheus."""

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def ready(_: Request) -> Response:
        reasons = await asyncio.to_thread(troubles)
        body = {"status": "not ready" if reasons else "ready", "reasons": list(reasons)}
        return JSONResponse(body, 503 if reasons else 200)

    async def metrics(_: Request) -> Response:
        text = await asyncio.to_thread(generate_latest, registry)
        return Response(text, headers={"content-type": CONTENT_TYPE_LATEST})

    return Starlette(routes=[Route("/livez", live), Route("/readyz", ready), Route("/metrics", metrics)])
