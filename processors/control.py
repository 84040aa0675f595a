"""Which logs there are: what the control partition says, for processes that start at once, crash and race.

The journal decides. Of several ``audit.log.opened`` entries for one partition the first in the order of the control
partition counts; later ones are sealed like any control entry and name nothing. Only the owner of the control partition
opens logs, and only those that are not opened; everybody reads the outcome back.

The logs of the first generation are opened together, before anything else is journaled. A topic that others write may
come later, and its logs with it. The logs of a later generation are opened once every log before them is closed.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import (
    CONTROL_PARTITION,
    MOST_PARTITIONS,
    Entry,
    EntryKind,
    Journal,
    generation_of,
)
from auditspan.journal.onward import read_onward
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .batch import Opening
from .control_entries import INTERNAL, INTERNAL_AUTHENTICATION, ControlLog
from .restore import is_closed

__all__ = [
    "Logs",
    "entries_from",
    "find_logs",
    "open_logs",
    "open_next_generation",
    "opened_logs",
    "said_from",
    "strange_logs",
]

_WITH_OPENINGS: Final = frozenset({EventClass.LEDGER_RECOVERED, EventClass.KEY_ADDED})
"""What is journaled once, together with the first openings."""
_LOGS: Final = "SELECT log_id FROM auditspan.events GROUP BY log_id ORDER BY log_id"
_READ: Final = 1 << 20
_AT_ONCE: Final = 1000
_VISIBLE_WITHIN: Final = 30.0
"""Seconds for an acknowledged entry to be readable."""


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs of a deployment: the control log, and one for each data partition that is opened.

    ``data`` is in order of the journal's partitions, after those of earlier generations that the journal forgot.
    """

    control: Opening
    data: tuple[Opening, ...]

    def find(self, partition: str) -> Opening | None:
        """The log that ``partition`` feeds; None while it is not opened."""
        return next((opening for opening in (self.control, *self.data) if opening.partition == partition), None)

    def of(self, partition: str) -> Opening:
        """The log that ``partition`` feeds, which is opened."""
        found = self.find(partition)
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class _Opened:
    """What was found: openings by partition, and whether the control log has gone on to other things since."""

    openings: Mapping[str, Opening]
    classes: frozenset[str]
    complete: bool


def find_logs(journal: Journal, store: Store, deployment: str) -> Logs | None:
    """The logs of this journal; None while those that are opened at once are not all there.

    Those of a later generation are among them once they are opened.

    Raises:
        AuditSpanError: journal, store and deployment are not of one deployment.
        JournalUnavailable: the journal cannot be read.
        StoreUnavailable: the store cannot be read now.
    """
    sealed = _control_log_in_store(store)
    return _checked(journal, _opened(journal, store, sealed), sealed, deployment)


def open_logs(
    journal: Journal,
    store: Store,
    deployment: str,
    *,
    actor: str,
    first_entries: Sequence[tuple[str, JsonValue]] = (),
    clock: Callable[[], int] = time.time_ns,
) -> Logs:
    """The logs of this journal: those opened before, or new ones. For the owner of the control partition alone.

    What opens them is journaled in one step, the control log first, followed by ``first_entries`` (class, body) of
    ``actor``. What another owner has begun is completed, not begun again.

    Raises:
        AuditSpanError: journal and store are not of one deployment.
        JournalUnavailable: nothing could be made durable.
        StoreUnavailable: the store cannot be read now.
    """
    sealed = _control_log_in_store(store)
    if sealed is not None and not journal.high_water_mark(CONTROL_PARTITION):
        raise AuditSpanError(
            f"The store holds the logs of {sealed['journal']}, and the journal {journal.identity} is empty.",
            remedy="Put the journal back that belongs to this store, or start on an empty store.",
        )
    found = _opened(journal, store, sealed)
    logs = _checked(journal, found, sealed, deployment)
    if logs is not None:
        return logs
    missing = [partition for partition in _opened_at_once(journal) if partition not in found.openings]
    _refuse_too_many(len(found.openings) + len(missing))
    entries: list[tuple[str, str, JsonValue]] = [
        (EventClass.LOG_OPENED, actor, _new(deployment, journal, partition).body()) for partition in missing
    ]
    entries += [(name, actor, body) for name, body in first_entries if name not in found.classes]
    last = ControlLog(journal, clock).append_all(entries)
    # Another owner may have been faster: what counts is what stands first, so it is read back.
    journal.wait(CONTROL_PARTITION, last, _VISIBLE_WITHIN)
    logs = _checked(journal, _opened(journal, store, sealed), sealed, deployment)
    if logs is None:
        raise AuditSpanError(
            f"The journal {journal.identity} does not show the logs that were opened in it.",
            remedy="See whether its control partition loses entries: `auditspan kafka check` looks at its settings.",
        )
    return logs


