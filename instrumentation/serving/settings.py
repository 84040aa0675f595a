"""What the environment says about the ASGI hook."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...errors import AuditSpanError
from .routes import DEFAULT_EXCLUDED, RouteRules

__all__ = ["ServingSettings"]


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """Settings of the ASGI hook, beside those of recording in general."""

    routes: RouteRules = field(default_factory=RouteRules)
    forwarded_header: bytes = b"x-forwarded-for"
    """The header that the trusted proxies write; the other is not read, as it may come from a stranger untouched."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ServingSettings:
        """Read the settings.

        - ``AUDITSPAN_ASGI_EXCLUDE``: further exact paths, by comma, that are not recorded for GET and HEAD;
        - ``AUDITSPAN_ASGI_INCLUDE``: a regular expression; when set, only paths that match it are recorded;
        - ``AUDITSPAN_FORWARDED_HEADER``: ``x-forwarded-for`` (default) or ``forwarded``.

        Raises:
            AuditSpanError: a value cannot be used; the message names the variable and what it takes.
        """
        values = os.environ if environment is None else environment
        further = {item.strip().rstrip("/") for item in values.get("AUDITSPAN_ASGI_EXCLUDE", "").split(",")} - {""}
        pattern = values.get("AUDITSPAN_ASGI_INCLUDE", "").strip()
        try:
            included = re.compile(pattern) if pattern else None
        except re.error:
            raise AuditSpanError(
                "AUDITSPAN_ASGI_INCLUDE is no regular expression.",
                remedy="Set it to a pattern that the paths to record match, such as `^/v1/`.",
            ) from None
        header = values.get("AUDITSPAN_FORWARDED_HEADER", "").strip().lower() or "x-forwarded-for"
        if header not in {"x-forwarded-for", "forwarded"}:
            raise AuditSpanError(
                "AUDITSPAN_FORWARDED_HEADER names an unknown header.",
                remedy="Set it to the one that your proxies write: `x-forwarded-for` or `forwarded`.",
            )
        return cls(RouteRules(frozenset(DEFAULT_EXCLUDED) | further, included), header.encode())
