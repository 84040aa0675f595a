"""Whether the store still holds what was signed, leaf by leaf, without the journal's entries.

What the store has of each leaf is compared with its own header, and the headers with every tree that was signed. By
default a run begins where the last good one ended, so that it costs in proportion to what came since.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.journal.contract import Journal
from auditspan.ledger.merkle import CompactRange
from auditspan.ledger.signer import SignerRefused
from auditspan.store.contract import Store

from .batch import Opening
from .control import opened_logs, strange_logs
from .replay.by_headers import check_by_headers
from .replay.report import Fault, Findings
from .replay.signatures import Deployment, Signatures, known_keys
from .replay.trees import Trees
from .restore import store_subtrees
from .signing import journaled_checkpoints
from .stored_tree import SignedTree

__all__ = ["EXIT_ALTERED", "EXIT_WHOLE", "CheckReport", "CheckedLog", "check_ledger"]

EXIT_WHOLE: Final = 0
EXIT_ALTERED: Final = 1

Progress = Callable[[str, int, int], None]
"""Is told which partition is checked, and how many of its leaves are done, of how many."""

_LARGEST_HOLE: Final = 1 << 20
"""Leaves that may be missing before what stands behind them is not looked at: a row can have any number."""
_ROWS: Final = (
    "SELECT count() AS rows FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64}"
)
_SINCE: Final = (
    "SELECT max(leaf_index) AS last, count() AS batches FROM auditspan.events WHERE log_id = {log_id:String} "
    "AND class = 'audit.batch' AND payload = '' AND arrival_time < fromUnixTimestamp64Nano({since:Int64}, 'UTC')"
)


@dataclass(frozen=True, slots=True)
class CheckedLog:
    """One log. ``checked_from`` and ``leaves`` bound what was read; ``good`` is the greatest signed tree found whole.

    ``unsigned`` leaves at the end are sealed and not signed yet: a running service signs them within a second.
    """

    partition: str
    log_id: str
    checked_from: int
    leaves: int
    leaves_read: int
    checkpoints: int
    unsigned: int
    faults: Sequence[Fault]
    fault_counts: Mapping[str, int]
    notes: Sequence[str]
    good: CompactRange = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        """As a program reads it."""
        return {
            "partition": self.partition,
            "log_id": self.log_id,
            "checked_from": self.checked_from,
            "leaves": self.leaves,
            "leaves_read": self.leaves_read,
            "checkpoints": self.checkpoints,
            "signed_to": self.good.end,
            "unsigned": self.unsigned,
            "fault_counts": dict(self.fault_counts),
            "faults": [
                {name: getattr(fault, name) for name in ("code", "leaf", "column", "expected", "actual")}
                for fault in self.faults
            ],
            "notes": list(self.notes),
        }


@dataclass(slots=True)
class CheckReport:
    """All logs, the control log first."""

    deployment: str
    logs: list[CheckedLog] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 the store is what was signed, 1 it is not."""
        return EXIT_ALTERED if any(log.fault_counts for log in self.logs) else EXIT_WHOLE

    @property
    def verdict(self) -> str:
        """One word for `exit_code`."""
        return {EXIT_WHOLE: "WHOLE", EXIT_ALTERED: "ALTERED"}[self.exit_code]

    def to_json(self) -> dict[str, Any]:
        """The report as a program reads it."""
        return {
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "deployment": self.deployment,
            "logs": [log.to_json() for log in self.logs],
        }


def check_ledger(
    journal: Journal,
    store: Store,
    rows: Store,
    deployment: Deployment,
    *,
    checked: Mapping[str, CompactRange] | None = None,
    since: int | None = None,
    progress: Progress = lambda partition, done, total: None,
) -> CheckReport:
    """Compare the store with what was signed; nothing is written, and a service may go on meanwhile.

    Args:
        journal: whose control partition repeats what was signed.
        store: what is checked.
        rows: the same with a client of its own, which streams leaves while ``store`` is asked for what was signed.
        deployment: its keys, and the signer's state.
        checked: by log, the tree that an earlier run found whole: its leaves are not read again. Where it is no tree
            that was signed, the log is checked from its beginning.
        since: arrival time (ns): batches that ended before it are not read. The tree before them is made of kept
            nodes, which the signed roots after it confirm.
        progress: called now and then.

    Raises:
        AuditSpanError: nothing was opened.
        JournalUnavailable: the journal cannot be read.
        StoreUnavailable: the store cannot be read.
    """
    opened = opened_logs(journal, store)
    control = opened[0]
    findings = {one.log_id: Findings(one.partition, one.log_id) for one in opened}
    for log_id in strange_logs(store, opened):
        findings[control.log_id].add("leaf.extra", None, "logs that the control log opened", f"a log {log_id}")
    begins = {one.log_id: _begin(store, one, (checked or {}).get(one.log_id), since, findings) for one in opened}
    after = {log_id: begin.end for log_id, begin in begins.items()}
    # What was signed is read before how many leaves there are: a service that goes on makes both greater.
    keys = known_keys(store, deployment, control.log_id)
    journaled = _journaled(journal, deployment.name, keys, [one.log_id for one in opened], findings[control.log_id])
    signatures = Signatures(store, deployment, control, findings, after, journaled)
    ends = {one.log_id: store.next_leaf(one.log_id) for one in opened}
    report = CheckReport(deployment.name)
    for one in opened:
        log = _Log(store, rows, one, deployment, findings[one.log_id], signatures, begins[one.log_id])
        report.logs.append(log.run(ends[one.log_id], progress))
    return report