def open_next_generation(
    journal: Journal, store: Store, logs: Logs, *, actor: str, clock: Callable[[], int] = time.time_ns
) -> bool:
    """Open what is missing of the first generation that is not opened, once every log of those before it is closed.

    Whether anything was opened: then ``logs`` are to be found anew. For the owner of the control partition alone.

    Raises:
        AuditSpanError: a log of an earlier generation can never be closed, since its partition is gone.
        JournalUnavailable: nothing could be made durable.
        StoreUnavailable: the store cannot be read now.
    """
    for generation, partitions in journal.generations.items():
        missing = [partition for partition in partitions if logs.find(partition) is None]
        if not missing:
            continue
        for opening in logs.data:
            if (generation_of(opening.partition) or generation) < generation and not is_closed(store, opening.log_id):
                _refuse_gone(journal, opening)
                return False
        _refuse_too_many(1 + len(logs.data) + len(missing))
        opened = [_new(logs.control.deployment, journal, partition, generation) for partition in missing]
        last = ControlLog(journal, clock).append_all(
            [(EventClass.LOG_OPENED, actor, opening.body()) for opening in opened]
        )
        journal.wait(CONTROL_PARTITION, last, _VISIBLE_WITHIN)
        return True
    return False


def _refuse_too_many(logs: int) -> None:
    """Before they are opened: a round of checkpoints must name all logs in one leaf."""
    if logs - 1 > MOST_PARTITIONS:
        raise AuditSpanError(
            f"This deployment would have {logs - 1} data logs; it may have {MOST_PARTITIONS}, closed ones included.",
            remedy="Give some of what others write to another deployment, or use fewer partitions.",
        )


def _refuse_gone(journal: Journal, opening: Opening) -> None:
    if opening.partition not in journal.partitions:
        raise AuditSpanError(
            f"The partition {opening.partition} is gone, and its log {opening.log_id} was not closed.",
            remedy="Events that were not sealed yet may be lost with its topic: find out who deleted it, and put it "
            "back from where it is kept.",
        )


def _opened_at_once(journal: Journal) -> list[str]:
    """What an owner opens when it takes over: the control log, the first generation, and what others write."""
    others = [name for name in journal.partitions if generation_of(name) is None]
    return [CONTROL_PARTITION, *journal.generations.get(1, ()), *others]


def _new(deployment: str, journal: Journal, partition: str, generation: int = 1) -> Opening:
    return Opening(deployment, journal.identity, partition, secrets.token_hex(16), 0, generation)


def _checked(journal: Journal, found: _Opened, sealed: Mapping[str, Any] | None, deployment: str) -> Logs | None:
    openings = found.openings
    at_once = {CONTROL_PARTITION, *journal.generations.get(1, ())}
    if (found.complete and not openings.keys() >= at_once) or any(
        opening.journal != journal.identity or not _belongs(journal, opening) for opening in openings.values()
    ):
        of = next(iter(openings.values())).journal if openings else "no journal"
        raise AuditSpanError(
            f"The control log opened {', '.join(sorted(openings))} of {of}; "
            f"the journal {journal.identity} has {', '.join([CONTROL_PARTITION, *journal.partitions])}.",
            remedy="Use the journal with which this deployment began, and the number of partitions of its generation.",
        )
    control = openings.get(CONTROL_PARTITION)
    if control is not None and sealed is not None and sealed["log_id"] != control.log_id:
        raise AuditSpanError(
            f"The store's control log is {sealed['log_id']}, the journal's is {control.log_id}.",
            remedy="Journal and store are not of one deployment: put the right pair together.",
        )
    if control is not None and control.deployment != deployment:
        raise AuditSpanError(
            f"These logs belong to the deployment {control.deployment!r}, not to {deployment!r}.",
            remedy="A deployment keeps its name, since every signature binds it: set the old one again.",
        )
    if control is None or not openings.keys() >= set(_opened_at_once(journal)):
        return None
    return Logs(control, tuple(openings[partition] for partition in _in_order(journal, openings)))


def _belongs(journal: Journal, opening: Opening) -> bool:
    """Whether a log is of this journal: of a partition that it has, or of a generation that it has forgotten."""
    if opening.partition in (CONTROL_PARTITION, *journal.partitions):
        return True
    generation = generation_of(opening.partition)
    return generation is not None and generation < min(journal.generations)


def _in_order(journal: Journal, openings: Mapping[str, Opening]) -> list[str]:
    """The opened data partitions: those that the journal has forgotten, then its own and those of others."""
    forgotten = openings.keys() - {CONTROL_PARTITION, *journal.partitions}
    order = sorted(forgotten, key=lambda name: (generation_of(name) or 0, len(name), name))
    return order + [partition for partition in journal.partitions if partition in openings]


