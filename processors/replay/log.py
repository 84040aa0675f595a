"""One log derived again from the journal, batch by batch, in constant memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import CONTROL_PARTITION, Journal, generation_of
from auditspan.ledger.hashing import Digests, leaf_hashes
from auditspan.policy.reference import software
from auditspan.store.contract import Store, StoreUnavailable

from ..batch import Derived, Determine, LogContext, LogState, Opening, derive
from ..earlier_logs import PayloadsAcross
from ..identity import Identities
from ..intake import decode_entries
from ..own_batches import Successor, derive_closing, derive_lost
from ..restore import is_closed, restore_state
from .as_of import StoreAsOf
from .boundaries import Boundaries, Boundary, first_kept_batch, stated_successor
from .by_headers import check_by_headers
from .compare import RENDERED, STORED, Difference, Run, differences, report, runs
from .reference import Epochs, StoredFacts
from .report import Findings, LogReport
from .signed import SignedTrees
from .trees import Trees
from .window import EntriesGone, EntryWindow

__all__ = ["LogReplay"]

_GROUP_ROWS: Final = 8_192
_GROUP_BATCHES: Final = 256
_JUDGED: Final = RENDERED | {
    "facts", "destination_country", "eccn", "determination", "flagged", "rule_ids", "header",
}  # fmt: skip
"""Columns in which another determination shows."""


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """A batch derived under one boundary, and where it differs from what is stored."""

    boundary: Boundary
    derived: Derived
    found: list[Difference]

    @property
    def fits(self) -> bool:
        """Whether it ends with the leaf with which the stored batch does."""
        return self.derived.first_leaf + len(self.derived.leaves) == self.boundary.leaf + 1

    @property
    def good(self) -> bool:
        """Whether at most the batch leaf itself differs."""
        return self.fits and all(one.leaf == self.boundary.leaf for one in self.found)

    @property
    def merit(self) -> tuple[bool, int]:
        """The greater, the more likely is the boundary."""
        return self.fits, -sum(one.count for one in self.found)


class LogReplay:
    """Replays one log; `run` once.

    Args:
        journal: entries come from here alone.
        store: what is compared; also asked for payloads of identities that repeat, as a processor does.
        opening: of the log.
        earlier: ids of the logs of earlier generations; what they sealed is taken as it is stored.
        salt_key: 32 bytes.
        epochs: how each epoch judged.
        signed: the trees that were signed.
        findings: of this log.
        progress: is told how many more leaves are done.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        opening: Opening,
        earlier: tuple[str, ...],
        salt_key: bytes,
        epochs: Epochs,
        signed: SignedTrees,
        findings: Findings,
        progress: Callable[[int], None],
    ) -> None:
        self._journal = journal
        self._store = store
        self._opening = opening
        self._earlier = earlier
        self._salt_key = salt_key
        self._epochs = epochs
        self._signed = signed
        self._findings = findings
        self._progress = progress
        self._log_id = opening.log_id
        self._partition = opening.partition
        self._as_of = StoreAsOf(store, opening.log_id)
        self._payloads = PayloadsAcross(self._as_of, earlier)
        self._trees = Trees(signed, store, opening.log_id, findings)
        self._window = EntryWindow(journal, opening.partition)
        self._careful_to = 0
        self._previous: Boundary | None = None
        self._closed = False
        self._batches = 0
        self._entries = 0

    def run(self, end: int) -> LogReport:
        """Replay the leaves ``[0, end)``.

        Raises:
            AuditSpanError: journal or store cannot be read, or the journal was trimmed meanwhile.
        """
        state = self._begin(end)
        journal_end = self._journal.high_water_mark(self._partition) if self._there else 0
        begin = state.next_leaf
        while state.next_leaf < end and not self._findings.too_many:
            if self._closed:
                self._findings.add(
                    "leaf.extra", state.next_leaf, "no leaf: the log was closed", f"{end - state.next_leaf:,} leaves"
                )
                break
            if state.next_leaf >= self._careful_to and self._take_group(state, end, journal_end):
                continue
            offered = self._boundaries(state, end).at(state.next_leaf, state.next_offset, journal_end)
            if not offered:
                self._findings.add(
                    "journal.short",
                    state.next_leaf,
                    f"entries of {self._partition} from {state.next_offset} on, of which leaves are sealed",
                    f"the journal ends at {journal_end}",
                )
                break
            self._take(self._chosen(offered, state), state)
        self._finish(state, end, journal_end)
        return LogReport(
            partition=self._partition,
            log_id=self._log_id,
            leaves=end,
            replayed_from=begin,
            batches=self._batches,
            entries=self._entries,
            root=self._trees.root().hex(),
            checkpoints=self._signed.opened,
            signed_to=self._trees.signed_to,
            faults=self._findings.faults,
            fault_counts=dict(sorted(self._findings.counts.items())),
            notes=self._findings.notes,
            not_derived=self._findings.incomplete,
        )

    def _begin(self, end: int) -> LogState:
        """The state before the first batch that the journal still has; what lies before is checked by its headers."""
        if not end:
            return LogState()
        if not self._there:
            ended = generation_of(self._partition) is None or is_closed(self._store, self._log_id)
            lost = "" if ended else ", and the log was not closed before"
            return self._not_derived(f"The journal no longer has the partition {self._partition}{lost}", end)
        earliest = self._journal.earliest(self._partition)
        if not earliest and not self._earlier:
            return LogState()
        first = first_kept_batch(self._store, self._log_id, end, earliest) if earliest else None
        begin = 0 if not earliest else first.first_leaf if first is not None else end
        trimmed = f"The journal was trimmed to entry {earliest:,}"
        if begin >= end:
            return self._not_derived(trimmed, end)
        self._as_of.before = begin
        try:
            state = restore_state(
                self._as_of,  # type: ignore[arg-type]  # what it asks is there
                self._log_id,
                self._earlier,
                self._opening.opened_at,
            )
        except StoreUnavailable:
            raise
        except AuditSpanError as error:
            return self._not_derived(f"What was sealed before cannot be read ({error})", end)
        if begin:
            self._by_headers(
                f"{trimmed}: leaves from {begin:,} on were derived again, the {begin:,} before them", begin
            )
        return state

    @property
    def _there(self) -> bool:
        return self._partition in (CONTROL_PARTITION, *self._journal.partitions)

    def _not_derived(self, why: str, end: int) -> LogState:
        """Look at all leaves without the journal; the state after them, as far as anybody asks for it then."""
        self._by_headers(f"{why}: no leaf can be derived again, the {end:,} that are sealed", end)
        offset = self._journal.high_water_mark(self._partition) if self._there else 0
        return LogState(next_leaf=end, next_offset=offset)

    def _by_headers(self, what: str, end: int) -> None:
        self._findings.not_derived(f"{what} were checked by their headers and the signed trees.")
        check_by_headers(self._store, self._log_id, end, self._salt_key, self._trees, self._findings, self._progress)

    def _boundaries(self, state: LogState, end: int) -> Boundaries:
        return Boundaries(
            self._store,
            self._log_id,
            end,
            state.next_leaf,
            self._epochs.newest,
            self._previous,
            may_close=generation_of(self._partition) is not None,
        )

    def _take_group(self, state: LogState, end: int, journal_end: int) -> bool:
        """Derive some batches and compare them together, which costs a fraction of one by one; whether all was well.

        When it was not, ``state`` is as before, and the batches are for `_chosen` to look at.
        """
        before = _copy(state)
        boundaries = self._boundaries(state, end)
        group: list[Derived] = []
        last: Boundary | None = None
        rows, rendered = 0, True
        while rows < _GROUP_ROWS and len(group) < _GROUP_BATCHES and state.next_leaf < end:
            boundary = next(iter(boundaries.at(state.next_leaf, state.next_offset, journal_end)), None)
            determine = self._epochs.determine(boundary.epoch) if boundary is not None else None
            if boundary is None or isinstance(determine, str):
                break
            closes = boundary.to == state.next_offset
            derived = self._derived(boundary, state, determine)
            derived.apply(state)
            group.append(derived)
            last = boundary
            rows += len(derived.leaves)
            rendered = rendered and boundary.software == software()
            if closes or state.next_leaf != boundary.leaf + 1:
                break
        if not group:
            return False
        leaves = pa.concat_tables([derived.leaves for derived in group])
        if self._differences(leaves, before.next_leaf, rendered):
            self._careful_to = state.next_leaf
            _restore(state, before)
            return False
        for derived in group:
            self._count(derived, before)
            before.next_offset = derived.next_offset
            self._trees.extend(derived.leaf_hashes, None, derived.leaves["header"][-1].as_py())
        self._previous = last
        self._progress(rows)
        return True

    def _derived(self, boundary: Boundary, state: LogState, determine: Determine | None) -> Derived:
        self._as_of.before = state.next_leaf
        context = LogContext(self._opening, self._salt_key, boundary.epoch, boundary.software, determine, self._earlier)
        if boundary.to == state.next_offset:
            return derive_closing(self._successor(boundary), state, context)
        try:
            entries = self._window.take(state.next_offset, boundary.to)
        except EntriesGone as gone:
            if gone.resumes_at != boundary.to:
                raise
            # They were gone when the batch was sealed, and it says so.
            return derive_lost(self._window.take(boundary.to, boundary.to + 1)[0], state, context)
        return derive(entries, decode_entries(entries), state, context, self._payloads)

    def _successor(self, boundary: Boundary) -> Successor:
        """What goes on after this log, by the journal's word where it has that generation, else by the log's own."""
        generation = self._opening.generation + 1
        there = self._journal.generations.get(generation)
        if there is not None:
            return Successor(generation, len(there))
        return Successor(generation, stated_successor(self._store, self._log_id, boundary.leaf) or 0)

    def _chosen(self, offered: list[Boundary], state: LogState) -> _Attempt:
        best: _Attempt | None = None
        for boundary in offered:
            attempt = self._attempt(boundary, state)
            if best is None or attempt.merit > best.merit:
                best = attempt
            if best.good:
                break
        assert best is not None
        return best

    def _attempt(self, boundary: Boundary, state: LogState) -> _Attempt:
        determine = self._epochs.determine(boundary.epoch)
        offsets = range(state.next_offset, boundary.to)

        def derived_with(judge: Determine | None) -> _Attempt:
            derived = self._derived(boundary, state, judge)
            rendered = not isinstance(determine, str) and judge is determine and boundary.software == software()
            return _Attempt(boundary, derived, self._differences(derived.leaves, derived.first_leaf, rendered))

        if not isinstance(determine, str):
            attempt = derived_with(determine)
            if determine is None or not any(one.column in _JUDGED for one in attempt.found):
                return attempt
            stored = derived_with(self._facts_of(offsets, state.next_leaf, len(attempt.derived.leaves)).determine)
            if stored.found or not stored.fits:
                return attempt
            return self._judged_otherwise(attempt, stored)
        if self._epochs.known(boundary.epoch):
            self._findings.not_derived(f"Determinations were taken from the stored facts: {determine}.")
        leaves = boundary.leaf + 1 - state.next_leaf
        return derived_with(self._facts_of(offsets, state.next_leaf, max(leaves, 0)).determine)

    def _judged_otherwise(self, attempt: _Attempt, stored: _Attempt) -> _Attempt:
        """The batch is what its stored facts give, and this software judges otherwise."""
        made_by, own = attempt.boundary.software, software()
        if made_by != own:
            self._findings.note(f"{made_by} determined otherwise than {own} does; its stored facts were replayed.")
            return stored
        leaves = sorted({one.leaf for one in attempt.found if one.column == "header"})
        found = [
            Difference(leaf, "determination.differs", "determination", "what the epoch's packs give", "other facts")
            for leaf in leaves
        ]
        return _Attempt(attempt.boundary, attempt.derived, found or attempt.found)

    def _facts_of(self, offsets: range, first_leaf: int, leaves: int) -> StoredFacts:
        blocks = list(self._store.columns(self._log_id, first_leaf, first_leaf + leaves, ("header", "facts")))
        rows = pa.Table.from_batches(blocks) if blocks else pa.table({"header": [], "facts": []})
        headers, facts = (pa.chunked_array(rows[name].chunks, pa.binary()) for name in ("header", "facts"))
        return StoredFacts(offsets, _one(headers), _one(facts))

    def _differences(self, leaves: pa.Table, begin: int, rendered: bool) -> list[Difference]:
        columns = [name for name in leaves.column_names if rendered or name not in RENDERED]
        found: list[Difference] = []
        for run in self._runs(begin, begin + len(leaves), found):
            found += differences(run, leaves.slice(run.begin - begin, len(run.rows)), columns)
        return found

    def _runs(self, begin: int, end: int, odd: list[Difference]) -> Iterator[Run]:
        return runs(self._store.columns(self._log_id, begin, end, STORED), begin, end, odd)

    def _take(self, chosen: _Attempt, state: LogState) -> None:
        """Go on from a batch, whatever was found in it."""
        derived = chosen.derived
        report(self._findings, sorted(chosen.found, key=lambda one: one.leaf))
        hashes = derived.leaf_hashes
        stored = None
        if any(one.column in ("header", None) for one in chosen.found):
            stored = self._stored_hashes(derived, hashes)
        last = derived.leaves["header"][-1].as_py()
        self._trees.extend(hashes, stored, last)
        self._count(derived, state)
        self._progress(len(derived.leaves))
        derived.apply(state)
        self._previous = chosen.boundary

    def _count(self, derived: Derived, before: LogState) -> None:
        self._batches += 1
        self._entries += derived.next_offset - before.next_offset
        if derived.next_offset != before.next_offset:
            return
        self._closed = True
        if max(self._journal.generations) <= self._opening.generation:
            leaf = derived.first_leaf + len(derived.leaves) - 2
            self._findings.add(
                "leaf.differs", leaf, "a log that goes on: the journal has no later generation", "audit.log.closed"
            )

    def _stored_hashes(self, derived: Derived, hashes: Digests) -> Digests:
        """Hashes of what stands in the store; of what is missing, the derived ones."""
        begin = derived.first_leaf
        found = hashes.copy()
        blocks = self._store.leaves(self._log_id, begin, begin + len(hashes))
        for run in runs(blocks, begin, begin + len(hashes), []):
            found[run.begin - begin : run.end - begin] = leaf_hashes(run.rows.column("header").cast(pa.binary()))
        return found

    def _finish(self, state: LogState, end: int, journal_end: int) -> None:
        if self._findings.too_many:
            self._findings.note(f"Too much differs: nothing after leaf {self._trees.size:,} was looked at.")
            return
        if state.next_leaf > end:
            self._findings.note(f"The journal gives {state.next_leaf - end:,} leaves more than are stored.")
        self._trees.finish()
        left = journal_end - state.next_offset
        if left > 0 and self._closed:
            self._findings.note(
                f"{left:,} journal entries came after the end at which the log was closed: who appended them got no "
                "acknowledgement, and nothing seals them."
            )
        elif left > 0:
            self._findings.note(f"{left:,} journal entries are not sealed yet.")
        if self._trees.signed_to < self._trees.size and not self._findings.counts:
            self._findings.note(f"The last {self._trees.size - self._trees.signed_to:,} leaves are not signed yet.")


def _one(column: pa.ChunkedArray) -> pa.Array:
    array = column.combine_chunks()
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


def _copy(state: LogState) -> LogState:
    """The same state, which what is applied to ``state`` does not change."""
    # Streams and runs of identities are never changed in place, so copying what holds them is enough.
    identities = Identities(dict(state.identities.streams), copy.copy(state.identities.foreign))
    return LogState(state.next_leaf, state.next_offset, state.watermark, identities, dict(state.waiting))


def _restore(state: LogState, before: LogState) -> None:
    state.next_leaf, state.next_offset, state.watermark = before.next_leaf, before.next_offset, before.watermark
    state.identities, state.waiting = before.identities, before.waiting
