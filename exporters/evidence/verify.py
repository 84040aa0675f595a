"""Verification of an evidence package: no network, no database, no key and no code from the package.

Every fault is collected and none stops the run, whatever the package holds; memory does not depend on its size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import Checkpoint, CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.merkle import verify_consistency
from auditspan.ledger.trust import Trust
from auditspan.policy.software import software

from .anchor_report import anchors_not_proven, report_anchors
from .layout import MANIFEST, SUMMARY
from .observations import Observations
from .package import Package, PathRefused
from .query import QueryInvalid, compile_query
from .report import Faults, Report, shown
from .statement import (
    LogEvidence,
    Manifest,
    ManifestInvalid,
    key_id,
    open_envelope,
    parse_manifest,
    stated_rotations,
)
from .verify_anchors import check_anchored_sizes, check_anchors
from .verify_control import ControlState, check_included, check_logs
from .verify_determinations import DeterminationsFound
from .verify_keys import KeyRing, RotationLeaves, follow_rotations
from .verify_log import LogResult, LogTask, NamedEpochs, verify_log
from .verify_logs import verify_logs
from .verify_recovery import RecoveryLeaves
from .verify_request import check_request
from .zipped import open_package

__all__ = ["verify_package"]

Progress = Callable[[int, int], None]
"""Is told how many leaves are verified, of how many."""

_LARGEST_MANIFEST: Final = 64 << 20
_NOT_PROVEN: Final = (
    "That every event that happened was emitted, and that what emitters said is true: a log proves what was received."
)


def verify_package(folder: Path, trust: Trust, progress: Progress | None = None, jobs: int = 1) -> Report:
    """Verify the package in ``folder``, which may be a zip file, against keys that came by another way.

    Args:
        folder: the package.
        trust: what to believe.
        progress: called now and then.
        jobs: how many logs are looked at at once, each in a process of its own. The report is the same with any number.

    Raises:
        AuditSpanError: there is no such folder or file, or processes cannot be started here or were ended. Whatever is
            wrong with the content is in the report.
    """
    report = Report(verifier=software(), package=str(folder))
    try:
        package = open_package(folder)
    except OSError as error:
        raise AuditSpanError(
            f"{folder} cannot be opened: {error.strerror}.",
            remedy="Give an evidence package: its folder, or its zip file.",
        ) from error
    with package:
        _Verification(package, trust, report, progress or (lambda done, total: None), jobs).run()
    return report


class _Verification:
    """One run. Nothing is read before its digest was taken, and the control log comes before the logs that it lists."""

    def __init__(self, package: Package, trust: Trust, report: Report, progress: Progress, jobs: int) -> None:
        self.package, self.trust, self.report, self.progress, self.jobs = package, trust, report, progress, jobs
        self.faults = Faults()
        self.keys = KeyRing(list(trust.keys), dict(trust.retired_at))
        self.seen = Observations()
        self.signed_since = 0
        self.done = 0
        self.total = 0

    def run(self) -> None:
        manifest = self._manifest() if self._is_readable() else None
        if manifest is not None:
            self._verify(manifest)
        report = self.report
        report.faults, report.fault_counts = self.faults.kept, dict(sorted(self.faults.by_code.items()))
        report.not_proven = [_NOT_PROVEN, *anchors_not_proven(report, self.trust), *report.not_proven]

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
            payload, _ = open_envelope(data, ())
            # Whoever signed it may be trusted by what it says of rotations, which trusted keys signed.
            self.keys = follow_rotations(self.trust, stated_rotations(payload), self.faults)
            payload, signers = open_envelope(data, self.keys.keys)
            self.signed = bool(signers)
            if not signers:
                wanted = ", ".join(key_id(key) for key in self.keys.keys)
                self.faults.add("manifest.signature", None, f"a signature by {wanted}", "none that fits")
            self.report.keys = signers
            self.report.trusted_keys = [key_id(key) for key in self.trust.keys]
            self.report.notes += self.keys.notes()
            manifest = parse_manifest(payload)
            self.keys.check_manifest(signers, manifest.exported_at, self.faults)
            return manifest
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
        rotations = RotationLeaves(manifest.control.log_id, manifest.deployment, self.faults)
        recoveries = RecoveryLeaves(manifest.control.log_id, manifest.deployment, self.faults)
        asked = None if manifest.request is None else manifest.request["id"]
        state = ControlState(manifest.control.log_id, self.faults, rotations, recoveries, asked=asked)

        def task(log: LogEvidence, where: str | None) -> LogTask:
            return LogTask(
                log=log,
                deployment=manifest.deployment,
                time_from=manifest.time_from,
                time_to=manifest.time_to,
                where=where,
                checkpoint=checkpoints.get(log.log_id),
                signed=good,
                known=state.roots.get(log.log_id, {}),
                control_id=state.log_id,
                epochs={number: epoch.named for number, epoch in state.epochs.items()},
                software=report.verifier,
            )

        control = verify_log(self.package, task(manifest.control, None), None, state, self._progress)
        self.signed_since = control.watermark or 0
        self._take(manifest, manifest.control, control)
        check_included(manifest, checkpoints.get(manifest.control.log_id), state, self.faults)
        rotations.check(manifest.keys)
        recoveries.check(self.keys, manifest.keys)
        check_logs(manifest, checkpoints, state, self.keys, self.faults)
        check_request(manifest, state, self.faults)
        anchored = check_anchors(manifest, checkpoints.get(manifest.control.log_id), self.trust, self.faults)
        covered = check_anchored_sizes(manifest, checkpoints, state, self.faults)
        report_anchors(report, manifest, anchored, covered, self.trust)
        totals = {"leaves": 0, "selected": 0, "withheld": 0, "flagged": 0, "payload_matched": 0, "proven": 0}
        tasks = [task(log, query) for log in manifest.logs]
        epochs, made = control.named, DeterminationsFound()
        for log, result in zip(manifest.logs, verify_logs(self.package, tasks, self.jobs, self._progress), strict=True):
            self._take(manifest, log, result)
            made.add(result.determinations)
            epochs = {**result.named, **epochs}
            for name, count in result.counts.items():
                totals[name] = totals.get(name, 0) + count
        made.write(report)
        self._epochs(manifest, state, epochs)
        self._counts(manifest, totals)
        report.counts = totals
        if totals["withheld"]:
            report.not_proven.append(
                f"What {totals['withheld']:,} withheld headers say of their payloads, and which started actions they "
                "end: that is the operator's word until the payloads are revealed. You may ask for any of them."
            )
        recoveries.write(report, manifest)
        if SUMMARY in manifest.subjects:
            report.not_proven.append(
                f"That the numbers in {SUMMARY} are right: it is for reading; those here were counted."
            )
        self.seen.write(report)

    def _progress(self, leaves: int) -> None:
        self.done += leaves
        self.progress(self.done, self.total)

    def _take(self, manifest: Manifest, log: LogEvidence, result: LogResult) -> None:
        """Add what was found in one log."""
        self.faults.extend(result.faults)
        if result.watermark is not None:
            # A clock of what others write may be ahead of the deployment's own, which the control log has.
            at = min(result.watermark, self.signed_since)
            origin = log_origin(manifest.deployment, log.log_id)
            self.keys.check_checkpoint(log.checkpoint, origin, at, None, self.faults)
        self.seen.merge(result.seen)
        self.report.logs.append(result.summary)
        self.report.notes += result.notes

    def _query(self, manifest: Manifest) -> str | None:
        """The query, where it can be read."""
        try:
            if manifest.where is not None:
                compile_query(manifest.where)
        except QueryInvalid as error:
            self.faults.add("manifest.malformed", None, "a query in the grammar of section 14", error.message)
            return None
        return manifest.where

    def _digests(self, manifest: Manifest) -> frozenset[str]:
        """Compare every file with the manifest; the paths whose bytes are the signed ones."""
        good = set()
        # Hashing lets go of the interpreter, so threads are enough.
        with ThreadPoolExecutor(self.jobs) as pool:
            for (path, wanted), found in zip(
                manifest.subjects.items(), pool.map(self._digest, manifest.subjects), strict=True
            ):
                if isinstance(found, FileNotFoundError):
                    self.faults.add("file.missing", None, path, "no such file")
                elif isinstance(found, Exception):
                    self.faults.add("manifest.path", None, f"{path} as a regular file inside the package", found)
                elif found == wanted:
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

    def _digest(self, path: str) -> str | Exception:
        try:
            return self.package.digest(path)
        except (PathRefused, OSError) as error:
            return error

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
            return open_checkpoint(note, log_origin(manifest.deployment, log_id), self.keys.keys)
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

    def _epochs(self, manifest: Manifest, state: ControlState, named: NamedEpochs) -> None:
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

    def _counts(self, manifest: Manifest, totals: Mapping[str, int]) -> None:
        stated = dict(manifest.counts)
        counted = {name: totals[name] for name in stated}
        if stated != counted and not self.faults.by_code:
            self.faults.add("manifest.malformed", None, f"counts {counted}", stated)
