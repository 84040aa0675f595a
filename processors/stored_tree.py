"""One log as the store shows it: what may be signed by a process that does not seal the log itself.

Every leaf hash is computed from the header that was read back, never taken from a stored node. Nodes of the tree serve
in one place only: to begin at what was signed before, and there the root they give must be the signed one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.hashing import leaf_hashes
from auditspan.ledger.merkle import EMPTY_ROOT, CompactRange
from auditspan.store.contract import Store

from .restore import store_subtrees

__all__ = ["CheckpointDoubtful", "SignedTree", "StoredTree", "Tree", "contains", "last_kept"]

_KEEP = "Keep the store as it is, and restore it from the last backup that `auditspan doctor` finds whole."


class CheckpointDoubtful(AuditSpanError):
    """A checkpoint was not signed by this deployment, or the log does not contain what it says."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A log as it was read back: ``size`` leaves with this RFC 6962 ``root`` hold the journal up to ``sealed_to``."""

    size: int
    root: bytes
    sealed_to: int


@dataclass(frozen=True, slots=True)
class SignedTree:
    """A tree that was signed, and where that is written."""

    size: int
    root: bytes
    where: str


def last_kept(store: Store, log_id: str, deployment: str, keys: Sequence[Ed25519PublicKey]) -> SignedTree | None:
    """The largest tree under a checkpoint that the store keeps, its signature verified; None when it keeps none.

    Raises:
        CheckpointDoubtful: none of ``keys`` signed it.
        StoreUnavailable: the store cannot be read now.
    """
    kept = store.last_checkpoint(log_id)
    if kept is None:
        return None
    try:
        checkpoint = open_checkpoint(kept.note, log_origin(deployment, log_id), keys)
    except CheckpointInvalid as error:
        raise CheckpointDoubtful(
            f"The last checkpoint that the store keeps of log {log_id} is not valid ({error.code}): {error}.",
            remedy="The store was altered, or keys/ and trust.json are of another deployment: put back what belongs.",
        ) from error
    return SignedTree(checkpoint.size, checkpoint.root, "the store's checkpoints")


def contains(store: Store, log_id: str, size: int, signed: SignedTree) -> bool:
    """Whether the log of ``size`` leaves in the store begins with the tree that was signed."""
    if signed.size == 0:
        return signed.root == EMPTY_ROOT
    if size < signed.size:
        return False
    try:
        return store_subtrees(store, log_id).compact_range(signed.size).root() == signed.root
    except LookupError:
        return False


class StoredTree:
    """Follows a log in the store. Not for several threads at once.

    Args:
        store: read from.
        log_id: of the log.
        begin: the leaves that need not be read any more, because a signed root covers them; from `signed_range`.
    """

    def __init__(self, store: Store, log_id: str, begin: CompactRange | None = None) -> None:
        self._store = store
        self.log_id = log_id
        self._range = CompactRange() if begin is None else begin
        self._sealed_to = 0
        self.watermark = 0

    @classmethod
    def after(cls, store: Store, log_id: str, signed: SignedTree | None) -> StoredTree:
        """A follower that begins after what was signed.

        Raises:
            CheckpointDoubtful: the store does not contain it.
            StoreUnavailable: the store cannot be read now.
        """
        if signed is None or signed.size == 0:
            return cls(store, log_id)
        try:
            begin = store_subtrees(store, log_id).compact_range(signed.size)
        except LookupError:
            begin = CompactRange()
        if begin.root() != signed.root:
            raise CheckpointDoubtful(
                f"Log {log_id} in the store does not contain the tree of {signed.size} leaves that "
                f"{signed.where} say was signed.",
                remedy="The store is an older backup, was altered, or is another one: put the newest one back.",
            )
        return cls(store, log_id, begin)

    def look(self) -> Tree:
        """The log up to its last batch, every leaf since the last look read back and hashed.

        Raises:
            CheckpointDoubtful: leaves that were read before are gone, or the log does not end with a batch.
            StoreUnavailable: the store cannot be read now.
        """
        header = self._store.last_batch(self.log_id)
        if header is None:
            if self._range.end:
                raise self._shrunk(0)
            return Tree(0, self._range.root(), 0)
        body: dict[str, Any] = json.loads(header)["body"]
        size = int(body["first_leaf"]) + int(body["sealed"]) + 1
        if size < self._range.end:
            raise self._shrunk(size)
        if size > self._range.end:
            self._range = self._read(size, header)
        self._sealed_to, self.watermark = int(body["to"]), int(body["watermark"])
        return Tree(self._range.end, self._range.root(), self._sealed_to)

    def adopt(self, leaves: CompactRange, sealed_to: int) -> Tree:
        """Take over what this process itself read back of the log when it sealed it; the tree from then on."""
        if leaves.end >= self._range.end:
            self._range, self._sealed_to = leaves, sealed_to
        return Tree(self._range.end, self._range.root(), self._sealed_to)

    def _read(self, size: int, last: bytes) -> CompactRange:
        """The range with the leaves up to ``size``, of which ``last`` is the last one."""
        grown = self._range.copy()
        header = b""
        for block in self._store.leaves(self.log_id, grown.end, size):
            if not len(block):
                continue
            index = block.column("leaf_index").to_numpy(zero_copy_only=False)
            if not np.array_equal(index, np.arange(grown.end, grown.end + len(block), dtype=np.uint64)):
                raise self._broken(f"leaf {grown.end} is missing or there twice")
            headers = block.column("header").cast(pa.binary())
            grown.extend_column(leaf_hashes(headers))
            header = headers[-1].as_py()
        if grown.end != size or header != last:
            raise self._broken(f"its last batch should end at leaf {size - 1}, and does not")
        return grown

    def _shrunk(self, size: int) -> CheckpointDoubtful:
        return self._broken(f"it had {self._range.end} leaves, and now shows {size}")

    def _broken(self, fault: str) -> CheckpointDoubtful:
        return CheckpointDoubtful(f"Log {self.log_id} in the store was altered: {fault}.", remedy=_KEEP)
