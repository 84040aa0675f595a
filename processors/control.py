"""The control log: which logs there are, and what processors and officers originate (evidence format, section 11)."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auditspan.canonical import JsonValue, canonical_json
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import CONTROL_PARTITION, EntryKind, Journal, NewEntry, PositionLost
from auditspan.ledger.commitments import LARGEST_LEAF
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .batch import Opening

__all__ = ["INTERNAL", "ControlLog", "Logs", "heartbeat", "open_logs", "opened_logs"]

INTERNAL: Final = "auditspan"
"""Emitter of the pipeline's own entries."""

_READ: Final = 1 << 20
_OVERHEAD: Final = 1024


@dataclass(frozen=True, slots=True)
class Logs:
    """The logs of a deployment: the control log, and one for each data partition in order."""

    control: Opening
    data: tuple[Opening, ...]


class ControlLog:
    """Journals control entries. Safe to call from several threads.

    Args:
        journal: where to; the control partition exists in every journal.
        clock: now, in nanoseconds since 1970.
    """

    def __init__(self, journal: Journal, clock: Callable[[], int] = time.time_ns) -> None:
        self._journal = journal
        self._clock = clock

    def append(self, name: str, actor: str, body: JsonValue) -> int:
        """Journal one entry of class ``name``; its offset, once it is durable. It is sealed soon after.

        Raises:
            ValueError: ``body`` has no canonical form, or is too long for a leaf.
            JournalUnavailable: nothing was made durable.
        """
        return self._journal.append([self._entry(name, actor, body)]).result()[0]

    def append_all(self, entries: Sequence[tuple[str, str, JsonValue]]) -> None:
        """Journal ``(class, actor, body)`` entries, all or none, with one arrival time."""
        now = self._clock()
        self._journal.append([self._entry(*entry, now=now) for entry in entries]).result()

    def _entry(self, name: str, actor: str, body: JsonValue, now: int | None = None) -> tuple[str, NewEntry]:
        said = canonical_json({"class": name, "actor": actor, "body": body})
        if len(said) > LARGEST_LEAF - _OVERHEAD:
            raise ValueError(f"a control entry of {len(said)} bytes does not fit a leaf")
        arrival = self._clock() if now is None else now
        return CONTROL_PARTITION, NewEntry(EntryKind.CONTROL, INTERNAL, "internal", arrival, "jcs", said)


def heartbeat(now: int) -> NewEntry:
    """The entry that says that a partition was alive at ``now`` (ns) while nothing came."""
    return NewEntry(EntryKind.HEARTBEAT, INTERNAL, "internal", now, "jcs", b"{}")


def open_logs(
    journal: Journal,
    store: Store,
    deployment: str,
    *,
    actor: str,
    first_entries: Sequence[tuple[str, JsonValue]] = (),
    clock: Callable[[], int] = time.time_ns,
) -> Logs:
    """The logs of this journal: those it opened before, or new ones.

    What opens them is journaled in one step, the control log first, followed by ``first_entries`` (class, body) of
    ``actor``.

    Raises:
        AuditSpanError: journal and store are not of one deployment.
        JournalUnavailable: nothing could be made durable.
        StoreUnavailable: the store cannot be read now.
    """
    wanted = [CONTROL_PARTITION, *journal.partitions]
    sealed = _control_log_in_store(store)
    if not journal.high_water_mark(CONTROL_PARTITION):
        if sealed is not None:
            raise AuditSpanError(
                f"The store holds the logs of {sealed['journal']}, and the journal {journal.identity} is empty.",
                remedy="Put the journal back that belongs to this store, or start on an empty store.",
            )
        _open_new(journal, deployment, wanted, actor, first_entries, clock)
    opened = _opened_in_journal(journal) or _opened_in_store(store, sealed)
    found = {opening.partition: opening for opening in opened}
    if sorted(found) != sorted(wanted) or any(opening.journal != journal.identity for opening in opened):
        raise AuditSpanError(
            f"The control log opened {', '.join(sorted(found))} of {opened[0].journal if opened else 'no journal'}; "
            f"the journal {journal.identity} has {', '.join(wanted)}.",
            remedy="Use the journal with which this deployment began; its number of partitions is fixed.",
        )
    if sealed is not None and sealed["log_id"] != found[CONTROL_PARTITION].log_id:
        raise AuditSpanError(
            f"The store's control log is {sealed['log_id']}, the journal's is {found[CONTROL_PARTITION].log_id}.",
            remedy="Journal and store are not of one deployment: put the right pair together.",
        )
    if found[CONTROL_PARTITION].deployment != deployment:
        raise AuditSpanError(
            f"These logs belong to the deployment {found[CONTROL_PARTITION].deployment!r}, not to {deployment!r}.",
            remedy="A deployment keeps its name, since every signature binds it: set the old one again.",
        )
    return Logs(found[CONTROL_PARTITION], tuple(found[partition] for partition in journal.partitions))


def _open_new(
    journal: Journal,
    deployment: str,
    partitions: Sequence[str],
    actor: str,
    first_entries: Sequence[tuple[str, JsonValue]],
    clock: Callable[[], int],
) -> None:
    entries: list[tuple[str, str, JsonValue]] = []
    for partition in partitions:
        opening = Opening(deployment, journal.identity, partition, secrets.token_hex(16), 0)
        entries.append((EventClass.LOG_OPENED, actor, opening.body()))
    entries += [(name, actor, body) for name, body in first_entries]
    ControlLog(journal, clock).append_all(entries)


def _opened_in_journal(journal: Journal) -> list[Opening]:
    """The openings at the head of the control partition; none when they were trimmed."""
    openings: list[Opening] = []
    offset = 0
    while True:
        try:
            entries = journal.read(CONTROL_PARTITION, offset, max_entries=1000, max_bytes=_READ)
        except PositionLost:
            return []
        for entry in entries:
            said = json.loads(entry.body) if entry.kind is EntryKind.CONTROL else {}
            if said.get("class") != EventClass.LOG_OPENED:
                # All are journaled in one step, before anything else.
                return openings
            openings.append(_opening(said["body"], entry.arrival_time))
        if not entries:
            return openings
        offset = entries[-1].offset + 1


def _opened_in_store(store: Store, control: Mapping[str, Any] | None) -> list[Opening]:
    if control is None:
        return []
    leaves = store.log_leaves(control["log_id"], [EventClass.LOG_OPENED])
    said = [json.loads(header) for header in leaves["header"].to_pylist()]
    return [_opening(leaf["body"]["body"], int(leaf["arrival_time"])) for leaf in said if "actor" in leaf["body"]]


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
    """The logs that this journal and this store hold, the control log first; none are opened.

    Raises:
        AuditSpanError: nothing was opened yet.
        JournalUnavailable: the journal cannot be read now.
        StoreUnavailable: the store cannot be read now.
    """
    opened = _opened_in_journal(journal) or _opened_in_store(store, _control_log_in_store(store))
    if not opened:
        raise AuditSpanError(
            f"The journal {journal.identity} has opened no log yet.",
            remedy="Start the service on it once, or name the directory of the deployment.",
        )
    return tuple(sorted(opened, key=lambda opening: opening.partition != CONTROL_PARTITION))
