"""What the control log tells about the other logs: which were open, their checkpoints, and the reference epochs."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from auditspan.canonical import canonical_json
from auditspan.ledger.checkpoint import Checkpoint, CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.merkle import leaf_hash, verify_inclusion

from .headers import parse_headers
from .report import Faults
from .statement import Included, Manifest
from .verify_keys import KeyRing, RotationLeaves
from .verify_recovery import RecoveryLeaves

__all__ = ["ControlState", "Epoch", "check_included", "check_logs"]

_MOST_ROOTS = 500_000


@dataclass(frozen=True, slots=True)
class Epoch:
    """A reference epoch: digest of its body, SHA-256 of its artifacts, and the same by their names."""

    digest: str
    artifacts: tuple[str, ...]
    named: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Opening:
    """What an ``audit.log.opened`` leaf says (section 9), and where it stands in the control log."""

    index: int
    log_id: str
    deployment: object
    partition: str
    generation: int


@dataclass(slots=True)
class ControlState:
    """Gathered from the leaves of the control log, in the interval and included."""

    log_id: str
    faults: Faults
    rotations: RotationLeaves
    recoveries: RecoveryLeaves
    opened: dict[str, Opening] = field(default_factory=dict)
    epochs: dict[int, Epoch] = field(default_factory=dict)
    roots: dict[str, dict[int, tuple[bytes, int]]] = field(default_factory=dict)
    last_round: tuple[int, list[dict[str, Any]]] | None = None
    signed_at: int = 0
    """Arrival time of the last round: its checkpoints were signed just before."""
    asked: str | None = None
    """Id of the request that the package says it answers."""
    request: tuple[int, dict[str, Any]] | None = None
    """The first leaf with it, and what it says."""
    _kept: int = 0
    _first: dict[int, int] = field(default_factory=dict)

    def leaf(self, index: int, leaf: dict[str, Any]) -> None:
        """Take note of a log leaf of the control log."""
        reader = {
            "audit.log.opened": self._log_opened,
            "audit.reference.activated": self._epoch,
            "audit.checkpoint": self._round,
            "audit.key.rotated": self.rotations.leaf,
            "audit.ledger.recovered": self.recoveries.leaf,
            "evidence.requested": self._requested,
        }.get(leaf["class"])
        if reader is None:
            return
        try:
            body = leaf["body"]
            # Leaf 0 is the log's own word; all others carry a control entry with its actor.
            reader(index, body["body"] if "actor" in body else body)
            if self.last_round is not None and self.last_round[0] == index:
                self.signed_at = int(leaf["arrival_time"])
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            self.faults.add("leaf.malformed", (self.log_id, index), f"a body as section 11 of {leaf['class']}", error)

    def _log_opened(self, index: int, body: dict[str, Any]) -> None:
        log_id, partition, generation = body["log_id"], body["partition"], body["generation"]
        if not (isinstance(log_id, str) and isinstance(partition, str) and isinstance(generation, int)):
            raise TypeError("log_id, partition or generation has the wrong type")
        known = self.opened.get(log_id)
        if known is None or index < known.index:
            self.opened[log_id] = Opening(index, log_id, body.get("deployment"), partition, generation)

    def data_logs(self) -> list[Opening]:
        """What opened a data log. Of several openings of one partition the first counts (section 11)."""
        first: dict[tuple[str, int], Opening] = {}
        for opening in sorted(self.opened.values(), key=lambda one: one.index):
            first.setdefault((opening.partition, opening.generation), opening)
        return [opening for opening in first.values() if opening.log_id != self.log_id]

    def _epoch(self, index: int, body: dict[str, Any]) -> None:
        number = body["number"]
        if not isinstance(number, int):
            raise TypeError("number is no integer")
        digest = hashlib.sha256(canonical_json(body)).hexdigest()
        artifacts = [(str(artifact.get("name")), str(artifact["sha256"])) for artifact in body["artifacts"]]
        epoch = Epoch(digest, tuple(sha256 for _, sha256 in artifacts), dict(artifacts))
        # Of several with one number the first in the log counts; included leaves come before or after the interval's.
        if number not in self._first or index < self._first[number]:
            self._first[number] = index
            self.epochs[number] = epoch

    def _requested(self, index: int, body: dict[str, Any]) -> None:
        if body["id"] == self.asked and (self.request is None or index < self.request[0]):
            self.request = (index, body)

    def _round(self, index: int, body: dict[str, Any]) -> None:
        checkpoints = body["checkpoints"]
        for checkpoint in checkpoints:
            root, size = base64.b64decode(checkpoint["root"], validate=True), checkpoint["size"]
            if not isinstance(size, int) or len(root) != 32:
                raise ValueError("size or root")
            known = self.roots.setdefault(checkpoint["log_id"], {})
            if size not in known:
                # Bounded: rounds beyond this many are still covered by the last one.
                if self._kept >= _MOST_ROOTS:
                    continue
                self._kept += 1
                known[size] = (root, index)
            elif known[size][0] != root:
                self.faults.add("consistency", (self.log_id, index), known[size][0].hex(), root.hex())
            elif index < known[size][1]:
                # Leaves outside the interval come after it: what counts for an anchor is the first round.
                known[size] = (root, index)
        if self.last_round is None or index > self.last_round[0]:
            self.last_round = (index, checkpoints)


def check_included(manifest: Manifest, checkpoint: Checkpoint | None, state: ControlState, faults: Faults) -> None:
    """The control leaves outside the interval: each proven against the signed root, then taken note of."""
    control = manifest.control
    for included in manifest.included:
        place = (control.log_id, included.leaf_index)
        if checkpoint is not None:
            try:
                root = verify_inclusion(
                    leaf_hash(included.leaf), included.leaf_index, checkpoint.size, included.inclusion
                )
                actual = root.hex()
            except ValueError as error:
                actual = str(error)
            if actual != checkpoint.root.hex():
                faults.add("control.inclusion", place, checkpoint.root.hex(), actual)
                continue
        parsed = _one(included)
        if isinstance(parsed, str):
            faults.add("leaf.malformed", place, "a log leaf", parsed)
        elif parsed["log_id"] != control.log_id:
            faults.add("leaf.log_id", place, control.log_id, parsed["log_id"])
        else:
            state.leaf(included.leaf_index, parsed)


def _one(included: Included) -> dict[str, Any] | str:
    parsed = parse_headers(pa.array([included.leaf], pa.binary()))
    return parsed.log_leaves.get(0) or parsed.malformed.get(0, "a leaf of an event")


def check_logs(
    manifest: Manifest,
    opened: dict[str, Checkpoint],
    state: ControlState,
    keys: KeyRing,
    faults: Faults,
) -> None:
    """Each log is bound to the deployment; all that were opened or are in the last round are here, none rolled back."""
    present = {log.log_id: log for log in manifest.logs}
    for log in (*manifest.logs, manifest.control):
        opening = state.opened.get(log.log_id)
        if opening is None:
            faults.add("control.inclusion", None, f"the audit.log.opened leaf of {log.log_id}", "none")
        elif (opening.deployment, opening.partition) != (manifest.deployment, log.partition):
            faults.add(
                "control.inclusion",
                None,
                f"{log.log_id} opened for {manifest.deployment}, {log.partition}",
                f"{opening.deployment}, {opening.partition}",
            )
    _check_opened(state, present.keys(), faults)
    if state.last_round is None:
        if manifest.logs:
            faults.add("log.missing", None, "an audit.checkpoint leaf, which lists every open log", "none")
        return
    index, checkpoints = state.last_round
    place = (manifest.control.log_id, index)
    for stated in checkpoints:
        log_id, size = stated["log_id"], stated["size"]
        if log_id not in present:
            faults.add("log.missing", place, f"the log {log_id}", "not in the package")
            continue
        try:
            origin = log_origin(manifest.deployment, log_id)
            signed = open_checkpoint(str(stated["note"]), origin, keys.keys)
            keys.check_checkpoint(str(stated["note"]), origin, state.signed_at, place, faults)
            if (signed.size, signed.root) != (size, base64.b64decode(stated["root"])):
                faults.add(
                    "checkpoint.malformed",
                    place,
                    f"a note over {size} leaves",
                    f"{signed.size} leaves, or another root",
                )
        except CheckpointInvalid as error:
            faults.add(error.code, place, f"a signed checkpoint of {log_id}", error)
        checkpoint = opened.get(log_id)
        if checkpoint is not None and checkpoint.size < size:
            # The control log has seen more of this log than the package admits: rolled back.
            faults.add("checkpoint.size", place, f"{log_id}: at least {size} leaves", checkpoint.size)


def _check_opened(state: ControlState, present: Set[str], faults: Faults) -> None:
    """Every log that a leaf opened is in the package, and rounds after that leaf name it."""
    last = -1 if state.last_round is None else state.last_round[0]
    for opening in state.data_logs():
        if opening.log_id not in present:
            place = (state.log_id, opening.index)
            faults.add("log.missing", place, f"the log {opening.log_id}, which this leaf opened", "not in the package")
        # One is enough: a signer that was stopped and has an heir may write one more round of the logs that it knew.
        elif opening.index < last and opening.log_id not in state.roots:
            wanted = f"a round that names the log {opening.log_id}, which leaf {opening.index} opened"
            faults.add("log.missing", (state.log_id, last), wanted, "it is in none")
