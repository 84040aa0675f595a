"""What a record of one access says: who, from where, which model, how it ended. No content."""

from __future__ import annotations

import time
from collections.abc import Iterable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

from opentelemetry import propagate, trace
from opentelemetry.context import Context

from ... import semconv
from ...semconv import Outcome
from ..encode import AttributeValue
from ..fingerprint import credential_fingerprint
from ..settings import InstrumentationSettings
from .client_address import client_address, forwarded_for, x_forwarded_for
from .peek import MODEL_LIMIT, RequestPeek, Usage
from .routes import operation_name

__all__ = ["CREDENTIAL_HEADERS", "Access", "Headers", "Scope"]

Scope = MutableMapping[str, Any]
Headers = dict[bytes, list[bytes]]

CREDENTIAL_HEADERS: Final = (b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
"""Headers that carry a credential, in the order in which they are looked at."""

_WANTED: Final = frozenset(
    {*CREDENTIAL_HEADERS, b"forwarded", b"x-forwarded-for", b"traceparent", b"content-length", b"transfer-encoding"}
)
_SCHEMES: Final = frozenset({"bearer", "basic", "token", "apikey", "api-key", "key"})
_TEXT_LIMIT: Final = 256
_DENIED: Final = frozenset({401, 403, 407, 451})


def read_headers(pairs: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers that matter here, by lower-case name, all occurrences in order."""
    headers: Headers = {}
    for name, value in pairs:
        lowered = name.lower()
        if lowered in _WANTED:
            headers.setdefault(lowered, []).append(value)
    return headers


def actor_of(headers: Headers) -> tuple[str, str]:
    """``audit.actor.id`` and ``audit.actor.type``: the fingerprint of the credential, or ``anonymous``.

    The scheme of an ``Authorization`` header is left out, so that a key has one fingerprint wherever it is sent.
    """
    for name in CREDENTIAL_HEADERS:
        for value in headers.get(name, ()):
            secret = value.decode("latin-1").strip()
            if name == b"authorization":
                scheme, _, rest = secret.partition(" ")
                if scheme.lower() in _SCHEMES:
                    secret = rest.strip()
            if secret:
                return credential_fingerprint(secret), "credential"
    return "anonymous", "anonymous"


def user_of(scope: Scope) -> str | None:
    """``user.id`` where the application's own authentication has put a user into the scope."""
    user = scope.get("user")
    if user is None or getattr(user, "is_authenticated", True) is not True:
        return None
    for name in ("identity", "id", "username"):
        try:
            value = getattr(user, name, None)
        except NotImplementedError:  # Starlette's BaseUser raises it where an application has no such thing
            continue
        if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
            return str(value)[:_TEXT_LIMIT]
    return None


def address_of(scope: Scope, headers: Headers, settings: InstrumentationSettings, forwarded: bytes) -> str | None:
    """``client.address``: the peer, or what trusted proxies say of it in the header named ``forwarded``."""
    client = scope.get("client")
    peer = client[0] if client else None
    hops: list[str] = []
    if settings.trusted_proxies:
        values = (value.decode("latin-1") for value in headers.get(forwarded, ()))
        hops = forwarded_for(values) if forwarded == b"forwarded" else x_forwarded_for(values)
    return client_address(peer or None, hops, settings.is_trusted_proxy)


def model_of_query(query: bytes) -> str | None:
    """The parameter ``model`` of a WebSocket's query, where realtime interfaces name it."""
    for name, value in parse_qsl(query.decode("latin-1"), max_num_fields=64):
        if name == "model":
            return value[:MODEL_LIMIT]
    return None


def parent_of(headers: Headers) -> Context | None:
    """The trace to join: that of the span we are in, else the caller's (W3C Trace Context), else none."""
    if trace.get_current_span().get_span_context().is_valid or b"traceparent" not in headers:
        return None
    return propagate.extract({"traceparent": headers[b"traceparent"][0].decode("latin-1")})


class Access:
    """One access to a model: what is known of it so far, and the attributes of its records."""

    def __init__(self, scope: Scope, settings: InstrumentationSettings, forwarded: bytes = b"x-forwarded-for") -> None:
        self.started = time.time_ns()
        self._scope = scope
        self._path = str(scope.get("path", ""))[:_TEXT_LIMIT]
        self._method = str(scope.get("method", "")) or None
        headers = read_headers(scope.get("headers", ()))
        self.has_body = b"transfer-encoding" in headers or headers.get(b"content-length", [b"0"])[0] != b"0"
        self._actor_id, self._actor_type = actor_of(headers)
        self._address = address_of(scope, headers, settings, forwarded)
        self._query_model = model_of_query(scope.get("query_string", b"")) if scope["type"] == "websocket" else None
        self.parent = parent_of(headers)
        self.request = RequestPeek()
        self.status: int | None = None
        self.streaming: bool | None = None
        self.response_size = 0
        self.response_model: str | None = None
        self.usage = Usage()
        self.error_type: str | None = None

    def outcome_of_status(self) -> Outcome:
        """How an access ended whose response is complete."""
        if self.status is None or self.status >= 500:
            return Outcome.FAILURE
        if self.status in _DENIED:
            return Outcome.DENIED
        return Outcome.SUCCESS if self.status < 400 else Outcome.FAILURE

    def note_error(self, error: BaseException) -> None:
        """Keep the type of an exception; its text could hold content."""
        kind = type(error)
        prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
        self.error_type = f"{prefix}{kind.__qualname__}"

    def _route(self) -> str | None:
        """The template of the matched route, where the framework says it."""
        path = getattr(self._scope.get("route"), "path", None)
        return path if isinstance(path, str) and path else None

    def attributes(self, outcome: Outcome, intent: str | None = None) -> dict[str, AttributeValue]:
        """Attributes of a record; ``intent`` is the id of the start record that an outcome completes."""
        route = self._route()
        operation = operation_name(self._path)
        asked = self.request.model or self._query_model
        model = self.response_model or asked
        error = self.error_type
        if error is None and outcome is Outcome.FAILURE and self.status is not None:
            error = str(self.status)
        attributes: dict[str, AttributeValue] = {
            semconv.AUDIT_ACTION: operation or " ".join(filter(None, (self._method or "websocket", route))),
            semconv.AUDIT_OUTCOME: outcome.value,
            semconv.AUDIT_ACTOR_ID: self._actor_id,
            semconv.AUDIT_ACTOR_TYPE: self._actor_type,
            semconv.AUDIT_TARGET_ID: model or route or self._path,
            semconv.AUDIT_TARGET_TYPE: "model" if model else "endpoint",
            semconv.USER_ID: user_of(self._scope),
            semconv.CLIENT_ADDRESS: self._address,
            semconv.HTTP_REQUEST_METHOD: self._method,
            semconv.HTTP_ROUTE: route or self._path,
            semconv.HTTP_RESPONSE_STATUS_CODE: self.status,
            semconv.GEN_AI_OPERATION_NAME: operation,
            semconv.GEN_AI_REQUEST_MODEL: asked,
            semconv.GEN_AI_RESPONSE_MODEL: self.response_model,
            semconv.GEN_AI_USAGE_INPUT_TOKENS: self.usage.input_tokens,
            semconv.GEN_AI_USAGE_OUTPUT_TOKENS: self.usage.output_tokens,
            semconv.STREAMING: self.streaming,
            semconv.ERROR_TYPE: error,
            semconv.AUDIT_INTENT_ID: intent,
        }
        if outcome is not Outcome.STARTED:
            attributes[semconv.RESPONSE_BODY_SIZE] = self.response_size
            attributes[semconv.REQUEST_BODY_SIZE] = self.request.size
        return attributes

    def least_attributes(self, outcome: Outcome) -> dict[str, AttributeValue]:
        """What a record says when its full attributes cannot be made: better a poor record than none."""
        return {
            semconv.AUDIT_ACTION: self._method or "websocket",
            semconv.AUDIT_OUTCOME: outcome.value,
            semconv.AUDIT_ACTOR_ID: self._actor_id,
            semconv.AUDIT_ACTOR_TYPE: self._actor_type,
            semconv.AUDIT_TARGET_ID: self._path,
            semconv.AUDIT_TARGET_TYPE: "endpoint",
        }
