"""Two packages of one deployment side by side: what each covers, and whether they agree where both speak."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.canonical import canonical_json
from auditspan.errors import AuditSpanError
from auditspan.ledger.trust import Trust

from .epochs import epoch_bodies
from .layout import EVENT_FILE, WITHHELD_FILE
from .leaf_files import LeafFiles
from .opened import open_verified
from .package import Package
from .report import Faults, Report, shown
from .statement import LogEvidence, Manifest
from .windows import merge

__all__ = ["Comparison", "compare_packages"]

_MOST: Final = 1_000
_VALID: Final = "VALID"
_AGREE: Final = "Where both speak they say the same."
_CONTRADICT: Final = "They contradict each other: a split view was signed, or one of them was tampered with."


@dataclass(slots=True)
class Comparison:
    """What differs. ``contradictions`` is bounded; the counts of ``logs`` are exact."""

    reports: tuple[Report, Report]
    differences: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    logs: list[dict[str, Any]] = field(default_factory=list)
    contradictions: list[dict[str, Any]] = field(default_factory=list)
    contradicting: int = 0

    @property
    def compared(self) -> bool:
        """Whether both are valid, so that they were compared at all."""
        return all(report.verdict == _VALID for report in self.reports)

    @property
    def exit_code(self) -> int:
        """0 they agree, 1 they contradict each other or one is invalid, 2 one is incomplete."""
        if not self.compared:
            codes = {report.exit_code for report in self.reports}
            return 1 if 1 in codes else 2
        return 1 if self.contradicting else 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "result": (_CONTRADICT if self.contradicting else _AGREE) if self.compared else None,
            "exit_code": self.exit_code,
            "packages": [report.package for report in self.reports],
            "verdicts": [report.verdict for report in self.reports],
            "differences": {name: list(both) for name, both in self.differences.items()},
            "logs": self.logs,
            "contradictions": self.contradictions,
            "contradictions_total": self.contradicting,
        }

    def contradict(self, **entry: Any) -> None:
        """Note that one says what the other denies."""
        self.contradicting += 1
        if len(self.contradictions) < _MOST:
            self.contradictions.append(entry)


def compare_packages(first: Path, second: Path, trust: Trust) -> Comparison:
    """Verify both, and compare them where both are valid.

    Raises:
        AuditSpanError: one cannot be opened.
    """
    with open_verified(first, trust) as one, open_verified(second, trust) as other:
        compared = Comparison((one.report, other.report))
        if one.manifest is not None and other.manifest is not None and compared.compared:
            _Compare((one.package, other.package), (one.manifest, other.manifest), compared).run()
        return compared


class _Compare:
    def __init__(
        self, packages: tuple[Package, Package], manifests: tuple[Manifest, Manifest], compared: Comparison
    ) -> None:
        self.packages, self.manifests, self.compared = packages, manifests, compared

    def run(self) -> None:
        one, other = self.manifests
        for name in ("exported_at", "software", "time_from", "time_to", "where", "request"):
            self._note(name, getattr(one, name), getattr(other, name))
        self._note("epochs", *(self._epochs(place) for place in (0, 1)))
        logs = [{log.log_id: log for log in (*manifest.logs, manifest.control)} for manifest in self.manifests]
        for log_id in dict.fromkeys([*logs[0], *logs[1]]):
            self._log(log_id, logs[0].get(log_id), logs[1].get(log_id))

    def _note(self, name: str, one: Any, other: Any) -> None:
        if one != other:
            self.compared.differences[name] = (_plain(one), _plain(other))

    def _epochs(self, place: int) -> dict[str, str]:
        """Digest of every reference epoch that the control leaves of a package have, by number."""
        bodies = epoch_bodies(self.packages[place], self.manifests[place])
        return {str(number): hashlib.sha256(canonical_json(body)).hexdigest() for number, body in bodies.items()}

    def _log(self, log_id: str, one: LogEvidence | None, other: LogEvidence | None) -> None:
        begin = max(one.begin, other.begin) if one and other else 0
        end = max(min(one.end, other.end), begin) if one and other else 0
        entry: dict[str, Any] = {
            "log_id": log_id,
            "partition": shown((one or other).partition),  # type: ignore[union-attr]
            "intervals": [None if log is None else [log.begin, log.end] for log in (one, other)],
            "both": end - begin,
            "only_in_a": (one.end - one.begin if one else 0) - (end - begin),
            "only_in_b": (other.end - other.begin if other else 0) - (end - begin),
            "shown_in_a_only": 0,
            "shown_in_b_only": 0,
            "contradictions": 0,
        }
        self.compared.logs.append(entry)
        if one is None or other is None:
            return
        before = self.compared.contradicting
        self._trees(one, other)
        if end > begin:
            self._both(one, other, (begin, end), entry)
        entry["contradictions"] = self.compared.contradicting - before

    def _trees(self, one: LogEvidence, other: LogEvidence) -> None:
        """A size has one root, in whichever package and as whichever checkpoint it stands."""
        roots = [_roots(log) for log in (one, other)]
        for size in sorted(roots[0].keys() & roots[1].keys()):
            if roots[0][size] != roots[1][size]:
                self.compared.contradict(
                    log_id=one.log_id, size=size, what="roots of one size", a=roots[0][size], b=roots[1][size]
                )

    def _both(self, one: LogEvidence, other: LogEvidence, bounds: tuple[int, int], entry: dict[str, Any]) -> None:
        left, right = (_Leaves(self._leaves(place, log), bounds[0]) for place, log in enumerate((one, other)))
        at = bounds[0]
        while at < bounds[1]:
            count = min(left.ready(), right.ready(), bounds[1] - at)
            if not count:
                raise AuditSpanError(f"Leaf {at} of log {one.log_id} cannot be read.", remedy="Verify both again.")
            (shown_a, headers_a), (shown_b, headers_b) = left.take(count), right.take(count)
            entry["shown_in_a_only"] += int((shown_a & ~shown_b).sum())
            entry["shown_in_b_only"] += int((shown_b & ~shown_a).sum())
            if not headers_a.equals(headers_b):
                differs = pc.not_equal(headers_a, headers_b).to_numpy(zero_copy_only=False)
                for row in np.flatnonzero(differs).tolist():
                    fields = _fields(headers_a[row].as_py(), headers_b[row].as_py())
                    self.compared.contradict(
                        log_id=one.log_id, leaf_index=at + row, what="bytes of a leaf", fields=fields
                    )
            at += count

    def _leaves(
        self, place: int, log: LogEvidence
    ) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], pa.Array]]:
        """Index, whether it is shown, and header of the leaves of an interval."""
        manifest, faults = self.manifests[place], Faults()
        signed = frozenset(manifest.subjects)
        side = "control" if log is manifest.control else "events"
        files = [
            LeafFiles(self.packages[place], log.log_id, log.files.get(name, ()), schema, signed, faults)
            for name, schema in ((side, EVENT_FILE), ("withheld", WITHHELD_FILE))
        ]
        for window in merge(log.log_id, log.begin, log.end, files[0].pieces(), files[1].pieces(), faults):
            yield window.index, window.revealed, window.headers


class _Leaves:
    """The leaves of one package from ``begin`` on, in pieces of whatever length is asked for."""

    def __init__(
        self, windows: Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_], pa.Array]], begin: int
    ) -> None:
        self._windows, self._begin = windows, begin
        self._shown: npt.NDArray[np.bool_] = np.empty(0, bool)
        self._headers: pa.Array = pa.array([], pa.binary())

    def ready(self) -> int:
        """How many leaves can be taken now; 0 at the end."""
        while not len(self._headers):
            window = next(self._windows, None)
            if window is None:
                return 0
            index, shown, headers = window
            skip = int(np.searchsorted(index, self._begin))
            self._shown, self._headers = shown[skip:], headers[skip:]
        return len(self._headers)

    def take(self, count: int) -> tuple[npt.NDArray[np.bool_], pa.Array]:
        """The next leaves: whether each is shown, and its header."""
        taken = self._shown[:count], self._headers[:count]
        self._shown, self._headers = self._shown[count:], self._headers[count:]
        return taken


def _roots(log: LogEvidence) -> dict[int, str]:
    """Size and root of the checkpoints of a verified package."""
    notes = [log.checkpoint, *([log.previous.checkpoint] if log.previous else [])]
    lines = [note.split("\n") for note in notes]
    return {int(each[1]): each[2] for each in lines}


def _fields(one: bytes, other: bytes) -> list[str]:
    """Which fields of two leaves differ."""
    left, right = json.loads(one), json.loads(other)
    return sorted(name for name in {*left, *right} if left.get(name) != right.get(name))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return value if value is None or isinstance(value, int) else shown(value)
