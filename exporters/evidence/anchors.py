"""Which anchors of the control log a package takes along (evidence format, sections 14 and 16)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .control import ControlLeaf, last_round_below
from .interval import Reader, encoded, subtrees_of

__all__ = ["PackagedAnchors", "packaged_anchors"]

_STRETCHES: Final = 48
"""Into how many the interval is cut; of each its last anchored checkpoint is taken."""

_THERE: Final = "SELECT 1 FROM system.tables WHERE database = 'auditspan' AND name = 'anchors'"
_OF_EACH: Final = (
    "SELECT max(size) AS newest, minIf(size, size >= {end:UInt64}) AS covering, maxIf(size, size <= {begin:UInt64}) "
    "AS earlier FROM auditspan.anchors WHERE log_id = {log_id:String} AND size <= {size:UInt64} GROUP BY kind, name"
)
_INSIDE: Final = (
    "SELECT max(size) AS largest FROM auditspan.anchors WHERE log_id = {log_id:String} AND size > {begin:UInt64} "
    "AND size < {end:UInt64} GROUP BY intDiv((size - {begin:UInt64}) * {stretches:UInt64}, "
    "{end:UInt64} - {begin:UInt64})"
)
_CONTENT: Final = (
    "SELECT size, kind, name, any(content) AS said FROM auditspan.anchors WHERE log_id = {log_id:String} "
    "AND size IN {sizes:Array(UInt64)} GROUP BY size, kind, name ORDER BY size, kind, name"
)
_NOTES: Final = (
    "SELECT size, any(checkpoints.note) AS note FROM auditspan.checkpoints WHERE log_id = {log_id:String} "
    "AND size IN {sizes:Array(UInt64)} GROUP BY size"
)


@dataclass(frozen=True, slots=True)
class PackagedAnchors:
    """``entries`` are the ``anchors`` of the manifest, from the smallest checkpoint to the largest.

    ``rounds`` are the ``audit.checkpoint`` leaves that say how much of each log they cover, as far as these lie outside
    the control log's interval. ``beyond`` is ``anchored`` of a log in the manifest: there where the first round that
    covers its interval states a size that the package shows nowhere else.
    """

    entries: list[dict[str, Any]]
    rounds: list[ControlLeaf]
    beyond: dict[str, dict[str, Any]]


def packaged_anchors(
    store: Reader, log_id: str, begin: int, end: int, size: int, logs: Mapping[str, tuple[int, int]]
) -> PackagedAnchors:
    """What a package takes along.

    Args:
        store: read from; one of an older schema has none.
        log_id: of the control log.
        begin: first leaf of its interval in the package.
        end: leaf after the last one.
        size: of the checkpoint that the package proves the control log against.
        logs: by id, the end of each data log's interval, and the size of its checkpoint in the package.
    """
    sizes = _chosen(store, log_id, begin, end, size)
    wanted = {"log_id": log_id, "sizes": sizes}
    notes = {row["size"]: row["note"] for row in store.query(_NOTES, wanted).to_pylist()} if sizes else {}
    said = store.query(_CONTENT, wanted).to_pylist() if sizes else []
    subtrees = subtrees_of(store, log_id)
    entries = []
    rounds: dict[int, ControlLeaf] = {}
    covering: dict[str, int] = {}
    for one in sizes:
        if one not in notes:
            continue
        content = [(row["kind"], row["said"]) for row in said if row["size"] == one]
        lines = "".join(f"{text}\n" for kind, text in content if kind == "cosignature")
        stamps = [text for kind, text in content if kind == "timestamp"]
        proof = encoded(subtrees.consistency(one, size))
        entries.append({"note": notes[one] + lines, "timestamps": stamps, "consistency": proof})
        leaf = last_round_below(store, log_id, one)
        if leaf is None:
            continue
        if not begin <= leaf.index < end:
            rounds[leaf.index] = leaf
        for stated in leaf.body["checkpoints"]:
            if stated["log_id"] in logs and stated["size"] >= logs[stated["log_id"]][0]:
                covering.setdefault(stated["log_id"], stated["size"])
    beyond = {
        name: {"size": reached, "consistency": encoded(subtrees_of(store, name).consistency(reached, logs[name][1]))}
        for name, reached in covering.items()
        if logs[name][0] < reached < logs[name][1]
    }
    return PackagedAnchors(entries, [rounds[index] for index in sorted(rounds)], beyond)


def _chosen(store: Reader, log_id: str, begin: int, end: int, size: int) -> Sequence[int]:
    """Sizes of anchored checkpoints, rising.

    Of every authority and witness: its newest, the first that covers the interval ``[begin, end)``, and the last before
    the interval. Of those inside, some at even distances, so that a package shows how long its leaves went without.
    """
    if not store.query(_THERE).num_rows:
        return []
    bounds = {"log_id": log_id, "begin": begin, "end": end, "size": size}
    # Aggregates over no row are 0, which is no size of an anchor.
    chosen = {row[name] for row in store.query(_OF_EACH, bounds).to_pylist() for name in row}
    if end - begin > 1:
        inside = store.query(_INSIDE, {"log_id": log_id, "begin": begin, "end": end, "stretches": _STRETCHES})
        chosen |= set(inside["largest"].to_pylist())
    return sorted(chosen - {0})
