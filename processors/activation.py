"""What an officer brings into force: checked as a whole, kept, journaled, and only then used.

Nothing is journaled before the complete new reference was loaded and checked, so a broken pack never replaces a good
one. Artifacts are durable in folder and store before the control entry that names them. Two activations at once: the
one whose entry stands first in the control partition counts, and the other is made anew upon it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import CONTROL_PARTITION, Journal, JournalUnavailable
from auditspan.policy.activation import Activation
from auditspan.policy.adoptions import ADOPTIONS, check_adopters, with_adoption
from auditspan.policy.clearances import CLEARANCES
from auditspan.policy.clearing import Clearing, check_clearers, with_clearing
from auditspan.policy.deployment import DEPLOYMENT, needs_second_person
from auditspan.policy.reference import Reference
from auditspan.policy.screening_list import SCREENING_LISTS
from auditspan.semconv import EventClass
from auditspan.store.contract import Store, StoreUnavailable

from .control import opened_logs, said_from
from .control_entries import ACTOR, ControlLog
from .epochs import activate, effective, keep_artifacts, last_epoch
from .references import References, epoch_of
from .trial import try_out

__all__ = ["Activated", "ActivationUncertain", "Activator", "Change", "NotActivated", "journaled_epochs"]

_log = logging.getLogger(__name__)

LONGEST_REASON: Final = 1000
_MOST_ARTIFACTS: Final = 200
"""A control leaf must name them all."""
_PLACES: Final = frozenset({"countries.csv", "country_groups.csv"})
_VISIBLE_WITHIN: Final = 30.0
_POLL: Final = 0.05


class NotActivated(AuditSpanError):
    """An officer's change that cannot be made; what was in force stays."""


class ActivationUncertain(AuditSpanError):
    """A change that is journaled, and comes into force unless another stands before it, which cannot be read now."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an officer wants.

    Args:
        officer: whose credential it is.
        reason: why, in 1 to 1000 characters.
        files: artifacts to activate, content by name.
        withdrawn: names of artifacts that officers activated and that are to go: what comes with the software or this
            deployment's start takes their place, if anything does. An activation from elsewhere takes what was in
            force before an officer's was.
        adopted: id of a pack whose proposals become company policy.
        cleared: a hit of a screening to be cleared, or a clearance to be seconded or ended.
    """

    officer: str
    reason: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    withdrawn: Sequence[str] = ()
    adopted: str | None = None
    cleared: Clearing | None = None


@dataclass(frozen=True, slots=True)
class Activated:
    """What came of a change.

    Args:
        before: control body of the epoch that was in force.
        body: control body of the epoch in force after it; ``before`` when the change changes nothing.
        offset: of its entry in the control partition; None when nothing was journaled: a dry run, or no change.
        sealed: whether the control log has sealed it within the time given.
        in_use: whether everything that arrives from now on is judged by it, as far as this process can know.
    """

    before: Mapping[str, Any]
    body: Mapping[str, Any]
    offset: int | None = None
    sealed: bool = False
    in_use: bool = False

    @property
    def changes(self) -> bool:
        """Whether there is a new epoch, or would be one."""
        return self.body != self.before


def journaled_epochs(journal: Journal, store: Store, control_log: str) -> list[Mapping[str, Any]]:
    """Control bodies of the epochs that are sealed or will be, in order: also those that are only journaled yet.

    Raises:
        JournalUnavailable: the journal cannot be read.
        StoreUnavailable: the store cannot be read now.
    """
    # Read before the leaves: what is sealed in between is then seen twice, and never not at all.
    last = store.last_batch(control_log)
    offset = int(json.loads(last)["body"]["to"]) if last is not None else 0
    leaves = store.log_leaves(control_log, [EventClass.REFERENCE_ACTIVATED])["header"].to_pylist()
    sealed = [json.loads(leaf)["body"]["body"] for leaf in leaves]
    waiting = [
        said["body"] for said in said_from(journal, offset) if said.get("class") == EventClass.REFERENCE_ACTIVATED
    ]
    return effective([*sealed, *waiting])


