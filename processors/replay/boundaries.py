"""Where the batches of a log end: the inputs of a replay that only the stored ``audit.batch`` leaves name.

A boundary that was altered must be found too, so what a batch leaf says is not taken on trust: its neighbour says where
it ends as well, and a leaf that hides its class is looked at in its place. All that is possible is offered, the most
likely first; what derives the leaves that are stored is the one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from auditspan.errors import AuditSpanError
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from ..batch import Epoch

__all__ = ["Boundaries", "Boundary", "first_kept_batch", "stated_successor"]

_PAGE: Final = 64
_BATCHES: Final = (
    "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} "
    "AND leaf_index < {end:UInt64} AND class = 'audit.batch' AND payload = '' ORDER BY leaf_index LIMIT {page:UInt32}"
)
_LEAF: Final = (
    "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index = {leaf:UInt64} "
    "LIMIT 1"
)
_BEFORE: Final = (
    "SELECT header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} "
    "AND leaf_index < {end:UInt64} AND payload = '' ORDER BY leaf_index"
)
_LAST_OFFSET: Final = (
    "SELECT toInt64(max(JSONExtractInt(header, 'position', 1))) AS offset FROM auditspan.events "
    "WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64}"
)
_FIRST_KEPT: Final = (
    "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index < {end:UInt64} "
    "AND class = 'audit.batch' AND payload = '' AND JSONExtractInt(header, 'body', 'from') >= {earliest:Int64} "
    "ORDER BY leaf_index LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Boundary:
    """One batch: it consumed the journal up to ``to`` under ``epoch``, and ``leaf`` is its ``audit.batch``.

    One that consumed nothing closed its log.
    """

    leaf: int
    to: int
    epoch: Epoch
    software: str
    begin: int = 0
    """The journal offset and the leaf with which the leaf says that the batch begins."""
    first_leaf: int = 0
    consumes_nothing: bool = False
    """Whether the leaf says that the batch ends where it begins."""


class Boundaries:
    """The batches of one log below ``end`` in order.

    Args:
        store: where the leaves are.
        log_id: of which log.
        end: leaves that the log has.
        begin: the first leaf that is asked for.
        newest: the last epoch that was activated.
        before: the batch before ``begin``, where it is known.
        may_close: whether the log is one that may end.
    """

    def __init__(
        self,
        store: Store,
        log_id: str,
        end: int,
        begin: int,
        newest: Epoch,
        before: Boundary | None = None,
        *,
        may_close: bool = False,
    ) -> None:
        self._store = store
        self._log_id = log_id
        self._end = end
        self._newest = newest
        self._asked_to = begin
        self._ahead: list[Boundary] = []
        self._before = before
        self._may_close = may_close

    def at(self, first_leaf: int, offset: int, journal_end: int) -> list[Boundary]:
        """What the batch may be that begins with ``first_leaf`` at journal ``offset``; empty at the end of the log."""
        if first_leaf >= self._end:
            return []
        while self._ahead and self._ahead[0].leaf < first_leaf:
            self._before = self._ahead.pop(0)
        self._fill()
        found = list(self._offered(first_leaf, offset, journal_end))
        return [
            one
            for place, one in enumerate(found)
            if one not in found[:place] and (offset < one.to <= journal_end or self._closes(one, offset))
        ]

    def _closes(self, one: Boundary, offset: int) -> bool:
        """Whether a batch that begins at ``offset`` closes the log, as its own leaf or the one before it says."""
        if not self._may_close or one.to != offset:
            return False
        return one.consumes_nothing or stated_successor(self._store, self._log_id, one.leaf) is not None

    def _offered(self, first_leaf: int, offset: int, journal_end: int) -> Iterator[Boundary]:
        if not self._ahead:
            yield from self._last(first_leaf, offset, journal_end)
            return
        here = self._ahead[0]
        following = self._ahead[1] if len(self._ahead) > 1 else None
        if here.first_leaf > first_leaf and here.begin > offset:
            # Something stands between: a batch leaf whose class or header was altered.
            hidden = self._leaf(here.first_leaf - 1)
            if hidden is not None:
                yield hidden
            for like in (self._before, here):
                if like is not None:
                    yield replace(like, leaf=here.first_leaf - 1, to=here.begin)
        ends = {here.to}
        if following is not None and following.begin != here.to and following.first_leaf == here.leaf + 1:
            ends.add(following.begin)
        for to in sorted(ends):
            yield replace(here, to=to)
            for other in (self._before, following):
                if other is not None and other.epoch != here.epoch:
                    yield replace(here, to=to, epoch=other.epoch)
        if following is None:
            yield from self._last(first_leaf, offset, journal_end)

    def _last(self, first_leaf: int, offset: int, journal_end: int) -> Iterator[Boundary]:
        """The last batch when its leaf does not say: the journal, or the last leaf with a position, does."""
        here = self._leaf(self._end - 1)
        if here is not None:
            yield here
        like = here or self._before or Boundary(self._end - 1, 0, Epoch(), "")
        epochs = dict.fromkeys((like.epoch, self._newest))
        said = self._store.query(_LAST_OFFSET, {"log_id": self._log_id, "begin": first_leaf, "end": self._end})
        for to in (offset, int(said["offset"][0].as_py() or 0) + 1, journal_end):
            for epoch in epochs:
                yield replace(like, leaf=self._end - 1, to=to, epoch=epoch)

    def _fill(self) -> None:
        # The one after next says where the next one ends, so two are always at hand.
        while len(self._ahead) < 2 and self._asked_to < self._end:
            rows = self._store.query(
                _BATCHES, {"log_id": self._log_id, "begin": self._asked_to, "end": self._end, "page": _PAGE}
            ).to_pylist()
            self._asked_to = rows[-1]["leaf_index"] + 1 if len(rows) == _PAGE else self._end
            self._ahead += [found for row in rows if (found := _boundary(row)) is not None]

    def _leaf(self, leaf: int) -> Boundary | None:
        rows = self._store.query(_LEAF, {"log_id": self._log_id, "leaf": leaf}).to_pylist()
        return _boundary(rows[0]) if rows else None


def first_kept_batch(store: Store, log_id: str, end: int, earliest: int) -> Boundary | None:
    """The first batch whose entries the journal still has all, when it begins at ``earliest``; None when there is none.

    Raises:
        AuditSpanError: the store's answer is no batch leaf.
    """
    rows = store.query(_FIRST_KEPT, {"log_id": log_id, "end": end, "earliest": earliest}).to_pylist()
    if not rows:
        return None
    found = _boundary(rows[0])
    if found is None:
        raise AuditSpanError(
            f"Leaf {rows[0]['leaf_index']} of log {log_id} is no readable audit.batch leaf.",
            remedy="Keep the store as it is: it was altered. `auditspan doctor --full` says where else.",
        )
    return found


def stated_successor(store: Store, log_id: str, leaf: int) -> int | None:
    """How many logs go on, as the ``audit.log.closed`` before ``leaf`` says, or in its place; None without one."""
    rows = store.query(_BEFORE, {"log_id": log_id, "begin": max(leaf - 1, 0), "end": leaf + 1}).to_pylist()
    for row in rows:
        try:
            header = json.loads(row["header"])
            if header["class"] == EventClass.LOG_CLOSED:
                return int(header["body"]["successor"]["partitions"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _boundary(row: dict[str, Any]) -> Boundary | None:
    """What a leaf says when it is an ``audit.batch``."""
    try:
        header = json.loads(row["header"])
        body = header["body"]
        if header["class"] != EventClass.BATCH or not isinstance(body["software"], str):
            return None
        epoch = Epoch(int(body["epoch"]["number"]), str(body["epoch"]["digest"]))
        begin, to = int(body["from"]), int(body["to"])
        return Boundary(
            int(row["leaf_index"]), to, epoch, body["software"], begin, int(body["first_leaf"]), begin == to
        )
    except (ValueError, KeyError, TypeError):
        return None
