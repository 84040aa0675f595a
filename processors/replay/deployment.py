"""All logs of a deployment replayed: the control log first, since it names the epochs and what was signed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.signer import last_signed
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from ..batch import Opening
from ..control import opened_logs
from ..earlier_logs import earlier_logs
from ..stored_tree import SignedTree
from .log import LogReplay
from .reference import Epochs
from .report import Findings, ReplayReport
from .signed import SignedTrees, notes_in_control_leaf

__all__ = ["Deployment", "Progress", "replay"]

Progress = Callable[[str, int, int], None]
"""Is told which partition is replayed, and how many of its leaves are done, of how many."""

_PAGE: Final = 256
_CHECKPOINT_LEAVES: Final = (
    "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} "
    "AND class = {class:String} AND payload = '' ORDER BY leaf_index LIMIT {page:UInt32}"
)
_NOTES: Final = (
    "SELECT note FROM auditspan.checkpoints WHERE log_id = {log_id:String} AND size IN {sizes:Array(UInt64)}"
)
_GREATEST: Final = "SELECT toUInt64(max(size)) AS size FROM auditspan.checkpoints WHERE log_id = {log_id:String}"
_LOGS: Final = "SELECT log_id FROM auditspan.events GROUP BY log_id ORDER BY log_id"


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a replay needs besides journal and store.

    Args:
        name: of the deployment, in every origin line.
        salt_key: 32 bytes.
        keys: the public keys that may have signed.
        reference_folder: where the artifacts of every epoch are kept.
        signer_state: where the signer remembers what it signed.
    """

    name: str
    salt_key: bytes = field(repr=False)
    keys: Sequence[Ed25519PublicKey] = field(repr=False)
    reference_folder: Path
    signer_state: Path


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
        for log_id in _strange(store, opened):
            findings[control.log_id].add("leaf.extra", None, "logs that the control log opened", f"a log {log_id}")
    # What was signed is read before how many leaves there are: a service that goes on makes both greater.
    signed = _Signed(store, deployment, control, findings)
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


def _strange(store: Store, opened: Sequence[Opening]) -> list[str]:
    known = {one.log_id for one in opened}
    return [row["log_id"] for row in store.query(_LOGS).to_pylist() if row["log_id"] not in known]


class _Signed:
    """What was signed of every log when the replay began: kept notes, the control log's, and the signer's state."""

    def __init__(
        self, store: Store, deployment: Deployment, control: Opening, findings: Mapping[str, Findings]
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._findings = findings
        self._more: dict[str, list[SignedTree]] = {log_id: [] for log_id in findings}
        self._greatest: dict[str, int] = {}
        for log_id in findings:
            remembered = last_signed(deployment.signer_state, log_id)
            if remembered is not None and remembered.size:
                tree = SignedTree(remembered.size, remembered.root, "the signer's state")
                self._more[log_id].append(tree)
            rows = store.query(_GREATEST, {"log_id": log_id}).to_pylist()
            self._greatest[log_id] = int(rows[0]["size"])
        for leaves in _checkpoint_leaves(store, control.log_id):
            self._only_in_control_log(leaves)

    def of(self, opening: Opening) -> SignedTrees:
        """The trees of one log, smallest first."""
        return SignedTrees(
            self._store,
            opening.log_id,
            log_origin(self._deployment.name, opening.log_id),
            self._deployment.keys,
            self._findings[opening.log_id],
            greatest=self._greatest[opening.log_id],
            more=self._more[opening.log_id],
        )

    def _only_in_control_log(self, leaves: Sequence[bytes]) -> None:
        """Notes that the control log sealed and the store does not keep: a kill in between leaves them."""
        listed: dict[str, dict[str, int]] = {}
        for leaf in leaves:
            for log_id, size, note in notes_in_control_leaf(leaf):
                if log_id in self._findings:
                    listed.setdefault(log_id, {})[note] = size
        for log_id, notes in listed.items():
            rows = self._store.query(_NOTES, {"log_id": log_id, "sizes": sorted(set(notes.values()))}).to_pylist()
            for note in sorted(notes.keys() - {row["note"] for row in rows}):
                self._remember(log_id, notes[note], note)

    def _remember(self, log_id: str, size: int, note: str) -> None:
        try:
            said = open_checkpoint(note, log_origin(self._deployment.name, log_id), self._deployment.keys)
        except CheckpointInvalid as error:
            self._findings[log_id].add(error.code, None, f"a signed checkpoint of {size} leaves", error)
            return
        self._more[log_id].append(SignedTree(said.size, said.root, "the control log"))


def _checkpoint_leaves(store: Store, control_log: str) -> Iterator[list[bytes]]:
    begin = 0
    while True:
        parameters = {"log_id": control_log, "begin": begin, "class": str(EventClass.CHECKPOINT), "page": _PAGE}
        rows = store.query(_CHECKPOINT_LEAVES, parameters).to_pylist()
        if rows:
            yield [bytes(row["header"]) for row in rows]
            begin = rows[-1]["leaf_index"] + 1
        if len(rows) < _PAGE:
            return
