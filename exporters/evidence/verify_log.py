"""All checks over the leaves of one log. What one log says of itself needs no other, so logs may be checked at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from auditspan.ledger.checkpoint import Checkpoint
from auditspan.ledger.hashing import leaf_hashes

from .columns import one_array
from .headers import ParsedHeaders
from .judging import Judges
from .layout import EVENT_FILE, WITHHELD_FILE
from .leaf_files import LeafFiles
from .observations import Observations
from .package import Package, PathRefused
from .query import Query, compile_query
from .report import Faults, shown
from .statement import LogEvidence
from .verify_batches import BatchCheck
from .verify_control import ControlState
from .verify_determinations import Determinations, DeterminationsFound
from .verify_leaves import LeafCheck
from .verify_tree import KnownRoots, TreeCheck
from .windows import Window, merge

__all__ = ["LogResult", "LogTask", "NamedEpochs", "verify_log"]

NamedEpochs = dict[int, tuple[str | None, tuple[str, int]]]
"""By the number of an epoch: the digest that a batch gives it, and the first leaf that names it."""
_COUNTED: Final = ("audit.conflict", "audit.quarantined", "audit.gap", "audit.log.closed")
_SUMMED: Final = ("leaves", "proven", "selected", "withheld", "flagged", "duplicates_suppressed")


@dataclass(frozen=True, slots=True)
class LogTask:
    """One log of a package, with what the manifest and the control log say of it; plain data.

    Attributes:
        log: the log.
        deployment, time_from, time_to, where: from the manifest. ``where`` is None too where it cannot be read.
        checkpoint: the signed one; None where there is none.
        signed: paths whose bytes a trusted key signed.
        known: roots that the control log states, by size.
        control_id: id of the control log.
        epochs: by number, SHA-256 of the artifacts by name.
        software: name and version of the verifier.
    """

    log: LogEvidence
    deployment: str
    time_from: int
    time_to: int
    where: str | None
    checkpoint: Checkpoint | None
    signed: frozenset[str]
    known: KnownRoots
    control_id: str
    epochs: Mapping[int, Mapping[str, str]]
    software: str


@dataclass(slots=True)
class LogResult:
    """What was found in one log."""

    faults: Faults = field(default_factory=Faults)
    seen: Observations = field(default_factory=Observations)
    summary: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    named: NamedEpochs = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    determinations: DeterminationsFound = field(default_factory=DeterminationsFound)
    watermark: int | None = None
    """The last arrival watermark (ns) that a batch of the interval states."""


def verify_log(
    package: Package,
    task: LogTask,
    judges: Judges | None = None,
    control: ControlState | None = None,
    progress: Callable[[int], None] = lambda leaves: None,
) -> LogResult:
    """Check the leaves of one log.

    Args:
        package: the open package.
        task: the log.
        judges: make determinations again; None to make none.
        control: for the control log, what takes note of its leaves.
        progress: is told how many leaves more are done.
    """
    result = LogResult()
    log, faults = task.log, result.faults
    query: Query | None = None if task.where is None else compile_query(task.where)
    made: Determinations | None = None
    if judges is not None:
        made = Determinations(package, task.signed, task.epochs, task.software, judges, found=result.determinations)
    sides = [
        LeafFiles(package, log.log_id, log.files.get(side, ()), schema, task.signed, faults, dictionaries=True)
        for side, schema in (("control" if control else "events", EVENT_FILE), ("withheld", WITHHELD_FILE))
    ]
    absent = any(path not in task.signed and not _present(package, path) for side in sides for path in side.paths)
    checks = LeafCheck(log.log_id, query, faults, made)
    tree = TreeCheck(log, task.checkpoint, task.known, task.control_id, faults)
    batches = BatchCheck(log.log_id, log.begin, log.end, task.time_from, task.time_to, faults)
    expected, first_is_batch = log.begin, False
    for window in merge(log.log_id, log.begin, log.end, sides[0].pieces(), sides[1].pieces(), faults):
        unreadable = absent or any(side.unreadable for side in sides)
        holes = _holes(log.log_id, expected, window.index, faults, quiet=unreadable)
        tree.broken = tree.broken or holes or unreadable
        if not tree.broken:
            tree.extend(leaf_hashes(window.headers))
        parsed = checks.window(window)
        if window.index[0] == log.begin:
            first_is_batch = _first_leaf(task, parsed, faults)
        _named_epochs(log.log_id, window, parsed, result.named)
        if not tree.broken:
            _feed(batches, window, parsed)
        if control is not None:
            for row, leaf in parsed.log_leaves.items():
                control.leaf(int(window.index[row]), leaf)
        else:
            result.seen.window(log.log_id, window, parsed)
        expected = int(window.index[-1]) + 1
        progress(len(window.index))
        # Or this window would stay while the next one is read.
        del window, parsed
    checks.finish()
    unreadable = absent or any(side.unreadable for side in sides)
    tail = np.array([log.end], np.int64)
    tree.broken = _holes(log.log_id, expected, tail, faults, quiet=unreadable) or tree.broken or unreadable
    root, checkpoint = tree.finish(), task.checkpoint
    proven = root is not None and checkpoint is not None and root == checkpoint.root
    batches.finish(
        checkpoint.size if checkpoint else None, first_is_batch, complete=not tree.broken and log.end > log.begin
    )
    for number, (digest, place) in batches.epochs.items():
        result.named[number] = (digest, (log.log_id, place))
    if log.end > log.begin and not batches.reached_end and batches.watermark is not None:
        why = "the log is closed; it" if batches.closed else "nothing ends the interval yet; the log"
        result.notes.append(
            f"{shown(log.partition)} ({log.log_id}): {why} had come to arrival time {_utc(batches.watermark)}."
        )
    result.watermark = batches.watermark
    _summarize(result, log, checks, batches, proven)
    return result


def _present(package: Package, path: str) -> bool:
    try:
        package.open(path).close()
    except (FileNotFoundError, PathRefused, OSError):
        return False
    return True


def _holes(log_id: str, expected: int, index: npt.NDArray[np.int64], faults: Faults, *, quiet: bool) -> bool:
    """Note runs of leaves that are not there; whether there are any."""
    before = np.concatenate([[expected - 1], index[:-1]])
    places = np.flatnonzero(index != before + 1).tolist()
    if not quiet:
        for place in places:
            first, following = int(before[place]) + 1, int(index[place])
            run = f"leaves [{first}, {following})" if following - first > 1 else f"leaf {first}"
            faults.add("leaf.missing", (log_id, first), run, "not there", count=following - first)
    return bool(places)


def _first_leaf(task: LogTask, parsed: ParsedHeaders, faults: Faults) -> bool:
    """Whether the interval begins with an ``audit.batch``; leaf 0 must bind the log."""
    leaf, log = parsed.log_leaves.get(0), task.log
    if log.begin == 0:
        body = leaf["body"] if leaf and leaf["class"] == "audit.log.opened" else {}
        wanted = {"deployment": task.deployment, "log_id": log.log_id, "partition": log.partition}
        actual = {name: body.get(name) for name in wanted}
        if actual != wanted:
            faults.add("leaf.malformed", (log.log_id, 0), f"audit.log.opened of {wanted}", actual)
    return leaf is not None and leaf["class"] == "audit.batch"


def _named_epochs(log_id: str, window: Window, parsed: ParsedHeaders, named: NamedEpochs) -> None:
    numbers = one_array(parsed.table["reference_epoch"])
    for number in numbers.unique().to_pylist():
        if number is not None and number not in named:
            row = pc.index(numbers, number).as_py()
            named[number] = (None, (log_id, int(window.index[row])))


def _summarize(result: LogResult, log: LogEvidence, checks: LeafCheck, batches: BatchCheck, proven: bool) -> None:
    result.summary = {
        "log_id": log.log_id,
        "partition": shown(log.partition),
        "interval": [log.begin, log.end],
        "leaves": checks.leaves,
        "proven": checks.leaves if proven else 0,
        "selected": checks.revealed,
        "withheld": checks.leaves - checks.revealed,
        "flagged": checks.flagged,
        "duplicates_suppressed": batches.duplicates,
        "watermark": None if batches.watermark is None else str(batches.watermark),
    }
    result.counts = {**{name: result.summary[name] for name in _SUMMED}, "payload_matched": checks.matched}


def _utc(nanoseconds: int) -> str:
    """A time for a person; beyond the calendar it stays a number."""
    try:
        return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return str(nanoseconds)


def _feed(batches: BatchCheck, window: Window, parsed: ParsedHeaders) -> None:
    """Hand a window to the batch checks."""
    classes = one_array(parsed.table["class"])
    named = classes.dictionary_decode()
    kinds = {name: pc.fill_null(pc.equal(named, name), False).to_numpy(zero_copy_only=False) for name in _COUNTED}
    own = np.zeros(len(window.index), bool)
    own[list(parsed.log_leaves)] = True
    # An emitter may send audit.gap as well; a batch counts those of the log.
    for name in ("audit.gap", "audit.log.closed"):
        kinds[name] = kinds[name] & own
    bodies = sorted((row, leaf["body"]) for row, leaf in parsed.log_leaves.items() if leaf["class"] == "audit.batch")
    offsets = parsed.table["offset"].to_numpy().astype(np.float64)
    ordinals = parsed.table["ordinal"].to_numpy().astype(np.float64)
    epochs = pc.fill_null(one_array(parsed.table["reference_epoch"]), -1).to_numpy()
    batches.leaves(window.index, offsets, ordinals, epochs, kinds, bodies)
