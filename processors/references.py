"""The snapshots that epochs name, made from artifacts that this process can get hold of, ahead of their use."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from auditspan.canonical import canonical_json
from auditspan.errors import AuditSpanError
from auditspan.policy.activation import Activation
from auditspan.policy.artifacts_kept import kept
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference
from auditspan.store.contract import Store, StoreUnavailable

from .batch import Epoch

__all__ = ["EpochUnavailable", "References", "epoch_of"]

_log = logging.getLogger(__name__)

_REMEMBERED: Final = 2
"""Snapshots: the one in force, and the one that is about to be."""


class EpochUnavailable(AuditSpanError):
    """The reference epoch in force has artifacts that this process cannot get: it must not judge."""


class References:
    """Safe for several threads.

    Args:
        artifacts: this process's own, content by name.
        folder: where artifacts of epochs are kept by digest.
    """

    def __init__(self, artifacts: Mapping[str, bytes], folder: Path) -> None:
        self.own = dict(artifacts)
        self.folder = folder
        self.digests = {name: hashlib.sha256(content).hexdigest() for name, content in artifacts.items()}
        """SHA-256 of this process's own artifacts, in hexadecimal, by name."""
        self._by_digest = {self.digests[name]: content for name, content in artifacts.items()}
        self._loading = threading.Lock()
        self._guard = threading.Lock()
        self._made: dict[Epoch, Reference] = {}
        self._ahead: dict[Epoch, Future[Reference]] = {}
        self._unreadable: tuple[Epoch, PolicyError] | None = None
        self._ended = False
        self._reading: list[threading.Event] = []
        """Of each thread that loads, whether it has let go of the store."""
        self._journaled = self._announced = 0

    @property
    def journaled(self) -> int:
        """The greatest number of an epoch that this process knows to be journaled; 0 for none."""
        return self._journaled

    @property
    def announced(self) -> int:
        """The greatest number of an epoch that this process knows to be sealed; 0 for none."""
        return self._announced

    def told_journaled(self, number: int) -> None:
        """The control log will seal this epoch with what it reads next."""
        with self._guard:
            self._journaled = max(self._journaled, number)

    def announce(self, number: int) -> None:
        """The control log has sealed this epoch: whoever judges may look."""
        with self._guard:
            self._announced = max(self._announced, number)

    def own_with(self, last: Mapping[str, Any] | None, held: Mapping[str, str], store: Store) -> dict[str, bytes]:
        """The artifacts of this process, and in place of them those in ``held`` of the epoch ``last``.

        Raises:
            EpochUnavailable: one of them is neither in the folder nor in the store.
            StoreUnavailable: the store cannot be read now.
        """
        artifacts = dict(self.own)
        for artifact in last["artifacts"] if last is not None else ():
            name = str(artifact["name"])
            if name in held:
                if self.digests.get(name, artifact["sha256"]) != artifact["sha256"]:
                    _log.info("%s is as %s activated it, not as it comes with this start.", name, held[name])
                artifacts[name] = self._content(artifact, int(last["number"]) if last else 0, store)
        return artifacts

    def contents(self, body: Mapping[str, Any], store: Store) -> dict[str, bytes]:
        """The artifacts of the epoch with this control body, content by name.

        Raises:
            EpochUnavailable: one is neither this process's own, nor in its folder, nor in the store.
            StoreUnavailable: the store cannot be read now.
        """
        number = int(body["number"])
        return {str(a["name"]): self._content(a, number, store) for a in body["artifacts"]}

    def of(self, body: Mapping[str, Any], store: Store) -> Reference:
        """The reference of the epoch with this control body.

        Raises:
            EpochUnavailable: an artifact is neither this process's own, nor in its folder, nor in the store.
            PolicyError: this version of the software cannot read it.
            StoreUnavailable: the store cannot be read now.
        """
        return self._of(body, lambda: self.contents(body, store))

    def _of(self, body: Mapping[str, Any], contents: Callable[[], Mapping[str, bytes]]) -> Reference:
        epoch = epoch_of(body)
        with self._loading:
            found = self._made.get(epoch)
            if found is not None:
                return found
            if self._unreadable is not None and self._unreadable[0] == epoch:
                # This version never will: whoever tries again must not load it each time to find that out.
                raise self._unreadable[1].with_traceback(None)
            try:
                found = Reference.load(contents(), epoch.number, Activation.of(body), self.folder).opened()
            except PolicyError as error:
                self._unreadable = epoch, error
                raise
            self.remember(epoch, found)
            return found

    def ready(self, body: Mapping[str, Any], make_store: Callable[[], Store]) -> Reference | None:
        """The same without waiting: None while a thread of its own loads it, so that whoever seals goes on sealing.

        Raises:
            EpochUnavailable, PolicyError, StoreUnavailable: as `of`; after the last one the next call tries again.
        """
        epoch = epoch_of(body)
        with self._guard:
            found = self._made.get(epoch)
            if found is not None:
                return found
            future = self._ahead.get(epoch)
            if future is None:
                if self._ended:
                    return None
                future, let_go = Future(), threading.Event()
                # Those before it are loaded, or nobody asks for them any more.
                self._ahead = {epoch: future}
                self._reading = [one for one in self._reading if not one.is_set()] + [let_go]
                threading.Thread(
                    target=self._load, args=(body, make_store, future, let_go), name="auditspan-reference", daemon=True
                ).start()
        if not future.done():
            return None
        try:
            return future.result()
        except StoreUnavailable:
            with self._guard:
                self._ahead.pop(epoch, None)
            raise

    def end(self, within: float) -> None:
        """Load nothing more, and wait up to ``within`` seconds until no thread that loads has the store open."""
        with self._guard:
            self._ended, reading = True, self._reading
        deadline = time.monotonic() + within
        for let_go in reading:
            let_go.wait(max(0.0, deadline - time.monotonic()))

    def remember(self, epoch: Epoch, reference: Reference) -> None:
        """A snapshot that was made already, so that nobody makes it again."""
        with self._guard:
            kept = [item for item in self._made.items() if item[0] != epoch][-(_REMEMBERED - 1) :]
            self._made = dict([*kept, (epoch, reference)])

    def _load(
        self,
        body: Mapping[str, Any],
        make_store: Callable[[], Store],
        future: Future[Reference],
        let_go: threading.Event,
    ) -> None:
        try:
            # Loading takes seconds: a client held meanwhile would keep the store open after everybody else has let go.
            try:
                with closing(make_store()) as store:
                    contents = self.contents(body, store)
            finally:
                let_go.set()
            future.set_result(self._of(body, lambda: contents))
        except BaseException as error:  # whoever asks for it is told, and ends
            future.set_exception(error)

    def _content(self, artifact: Mapping[str, Any], number: int, store: Store) -> bytes:
        digest = str(artifact["sha256"])
        content = self._by_digest.get(digest)
        if content is None:
            content = kept(self.folder, digest)
        if content is None:
            content = store.artifact(digest)
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise EpochUnavailable(
                f"Reference epoch {number} needs {artifact['name']} with SHA-256 {digest}, which is neither in this "
                f"version of the software, nor in {self.folder}, nor in the store.",
                remedy="Run the version of AuditSpan and the party registry of the process that owns the control log.",
            )
        return content


def epoch_of(body: Mapping[str, Any] | None) -> Epoch:
    """Number and digest of an epoch from its control body (evidence format, section 11); epoch 0 for none."""
    if body is None:
        return Epoch()
    return Epoch(int(body["number"]), hashlib.sha256(canonical_json(body)).hexdigest())
