"""What was signed before, wherever that is written, and the signer of the process that owns the control log.

The store cannot vouch for itself. What was signed is written outside it in two places: in the ``audit.checkpoint``
entries of the control partition, which follow the control log to whichever machine takes it over, and in the signer's
state on this machine (docs/decisions/0004-one-signer.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.journal.contract import CONTROL_PARTITION, EntryKind, Journal, PositionLost
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.signer import Signed, Signer, SignerRefused, last_signed
from auditspan.ledger.signing_key import SigningKey
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from .control_entries import INTERNAL, INTERNAL_AUTHENTICATION
from .stored_tree import SignedTree, contains

__all__ = [
    "HeldSigner",
    "SignerPlaces",
    "Signers",
    "check_against_signed",
    "journaled_checkpoints",
    "remembered_places",
]

_MOST_PLACES: Final = 64
_TAIL: Final = 256
"""Control entries that are looked at in one step, from the end backwards."""
_READ: Final = 16 << 20
_RACE: Final = 1024
"""Entries at the end that are always looked at: a process that lost the control log may have written after its heir."""


class Signers(Protocol):
    """Where a process gets its signer from when it comes to own the control log."""

    @contextmanager
    def hold(self) -> Iterator[Signer]:
        """The signer, for as long as the control log is owned."""

    def remembered(self, log_id: str) -> Sequence[SignedTree]:
        """What signers of this machine signed last of a log."""


class HeldSigner:
    """`Signers` of a process that holds the one signer of its data directory all the time.

    Args:
        signer: the caller's, who closes it.
    """

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    @contextmanager
    def hold(self) -> Iterator[Signer]:
        """The same signer every time."""
        yield self._signer

    def remembered(self, log_id: str) -> Sequence[SignedTree]:
        """What it signed last."""
        return _told([self._signer.last(log_id)])


class SignerPlaces:
    """`Signers` of processes that may share a data directory: each holds a place of its own below it.

    A stopped process keeps its place. Its heir on the same machine must not wait for that, so it takes the next one.
    What is written in any of them counts.

    Args:
        key: the deployment's signing key.
        directory: the first place; further ones are its folders ``2``, ``3``, ….
        deployment: name in the origin of every note.
    """

    def __init__(self, key: SigningKey, directory: Path, deployment: str) -> None:
        self._key = key
        self._directory = directory
        self._deployment = deployment

    @contextmanager
    def hold(self) -> Iterator[Signer]:
        """A signer in the first place that nobody holds.

        Raises:
            SignerRefused: all are held, or the directory cannot be used.
        """
        for place in self._places(_MOST_PLACES):
            place.mkdir(mode=0o700, exist_ok=True)
            try:
                signer = Signer(self._key, place, self._deployment)
            except SignerRefused as error:
                refused = error
                continue
            with signer:
                yield signer
            return
        raise refused

    def remembered(self, log_id: str) -> Sequence[SignedTree]:
        """What is written in any place."""
        return remembered_places(self._directory, log_id)

    def _places(self, most: int) -> Iterator[Path]:
        return _places(self._directory, most)


def remembered_places(directory: Path, log_id: str) -> Sequence[SignedTree]:
    """What is written in any place of a signer's directory, asked beside signers that may be at work.

    Raises:
        SignerRefused: a file is damaged.
    """
    return _told(last_signed(place, log_id) for place in _places(directory, _MOST_PLACES) if place.is_dir())


def _places(directory: Path, most: int) -> Iterator[Path]:
    yield directory
    for number in range(2, most + 1):
        yield directory / str(number)


def _told(signed: Iterable[Signed | None]) -> Sequence[SignedTree]:
    return [SignedTree(one.size, one.root, "the signer's state") for one in signed if one is not None]


def check_against_signed(store: Store, log_id: str, size: int, signed: Iterable[SignedTree]) -> None:
    """Compare a log of ``size`` leaves in the store with everything that was signed of it, before anything is added.

    Raises:
        SignerRefused: it is smaller, or does not contain what was signed.
    """
    for tree in sorted(set(signed), key=lambda tree: tree.size, reverse=True):
        if not contains(store, log_id, size, tree):
            raise SignerRefused(
                f"Log {log_id} has {size} leaves in the store without the tree of {tree.size} signed before, as "
                f"{tree.where} says.",
                remedy="The store is an older backup, was altered, or is another one: put the newest one back.",
            )


def journaled_checkpoints(
    journal: Journal, deployment: str, keys: Sequence[Ed25519PublicKey], log_ids: Iterable[str]
) -> Mapping[str, SignedTree]:
    """The largest tree of each log among the last ``audit.checkpoint`` entries of the control partition.

    Raises:
        SignerRefused: an entry of this deployment's own holds a note that none of ``keys`` signed.
        JournalUnavailable: the journal cannot be read.
    """
    wanted = set(log_ids)
    found: dict[str, SignedTree] = {}
    begin = end = journal.high_water_mark(CONTROL_PARTITION)
    earliest = journal.earliest(CONTROL_PARTITION)
    while begin > earliest and (end - begin < _RACE or not wanted <= found.keys()):
        upto, begin = begin, max(begin - _TAIL, earliest)
        for stated in _stated(journal, begin, upto):
            log_id = str(stated["log_id"])
            tree = _opened(stated, deployment, keys)
            if log_id in wanted and (log_id not in found or found[log_id].size < tree.size):
                found[log_id] = tree
    return found


def _stated(journal: Journal, begin: int, end: int) -> Iterator[Mapping[str, Any]]:
    """What ``audit.checkpoint`` entries ``[begin, end)`` state of logs."""
    while begin < end:
        try:
            entries = journal.read(CONTROL_PARTITION, begin, max_entries=end - begin, max_bytes=_READ)
        except PositionLost:  # trimmed since it was asked for
            return
        if not entries:
            return
        for entry in entries:
            own = (entry.emitter, entry.authentication) == (INTERNAL, INTERNAL_AUTHENTICATION)
            if entry.kind is not EntryKind.CONTROL or not own or entry.offset >= end:
                continue
            said = json.loads(entry.body)
            if said["class"] == EventClass.CHECKPOINT:
                yield from said["body"]["checkpoints"]
                if "control" in said["body"]:
                    yield said["body"]["control"]
        begin = entries[-1].offset + 1


def _opened(stated: Mapping[str, Any], deployment: str, keys: Sequence[Ed25519PublicKey]) -> SignedTree:
    try:
        checkpoint = open_checkpoint(str(stated["note"]), log_origin(deployment, str(stated["log_id"])), keys)
    except CheckpointInvalid as error:
        raise SignerRefused(
            f"The control partition holds a checkpoint of log {stated['log_id']} that is not valid ({error.code}): "
            f"{error}.",
            remedy="Every process of a deployment needs the same keys/ and trust.json: put the right ones in place.",
        ) from error
    return SignedTree(checkpoint.size, checkpoint.root, "the control partition of the journal")
