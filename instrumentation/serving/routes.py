"""Which requests are accesses to a model, and which operation each is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["DEFAULT_EXCLUDED", "RouteRules", "operation_name"]

DEFAULT_EXCLUDED: Final = (
    "/health",
    "/healthz",
    "/health_check",
    "/health_generate",
    "/health/live",
    "/health/ready",
    "/health/startup",
    "/livez",
    "/live",
    "/readyz",
    "/ready",
    "/startupz",
    "/ping",
    "/-/healthz",
    "/-/routes",
    "/v2/health/live",
    "/v2/health/ready",
    "/v1/health/live",
    "/v1/health/ready",
    "/metrics",
    "/version",
    "/docs",
    "/docs/oauth2-redirect",
    "/redoc",
    "/openapi.json",
    "/favicon.ico",
    "/robots.txt",
)
"""Probes, metrics and documentation of Kubernetes, FastAPI, vLLM, SGLang, KServe, SageMaker and Ray Serve."""

_PROBE_METHODS: Final = frozenset({"GET", "HEAD"})

_OPERATIONS: Final = (
    (re.compile(r"/chat/completions/?$|/v1/messages/?$|/v1/responses/?$|/api/chat/?$"), "chat"),
    (re.compile(r"/embeddings/?$|/embed/?$|/api/embed/?$"), "embeddings"),
    (re.compile(r"/completions/?$|/generate(_stream)?/?$|/api/generate/?$"), "text_completion"),
    (re.compile(r"/invocations/?$|/predict(ions)?/?$|:predict$|/infer/?$|:generateContent$"), "generate_content"),
)


def operation_name(path: str) -> str | None:
    """``gen_ai.operation.name`` of a path of the usual inference interfaces; None for any other path.

    The names are those of the OpenTelemetry GenAI conventions.
    """
    for pattern, name in _OPERATIONS:
        if pattern.search(path):
            return name
    return None


@dataclass(frozen=True, slots=True)
class RouteRules:
    """Which requests are recorded.

    By default every request is, whatever its path: an inference route that nobody thought of must not be a way around
    the record. Left out are exact paths that probes and documentation use, and those only for GET and HEAD, which
    carry no prompt.

    Args:
        excluded: exact paths that are not recorded for GET and HEAD; a trailing slash makes no difference.
        included: when given, only paths that match it are recorded.
    """

    excluded: frozenset[str] = frozenset(DEFAULT_EXCLUDED)
    included: re.Pattern[str] | None = None

    def records(self, method: str, path: str, root_path: str = "") -> bool:
        """Whether a request is recorded; ``path`` and ``root_path`` are those of the scope."""
        if root_path and path.startswith(root_path):
            path = path[len(root_path) :] or "/"
        if method in _PROBE_METHODS and (path.rstrip("/") or "/") in self.excluded:
            return False
        return self.included is None or self.included.search(path) is not None
