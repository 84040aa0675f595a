"""Verification of an evidence package: no network, no database, no key and no code from the package.

Every fault is collected and none stops the run, whatever the package holds; memory does not depend on its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import Checkpoint, CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.hashing import leaf_hashes
from auditspan.ledger.keys import Trust
from auditspan.ledger.merkle import verify_consistency

from .headers import ParsedHeaders
from .layout import EVENT_FILE, MANIFEST, SUMMARY, WITHHELD_FILE
from .leaf_files import LeafFiles
from .observations import Observations
from .package import Package, PathRefused
from .query import Query, QueryInvalid, compile_query
from .report import Faults, Report, shown
from .statement import LogEvidence, Manifest, ManifestInvalid, key_id, open_envelope, parse_manifest
from .verify_batches import BatchCheck
from .verify_control import ControlState, check_included, check_logs
from .verify_leaves import LeafCheck
from .verify_request import check_request
from .verify_tree import KnownRoots, TreeCheck
from .windows import Window, merge
from .zipped import open_package

__all__ = ["verify_package"]

Progress = Callable[[int, int], None]
"""Is told how many leaves are verified, of how many."""

_LARGEST_MANIFEST: Final = 64 << 20
_COUNTED: Final = ("audit.conflict", "audit.quarantined", "audit.gap", "audit.log.closed")
_NOT_PROVEN: Final = (
    "That every event that happened was emitted, and that what emitters said is true: a log proves what was received.",
    "That the times are right: arrival times are the collector's clock, and there is no independent timestamp here.",
    "That the signing key was in the right hands, and that no second history was signed with it for someone else.",
)


def verify_package(folder: Path, trust: Trust, progress: Progress | None = None) -> Report:
    """Verify the package in ``folder``, which may be a zip file, against keys that came by another way.

    Raises:
        AuditSpanError: there is no such folder or file. Whatever is wrong with the content is in the report.
    """
    report = Report(verifier=f"auditspan {metadata.version('auditspan')}", package=str(folder))
    try:
        package = open_package(folder)
    except OSError as error:
        raise AuditSpanError(
            f"{folder} cannot be opened: {error.strerror}.",
            remedy="Give an evidence package: its folder, or its zip file.",
        ) from error
    with package:
        _Verification(package, trust, report, progress or (lambda done, total: None)).run()
    return report


class _Verification:
    """One run. Nothing is read before its digest was taken, and the control log comes before the logs that it lists."""

    def __init__(self, package: Package, trust: Trust, report: Report, progress: Progress) -> None:
        self.package, self.trust, self.report, self.progress = package, trust, report, progress
        self.faults = Faults()
        self.seen = Observations()
        self.done = 0
        self.total = 0

    def run(self) -> None:
        manifest = self._manifest() if self._is_readable() else None
        if manifest is not None:
            self._verify(manifest)
        report = self.report
        report.faults, report.fault_counts = self.faults.kept, dict(sorted(self.faults.by_code.items()))
        report.not_proven = [*_NOT_PROVEN, *report.not_proven]

    def _is_readable(self) -> bool:
        if self.package.malformed is not None:
            wanted = "a zip file as section 14 of the evidence format; one of another kind is verified unpacked"
            self.faults.add("file.malformed", None, wanted, self.package.malformed)
        return self.package.malformed is None

    def _manifest(self) -> Manifest | None:
        try:
            with self.package.open(MANIFEST) as file:
                data = file.read(_LARGEST_MANIFEST + 1)
        except FileNotFoundError:
            self.faults.add("manifest.malformed", None, MANIFEST, "no such file: is this an evidence package?")
            return None
        except (PathRefused, OSError) as error:
            self.faults.add("manifest.path", None, f"{MANIFEST} as a regular file", error)
            return None
        self.report.package_digest = hashlib.sha256(data).hexdigest()
        try:
            if len(data) > _LARGEST_MANIFEST:
                raise ManifestInvalid("manifest.malformed", f"at most {_LARGEST_MANIFEST} bytes", len(data))
            payload, signers = open_envelope(data, self.trust.keys)
            self.signed = bool(signers)
            if not signers:
                wanted = ", ".join(key_id(key) for key in self.trust.keys)
                self.faults.add("manifest.signature", None, f"a signature by {wanted}", "none that fits")
            self.report.keys = signers
            self.report.trusted_keys = [key_id(key) for key in self.trust.keys]
            return parse_manifest(payload)
        except ManifestInvalid as error:
            self.faults.add(error.code, None, error.expected, error.actual)
            return None

    def _verify(self, manifest: Manifest) -> None:
        report = self.report
        report.deployment, report.exported_at = shown(manifest.deployment), manifest.exported_at
        report.query = {
            "from": str(manifest.time_from),
            "to": str(manifest.time_to),
            "where": None if manifest.where is None else shown(manifest.where),
        }
        if manifest.deployment != self.trust.deployment:
            self.faults.add("manifest.signature", None, f"a package of {self.trust.deployment}", manifest.deployment)
        report.leaves_expected = sum(log.end - log.begin for log in manifest.logs)
        if manifest.request is not None:
            report.request = {name: shown(text) for name, text in manifest.request.items()}
        query = self._query(manifest)
        good = self._digests(manifest)
        self.total = sum(log.end - log.begin for log in (*manifest.logs, manifest.control))
        checkpoints = self._checkpoints(manifest)
        asked = None if manifest.request is None else manifest.request["id"]
        state = ControlState(manifest.control.log_id, self.faults, asked=asked)
        epochs = self._log(manifest, manifest.control, None, checkpoints, good, {}, state)[1]
        check_included(manifest, checkpoints.get(manifest.control.log_id), state, self.faults)
        check_logs(manifest, checkpoints, state, tuple(self.trust.keys), self.faults)
        check_request(manifest, state, self.faults)
        totals = {"leaves": 0, "selected": 0, "withheld": 0, "flagged": 0, "payload_matched": 0, "proven": 0}
        for log in manifest.logs:
            counts, named = self._log(
                manifest, log, query, checkpoints, good, state.roots.get(log.log_id, {}), None, control_id=state.log_id
            )
            epochs = {**named, **epochs}
            for name, count in counts.items():
                totals[name] = totals.get(name, 0) + count
        self._epochs(manifest, state, epochs)
        self._counts(manifest, totals)
        report.counts = totals
        if totals["withheld"]:
            report.not_proven.append(
                f"What {totals['withheld']:,} withheld headers say of their payloads, and which started actions they "
                "end: that is the operator's word until the payloads are revealed. You may ask for any of them."
            )
        if SUMMARY in manifest.subjects:
            report.not_proven.append(
                f"That the numbers in {SUMMARY} are right: it is for reading; those here were counted."
            )
        self.seen.write(report)

    def _query(self, manifest: Manifest) -> Query | None:
        if manifest.where is None:
            return None
        try:
            return compile_query(manifest.where)
        except QueryInvalid as error:
            self.faults.add("manifest.malformed", None, "a query in the grammar of section 14", error.message)
            return None

    def _digests(self, manifest: Manifest) -> frozenset[str]:
        """Compare every file with the manifest; the paths whose bytes are the signed ones."""
        good = set()
        for path, wanted in manifest.subjects.items():
            try:
                found = self.package.digest(path)
            except FileNotFoundError:
                self.faults.add("file.missing", None, path, "no such file")
                continue
            except (PathRefused, OSError) as error:
                self.faults.add("manifest.path", None, f"{path} as a regular file inside the package", error)
                continue
            if found == wanted:
                good.add(path)
            else:
                self.faults.add("file.digest", None, f"{path}: {wanted}", found)
        for path, regular in self.package.entries():
            if path in manifest.subjects or path == MANIFEST:
                continue
            if regular:
                self.faults.add("file.unlisted", None, "only files that the manifest names", path)
            else:
                self.faults.add("manifest.path", None, "regular files and folders only", path)
        return frozenset(good) if self.signed else frozenset()

    def _checkpoints(self, manifest: Manifest) -> dict[str, Checkpoint]:
        opened = {}
        for log in (*manifest.logs, manifest.control):
            checkpoint = self._open(manifest, log.log_id, log.checkpoint)
            if checkpoint is None:
                continue
            opened[log.log_id] = checkpoint
            self.report.checkpoints.append(
                {
                    "log_id": log.log_id,
                    "size": checkpoint.size,
                    "root": checkpoint.root.hex(),
                    "interval": [log.begin, log.end],
                }
            )
            if checkpoint.size < log.end:
                self.faults.add("checkpoint.size", None, f"{log.log_id}: at least {log.end} leaves", checkpoint.size)
            seen: dict[str, Any] = {
                "log_id": log.log_id,
                "from": None,
                "to": checkpoint.size,
                "result": "no earlier one",
            }
            if log.previous is not None:
                seen |= self._previous(manifest, log, checkpoint)
            self.report.consistency.append(seen)
        return opened

    def _open(self, manifest: Manifest, log_id: str, note: str) -> Checkpoint | None:
        try:
            return open_checkpoint(note, log_origin(manifest.deployment, log_id), self.trust.keys)
        except CheckpointInvalid as error:
            self.faults.add(error.code, None, f"a signed checkpoint of {log_id}", error)
        except (ValueError, UnicodeError) as error:
            self.faults.add("checkpoint.malformed", None, f"a signed checkpoint of {log_id}", error)
        return None

    def _previous(self, manifest: Manifest, log: LogEvidence, checkpoint: Checkpoint) -> dict[str, Any]:
        assert log.previous is not None
        old = self._open(manifest, log.log_id, log.previous.checkpoint)
        if old is None:
            return {"result": "the earlier checkpoint is not valid"}
        if not verify_consistency(old.size, old.root, checkpoint.size, checkpoint.root, log.previous.consistency):
            self.faults.add(
                "consistency",
                None,
                f"{log.log_id}: {checkpoint.size} leaves that begin with the {old.size} of the previous export",
                "the proof does not show that",
            )
            return {"from": old.size, "result": "not shown to be consistent"}
        return {"from": old.size, "result": "consistent"}

    def _log(
        self,
        manifest: Manifest,
        log: LogEvidence,
        query: Query | None,
        checkpoints: Mapping[str, Checkpoint],
        good: frozenset[str],
        known: KnownRoots,
        control: ControlState | None,
        control_id: str = "",
    ) -> tuple[dict[str, int], dict[int, tuple[str | None, tuple[str, int]]]]:
        """All checks over the leaves of one log; what was counted, and which epochs were named and where."""
        checkpoint = checkpoints.get(log.log_id)
        sides = [
            LeafFiles(self.package, log.log_id, log.files.get(side, ()), schema, good, self.faults)
            for side, schema in (("control" if control else "events", EVENT_FILE), ("withheld", WITHHELD_FILE))
        ]
        absent = any(path not in good and not self._present(path) for side in sides for path in side.paths)
        checks = LeafCheck(log.log_id, query, self.faults)
        tree = TreeCheck(log, checkpoint, known, control_id, self.faults)
        batches = BatchCheck(log.log_id, log.begin, log.end, manifest.time_from, manifest.time_to, self.faults)
        named: dict[int, tuple[str | None, tuple[str, int]]] = {}
        expected, first_is_batch = log.begin, False
        for window in merge(log.log_id, log.begin, log.end, sides[0].pieces(), sides[1].pieces(), self.faults):
            unreadable = absent or any(side.unreadable for side in sides)
            holes = self._holes(log.log_id, expected, window.index, quiet=unreadable)
            tree.broken = tree.broken or holes or unreadable
            if not tree.broken:
                tree.extend(leaf_hashes(window.headers))
            parsed = checks.window(window)
            if window.index[0] == log.begin:
                first_is_batch = self._first_leaf(manifest, log, parsed)
            self._named_epochs(log.log_id, window, parsed, named)
            if not tree.broken:
                _feed(batches, window, parsed)
            if control is not None:
                for row, leaf in parsed.log_leaves.items():
                    control.leaf(int(window.index[row]), leaf)
            else:
                self.seen.window(log.log_id, window, parsed)
            expected = int(window.index[-1]) + 1
            self.done += len(window.index)
            self.progress(self.done, self.total)
        unreadable = absent or any(side.unreadable for side in sides)
        tail = np.array([log.end], np.int64)
        tree.broken = self._holes(log.log_id, expected, tail, quiet=unreadable) or tree.broken or unreadable
        root = tree.finish()
        proven = root is not None and checkpoint is not None and root == checkpoint.root
        batches.finish(
            checkpoint.size if checkpoint else None, first_is_batch, complete=not tree.broken and log.end > log.begin
        )
        for number, (digest, place) in batches.epochs.items():
            named[number] = (digest, (log.log_id, place))
        if log.end > log.begin and not batches.reached_end and batches.watermark is not None:
            why = "the log is closed; it" if batches.closed else "nothing ends the interval yet; the log"
            self.report.notes.append(
                f"{shown(log.partition)} ({log.log_id}): {why} had come to arrival time {_utc(batches.watermark)}."
            )
        return self._summary(log, checks, batches, proven, control is not None), named

    def _present(self, path: str) -> bool:
        try:
            self.package.open(path).close()
        except (FileNotFoundError, PathRefused, OSError):
            return False
        return True

    def _holes(self, log_id: str, expected: int, index: npt.NDArray[np.int64], *, quiet: bool) -> bool:
        """Note runs of leaves that are not there; whether there are any."""
        before = np.concatenate([[expected - 1], index[:-1]])
        places = np.flatnonzero(index != before + 1).tolist()
        if not quiet:
            for place in places:
                first, following = int(before[place]) + 1, int(index[place])
                run = f"leaves [{first}, {following})" if following - first > 1 else f"leaf {first}"
                self.faults.add("leaf.missing", (log_id, first), run, "not there", count=following - first)
        return bool(places)

    def _first_leaf(self, manifest: Manifest, log: LogEvidence, parsed: ParsedHeaders) -> bool:
        leaf = parsed.log_leaves.get(0)
        if log.begin == 0:
            body = leaf["body"] if leaf and leaf["class"] == "audit.log.opened" else {}
            wanted = {"deployment": manifest.deployment, "log_id": log.log_id, "partition": log.partition}
            actual = {name: body.get(name) for name in wanted}
            if actual != wanted:
                self.faults.add("leaf.malformed", (log.log_id, 0), f"audit.log.opened of {wanted}", actual)
        return leaf is not None and leaf["class"] == "audit.batch"

    def _named_epochs(
        self, log_id: str, window: Window, parsed: ParsedHeaders, named: dict[int, tuple[str | None, tuple[str, int]]]
    ) -> None:
        numbers = parsed.table["reference_epoch"].combine_chunks()
        for number in numbers.unique().to_pylist():
            if number is not None and number not in named:
                row = pc.index(numbers, number).as_py()
                named[number] = (None, (log_id, int(window.index[row])))

    def _epochs(
        self, manifest: Manifest, state: ControlState, named: Mapping[int, tuple[str | None, tuple[str, int]]]
    ) -> None:
        """Every epoch that leaves name is in the control log, and its artifacts are in the package."""
        for number, (digest, leaf) in sorted(named.items()):
            if number == 0:
                continue
            epoch = state.epochs.get(number)
            if epoch is None:
                self.faults.add("epoch.unknown", leaf, f"epoch {number} in the control log", "not there")
                continue
            if digest is not None and digest != epoch.digest:
                self.faults.add("epoch.unknown", leaf, f"epoch {number} with digest {epoch.digest}", digest)
            for artifact in epoch.artifacts:
                path = f"reference/{artifact}"
                if manifest.subjects.get(path) != artifact:
                    self.faults.add("reference.digest", None, path, manifest.subjects.get(path, "not in the manifest"))

    def _summary(
        self, log: LogEvidence, checks: LeafCheck, batches: BatchCheck, proven: bool, control: bool
    ) -> dict[str, int]:
        entry: dict[str, Any] = {
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
        self.report.logs.append(entry)
        if control:
            return {}
        names = ("leaves", "proven", "selected", "withheld", "flagged", "duplicates_suppressed")
        return {**{name: entry[name] for name in names}, "payload_matched": checks.matched}

    def _counts(self, manifest: Manifest, totals: Mapping[str, int]) -> None:
        stated = dict(manifest.counts)
        counted = {name: totals[name] for name in stated}
        if stated != counted and not self.faults.by_code:
            self.faults.add("manifest.malformed", None, f"counts {counted}", stated)


def _utc(nanoseconds: int) -> str:
    """A time for a person; beyond the calendar it stays a number."""
    try:
        return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        return str(nanoseconds)


def _feed(batches: BatchCheck, window: Window, parsed: ParsedHeaders) -> None:
    """Hand a window to the batch checks."""
    classes = parsed.table["class"].combine_chunks()
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
    epochs = pc.fill_null(parsed.table["reference_epoch"].combine_chunks(), -1).to_numpy()
    batches.leaves(window.index, offsets, ordinals, epochs, kinds, bodies)