class _Log:
    def __init__(
        self,
        store: Store,
        rows: Store,
        opening: Opening,
        deployment: Deployment,
        findings: Findings,
        signatures: Signatures,
        begin: CompactRange,
    ) -> None:
        self._store, self._rows, self._opening, self._deployment = store, rows, opening, deployment
        self._findings, self._begin = findings, begin
        self._signed = signatures.of(opening)
        self._trees = Trees(self._signed, store, opening.log_id, findings, begin)
        self._done = 0

    def run(self, end: int, progress: Progress) -> CheckedLog:
        opening, begin, findings = self._opening, self._begin.end, self._findings
        end = self._bounded(end)

        def advance(leaves: int) -> None:
            self._done += leaves
            progress(opening.partition, self._done, end - begin)

        if end < begin:
            findings.add("leaf.missing", end, f"leaves {end} to {begin - 1}", "not in the store", count=begin - end)
        else:
            check_by_headers(
                self._rows,
                opening.log_id,
                end,
                self._deployment.salt_key,
                self._trees,
                findings,
                advance,
                begin,
            )
            self._check_end(end)
        self._trees.finish()
        good = self._trees.good
        return CheckedLog(
            partition=opening.partition,
            log_id=opening.log_id,
            checked_from=begin,
            leaves=end,
            leaves_read=self._done,
            checkpoints=self._signed.opened,
            unsigned=max(end - good.end, 0) if not findings.counts else 0,
            faults=findings.faults,
            fault_counts=dict(sorted(findings.counts.items())),
            notes=findings.notes,
            good=good,
        )

    def _bounded(self, end: int) -> int:
        """Where the log ends, however far away a row is numbered."""
        begin = self._begin.end
        rows = int(self._store.query(_ROWS, {"log_id": self._opening.log_id, "begin": begin})["rows"][0].as_py())
        if end - begin <= rows + _LARGEST_HOLE:
            return end
        self._findings.add("leaf.extra", end - 1, f"{rows} leaves from {begin} on", f"one numbered {end - 1}")
        return begin + rows

    def _check_end(self, end: int) -> None:
        """Whether the log ends with the leaf that ends a batch, as each insert leaves it."""
        header = self._store.last_batch(self._opening.log_id)
        ends_at = 0
        try:
            body = json.loads(header)["body"] if header is not None else None
            ends_at = int(body["first_leaf"]) + int(body["sealed"]) + 1 if body is not None else 0
        except (ValueError, KeyError, TypeError):
            ends_at = -1
        # A service that goes on may have sealed more since its leaves were counted.
        if ends_at < end:
            self._findings.add(
                "leaf.extra", max(ends_at, 0), "audit.batch as the last leaf", f"leaves up to {end - 1} after it"
            )


def _begin(
    store: Store, opening: Opening, checked: CompactRange | None, since: int | None, findings: Mapping[str, Findings]
) -> CompactRange:
    if checked is not None:
        return checked
    if since is None:
        return CompactRange()
    found = store.query(_SINCE, {"log_id": opening.log_id, "since": since}).to_pylist()[0]
    size = int(found["last"]) + 1 if found["batches"] else 0
    try:
        return store_subtrees(store, opening.log_id).compact_range(size)
    except LookupError:
        findings[opening.log_id].note(f"Leaves before {size:,} are missing, so all of them were checked.")
        return CompactRange()


def _journaled(
    journal: Journal, deployment: str, keys: Sequence[Ed25519PublicKey], log_ids: Sequence[str], findings: Findings
) -> dict[str, list[SignedTree]]:
    """What the control partition says was signed last: outside of the store, wherever the signer's state is."""
    try:
        found = journaled_checkpoints(journal, deployment, keys, log_ids)
    except SignerRefused as error:
        findings.add("checkpoint.signature", None, "signed checkpoints in the control partition", error.message)
        return {}
    return {log_id: [tree] for log_id, tree in found.items() if tree.size}
