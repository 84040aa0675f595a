"""Leaves of the control log that an export needs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from auditspan.errors import AuditSpanError

from .interval import Reader

__all__ = ["ControlLeaf", "ControlLeaves", "control_leaves", "control_log_of", "last_round_below", "needed_outside"]

_OPENED: Final = "audit.log.opened"
_ACTIVATED: Final = "audit.reference.activated"
_ROUND: Final = "audit.checkpoint"
_RECOVERED: Final = "audit.ledger.recovered"
_EXPORTED: Final = "evidence.exported"
_CONTROL: Final = "control"


@dataclass(frozen=True, slots=True)
class ControlLeaf:
    """A leaf of the control log; ``body`` is that of the control entry."""

    index: int
    header: bytes
    body: dict[str, Any]


@dataclass(slots=True)
class ControlLeaves:
    """What the control log says, up to a signed size."""

    opened: dict[str, ControlLeaf] = field(default_factory=dict)
    epochs: dict[int, ControlLeaf] = field(default_factory=dict)
    last_round: ControlLeaf | None = None
    recovered: ControlLeaf | None = None
    """What says that this deployment goes on for another one."""
    last_export: dict[str, Any] | None = None

    def opened_data_logs(self) -> list[ControlLeaf]:
        """The leaves that opened the data logs, in order of generation and partition.

        Processes that start at once may open a partition more than once; the first opening counts.
        """
        first: dict[tuple[str, int], ControlLeaf] = {}
        for leaf in sorted(self.opened.values(), key=lambda leaf: leaf.index):
            if leaf.body["partition"] != _CONTROL:
                first.setdefault((leaf.body["partition"], leaf.body["generation"]), leaf)
        found = [(leaf.body["generation"], leaf.body["partition"], leaf) for leaf in first.values()]
        found.sort(key=lambda one: (one[0], len(one[1]), one[1]))
        return [leaf for *_, leaf in found]

    def artifacts(self, epochs: Iterable[int]) -> list[str]:
        """SHA-256 of the artifacts of these epochs.

        Raises:
            AuditSpanError: an epoch is not sealed below the signed size yet.
        """
        missing = sorted(set(epochs) - set(self.epochs))
        if missing:
            raise AuditSpanError(
                f"Reference epoch {missing[0]} is not covered by a checkpoint of the control log yet.",
                remedy="Wait some seconds and export again.",
            )
        return [artifact["sha256"] for epoch in epochs for artifact in self.epochs[epoch].body["artifacts"]]


def control_log_of(store: Reader) -> str:
    """Id of the control log.

    Raises:
        AuditSpanError: there is none, or more than one.
    """
    rows = store.query(
        "SELECT log_id, header FROM auditspan.events "
        "WHERE class = 'audit.log.opened' AND leaf_index = 0 AND payload = ''"
    ).to_pylist()
    found = [row["log_id"] for row in rows if json.loads(row["header"])["body"].get("partition") == _CONTROL]
    if len(found) != 1:
        raise AuditSpanError(
            f"The store holds {len(found)} control logs.", remedy="Start `auditspan up` once, or restore the store."
        )
    return str(found[0])


def control_leaves(store: Reader, log_id: str, size: int) -> ControlLeaves:
    """Read the control log below ``size``. Of the rounds of checkpoints only the last one's content is read."""
    leaves = ControlLeaves()
    for leaf in _read(store, log_id, (_OPENED, _ACTIVATED), size):
        if "log_id" in leaf.body:
            # Leaf 0 binds the control log itself; the entry's leaf after it says the same once more.
            leaves.opened.setdefault(leaf.body["log_id"], leaf)
        else:
            leaves.epochs.setdefault(leaf.body["number"], leaf)
    leaves.recovered = next(iter(_read(store, log_id, (_RECOVERED,), size)), None)
    leaves.last_round = _last(store, log_id, _ROUND, size)
    export = _last(store, log_id, _EXPORTED, size)
    leaves.last_export = None if export is None else export.body
    return leaves


def last_round_below(store: Reader, log_id: str, size: int) -> ControlLeaf | None:
    """The last round of checkpoints among the first ``size`` leaves of the control log."""
    return _last(store, log_id, _ROUND, size)


def needed_outside(
    leaves: ControlLeaves,
    begin: int,
    end: int,
    logs: Sequence[str],
    epochs: Iterable[int],
    rounds: Iterable[ControlLeaf] = (),
) -> list[ControlLeaf]:
    """The leaves that a package needs and that do not lie in the control log's interval ``[begin, end)``.

    ``rounds`` are those that anchors need.
    """
    needed = [leaves.opened[log_id] for log_id in logs if log_id in leaves.opened]
    needed += [leaves.epochs[number] for number in epochs]
    needed += rounds
    needed += [leaf for leaf in (leaves.recovered, leaves.last_round) if leaf is not None]
    outside = {leaf.index: leaf for leaf in needed if not begin <= leaf.index < end}
    return [outside[index] for index in sorted(outside)]


def _read(store: Reader, log_id: str, classes: Sequence[str], size: int) -> list[ControlLeaf]:
    rows = store.log_leaves(log_id, list(classes)).to_pylist()
    return [_leaf(row) for row in rows if row["leaf_index"] < size]


def _last(store: Reader, log_id: str, name: str, size: int) -> ControlLeaf | None:
    rows = store.query(
        "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND class = {class:String} "
        "AND payload = '' AND leaf_index < {size:UInt64} ORDER BY leaf_index DESC LIMIT 1",
        {"log_id": log_id, "class": name, "size": size},
    ).to_pylist()
    return _leaf(rows[0]) if rows else None


def _leaf(row: dict[str, Any]) -> ControlLeaf:
    body = json.loads(row["header"])["body"]
    return ControlLeaf(int(row["leaf_index"]), row["header"], body["body"] if "actor" in body else body)
