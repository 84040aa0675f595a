"""Allocations of licenses: what events that need one take of it, in the one sequence that the control log is.

An owner of the control log reads what is sealed of the data logs, works out the next round, and journals it as one
``license.allocation`` entry. Before the round after it, it reads back what counts: another that believed it owned the
control log may have come first. What an owner knows is only what stands in the control partition, so whoever takes
over goes on where the last one ended, killed or not (docs/decisions/0012-license-allocation.md).
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from auditspan.journal.contract import CONTROL_PARTITION
from auditspan.licensing.allocation import Event
from auditspan.licensing.balances import MOST_IN_A_ROUND, Balances, round_of
from auditspan.licensing.sealed_events import events_in, read_events
from auditspan.policy.cases import REGISTRY_ARTIFACTS, registry
from auditspan.policy.errors import PolicyError
from auditspan.policy.licenses import LICENSE_COLUMNS, LICENSES, Licenses
from auditspan.policy.parties import Parties
from auditspan.policy.tables import parse_table
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .control import entries_from
from .control_entries import ACTOR
from .epochs import epochs
from .followers import Following

__all__ = ["Allocator", "sealed_rounds"]

_log = logging.getLogger(__name__)

_BUDGET: Final = 0.25
"""Seconds after which no further round is begun: signatures wait meanwhile."""
_VISIBLE_WITHIN: Final = 5.0
_WINDOW: Final = 250_000
"""Leaves that one statement looks through."""
_WARN_EVERY: Final = 60.0
_SEALED: Final = """
SELECT header FROM auditspan.events
WHERE log_id = {log_id:String} AND class = {class:String} AND payload = '' ORDER BY leaf_index
"""


@dataclass(frozen=True, slots=True)
class _Terms:
    """What an epoch says of licenses: the register, and by which names parties go."""

    register: Licenses
    parties: Parties


class Allocator:
    """A `Follower`. It begins with what is sealed and journaled in the control partition."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._balances: Balances | None = None
        self._offset = 0
        self._looked: dict[str, int] = {}
        self._terms: dict[int, tuple[str, ...]] = {}
        self._loaded: dict[tuple[str, ...], _Terms] = {}
        self._warned = 0.0

    def run_once(self, store: Store) -> int:
        """How many allocations were journaled.

        Raises:
            JournalUnavailable: nothing more could be journaled, or what was journaled cannot be read.
            StoreUnavailable: the store cannot be read now.
        """
        deadline, journaled = time.monotonic() + _BUDGET, 0
        while True:
            more = self._round(store)
            journaled += max(more, 0)
            if more < 0 or time.monotonic() >= deadline:
                return journaled

    def _round(self, store: Store) -> int:
        """Allocations journaled; -1 when there is nothing more to do now."""
        known = self._known(store)
        events, considered = self._next(store, known)
        if not considered:
            return -1
        body = round_of(known, events, considered)
        if body is None:
            # Nothing was asked for: whoever takes over finds the same, so nothing need be written down.
            self._looked.update(considered)
            return 0
        entries = self._following.entries
        offset = entries.append(EventClass.LICENSE_ALLOCATION, ACTOR, body)
        # What comes next must rest on what counts: another's round may stand before this one.
        if not entries.journal.wait(CONTROL_PARTITION, offset, _VISIBLE_WITHIN):
            return -1
        return len(body["allocations"])  # type: ignore[arg-type]

    def _known(self, store: Store) -> Balances:
        """The balances that the control partition comes to by now."""
        journal, control = self._following.entries.journal, self._following.control_log
        if self._balances is None:
            # Read before the leaves: what is sealed in between is then seen twice, and its number counts once.
            last = store.last_batch(control)
            offset = int(json.loads(last)["body"]["to"]) if last is not None else 0
            self._balances, self._offset = sealed_rounds(store, control), offset
        for offset, said in entries_from(journal, self._offset):
            if said.get("class") == EventClass.LICENSE_ALLOCATION:
                self._balances.apply(said["body"])
            self._offset = offset + 1
        return self._balances

    def _next(self, store: Store, known: Balances) -> tuple[list[tuple[Event, Licenses]], dict[str, int]]:
        """The next events, in order of logs and leaves, with their registers, and up to where that is."""
        logs = self._following.data_logs
        begins = {log: max(known.considered.get(log, 0), self._looked.get(log, 0)) for log in logs}
        ends = {log: store.next_leaf(log, begins[log]) for log in logs}
        behind = [log for log in logs if ends[log] > begins[log]]
        if not behind:
            return [], {}
        # After the ends: no leaf before them was judged under an epoch that is not among these.
        self._learn(store)
        most = max(1, MOST_IN_A_ROUND // len(behind))
        rows: list[Mapping[str, Any]] = []
        considered: dict[str, int] = {}
        for log in behind:
            end = min(ends[log], begins[log] + _WINDOW) if self._terms else ends[log]
            found = read_events(store, log, begins[log], end, sorted(self._terms), most) if self._terms else []
            considered[log] = int(found[-1]["leaf_index"]) + 1 if len(found) == most else end
            rows += found
            if len(rows) + most > MOST_IN_A_ROUND:
                break
        terms = {row["reference_epoch"]: self._of(row["reference_epoch"], store) for row in rows}
        missing = sorted(number for number, one in terms.items() if one is None)
        if missing:
            self._warn(missing[0])
            return [], {}
        sound = {number: one for number, one in terms.items() if one is not None}
        events = events_in(rows, {number: one.parties for number, one in sound.items()})
        return [(event, sound[event.epoch].register) for event in events], considered

    def _learn(self, store: Store) -> None:
        """The epochs that have a register, with the digests of what says its terms."""
        wanted = (LICENSES, *REGISTRY_ARTIFACTS)
        for body in epochs(store, self._following.control_log):
            digests = {artifact["name"]: str(artifact["sha256"]) for artifact in body["artifacts"]}
            if all(name in digests for name in wanted):
                self._terms[int(body["number"])] = tuple(digests[name] for name in wanted)

    def _of(self, epoch: int, store: Store) -> _Terms | None:
        """The terms of an epoch; None where they are not to be had, or cannot be read by this software."""
        key = self._terms[epoch]
        if key not in self._loaded:
            kept = [store.artifact(digest) for digest in key]
            if any(
                content is None or hashlib.sha256(content).hexdigest() != digest
                for content, digest in zip(kept, key, strict=True)
            ):
                return None
            register, *parties = (content or b"" for content in kept)
            try:
                terms = _Terms(
                    Licenses(parse_table(register, LICENSES, LICENSE_COLUMNS)),
                    registry(dict(zip(REGISTRY_ARTIFACTS, parties, strict=True))),
                )
            except PolicyError as error:
                _log.warning("Reference epoch %d cannot be read by this version: %s", epoch, error)
                return None
            # The one in force, and the one before it while what it judged is still considered.
            self._loaded = {**dict(list(self._loaded.items())[-1:]), key: terms}
        return self._loaded[key]

    def _warn(self, epoch: int) -> None:
        now = time.monotonic()
        if now - self._warned >= _WARN_EVERY or not self._warned:
            self._warned = now
            _log.critical(
                "No license is allocated: the register or the party registry of reference epoch %d is not to be had. "
                "Put the store back that keeps it; `auditspan doctor` says more.",
                epoch,
            )


def sealed_rounds(store: Store, control_log: str) -> Balances:
    """The balances that the sealed rounds of a control log come to.

    Raises:
        StoreUnavailable: the store cannot be read now.
    """
    found = Balances()
    for block in store.stream(_SEALED, {"log_id": control_log, "class": str(EventClass.LICENSE_ALLOCATION)}):
        for header in block.column("header").to_pylist():
            found.apply(json.loads(header)["body"]["body"])
    return found
