"""What becomes of a request, and how HTTP and gRPC say it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["RETRY_AFTER_SECONDS", "Outcome", "Refusal", "Refused"]

RETRY_AFTER_SECONDS: Final = 1
"""When to send again. The official exporters give up after some ten seconds in all: a longer wait would lose data."""


class _Answer(NamedTuple):
    """HTTP status; gRPC status number (``google.rpc.Code``); whether the same request may succeed later."""

    reason: str
    http_status: int
    grpc_code: int
    retry: bool


class Refusal(Enum):
    """Why a request was refused as a whole.

    Whatever can pass is 503/UNAVAILABLE: the official HTTP exporter never sends again after 500 or 413, the gRPC one
    not after RESOURCE_EXHAUSTED without RetryInfo. Only what can never succeed gets another answer.
    """

    UNAUTHENTICATED = _Answer("unauthenticated", 401, 16, False)
    UNSUPPORTED = _Answer("unsupported", 415, 3, False)
    TOO_LARGE = _Answer("too_large", 413, 8, False)
    MALFORMED = _Answer("malformed", 400, 3, False)
    BUSY = _Answer("busy", 503, 14, True)
    DISK = _Answer("disk", 503, 14, True)
    JOURNAL_FULL = _Answer("journal_full", 503, 14, True)
    JOURNAL_UNAVAILABLE = _Answer("journal_unavailable", 503, 14, True)
    TOKENS_UNAVAILABLE = _Answer("tokens_unavailable", 503, 14, True)
    DISCONNECTED = _Answer("disconnected", 503, 14, True)
    INTERNAL = _Answer("internal", 503, 14, True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The answer to one request.

    Args:
        refusal: None when it was accepted: all its spans but the rejected ones are durable.
        message: for the sender; empty when there is nothing to say.
        rejected_spans: for ``partial_success``.
    """

    refusal: Refusal | None = None
    message: str = ""
    rejected_spans: int = 0


class Refused(Exception):
    """Carries a refusal to where the answer is made."""

    def __init__(self, refusal: Refusal, message: str) -> None:
        super().__init__(message)
        self.outcome = Outcome(refusal, message)
