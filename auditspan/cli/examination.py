"""What `auditspan doctor` looks at: each check gives findings, and none stops the others.

A service may run and go on meanwhile, so each comparison reads first what must be the smaller of two.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from auditspan.cli.anchor_findings import anchor_findings
from auditspan.cli.control_socket import ask
from auditspan.cli.findings import Finding
from auditspan.cli.keys_in_place import check_signing_key
from auditspan.cli.reading import open_reader
from auditspan.collectors.disk import DiskWatermark
from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import Journal, generation_of
from auditspan.journal.opening import is_kafka, open_journal
from auditspan.ledger.checkpoint import Checkpoint, CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.hashing import Digests, leaf_hashes
from auditspan.ledger.keys import load_salt_key, load_signing_key
from auditspan.ledger.merkle import CompactRange
from auditspan.ledger.rotating import KeyFiles, pending_rotation
from auditspan.ledger.signer import last_signed
from auditspan.ledger.signing_key import key_id
from auditspan.ledger.subtrees import TILE_LEVELS
from auditspan.ledger.trust import load_trust
from auditspan.store.contract import Store, StoreUnavailable
from auditspan.tokens import TokenRegistry

__all__ = ["examine"]

_BACKUP = "Keep the store as it is for those who look into it, and put the newest backup in its place."
_LOGS = "SELECT log_id FROM auditspan.events GROUP BY log_id ORDER BY log_id"
_OPENING = (
    "SELECT header FROM auditspan.events "
    "WHERE log_id = {log_id:String} AND leaf_index = 0 AND class = 'audit.log.opened' AND payload = ''"
)


def examine(directory: DataDirectory, settings: Settings, full: bool) -> Iterator[Finding]:
    """Everything below a data directory; with ``full`` every leaf is hashed."""
    yield from _keys(directory)
    yield _tokens(directory)
    yield _disk(directory, settings)
    if not is_kafka(settings) and not directory.journal.exists():
        yield Finding(
            "journal",
            "wrong" if directory.store.exists() else "waiting",
            "there is none",
            "Put back the journal that belongs to this store."
            if directory.store.exists()
            else f"Start: auditspan up --data {directory.root}",
        )
        return
    try:
        journal = open_journal(directory, settings, read_only=True)
    except AuditSpanError as error:
        yield Finding("journal", "wrong", error.message, error.remedy)
        return
    with closing(journal):
        try:
            with open_reader(directory.root, None) as reading:
                yield _service(directory, reading.running)
                yield from _Logs(directory, journal, reading.store, reading.running, full).findings()
                yield from _anchors(directory, settings, reading.store, reading.running)
        except AuditSpanError as error:
            yield Finding("store", "wrong", error.message, _remedy_for_store(directory, error))


def _remedy_for_store(directory: DataDirectory, error: AuditSpanError) -> str:
    if not isinstance(error, StoreUnavailable):
        return error.remedy
    tables = directory.store / "metadata" / "auditspan"
    if tables.is_dir() and not tables.is_symlink():
        return "It is a copy in which symbolic links became directories: copy it anew with `cp -a` or `rsync -a`."
    return _BACKUP


def _keys(directory: DataDirectory) -> Iterator[Finding]:
    loads: tuple[tuple[str, Callable[[], object]], ...] = (
        ("signing key", lambda: load_signing_key(directory.signing_key)),
        ("salt key", lambda: load_salt_key(directory.salt_key)),
        ("trust.json", lambda: load_trust(directory.trust)),
    )
    for name, load in loads:
        try:
            load()
        except AuditSpanError as error:
            yield Finding(name, "wrong", error.message, error.remedy)
        else:
            yield Finding(name, "ok", "readable" if name == "trust.json" else "readable, and by its owner alone")
    yield from _key_in_use(directory)


def _key_in_use(directory: DataDirectory) -> Iterator[Finding]:
    """Whether verifiers accept what the key signs, and a rotation is finished; nothing where a file is wrong anyway."""
    try:
        key, trust = load_signing_key(directory.signing_key), load_trust(directory.trust)
    except AuditSpanError:
        return
    try:
        check_signing_key(directory, key, trust)
        pending = pending_rotation(KeyFiles(directory.signing_key, directory.trust))
    except AuditSpanError as error:
        yield Finding("key in use", "wrong", error.message, error.remedy)
        return
    if pending is not None:
        again = f"Finish it: auditspan keys rotate --data {directory.root}"
        yield Finding("key in use", "waiting", "a rotation of the signing key was begun and not finished", again)
        return
    yield Finding("key in use", "ok", f"{key_id(key.public_key())[:16]}, one of {len(trust.keys)} that are trusted")


def _tokens(directory: DataDirectory) -> Finding:
    try:
        valid = sum(token.revoked is None for token in TokenRegistry(directory.tokens).list())
    except AuditSpanError as error:
        return Finding("tokens", "wrong", error.message, error.remedy)
    if not valid:
        return Finding(
            "tokens", "waiting", "nobody has one", f"Run: auditspan token create EMITTER --data {directory.root}"
        )
    return Finding("tokens", "ok", f"valid: {valid:,}")


def _disk(directory: DataDirectory, settings: Settings) -> Finding:
    limits = settings.collector
    full = DiskWatermark(directory.root, limits.min_free_disk_bytes, limits.min_free_disk_fraction).refusal()
    if full is not None:
        return Finding(
            "disk",
            "wrong",
            full,
            "Make room: until then nothing is accepted, and emitters keep their records in their spools. A smaller "
            "journal.keep_days frees what is sealed and signed.",
        )
    return Finding("disk", "ok", "above the watermark")


def _service(directory: DataDirectory, running: bool) -> Finding:
    if not running:
        return Finding("service", "waiting", "it does not run", f"Start: auditspan up --data {directory.root}")
    try:
        answer = ask(directory.control_socket, "GET", "/status")
    except AuditSpanError as error:
        return Finding("service", "wrong", error.message, error.remedy)
    if not answer["healthy"]:
        return Finding("service", "wrong", answer["reason"], "Its log says more: put it right, then start it again.")
    return Finding("service", "ok", "it runs")


def _anchors(directory: DataDirectory, settings: Settings, store: Store, running: bool) -> Iterator[Finding]:
    for row in store.query(_LOGS).to_pylist():
        opening = store.query(_OPENING, {"log_id": row["log_id"]}).to_pylist()
        if opening and json.loads(opening[0]["header"])["body"]["partition"] == "control":
            yield from anchor_findings(directory, settings.anchors, store, row["log_id"], running)


class _Logs:
    """The logs in the store, each against its journal, its signatures and what the signer remembers."""

    def __init__(self, directory: DataDirectory, journal: Journal, store: Store, running: bool, full: bool) -> None:
        self._directory = directory
        self._journal = journal
        self._store = store
        self._running = running
        self._full = full

    def findings(self) -> Iterator[Finding]:
        found = [row["log_id"] for row in self._store.query(_LOGS).to_pylist()]
        remembered = sorted(path.stem for path in self._directory.signer_state.glob("*.json"))
        if not found and not remembered:
            yield Finding("store", "waiting", "nothing is sealed yet", "Start the service.")
        for log_id in remembered:
            if log_id not in found:
                yield from self._only_remembered(log_id)
        for log_id in found:
            try:
                yield from self._log(log_id)
            except StoreUnavailable as error:
                yield Finding(f"log {log_id}", "wrong", f"it cannot be read: {error.message}", _BACKUP)

    def _only_remembered(self, log_id: str) -> Iterator[Finding]:
        """A log without leaves: an empty tree may be signed before the first one is sealed."""
        name = f"log {log_id}"
        try:
            signed = last_signed(self._directory.signer_state, log_id)
        except AuditSpanError as error:
            yield Finding(name, "wrong", error.message, error.remedy)
            return
        if signed is not None and signed.size:
            yield Finding(name, "wrong", f"{signed.size:,} leaves were signed, the store holds none", _BACKUP)

    def _log(self, log_id: str) -> Iterator[Finding]:
        opening = self._store.query(_OPENING, {"log_id": log_id}).to_pylist()
        if not opening:
            yield Finding(f"log {log_id}", "wrong", "its first leaf does not open it", _BACKUP)
            return
        body = json.loads(opening[0]["header"])["body"]
        partition = body["partition"]
        there = partition in ("control", *self._journal.partitions)
        # The topic of an earlier generation may be deleted once its logs are closed.
        forgotten = (generation_of(partition) or math.inf) < min(self._journal.generations)
        if body["journal"] != self._journal.identity or not (there or forgotten):
            yield Finding(partition, "wrong", "the store is of another journal", "Put the right pair together.")
            return
        if there:
            yield self._progress(partition, log_id)
        yield self._proof(f"{partition} proof", log_id)

    def _progress(self, partition: str, log_id: str) -> Finding:
        last = self._store.last_batch(log_id)
        sealed_to = json.loads(last)["body"]["to"] if last is not None else 0
        earliest, end = self._journal.earliest(partition), self._journal.high_water_mark(partition)
        if sealed_to > end:
            return Finding(
                partition,
                "wrong",
                f"sealed to entry {sealed_to:,}, but the journal ends at {end:,}",
                "The journal is an older copy: put the newest one back before anything is sent.",
            )
        if sealed_to < earliest and not self._running:
            return Finding(
                partition,
                "wrong",
                f"sealed to entry {sealed_to:,}, but the journal begins at {earliest:,}",
                "The store is an older copy, and the journal has forgotten what it lacks: put the newest one back.",
            )
        if sealed_to < end:
            return Finding(
                partition,
                "waiting",
                f"{end - sealed_to:,} journal entries are not sealed yet",
                "If this does not shrink, see the log of the service."
                if self._running
                else f"They are acknowledged and safe. Seal them: auditspan up --data {self._directory.root}",
            )
        return Finding(partition, "ok", f"all {end:,} journal entries are sealed")

    def _proof(self, name: str, log_id: str) -> Finding:
        kept = self._store.last_checkpoint(log_id)
        try:
            signed = last_signed(self._directory.signer_state, log_id)
        except AuditSpanError as error:
            return Finding(name, "wrong", error.message, error.remedy)
        leaves = self._store.next_leaf(log_id)
        if signed is not None and signed.size > leaves:
            return Finding(
                name,
                "wrong",
                f"{signed.size:,} leaves were signed, the store holds {leaves:,}",
                f"Leaves are missing, and the service does not start on such a store. {_BACKUP}",
            )
        if kept is None:
            return Finding(name, "waiting", "nothing is signed yet", "A running service signs within a second.")
        trusted = load_trust(self._directory.trust)
        try:
            checkpoint = open_checkpoint(kept.note, log_origin(trusted.deployment, log_id), trusted.keys)
        except CheckpointInvalid as error:
            return Finding(
                name,
                "wrong",
                f"the last checkpoint is not valid ({error.code}): {error}",
                "The store was altered, or keys/ and trust.json are of another deployment: put back what belongs here.",
            )
        if signed is None or signed.size < checkpoint.size:
            return Finding(
                name,
                "wrong",
                f"a checkpoint over {checkpoint.size:,} leaves is kept, the signer remembers "
                f"{signed.size if signed else 0:,}",
                f"{self._directory.signer_state} is an older copy: put the newest one back, or a second history "
                "could be signed.",
            )
        if signed.size == checkpoint.size and signed.root != checkpoint.root:
            return Finding(name, "wrong", "the signer signed another tree of this size", _BACKUP)
        if self._full:
            fault = _fault_in_leaves(self._store, log_id, checkpoint)
            if fault is not None:
                return Finding(name, "wrong", fault, _BACKUP)
        fits = ", and every one of them fits" if self._full else ""
        return Finding(name, "ok", f"{checkpoint.size:,} of {leaves:,} leaves are under a valid checkpoint{fits}")


def _fault_in_leaves(store: Store, log_id: str, checkpoint: Checkpoint) -> str | None:
    """Where the leaves differ from what was signed, as closely as the kept nodes can say."""
    tree = CompactRange()
    tiles: list[bytes] = []

    def keep(level: int, _first: int, digests: Digests) -> None:
        if level == TILE_LEVELS:
            tiles.extend(digest.tobytes() for digest in digests)

    for batch in store.leaves(log_id, 0, checkpoint.size):
        indices = batch.column("leaf_index").to_pylist()
        for expected, index in enumerate(indices, tree.end):
            if index != expected:
                return f"leaf {min(expected, index):,} of log {log_id} is missing or there twice"
        tree.extend_column(leaf_hashes(batch.column("header")), keep)
    if tree.end != checkpoint.size:
        return f"leaf {tree.end:,} of log {log_id} is missing"
    if tree.root() == checkpoint.root:
        return None
    return f"{_altered(store, log_id, tiles)} of log {log_id} differ from what was signed: they give the root " + (
        f"{_text(tree.root())}, signed is {_text(checkpoint.root)}"
    )


def _altered(store: Store, log_id: str, tiles: list[bytes]) -> str:
    kept: dict[int, Any] = {
        row["node_index"]: row["hash"] for row in store.nodes(log_id, TILE_LEVELS, 0, len(tiles)).to_pylist()
    }
    for index, digest in enumerate(tiles):
        if kept.get(index, digest) != digest:
            return f"leaves {index << TILE_LEVELS:,} to {((index + 1) << TILE_LEVELS) - 1:,}"
    return f"leaves from {len(tiles) << TILE_LEVELS:,} on"


def _text(root: bytes) -> str:
    return base64.b64encode(root).decode()