def _opened(journal: Journal, store: Store, sealed: Mapping[str, Any] | None) -> _Opened:
    """The openings at the head of the control partition, or those in the store when they were trimmed or came later."""
    openings: dict[str, Opening] = {}
    classes: set[str] = set()
    wanted = {CONTROL_PARTITION, *journal.partitions}
    if journal.earliest(CONTROL_PARTITION):
        return _with_later(journal, store, sealed, openings, wanted)
    for entry in _entries(journal, 0):
        said = _said(entry)
        name = str(said.get("class"))
        classes.add(name)
        if name == EventClass.LOG_OPENED:
            opening = _opening(said["body"], entry.arrival_time)
            openings.setdefault(opening.partition, opening)
        elif name not in _WITH_OPENINGS:
            # Nothing else is journaled before the logs of our own topics are opened.
            return _with_later(journal, store, sealed, openings, wanted)
        if wanted <= openings.keys() and EventClass.KEY_ADDED in classes:
            break
    return _Opened(openings, frozenset(classes), complete=False)


def _with_later(
    journal: Journal,
    store: Store,
    sealed: Mapping[str, Any] | None,
    openings: dict[str, Opening],
    wanted: set[str],
) -> _Opened:
    """The openings with those that stand further on: sealed in the store, or not sealed yet."""
    offset = 0
    if sealed is not None and not wanted <= openings.keys():
        control = str(sealed["log_id"])
        leaves = store.log_leaves(control, [EventClass.LOG_OPENED])
        for leaf in map(json.loads, leaves["header"].to_pylist()):
            if "actor" in leaf["body"]:
                opening = _opening(leaf["body"]["body"], int(leaf["arrival_time"]))
                openings.setdefault(opening.partition, opening)
        last = store.last_batch(control)
        offset = int(json.loads(last)["body"]["to"]) if last is not None else 0
    if not wanted <= openings.keys():
        for entry in _entries(journal, offset):
            said = _said(entry)
            if said.get("class") == EventClass.LOG_OPENED:
                opening = _opening(said["body"], entry.arrival_time)
                openings.setdefault(opening.partition, opening)
    return _Opened(openings, _WITH_OPENINGS, complete=True)


def _entries(journal: Journal, offset: int) -> Iterator[Entry]:
    """Entries of the control partition from ``offset``, or from the first one that is still there."""
    for entries in read_onward(journal, CONTROL_PARTITION, offset, max_entries=_AT_ONCE, max_bytes=_READ):
        yield from entries


def said_from(journal: Journal, offset: int) -> Iterator[Mapping[str, Any]]:
    """What the control entries of this deployment's own say from ``offset`` on: ``class``, ``actor`` and ``body``.

    Raises:
        JournalUnavailable: the journal cannot be read.
    """
    return (said for _, said in entries_from(journal, offset) if said)


def entries_from(journal: Journal, offset: int) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The offset of each control entry from ``offset`` on, and what it says where it is this deployment's own.

    Raises:
        JournalUnavailable: the journal cannot be read.
    """
    return ((entry.offset, _said(entry)) for entry in _entries(journal, offset))


def _said(entry: Entry) -> Mapping[str, Any]:
    """What a control entry of this deployment's own says; anybody else's word opens nothing."""
    own = (entry.emitter, entry.authentication) == (INTERNAL, INTERNAL_AUTHENTICATION)
    if entry.kind is not EntryKind.CONTROL or not own:
        return {}
    said: Mapping[str, Any] = json.loads(entry.body)
    return said


def _control_log_in_store(store: Store) -> Mapping[str, Any] | None:
    found = store.query(
        "SELECT header FROM auditspan.events WHERE leaf_index = 0 AND class = {class:String} AND payload = ''",
        {"class": str(EventClass.LOG_OPENED)},
    )
    bodies = [json.loads(header)["body"] for header in found["header"].to_pylist()]
    return next((body for body in bodies if body["partition"] == CONTROL_PARTITION), None)


def _opening(body: Mapping[str, Any], opened_at: int) -> Opening:
    return Opening(
        deployment=body["deployment"],
        journal=body["journal"],
        partition=body["partition"],
        log_id=body["log_id"],
        opened_at=opened_at,
        generation=body["generation"],
    )


def opened_logs(journal: Journal, store: Store) -> tuple[Opening, ...]:
    """The logs of this journal, the control log first, by the journal's word as far as it goes back; none is opened.

    Raises:
        AuditSpanError: nothing was opened yet.
        JournalUnavailable: the journal cannot be read.
        StoreUnavailable: the store cannot be read now.
    """
    openings = _opened(journal, store, None).openings
    if not openings.keys() >= {CONTROL_PARTITION, *journal.partitions}:
        openings = _opened(journal, store, _control_log_in_store(store)).openings
    if CONTROL_PARTITION not in openings:
        raise AuditSpanError(
            f"The journal {journal.identity} has opened no log yet.",
            remedy="Start the service on it once, or name the directory of the deployment.",
        )
    return tuple(openings[partition] for partition in (CONTROL_PARTITION, *_in_order(journal, openings)))


def strange_logs(store: Store, opened: Sequence[Opening]) -> list[str]:
    """Ids of logs of which the store has leaves, and that are none of ``opened``.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    known = {one.log_id for one in opened}
    return [row["log_id"] for row in store.query(_LOGS).to_pylist() if row["log_id"] not in known]
