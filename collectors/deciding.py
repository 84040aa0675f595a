"""Deciding before the act, for processes that have no pipeline of their own: ``/v1/decide`` over HTTP and gRPC.

A question is a JSON object ``{"facts": {…}, "at": …}``: declared facts by name, or the attributes of a record that is
about to be written. The answer is the decision under the reference epoch in force (`auditspan.policy.decision`). An
emitter's token lets in, as for its records. Nothing is written: what is asked is no event.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import Counter

from auditspan.policy.decision import Decision, FactsInvalid
from auditspan.policy.snapshot import Snapshot, SnapshotUnavailable

from .admission import Admission
from .capacity import Capacity
from .outcome import RETRY_AFTER_SECONDS, Refusal, Refused

__all__ = ["Deciding", "Problem", "question_of_json"]

_log = logging.getLogger(__name__)

LARGEST_QUESTION: Final = 256 * 1024
_CONCURRENT: Final = 32
_BODY_SECONDS: Final = 5.0
_REFRESH_SECONDS: Final = 0.25
_PROBLEMS: Final = "https://auditspan.dev/problems/"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is no decision (RFC 9457): ``name`` ends its type; ``retry`` says that asking again may help."""

    name: str
    title: str
    status: int
    grpc_code: int
    detail: str
    remedy: str = ""
    retry: bool = False

    @property
    def type(self) -> str:
        """The URI that identifies this kind of problem."""
        return f"{_PROBLEMS}{self.name}"

    def to_json(self) -> dict[str, Any]:
        """The body of ``application/problem+json``."""
        body = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return {**body, "remedy": self.remedy} if self.remedy else body

    @property
    def retry_after(self) -> int | None:
        """Seconds after which to ask again."""
        return RETRY_AFTER_SECONDS if self.retry else None


class _Unanswerable(Exception):
    """A question that is none; says why."""


def question_of_json(body: bytes) -> Mapping[str, Any]:
    """The question that ``body`` asks.

    Raises:
        Refused: it is no JSON, or has a name twice.
    """
    try:
        question = json.loads(body, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(Refusal.MALFORMED, f"The question is no JSON that can be read: {str(error)[:200]}.") from error
    if not isinstance(question, dict):
        raise Refused(Refusal.MALFORMED, 'The question is no object such as {"facts": {"act": "transfer"}}.')
    return question


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


class Deciding:
    """Answers questions of authenticated emitters. One for all transports of a process, on one event loop.

    Args:
        admission: who may ask, as for records.
        snapshot: what decides.
        concurrent: more questions at the same time are answered 503.
    """

    def __init__(self, admission: Admission, snapshot: Snapshot, *, concurrent: int = _CONCURRENT) -> None:
        self._admission = admission
        self._snapshot = snapshot
        self._capacity = Capacity(concurrent, concurrent * LARGEST_QUESTION)
        # One thread: an engine answers one question at a time, and the event loop goes on taking records meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="auditspan-decide")
        registry = admission.metrics.registry
        self._decided = Counter(
            "auditspan_decisions", "Decisions before the act.", ["transport", "governing"], registry=registry
        )
        self._refused = Counter(
            "auditspan_decisions_refused", "Questions without a decision, by reason.", ["reason"], registry=registry
        )

    async def follow(self) -> None:
        """Take up each epoch that comes into force, until cancelled: so no question waits until one is loaded."""
        while True:
            await asyncio.to_thread(self._snapshot.refresh)
            await asyncio.sleep(_REFRESH_SECONDS)

    def close(self) -> None:
        """Answer nothing more; what is under way is answered."""
        self._thread.shutdown(wait=False)

    async def answer(
        self,
        transport: str,
        authorization: str | None,
        peer: str | None,
        receive: Callable[[int], Awaitable[Mapping[str, Any]]],
    ) -> Decision | Problem:
        """The decision, or why there is none.

        Args:
            transport: name for the metrics.
            authorization: value of the ``authorization`` header or metadata.
            peer: address that the question came from, without the port.
            receive: reads the question, of so many bytes at most; not called when the answer is known before.
        """
        found = await self._answer(authorization, peer, receive)
        if isinstance(found, Problem):
            self._refused.labels(found.name).inc()
        else:
            self._decided.labels(transport, found.governing).inc()
        return found

    async def _answer(
        self,
        authorization: str | None,
        peer: str | None,
        receive: Callable[[int], Awaitable[Mapping[str, Any]]],
    ) -> Decision | Problem:
        try:
            self._admission.authenticate(authorization, peer)
            with self._capacity.slot():
                async with asyncio.timeout(_BODY_SECONDS):
                    question = await receive(LARGEST_QUESTION)
                facts, at = _parts(question)
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._thread, self._snapshot.decide, facts, at)
        except Refused as refused:
            assert refused.outcome.refusal is not None
            answer = refused.outcome.refusal.value
            title = answer.reason.replace("_", " ").capitalize()
            name = answer.reason.replace("_", "-")
            return Problem(
                name, title, answer.http_status, answer.grpc_code, refused.outcome.message, retry=answer.retry
            )
        except TimeoutError:
            detail = f"The question did not arrive within {_BODY_SECONDS:g} s."
            return Problem("slow", "Question too slow", 408, 4, detail, retry=True)
        except (FactsInvalid, _Unanswerable) as error:
            return Problem(
                "facts-invalid",
                "Facts that cannot be judged",
                422,
                3,
                error.message if isinstance(error, FactsInvalid) else str(error),
                error.remedy if isinstance(error, FactsInvalid) else "",
            )
        except SnapshotUnavailable as error:
            title = "No reference epoch decides here"
            return Problem(f"snapshot-{error.reason}", title, 503, 14, error.message, error.remedy, retry=True)
        except Exception:  # a fault of ours is told as one, and its text to nobody
            _log.exception("a question met an unexpected fault")
            return Problem("fault", "The service met a fault", 500, 13, "The question met a fault; the log says more.")


def _parts(question: Mapping[str, Any]) -> tuple[Any, Any]:
    if strange := sorted(str(name)[:64] for name in question if name not in ("facts", "at")):
        raise _Unanswerable(f"A question has `facts` and `at`, and not {strange[0]!r}.")
    if not isinstance(question.get("facts"), Mapping):
        raise _Unanswerable("The question has no `facts`, an object of facts or attributes by name.")
    at = question.get("at")
    if not (at is None or isinstance(at, str | int)):
        raise _Unanswerable("`at` is neither a text nor a number.")
    return question["facts"], at
