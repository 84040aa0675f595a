"""All logs of a deployment replayed: the control log first, since it names the epochs and what was signed."""

from __future__ import annotations

from collections.abc import Callable

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal
from auditspan.store.contract import Store

from ..control import opened_logs, strange_logs
from ..earlier_logs import earlier_logs
from .log import LogReplay
from .reference import Epochs
from .report import Findings, ReplayReport
from .signatures import Deployment, Signatures

__all__ = ["Deployment", "Progress", "replay"]

Progress = Callable[[str, int, int], None]
"""Is told which partition is replayed, and how many of its leaves are done, of how many."""


def replay(
    journal: Journal,
    store: Store,
    deployment: Deployment,
    only: str | None = None,
    progress: Progress = lambda partition, done, total: None,
) -> ReplayReport:
    """Derive every leaf of every log again and compare; nothing is written.

    ``only`` names one log by its partition or its id. A service may go on meanwhile: what it seals after the replay
    of a log began is not looked at.

    Raises:
        AuditSpanError: nothing was opened, ``only`` is not there, or the journal was trimmed meanwhile.
        JournalUnavailable: the journal cannot be read.
        StoreUnavailable: the store cannot be read.
    """
    opened = opened_logs(journal, store)
    control = opened[0]
    chosen = [one for one in opened if only is None or only in (one.partition, one.log_id)]
    if not chosen:
        raise AuditSpanError(
            f"There is no log {only!r}.", remedy=f"There are: {', '.join(one.partition for one in opened)}."
        )
    report = ReplayReport(deployment.name, journal.identity)
    if control not in chosen:
        report.notes.append("The control log was not replayed: the epochs that it names are taken as they are stored.")
    earlier = {one.log_id: earlier_logs(opened, one) for one in chosen}
    if not earlier.keys() >= {log_id for before in earlier.values() for log_id in before}:
        report.notes.append("Logs of earlier generations were not replayed: what they sealed is taken as it is stored.")
    findings = {one.log_id: Findings(one.partition, one.log_id) for one in chosen}
    if control in chosen:
        for log_id in strange_logs(store, opened):
            findings[control.log_id].add("leaf.extra", None, "logs that the control log opened", f"a log {log_id}")
    # What was signed is read before how many leaves there are: a service that goes on makes both greater.
    signed = Signatures(store, deployment, control, findings)
    ends = {one.log_id: store.next_leaf(one.log_id) for one in chosen}
    epochs = Epochs.of(store, control.log_id, deployment.reference_folder)
    for one in chosen:
        mine, end = findings[one.log_id], ends[one.log_id]
        done = 0

        def advance(leaves: int, partition: str = one.partition, end: int = end) -> None:
            nonlocal done
            done += leaves
            progress(partition, done, end)

        log = LogReplay(
            journal, store, one, earlier[one.log_id], deployment.salt_key, epochs, signed.of(one), mine, advance
        )
        report.logs.append(log.run(end))
    return report
