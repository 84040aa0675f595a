"""Everything that was signed of a deployment's logs, wherever it is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.rotation import follow
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from ..batch import Opening
from ..signing import remembered_places
from ..stored_tree import SignedTree
from .report import Findings
from .signed import SignedTrees, notes_in_control_leaf

__all__ = ["Deployment", "Signatures", "known_keys"]

_PAGE: Final = 256
_CHECKPOINT_LEAVES: Final = (
    "SELECT leaf_index, header FROM auditspan.events WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} "
    "AND class = {class:String} AND payload = '' ORDER BY leaf_index LIMIT {page:UInt32}"
)
_NOTES: Final = (
    "SELECT note FROM auditspan.checkpoints WHERE log_id = {log_id:String} AND size IN {sizes:Array(UInt64)}"
)
_GREATEST: Final = "SELECT toUInt64(max(size)) AS size FROM auditspan.checkpoints WHERE log_id = {log_id:String}"


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


class Signatures:
    """What was signed of every log when a check began: kept notes, the control log's, and the signer's state.

    Args:
        store: where notes and the control log are.
        deployment: whose logs they are, and who may have signed.
        control: the control log.
        findings: by log, where a note that is no good is reported.
        after: by log, the size up to which nothing is looked at; 0 where it is not named.
        more: by log, trees that are known to be signed from elsewhere.
    """

    def __init__(
        self,
        store: Store,
        deployment: Deployment,
        control: Opening,
        findings: Mapping[str, Findings],
        after: Mapping[str, int] | None = None,
        more: Mapping[str, Sequence[SignedTree]] | None = None,
    ) -> None:
        self._store = store
        self._deployment = deployment
        self._keys = known_keys(store, deployment, control.log_id)
        self._findings = findings
        self._after = dict(after or {})
        self._more: dict[str, list[SignedTree]] = {log_id: list((more or {}).get(log_id, ())) for log_id in findings}
        self._greatest: dict[str, int] = {}
        for log_id in findings:
            self._more[log_id] += [tree for tree in remembered_places(deployment.signer_state, log_id) if tree.size]
            rows = store.query(_GREATEST, {"log_id": log_id}).to_pylist()
            self._greatest[log_id] = int(rows[0]["size"])
        for leaves in _checkpoint_leaves(store, control.log_id, self._after.get(control.log_id, 0)):
            self._only_in_control_log(leaves)

    def of(self, opening: Opening) -> SignedTrees:
        """The trees of one log, smallest first."""
        return SignedTrees(
            self._store,
            opening.log_id,
            log_origin(self._deployment.name, opening.log_id),
            self._keys,
            self._findings[opening.log_id],
            greatest=self._greatest[opening.log_id],
            more=self._more[opening.log_id],
            after=self._after.get(opening.log_id, 0),
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
            said = open_checkpoint(note, log_origin(self._deployment.name, log_id), self._keys)
        except CheckpointInvalid as error:
            self._findings[log_id].add(error.code, None, f"a signed checkpoint of {size} leaves", error)
            return
        self._more[log_id].append(SignedTree(said.size, said.root, "the control log"))


def known_keys(store: Store, deployment: Deployment, control_log: str) -> list[Ed25519PublicKey]:
    """The keys of ``trust.json``, and those that came after them, where another machine rotated them."""
    bodies = []
    for header in store.log_leaves(control_log, [EventClass.KEY_ROTATED])["header"].to_pylist():
        try:
            bodies.append(json.loads(header)["body"]["body"])
        except (ValueError, KeyError, TypeError):
            continue  # a leaf that cannot be read is a fault of its own
    return [*deployment.keys, *(one.new for one in follow(deployment.name, deployment.keys, bodies))]


def _checkpoint_leaves(store: Store, control_log: str, begin: int) -> Iterator[list[bytes]]:
    while True:
        parameters = {"log_id": control_log, "begin": begin, "class": str(EventClass.CHECKPOINT), "page": _PAGE}
        rows = store.query(_CHECKPOINT_LEAVES, parameters).to_pylist()
        if rows:
            yield [bytes(row["header"]) for row in rows]
            begin = rows[-1]["leaf_index"] + 1
        if len(rows) < _PAGE:
            return