class Activator:
    """Activates what officers want. Safe for several threads.

    Args:
        journal: of the deployment, to append to.
        make_store: makes a store with a client of its own.
        references: with the artifacts that come with this process, and the folder that keeps artifacts.
        clock: now, in nanoseconds since 1970.
        starts: no service runs: what a start of this one would bring into force comes first, so that the change is
            checked together with it, and not with what an earlier version left.
        elsewhere: this process is none of those whose start brings artifacts into force: what comes with it, of an
            older version perhaps, or without the registry, takes nobody's place.
    """

    def __init__(
        self,
        journal: Journal,
        make_store: Callable[[], Store],
        references: References,
        clock: Callable[[], int] = time.time_ns,
        *,
        starts: bool = False,
        elsewhere: bool = False,
    ) -> None:
        self._journal = journal
        self._make_store = make_store
        self._references = references
        self._clock = clock
        self._entries = ControlLog(journal, clock)
        self._starts = starts
        self._elsewhere = elsewhere
        # Without it two at once would load their references for nothing, and one of them again.
        self._one_at_a_time = threading.Lock()

    def activate(self, change: Change, *, dry_run: bool = False, within: float = 0.0) -> Activated:
        """Bring a change into force, or in a dry run find out whether it could be.

        ``within`` is how many seconds to wait for the control log to seal it; journaled, it will be sealed in any case.

        Raises:
            PolicyError: an artifact is missing, broken or unknown; says which, where, and what to do.
            NotActivated: the change makes no sense upon what is in force.
            EpochUnavailable: what is in force is nowhere to be had.
            JournalUnavailable: nothing was journaled.
            StoreUnavailable: the store cannot be used now; nothing was journaled.
            ActivationUncertain: it is journaled, and whether it comes into force cannot be told now.
        """
        _check(change)
        store = self._make_store()
        try:
            control_log = opened_logs(self._journal, store)[0].log_id
            with self._one_at_a_time:
                done = self._activate(change, store, control_log, dry_run)
            if done.offset is None:
                return done
            sealed = self._sealed(store, control_log, int(done.body["number"]), within)
            return Activated(done.before, done.body, done.offset, sealed)
        finally:
            store.close()

    def _activate(self, change: Change, store: Store, control_log: str, dry_run: bool) -> Activated:
        while True:
            known = journaled_epochs(self._journal, store, control_log)
            if not known:
                raise NotActivated(
                    "No reference epoch was activated yet.", remedy="Start the service once: its own comes first."
                )
            before = self._started(known, store, dry_run) if self._starts else known[-1]
            if before is not known[-1] and not dry_run:
                continue
            reference = self._reference(change, before, store, known)
            if reference is None:
                return Activated(before, before)
            body = reference.to_control_body()
            if dry_run:
                return Activated(before, body)
            artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
            keep_artifacts(self._references.folder, artifacts)
            store.keep_artifacts(list(artifacts.values()))
            self._references.remember(epoch_of(body), reference)
            offset = self._entries.append(EventClass.REFERENCE_ACTIVATED, f"officer:{change.officer}", body)
            if self._stands(store, control_log, offset, body):
                self._references.told_journaled(reference.number)
                _log.info("%s activated reference epoch %d.", change.officer, reference.number)
                return Activated(before, body, offset)
            _log.info("Another activation came before that of %s, which is made anew upon it.", change.officer)

    def _started(self, known: Sequence[Mapping[str, Any]], store: Store, dry_run: bool) -> Mapping[str, Any]:
        """The epoch in force after a start; the last of ``known`` itself when that is no new one."""

        def append(name: str, body: JsonValue) -> None:
            if not dry_run:
                keep_artifacts(self._references.folder, self._references.own)
                store.keep_artifacts(list(self._references.own.values()))
                self._entries.append(name, ACTOR, body)

        return activate(known, self._references, store, append)

    def _reference(
        self, change: Change, before: Mapping[str, Any], store: Store, known: Sequence[Mapping[str, Any]]
    ) -> Reference | None:
        """The complete reference with the change, loaded and compiled; None when it changes nothing."""
        held = dict(Activation.of(before).held)
        artifacts = self._references.contents(before, store)
        in_force = dict(artifacts), dict(held)
        for name in change.withdrawn:
            if name not in held:
                raise NotActivated(
                    f"{name} is not in force by an officer's activation.",
                    remedy=f"Those that are: {', '.join(sorted(held)) or 'none'}.",
                )
            del held[name], artifacts[name]
            artifacts |= self._underneath(name, known, store)
        files = dict(change.files)
        if change.adopted is not None:
            files[ADOPTIONS] = with_adoption(
                artifacts.get(ADOPTIONS), change.adopted, change.officer, change.reason.strip()
            )
        if ADOPTIONS in files:
            check_adopters(files[ADOPTIONS], artifacts.get(ADOPTIONS), change.officer)
        if SCREENING_LISTS & files.keys():
            # A reference has one list, in whatever format it comes.
            for name in SCREENING_LISTS & artifacts.keys() - files.keys():
                del artifacts[name], held[name]
        if change.cleared is not None or CLEARANCES in files:
            files[CLEARANCES] = self._clearances(change, in_force[0])
        for name, content in files.items():
            # Activated once more as it is, it stays with who activated it first.
            if name not in held or artifacts.get(name) != content:
                held[name] = change.officer
            artifacts[name] = content
        if (artifacts, held) == in_force:
            return None
        if len(artifacts) > _MOST_ARTIFACTS:
            raise NotActivated(
                f"A reference may have {_MOST_ARTIFACTS} artifacts, and this one would have {len(artifacts)}.",
                remedy="Put rules that belong together into one pack, or withdraw what is not used.",
            )
        _check_second_person(in_force[0], artifacts)
        activation = Activation(officer=change.officer, reason=change.reason.strip(), held=held)
        reference = Reference.load(artifacts, int(before["number"]) + 1, activation, self._references.folder)
        proposing = {rule.pack for rule in reference.packs.rules if rule.authority == "proposal"}
        if change.adopted is not None and change.adopted not in proposing:
            raise NotActivated(
                f"The pack {change.adopted!r} has no proposals to adopt: what it says is in force already.",
                remedy=f"Packs with proposals: {', '.join(sorted(proposing)) or 'none'}.",
            )
        # A pack that was sound can name what a new table of countries no longer has.
        concerned = artifacts if _PLACES & {*files, *change.withdrawn} else files
        try_out(reference, files, concerned, self._clock())
        return reference

    def _clearances(self, change: Change, in_force: Mapping[str, bytes]) -> bytes:
        """The clearances as the officer wants them, and may."""
        second_person = needs_second_person(in_force.get(DEPLOYMENT))
        today = datetime.fromtimestamp(self._clock() / 1e9, UTC).date()
        text = change.files.get(CLEARANCES, in_force.get(CLEARANCES))
        if change.cleared is not None:
            reason = change.reason.strip()
            text = with_clearing(text, change.cleared, change.officer, reason, second_person=second_person, today=today)
        assert text is not None
        before = in_force.get(CLEARANCES)
        check_clearers(text, before, change.officer, second_person=second_person, today=today)
        return text

    def _stands(self, store: Store, control_log: str, offset: int, body: dict[str, JsonValue]) -> bool:
        """Whether the entry at ``offset`` is the one that counts, and not one that came before it.

        Raises:
            ActivationUncertain: it is journaled, and cannot be read back now.
        """
        try:
            if self._journal.wait(CONTROL_PARTITION, offset, _VISIBLE_WITHIN):
                return body in journaled_epochs(self._journal, store, control_log)
            why = "the journal does not show it"
        except (JournalUnavailable, StoreUnavailable) as error:
            why = str(error)
        raise ActivationUncertain(
            f"The activation is journaled at {offset}, and whether it counts cannot be read back: {why}",
            remedy="It comes into force unless another came before it: `auditspan policy show` says which one did.",
        )

    def _underneath(self, name: str, known: Sequence[Mapping[str, Any]], store: Store) -> dict[str, bytes]:
        """What takes the place of an officer's artifact, by name: nothing where only the officer brought one."""
        if not self._elsewhere:
            return {name: self._references.own[name]} if name in self._references.own else {}
        for body in reversed(known):
            if name not in Activation.of(body).held:
                ours = [artifact for artifact in body["artifacts"] if artifact["name"] == name]
                return self._references.contents({**body, "artifacts": ours}, store)
        raise NotActivated(
            f"{name} has been in force by officers' activations alone, and nothing says what would take its place.",
            remedy=f"Activate the {name} that is to be in force.",
        )

    def _sealed(self, store: Store, control_log: str, number: int, within: float) -> bool:
        deadline = time.monotonic() + within
        while True:
            try:
                body = last_epoch(store, control_log)
            except StoreUnavailable:
                body = None  # it is journaled all the same
            if body is not None and int(body["number"]) >= number:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)


def _check_second_person(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> None:
    """One officer alone does not lift what binds two: who runs the deployment does, by its setting."""
    if needs_second_person(before.get(DEPLOYMENT)) and not needs_second_person(after.get(DEPLOYMENT)):
        raise NotActivated(
            f"{DEPLOYMENT} would let one officer clear hits alone, where this deployment asks for two.",
            remedy="Write `clearance_second_person: true`, or change the setting `policy.clearance_second_person`.",
        )


def _check(change: Change) -> None:
    reason = change.reason.strip()
    if not 0 < len(reason) <= LONGEST_REASON:
        raise NotActivated(
            f"The reason has {len(reason)} characters.",
            remedy=f"Give one of 1 to {LONGEST_REASON}: it is sealed, and answers for the change years later.",
        )
    if not (change.files or change.withdrawn or change.adopted or change.cleared):
        raise NotActivated("There is nothing to activate.", remedy="Name the files.")
