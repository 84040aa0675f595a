"""The processors of one process: a role for each partition that it owns, coming and going with the assignment.

On one machine the process owns every partition for ever. On many, a consumer group shares them out. What a process
knows of a log it restores from the store, so that any process can go on where another ended or was killed.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client import CollectorRegistry

from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.journal.assignment import AllPartitions
from auditspan.journal.contract import CONTROL_PARTITION, Assignment, Journal, JournalUnavailable, SupportsProbe
from auditspan.ledger.signer import Signer
from auditspan.ledger.signing_key import SigningKey
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .activation import Activated, Activator, Change
from .allocating import Allocator
from .anchor_sources import AnchorPlan
from .control import opened_logs
from .control_entries import ControlLog
from .control_role import ControlDuties, ControlRole
from .data_role import DataRole
from .flagged import FlaggedPublisher
from .followers import MakeFollower
from .metrics import AnchorMetrics, ProcessorMetrics
from .positions import LogStatus, log_status
from .processor import BatchLimits, LogProcessor
from .references import References
from .requests import RequestFollower
from .role import Parts, Role
from .signing import HeldSigner, Signers
from .signing_keys import check_statement, signing_keys
from .trimming import Trimmer

__all__ = ["LogStatus", "Pipeline"]

_log = logging.getLogger(__name__)

_POLL: Final = 0.2
"""Seconds between two looks at what is owned."""
_SHORT_POLL: Final = 0.02
"""The same while something is being taken over."""
_MEASURE_EVERY: Final = 1.0
_PROBE_WITHIN: Final = 10.0
_TRIM_EVERY: Final = 60.0
_ABANDON_WITHIN: Final = 5.0

_FOLLOWERS: Final[Sequence[MakeFollower]] = (Allocator, RequestFollower)
"""What the owner of the control log works out of sealed events."""


class Pipeline:
    """Seals, determines, signs. `start` and `stop` once each; the rest from any thread.

    Args:
        journal: what collectors append to.
        store_factory: makes a store with a client of its own; called once a thread.
        signer: the deployment's signer, or where it comes from once the control log is owned.
        salt_key: 32 bytes.
        public_key: base64 of the signing key's public half, for the control log.
        deployment: the deployment's name.
        artifacts: packs, tables, registry by name: what `auditspan.policy.reference.Reference` is made of.
        reference_folder: where every epoch's artifacts are kept.
        registry: where the metrics go.
        checkpoint_seconds: at most this long after a leaf was sealed, a checkpoint over it is signed.
        heartbeat_seconds: a partition to which nothing came for this long gets a heartbeat.
        keep_days: how long the journal keeps an entry that a signed checkpoint covers; 0: for ever.
        trim_seconds: time between two rounds of forgetting.
        clock: now, in nanoseconds since 1970.
        assignment: makes what says which partitions are owned; None: all of the journal's, for ever.
        limits: when a batch ends.
        publisher: where flagged events go besides the store.
        anchors: who vouches for the control log; nobody by default.
        keys: whose signatures count, besides that of ``public_key``: those of ``trust.json``.
        load_key: reads the signing key anew, after a rotation; None: there is one for ever.
        recovery: what a new deployment that goes on for another one seals first: the body of
            ``audit.ledger.recovered``.
    """

    def __init__(
        self,
        journal: Journal,
        store_factory: Callable[[], Store],
        signer: Signer | Signers,
        *,
        salt_key: bytes,
        public_key: str,
        deployment: str,
        artifacts: Mapping[str, bytes],
        reference_folder: Path,
        registry: CollectorRegistry,
        checkpoint_seconds: float = 1.0,
        heartbeat_seconds: float = 15.0,
        keep_days: float = 0.0,
        trim_seconds: float = _TRIM_EVERY,
        clock: Callable[[], int] = time.time_ns,
        assignment: Callable[[], Assignment] | None = None,
        limits: BatchLimits | None = None,
        publisher: FlaggedPublisher | None = None,
        anchors: AnchorPlan | None = None,
        keys: Sequence[Ed25519PublicKey] = (),
        load_key: Callable[[], SigningKey] | None = None,
        recovery: JsonValue = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._alone = assignment is None
        self._assign = assignment or (lambda: AllPartitions(journal))
        self._metrics = ProcessorMetrics(registry)
        self._parts = Parts(
            journal=journal,
            store_factory=store_factory,
            salt_key=salt_key,
            deployment=deployment,
            keys=[Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key)), *keys],
            references=References(artifacts, reference_folder),
            metrics=self._metrics,
            limits=limits or BatchLimits(),
            publisher=publisher,
            clock=clock,
        )
        self._duties = ControlDuties(
            signers=HeldSigner(signer) if isinstance(signer, Signer) else signer,
            public_key=public_key,
            checkpoint_seconds=checkpoint_seconds,
            heartbeat_seconds=heartbeat_seconds,
            # Alone, artifacts that come back are the operator's will; in a group, an older version's.
            may_return=self._alone,
            followers=_FOLLOWERS,
            anchors=anchors or AnchorPlan(),
            anchor_metrics=AnchorMetrics(registry),
            load_key=load_key,
            recovery=recovery,
        )
        self._control_log = ControlLog(journal, clock)
        self._activator = Activator(journal, store_factory, self._parts.references, clock)
        self._guard = threading.Lock()
        self._roles: dict[str, Role] = {}
        self._owned: frozenset[str] | None = None
        self._failure: tuple[str, BaseException] | None = None
        self._journal_trouble = ""
        self._ending = threading.Event()
        self._end = threading.Event()
        self._changed = threading.Event()
        self._trimmer = Trimmer(journal, self._positions, keep_days, self._ending.is_set, clock)
        self._trim_seconds = trim_seconds
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Open or migrate the store, and begin. A process that has the journal to itself returns once it seals.

        Raises:
            AuditSpanError: journal, store, signer state or reference do not fit; nothing goes on.
        """
        store = self._parts.store_factory()
        try:
            store.migrate()
        finally:
            store.close()
        for name, run in (("assignment", self._follow), ("measuring", self._measure), ("trimming", self._trim)):
            self._threads.append(threading.Thread(target=run, name=f"auditspan-{name}", daemon=True))
        for thread in self._threads:
            thread.start()
        if not self._alone:
            return
        while not (self._failure or self._all_running()):
            self._changed.wait(0.02)
            self._changed.clear()
        if self._failure is not None:
            _, failure = self._failure
            self.stop(timeout=0.0)
            raise failure

    def stop(self, timeout: float = 30.0) -> None:
        """End within about ``timeout`` seconds. What is left is taken up by the next start or owner: nothing is lost.

        A process that has the journal to itself seals and signs what the journal holds: stop what appends to it first.
        Others end after the batch at hand, sign once more where they sign, and leave the group. One in which something
        failed ends at once.
        """
        deadline = time.monotonic() + timeout
        self._ending.set()
        with self._guard:
            roles = list(self._roles.values())
        failed = self._first_failure() is not None
        for role in roles:
            role.finish()
            if failed or (not self._alone and role.partition != CONTROL_PARTITION):
                role.stop()
        for role in roles:
            role.join(max(0.0, deadline - time.monotonic()))
        for role in roles:
            role.stop()
        self._end.set()
        deadline = time.monotonic() + _ABANDON_WITHIN
        for role in roles:
            role.join(max(0.0, deadline - time.monotonic()))
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        self._parts.references.end(max(0.0, deadline - time.monotonic()))

    def healthy(self) -> tuple[bool, str]:
        """Whether nothing has stopped; otherwise why not. A process that is not healthy must end."""
        failure = self._first_failure()
        if failure is not None:
            return False, failure[0]
        if not self._threads:
            return False, "not started"
        if self._ending.is_set():
            return False, "stopping"
        return True, ""

    def failure(self) -> BaseException | None:
        """What stopped a role; None when nothing did."""
        found = self._first_failure()
        return found[1] if found is not None else None

    def troubles(self) -> list[str]:
        """Why this process does not do all of its work now; empty while it does."""
        healthy, reason = self.healthy()
        if not healthy:
            return [reason]
        if self._owned is None:
            return ["it has not been told yet which partitions it owns"]
        with self._guard:
            found = [role.trouble for role in self._roles.values()]
            missing = sorted(self._owned - self._roles.keys())
            missing += sorted(name for name, role in self._roles.items() if name in self._owned and role.stopped)
        waiting = (f"{partition} is not taken over yet" for partition in missing)
        return [*waiting, *filter(None, [*found, self._journal_trouble])]

    def status(self) -> list[LogStatus]:
        """Where every log stands that this process seals or signs, the control log last."""
        found: dict[str, LogStatus] = {}
        with self._guard:
            roles = dict(self._roles)
        control = roles.get(CONTROL_PARTITION)
        for partition, role in roles.items():
            processor = role.processor
            if processor is not None:
                found[partition] = self._of(processor, control)
        for log in control.logs() if isinstance(control, ControlRole) else ():
            if log.partition not in found and log.partition in self._journal.partitions:
                found[log.partition] = log_status(
                    self._journal,
                    partition=log.partition,
                    log_id=log.log_id,
                    tree=log.tree,
                    watermark=log.watermark,
                    waiting_since=None,
                    signed=log.signed,
                    sealed_here=False,
                    now=self._clock(),
                )
        order = [*self._journal.partitions, CONTROL_PARTITION]
        return [found[partition] for partition in order if partition in found]

    def append_control(self, name: str, actor: str, body: JsonValue) -> int:
        """Journal a control entry of class ``name`` by ``actor``; its offset. See `ControlLog.append`."""
        return self._control_log.append(name, actor, body)

    def rotate(self, actor: str, body: Mapping[str, Any]) -> int:
        """Journal a rotation of the signing key; its offset. It is followed once it is sealed and the new key is here.

        Raises:
            AuditSpanError: it is no statement of this deployment's, or not of the key that signs now.
        """
        store = self._parts.store_factory()
        try:
            control_log = opened_logs(self._journal, store)[0].log_id
            parts = self._parts
            check_statement(body, signing_keys(self._journal, store, control_log, parts.deployment, parts.keys))
        finally:
            store.close()
        return self._control_log.append(EventClass.KEY_ROTATED, actor, body)

    @property
    def signing_key(self) -> str | None:
        """Id of the key that signs now; None where this process does not sign."""
        with self._guard:
            control = self._roles.get(CONTROL_PARTITION)
        return control.signing_key if isinstance(control, ControlRole) else None

    def activate(self, change: Change, *, dry_run: bool = False, within: float = 30.0) -> Activated:
        """Bring what an officer wants into force. Waits up to ``within`` seconds until it is sealed, and used here.

        Raises:
            AuditSpanError: as `Activator.activate`.
        """
        deadline = time.monotonic() + within
        done = self._activator.activate(change, dry_run=dry_run, within=within)
        if not done.sealed:
            return done
        number = int(done.body["number"])
        while self._judges_under() < number and time.monotonic() < deadline and not self._ending.wait(_SHORT_POLL):
            pass
        # Alone, the roles of this process are all that there are.
        return replace(done, in_use=self._alone and self._judges_under() >= number)

    def _judges_under(self) -> int:
        """The least epoch that a batch of a data log may still name."""
        with self._guard:
            roles = [role for role in self._roles.values() if role.running and role.partition != CONTROL_PARTITION]
        processors = [role.processor for role in roles if role.processor is not None and not role.processor.closed]
        return min((one.context.epoch.number for one in processors), default=self._parts.references.announced)

    def _of(self, processor: LogProcessor, control: Role | None) -> LogStatus:
        return log_status(
            self._journal,
            partition=processor.partition,
            log_id=processor.log_id,
            tree=processor.tree,
            watermark=processor.watermark,
            waiting_since=processor.waiting_since,
            signed=control.signed(processor.log_id) if isinstance(control, ControlRole) else None,
            sealed_here=True,
            now=self._clock(),
        )

    def _local(self, partition: str) -> LogProcessor | None:
        with self._guard:
            role = self._roles.get(partition)
        return role.processor if role is not None and role.running else None

    def _others_alive(self) -> bool:
        with self._guard:
            return any(role.alive for name, role in self._roles.items() if name != CONTROL_PARTITION)

    def _all_running(self) -> bool:
        with self._guard:
            return self._owned is not None and all(
                name in self._roles and self._roles[name].running and not self._roles[name].stopped
                for name in self._owned
            )

    def _first_failure(self) -> tuple[str, BaseException] | None:
        with self._guard:
            roles = list(self._roles.values())
        for role in roles:
            if role.failure is not None:
                return f"{role.partition} stopped: {role.failure}", role.failure
        return self._failure

    # The thread that follows the assignment

    def _follow(self) -> None:
        assignment: Assignment | None = None
        try:
            assignment = self._assign()
            while not self._end.is_set():
                try:
                    owned = assignment.poll(_POLL if self._all_running() else _SHORT_POLL)
                except JournalUnavailable as error:
                    _log.warning("What this process owns is not known now: %s", error)
                    self._end.wait(1.0)
                    continue
                if not self._ending.is_set():
                    self._apply(assignment, owned)
                self._confirm(assignment)
        except BaseException as error:  # without it the process would keep partitions that it does not serve
            self._failure = f"the assignment stopped: {error}", error
            _log.critical("The assignment stopped: %s", error, exc_info=not isinstance(error, AuditSpanError))
        finally:
            if assignment is not None:
                assignment.close()
            self._changed.set()

    def _apply(self, assignment: Assignment, owned: frozenset[str]) -> None:
        """Begin what is owned, end what is not, and let go of what has ended."""
        with self._guard:
            before, self._owned = self._owned or frozenset(), owned
            roles = dict(self._roles)
        for partition in before - owned - roles.keys():
            assignment.released(partition)
        for partition, role in roles.items():
            if partition not in owned:
                role.stop()
            # One that came back while its role was still ending begins anew: a role that was stopped stays stopped.
            if role.stopped and not role.alive:
                self._forget(role)
                assignment.released(partition)
        self._failure = self._first_failure()
        if self._failure is not None:
            self._changed.set()
            return  # The process ends: it must not begin anything more.
        control = roles.get(CONTROL_PARTITION)
        for partition in sorted(owned - roles.keys()):
            if self._alone and partition != CONTROL_PARTITION and not (control and control.running):
                continue  # The epoch that this process brings into force must judge from its first batch on.
            role = self._role(partition)
            with self._guard:
                self._roles[partition] = role
            role.start()
        self._changed.set()

    def _forget(self, role: Role) -> None:
        """A role that ended because its partition went to another. What made it fail stays known."""
        if role.failure is not None and self._failure is None:
            self._failure = f"{role.partition} stopped: {role.failure}", role.failure
        with self._guard:
            self._roles.pop(role.partition, None)
        self._metrics.forget(role.partition)
        _log.info("%s: given up to another process.", role.partition)

    def _role(self, partition: str) -> Role:
        if partition == CONTROL_PARTITION:
            return ControlRole(self._parts, self._duties, self._local, self._others_alive)
        return DataRole(partition, self._parts)

    def _confirm(self, assignment: Assignment) -> None:
        with self._guard:
            roles = list(self._roles.values())
        for role in roles:
            processor = role.processor
            if role.running and processor is not None:
                assignment.confirm(role.partition, processor.tree.sealed_to)

    # The other threads

    def _measure(self) -> None:
        while not self._end.wait(_MEASURE_EVERY):
            try:
                for status in self.status():
                    metrics = self._metrics.of(status.partition)
                    metrics.lag_entries.set(status.lag_entries)
                    metrics.lag.set(status.lag_seconds)
                    metrics.checkpoint_size.set(status.checkpoint_size)
                self._probe()
            except JournalUnavailable as error:
                _log.warning("Where the logs stand is not known now: %s", error)

    def _probe(self) -> None:
        """In a group: whether the journal is as it was when this process began."""
        if self._alone or not isinstance(self._journal, SupportsProbe):
            return
        try:
            self._journal.probe().result(_PROBE_WITHIN)
            self._journal_trouble = ""
        except (AuditSpanError, TimeoutError) as error:
            self._journal_trouble = f"the journal: {error or 'no answer'}"

    def _positions(self) -> list[LogStatus]:
        with self._guard:
            signs = CONTROL_PARTITION in self._roles
        return self.status() if signs else []

    def _trim(self) -> None:
        # A thread of its own: giving back the space of a long arrears must not hold up a checkpoint.
        while not self._ending.wait(self._trim_seconds):
            try:
                self._trimmer.run_once()
            except JournalUnavailable as error:
                _log.warning("The journal is trimmed later: %s", error)
