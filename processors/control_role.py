"""What the owner of the control partition does: open the logs, bring the reference epoch into force, and sign all logs.

There is one at a time. Two that both believe it are kept apart by the conditional insert into the control log, and what
they sign meanwhile does not contradict (docs/decisions/0004-one-signer.md).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.canonical import JsonValue
from auditspan.journal.contract import CONTROL_PARTITION, JournalUnavailable
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import SigningKey, key_id
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference, software
from auditspan.policy.snapshot import confirm
from auditspan.semconv import EventClass
from auditspan.store.contract import Store, StoreUnavailable

from .anchor_sources import AnchorPlan
from .anchoring import Anchoring
from .batch import LogContext
from .checkpointer import Checkpointer
from .control import Logs, open_logs, open_next_generation
from .control_entries import ACTOR, ControlLog, heartbeat
from .data_role import take_over
from .epochs import activate, announce_epoch, epochs, keep_artifacts, last_epoch
from .followers import Follower, Following, MakeFollower
from .metrics import AnchorMetrics
from .processor import LogProcessor
from .references import EpochUnavailable, epoch_of
from .role import Parts, Role
from .signing import Signers, check_against_signed, journaled_checkpoints
from .signing_keys import KeyFollower, signing_keys
from .stored_tree import SignedTree, StoredTree, Tree, last_kept

__all__ = ["ControlDuties", "ControlRole", "FollowedLog"]

_log = logging.getLogger(__name__)

_EPOCH_EVERY: Final = 2.0
"""Seconds between two looks at which epoch is sealed, unless this process knows that one is journaled."""
_KEY_EVERY: Final = 1.0
"""Seconds between two looks at whether the signing key was rotated."""
_ANNOUNCE_AGAIN: Final = 30.0
"""Seconds until an epoch that could not be announced here is announced again."""

Local = Callable[[str], LogProcessor | None]
"""``local(partition)`` is the processor of that data log in this very process, if it has one."""


@dataclass(frozen=True, slots=True)
class ControlDuties:
    """How the control log's owner does its work.

    Args:
        signers: where its signer comes from.
        public_key: base64 of the signing key's public half, for the control log.
        checkpoint_seconds: at most this long after a leaf was sealed, a checkpoint over it is signed.
        heartbeat_seconds: a partition to which nothing came for this long gets a heartbeat.
        may_return: see `auditspan.processors.epochs.activate`.
        followers: what else it works out of sealed events, in this order.
        anchors: who vouches for the control log.
        anchor_metrics: where that is counted.
        load_key: reads the signing key anew, after a rotation; None: there is one for ever.
        recovery: body of the ``audit.ledger.recovered`` with which a deployment begins that goes on for another one.
    """

    signers: Signers
    public_key: str
    checkpoint_seconds: float
    heartbeat_seconds: float
    may_return: bool
    anchors: AnchorPlan
    anchor_metrics: AnchorMetrics
    followers: Sequence[MakeFollower] = ()
    load_key: Callable[[], SigningKey] | None = None
    recovery: JsonValue = None


@dataclass(frozen=True, slots=True)
class FollowedLog:
    """A log as the signer knows it: what it last looked at, and what is signed and kept of that."""

    partition: str
    log_id: str
    tree: Tree
    watermark: int
    signed: tuple[Tree, int] | None


class _DataLog:
    """A data log as the signer follows it: by what this process sealed itself, else by what the store shows."""

    def __init__(self, partition: str, stored: StoredTree, local: Local) -> None:
        self.partition = partition
        self.tree = Tree(0, b"", 0)
        self._stored = stored
        self._local = local

    @property
    def log_id(self) -> str:
        return self._stored.log_id

    @property
    def watermark(self) -> int:
        processor = self._local(self.partition)
        return processor.watermark if processor is not None else self._stored.watermark

    def look(self) -> Tree:
        processor = self._local(self.partition)
        self.tree = self._stored.look() if processor is None else self._stored.adopt(*processor.read_back())
        return self.tree


class ControlRole(Role):
    """Owns the control log, and with it the signature of every log.

    Args:
        parts: shared by all roles of the process.
        duties: how it works.
        local: which data logs are sealed by this very process.
        others_alive: whether roles of this process still seal, so that the last round of signatures waits for them.
    """

    def __init__(self, parts: Parts, duties: ControlDuties, local: Local, others_alive: Callable[[], bool]) -> None:
        super().__init__(CONTROL_PARTITION, parts)
        self._duties = duties
        self._local = local
        self._others_alive = others_alive
        self._entries = ControlLog(parts.journal, parts.clock)
        self._data: Sequence[_DataLog] = ()
        self._checkpointer: Checkpointer | None = None
        self._followers: Sequence[Follower] = ()
        self._in_force: Mapping[str, Any] | None = None
        self._beats: dict[str, tuple[int, float]] = {}
        self._put_off = ""
        self._looked = 0.0
        self._sealed_epoch = ""
        self._unannounced: Mapping[str, Any] | None = None
        self._announce_at = 0.0
        self._looked_for_key = 0.0
        self._keys: KeyFollower | None = None
        self._signer: Signer | None = None

    @property
    def signing_key(self) -> str | None:
        """Id of the key that it signs with; None before it has taken over."""
        return None if self._signer is None else key_id(self._signer.public_key)

    @property
    def trouble(self) -> str:
        """Why it does not get on; empty while it does."""
        return super().trouble or (f"checkpoints are put off: {self._put_off}" if self._put_off else "")

    def logs(self) -> list[FollowedLog]:
        """Every data log as the signer knows it."""
        checkpointer = self._checkpointer
        if checkpointer is None:
            return []
        return [
            FollowedLog(log.partition, log.log_id, log.tree, log.watermark, checkpointer.last(log.log_id))
            for log in self._data
        ]

    def signed(self, log_id: str) -> tuple[Tree, int] | None:
        """What this process signed last of a log and kept, and when (ns)."""
        return self._checkpointer.last(log_id) if self._checkpointer is not None else None

    def run(self, store: Store) -> None:
        """Take over, then sign round after round until told to end."""
        with self._duties.signers.hold() as signer, ExitStack() as ends:
            anchored = False
            while True:
                logs = self._take_over(store, signer)
                if not anchored:
                    self._anchor(logs.control.log_id, ends)
                    anchored = True
                self._running.set()
                self.parts.metrics.of(CONTROL_PARTITION).owned.set(1)
                _log.info("control: this process signs the logs of deployment %s.", self.parts.deployment)
                if not self._rounds(store, logs):
                    return
                _log.info("control: the next generation of logs is opened.")

    def _anchor(self, log_id: str, ends: ExitStack) -> None:
        """Have others vouch for the control log from now on, until ``ends`` is closed."""
        parts, duties = self.parts, self._duties
        anchoring = Anchoring(
            duties.anchors, parts.store_factory, log_id, parts.deployment, parts.keys, duties.anchor_metrics
        )
        anchoring.start()
        ends.callback(anchoring.stop)

    def _take_over(self, store: Store, signer: Signer) -> Logs:
        parts, duties = self.parts, self._duties
        first: list[tuple[str, JsonValue]] = [(EventClass.KEY_ADDED, _key(duties.public_key))]
        if duties.recovery is not None:
            # Before the key, which ends what is read of the beginning.
            first.insert(0, (EventClass.LEDGER_RECOVERED, duties.recovery))
        logs = self.insist(
            partial(
                open_logs, parts.journal, store, parts.deployment, actor=ACTOR, first_entries=first, clock=parts.clock
            )
        )
        keys = self.insist(
            partial(signing_keys, parts.journal, store, logs.control.log_id, parts.deployment, parts.keys)
        )
        keys.check(signer.public_key)
        self._keys, self._signer = KeyFollower(signer, keys, duties.load_key, parts.clock), signer
        self._keys.apply()
        signed = self.insist(partial(self._signed_before, store, logs, keys.known))
        processor = self.insist(partial(self._restored, store, logs, signed[logs.control.log_id]))
        for opening in logs.data:
            log_id = opening.log_id
            self.insist(partial(self._check, store, log_id, signed[log_id]))
        self.processor = processor
        self._activate(store, processor)
        self._data = [
            _DataLog(
                opening.partition,
                self.insist(partial(StoredTree.after, store, opening.log_id, _largest(signed[opening.log_id]))),
                self._local,
            )
            for opening in logs.data
        ]
        last = self.insist(partial(store.last_checkpoint, logs.control.log_id))
        self._checkpointer = Checkpointer(store, signer, self._entries, processor, self._data, parts.clock, last)
        following = Following(
            self._entries,
            logs.control.log_id,
            sorted(opening.log_id for opening in logs.data),
            partial(self._reference, store),
        )
        self._followers = [self.insist(partial(make, following)) for make in duties.followers]
        self.insist(partial(self._beat, at_once=True))
        return logs

    def _signed_before(
        self, store: Store, logs: Logs, keys: Sequence[Ed25519PublicKey]
    ) -> Mapping[str, Sequence[SignedTree]]:
        """Everything that is known to be signed of each log, wherever it is written."""
        parts = self.parts
        log_ids = [opening.log_id for opening in (logs.control, *logs.data)]
        journaled = journaled_checkpoints(parts.journal, parts.deployment, keys, log_ids)
        found: dict[str, Sequence[SignedTree]] = {}
        for log_id in log_ids:
            kept = last_kept(store, log_id, parts.deployment, keys)
            told = [tree for tree in (kept, journaled.get(log_id)) if tree is not None]
            found[log_id] = [*told, *self._duties.signers.remembered(log_id)]
        return found

    def _check(self, store: Store, log_id: str, signed: Sequence[SignedTree]) -> None:
        check_against_signed(store, log_id, store.next_leaf(log_id), signed)

    def _restored(self, store: Store, logs: Logs, signed: Sequence[SignedTree]) -> LogProcessor:
        log_id = logs.control.log_id
        context = LogContext(
            opening=logs.control,
            salt_key=self.parts.salt_key,
            epoch=epoch_of(last_epoch(store, log_id)),
            software=software(),
        )
        return take_over(
            store,
            log_id,
            # The control log's rounds are apart already.
            lambda: self.processor_of(store, context, minimum_interval=0.0),
            lambda processor: check_against_signed(store, log_id, processor.tree.size, signed),
        )

    def _activate(self, store: Store, control: LogProcessor) -> None:
        """Seal what the control partition holds, then the epoch of this process's artifacts if it is a new one."""
        references = self.parts.references
        keep_artifacts(references.folder, references.own)
        self.insist(partial(store.keep_artifacts, list(references.own.values())))
        while True:
            self._drain(control)
            sealed = self.insist(partial(epochs, store, control.log_id))
            control.context = replace(control.context, epoch=epoch_of(sealed[-1] if sealed else None))
            body = self.insist(partial(self._epoch, store, sealed))
            if sealed and body is sealed[-1]:
                break
            # An officer's, or another owner's, may stand before it in the control partition: what is sealed counts.
        references.announce(int(body["number"]))
        self._sealed_epoch = epoch_of(body).digest
        self._in_force = body
        self.insist(partial(self._announce, body, store))

    def _epoch(self, store: Store, sealed: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        return activate(
            sealed,
            self.parts.references,
            store,
            lambda name, body: self._entries.append(name, ACTOR, body),
            may_return=self._duties.may_return,
        )

    def _follow_key(self, store: Store, control: LogProcessor) -> None:
        """Sign with the key that the control log names last, where it is here."""
        assert self._keys is not None
        if time.monotonic() - self._looked_for_key >= _KEY_EVERY:
            self._keys.look(store, control.log_id, control.tree.size)
            self._looked_for_key = time.monotonic()
        self._keys.apply()

    def _follow_epoch(self, store: Store, control: LogProcessor) -> None:
        """Tell the roles of this process what an officer activated, once it is sealed."""
        references = self.parts.references
        now = time.monotonic()
        if references.journaled <= references.announced and now - self._looked < _EPOCH_EVERY:
            return
        self._looked = now
        body = last_epoch(store, control.log_id)
        if body is None or int(body["number"]) <= control.context.epoch.number:
            return
        references.announce(int(body["number"]))
        self._sealed_epoch = epoch_of(body).digest
        # Until all of it is done the next round goes on: checkpoints do not wait for a reference to be loaded.
        self._looked = 0.0
        if not self._loaded(body):
            return
        self._announce(body, store)
        self._in_force = body
        control.context = replace(control.context, epoch=epoch_of(body))
        self._looked = now
        _log.info("control: reference epoch %d is in force.", int(body["number"]))

    def _announce(self, body: Mapping[str, Any], store: Store) -> None:
        """Let those who decide on this machine take the sealed epoch up; where that fails, later again.

        Sealing does not depend on it: what was announced before goes on deciding there and grows old.
        """
        done = False
        try:
            done = announce_epoch(self.parts.references, body, store)
        except OSError as error:
            _log.warning(
                "Epoch %s cannot be announced in %s: %s", body["number"], self.parts.references.folder, error.strerror
            )
        self._unannounced = None if done else body
        self._announce_at = time.monotonic() + _ANNOUNCE_AGAIN

    def _confirm(self, store: Store) -> None:
        """Say which epoch is in force to those who decide on this machine."""
        if self._unannounced is not None and time.monotonic() >= self._announce_at:
            self._announce(self._unannounced, store)
        confirm(self.parts.references.folder, self._sealed_epoch)

    def _loaded(self, body: Mapping[str, Any]) -> bool:
        """Whether a reference need not be waited for; one that cannot be had is nothing to wait for either."""
        try:
            return self.parts.references.ready(body, self.parts.store_factory) is not None
        except (EpochUnavailable, PolicyError):
            return True

    def _reference(self, store: Store) -> Reference | None:
        """The snapshot in force; None where this process cannot get it."""
        if self._in_force is None:
            return None
        try:
            return self.parts.references.of(self._in_force, store)
        except (EpochUnavailable, PolicyError):
            return None

    def _drain(self, control: LogProcessor) -> None:
        while self.insist(partial(control.run_once, 0)):
            pass

    def _rounds(self, store: Store, logs: Logs) -> bool:
        """Sign until told to end; whether more logs were opened instead, which are to be taken over first."""
        assert self._checkpointer is not None and self.processor is not None and self._keys is not None
        every = self._duties.checkpoint_seconds
        while not self._stop.is_set():
            started = time.monotonic()
            last_round = self._finishing.is_set() and not self._others_alive()
            worked = 0
            try:
                self._beat()
                self._follow_key(store, self.processor)
                self._checkpointer.run_once()
                self._put_off = ""
                worked = sum([follower.run_once(store) for follower in self._followers])
                self._follow_epoch(store, self.processor)
                self._confirm(store)
                if not self._finishing.is_set() and self._open_next(store, logs):
                    return True
            except (StoreUnavailable, JournalUnavailable) as error:
                self._put_off = str(error)
                _log.warning("This round of checkpoints is put off: %s", error)
            if last_round and not worked:  # what followers journaled is sealed and signed as well
                return False
            left = every - (time.monotonic() - started)
            # A short wait while finishing, so that the last round follows the last batch closely.
            (self._stop if self._finishing.is_set() else self._finishing).wait(
                0.05 if self._finishing.is_set() else max(left, 0.0)
            )
        return False

    def _open_next(self, store: Store, logs: Logs) -> bool:
        return open_next_generation(self.parts.journal, store, logs, actor=ACTOR, clock=self.parts.clock)

    def _beat(self, *, at_once: bool = False) -> None:
        """Journal a heartbeat for each partition to which nothing came for a while."""
        if self._finishing.is_set():
            return
        journal, clock = self.parts.journal, self.parts.clock
        now = time.monotonic()
        for partition in (*journal.own_partitions, CONTROL_PARTITION):
            end = journal.high_water_mark(partition)
            before, since = self._beats.get(partition, (end, now))
            if end != before:
                since = now
            if now - since >= self._duties.heartbeat_seconds or (at_once and partition != CONTROL_PARTITION):
                end = journal.append([(partition, heartbeat(clock()))]).result()[0] + 1
                since = now
            self._beats[partition] = (end, since)


def _largest(signed: Sequence[SignedTree]) -> SignedTree | None:
    return max(signed, key=lambda tree: tree.size, default=None)


def _key(public_key: str) -> dict[str, JsonValue]:
    return {"algorithm": "Ed25519", "public_key": public_key}
