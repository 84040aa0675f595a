"""One POST to somebody who may be slow, gone or hostile: its time and its size are bounded, whatever is answered."""

from __future__ import annotations

import queue
import threading
import time
import urllib.request
from dataclasses import dataclass
from typing import Final, Protocol

from auditspan.errors import AuditSpanError

__all__ = ["Answer", "BoundedPost", "Post", "Unanswered"]

_LOOK: Final = 0.1
"""Seconds between two looks whether to give up."""


class Unanswered(AuditSpanError):
    """Nobody answered in time, or not in HTTP, or too much. Asking again is safe."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and body of an HTTP response."""

    status: int
    body: bytes


class Post(Protocol):
    """Sends a body and gives the answer, whatever its status."""

    def __call__(self, url: str, body: bytes, content_type: str) -> Answer:
        """Ask.

        Raises:
            Unanswered: there is no answer.
        """


class BoundedPost:
    """Asks in a thread of its own, which is left alone when the time is over: a trickle of bytes holds up nobody.

    Redirects are not followed. Proxies are those of the environment (``http_proxy``, ``https_proxy``, ``no_proxy``).

    Args:
        seconds: for all of it, from the look-up of the name to the last byte.
        most_bytes: of the body of an answer.
        give_up: when it is set, nothing is waited for any more.
    """

    def __init__(self, seconds: float, most_bytes: int, give_up: threading.Event) -> None:
        self._seconds, self._most_bytes, self._give_up = seconds, most_bytes, give_up
        # Without the handlers for errors and redirects every status comes back as it is, and no other scheme is known.
        self._opener = urllib.request.OpenerDirector()
        for handler in (urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
            self._opener.add_handler(handler)
        self._under_way: dict[str, threading.Thread] = {}

    def __call__(self, url: str, body: bytes, content_type: str) -> Answer:
        """Ask.

        Raises:
            Unanswered: not in time, not in HTTP, too much, or an earlier question is still under way.
        """
        before = self._under_way.get(url)
        if before is not None and before.is_alive():
            raise _unanswered("an earlier question to it is still under way")
        answers: queue.SimpleQueue[Answer | Exception] = queue.SimpleQueue()
        thread = threading.Thread(
            target=self._ask, args=(url, body, content_type, answers), name="auditspan-post", daemon=True
        )
        self._under_way[url] = thread
        deadline = time.monotonic() + self._seconds
        thread.start()
        while True:
            try:
                answer = answers.get(timeout=_LOOK)
            except queue.Empty:
                if self._give_up.is_set():
                    raise _unanswered("this process ends") from None
                if time.monotonic() >= deadline:
                    raise _unanswered(f"nothing came within {self._seconds:g} s") from None
                continue
            if isinstance(answer, Exception):
                raise _unanswered(type(answer).__name__ if not str(answer) else str(answer)) from answer
            if len(answer.body) > self._most_bytes:
                raise _unanswered(f"it sent more than {self._most_bytes} bytes")
            return answer

    def _ask(self, url: str, body: bytes, content_type: str, answers: queue.SimpleQueue[Answer | Exception]) -> None:
        try:
            request = urllib.request.Request(  # noqa: S310 - the opener knows http and https alone
                url, data=body, headers={"Content-Type": content_type, "User-Agent": "auditspan"}, method="POST"
            )
            with self._opener.open(request, timeout=self._seconds) as response:
                answers.put(Answer(response.status, response.read(self._most_bytes + 1)))
        except Exception as error:  # nothing that a stranger sends may end in silence
            answers.put(error)


def _unanswered(why: str) -> Unanswered:
    return Unanswered(
        f"There is no answer: {why}.", remedy="It is asked again. If this goes on, look at the URL, proxies and rights."
    )
