"""Anchors: at each interval others are asked to vouch for the newest checkpoint of the control log.

It runs beside the thread that signs, with a client of the store of its own, and reads there what was kept: whoever is
asked may be slow or gone, and sealing and signing do not notice. One checkpoint is enough for all logs, since the
control log holds size and root of each (docs/decisions/0014-anchors.md).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.ledger.bounded_post import BoundedPost, Post
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.store.contract import Store, StoreUnavailable

from .anchor_sources import AnchorPlan, AnchorSource, Asked, WitnessAhead
from .metrics import AnchorMetrics
from .restore import store_subtrees

__all__ = ["Anchoring"]

_log = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 2.0
_LARGEST_ANSWER: Final = 128 << 10
_AGAIN: Final = 5.0
"""Seconds until the store is tried again."""


@dataclass(slots=True)
class _Course:
    """How it goes with one source."""

    source: AnchorSource
    size: int = 0
    due: float = 0.0
    pause: float = 0.0


class Anchoring:
    """The thread. `start` and `stop` once each.

    Args:
        plan: who is asked, and how often.
        store_factory: makes a store with a client of its own.
        log_id: of the control log.
        deployment: name in the origin of its checkpoints.
        keys: of which one signed them.
        metrics: where successes, failures and ages are counted.
        post: asks; None: over HTTP, within the plan's patience.
    """

    def __init__(
        self,
        plan: AnchorPlan,
        store_factory: Callable[[], Store],
        log_id: str,
        deployment: str,
        keys: Sequence[Ed25519PublicKey],
        metrics: AnchorMetrics,
        post: Post | None = None,
    ) -> None:
        self._plan, self._store_factory = plan, store_factory
        self._log_id, self._origin, self._keys = log_id, log_origin(deployment, log_id), keys
        self._metrics = metrics
        self._ending = threading.Event()
        self._post = post or BoundedPost(plan.patience, _LARGEST_ANSWER, self._ending)
        self._thread = threading.Thread(target=self._run, name="auditspan-anchors", daemon=True)

    def start(self) -> None:
        """Begin, where anybody is to be asked."""
        for source in self._plan.sources:
            self._metrics.begun(source.kind, source.name)
        if self._plan.sources:
            self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """End; an answer that is under way is not waited for."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        for source in self._plan.sources:
            self._metrics.forget(source.kind, source.name)

    def _run(self) -> None:
        store: Store | None = None
        courses: list[_Course] | None = None
        started = time.monotonic()
        try:
            while not self._ending.is_set():
                pause = _AGAIN
                try:
                    store = store or self._store_factory()
                    courses = courses or self._courses(store)
                    self._round(store, courses, started)
                    pause = max(min(course.due for course in courses) - time.monotonic(), 0.0)
                except StoreUnavailable as error:
                    _log.warning("Anchors wait for the store: %s", error)
                except Exception:  # its age shows in the metrics; a thread that ended would never come back
                    _log.exception("Anchors are tried again in %.0f s.", _AGAIN)
                self._ending.wait(pause)
        finally:
            if store is not None:
                store.close()

    def _courses(self, store: Store) -> list[_Course]:
        """Where each source stands, as the store remembers: whatever was anchored before need not be again."""
        kept = {(anchor.kind, anchor.name): anchor for anchor in store.newest_anchors(self._log_id)}
        made = []
        for source in self._plan.sources:
            before = kept.get((source.kind, source.name))
            made.append(_Course(source, before.size if before is not None else 0))
        return made

    def _round(self, store: Store, courses: Sequence[_Course], started: float) -> None:
        """Ask all who are due, about one checkpoint."""
        due = [course for course in courses if course.due <= time.monotonic()]
        asked = self._asked(store) if due else None
        for course in due:
            if self._ending.is_set():
                return
            if asked is None or asked.checkpoint.size <= course.size:
                course.due = time.monotonic() + min(_AGAIN, self._plan.interval)
                continue
            if self._anchor(store, course, asked):
                course.size, course.pause = asked.checkpoint.size, 0.0
                # On one grid for all, so that those who were late meet the others again over one checkpoint.
                passed = time.monotonic() - started
                course.due = started + (passed // self._plan.interval + 1) * self._plan.interval
            else:
                course.pause = min(max(2 * course.pause, _FIRST_PAUSE), self._plan.interval)
                course.due = time.monotonic() + course.pause

    def _asked(self, store: Store) -> Asked | None:
        """The newest checkpoint that is kept; None before there is one."""
        kept = store.last_checkpoint(self._log_id)
        if kept is None:
            return None
        try:
            checkpoint = open_checkpoint(kept.note, self._origin, self._keys)
        except CheckpointInvalid as error:
            # Nobody shall vouch for what this deployment did not sign.
            _log.critical("The control log's checkpoint in the store is not valid (%s): %s", error.code, error)
            return None
        subtrees = store_subtrees(store, self._log_id)
        return Asked(self._log_id, checkpoint, kept.note, lambda old: subtrees.consistency(old, checkpoint.size))

    def _anchor(self, store: Store, course: _Course, asked: Asked) -> bool:
        """Whether it vouched, and that is kept."""
        source = course.source
        try:
            anchor = source.ask(self._post, asked, course.size)
        except StoreUnavailable:
            raise
        except WitnessAhead as error:
            _log.critical("%s", error)
        except AuditSpanError as error:
            _log.warning("Checkpoint %d is not anchored by %s yet: %s", asked.checkpoint.size, source.name, error)
        except Exception:  # whatever a stranger sends, the others are still asked
            _log.exception("Checkpoint %d is not anchored by %s yet.", asked.checkpoint.size, source.name)
        else:
            store.append_anchors([anchor])
            self._metrics.anchored(source.kind, source.name)
            return True
        self._metrics.failed(source.kind, source.name)
        return False
