"""Export of an evidence package from the store (evidence format, section 14), streaming, in constant memory."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.ledger.signing_key import SigningKey
from auditspan.store.contract import StoredCheckpoint

from .anchors import PackagedAnchors, packaged_anchors
from .citations import Citations
from .columns import empty_as_null
from .control import ControlLeaf, control_leaves, control_log_of, needed_outside
from .headers import parse_headers
from .interval import Reader, choose_interval, encoded, epochs_named, subtrees_of
from .key_leaves import KeyLeaves, key_leaves
from .layout import EVENT_FILE, MANIFEST, NOTE, SUMMARY, WITHHELD_FILE
from .note import verify_note
from .package import PathRefused
from .publishing import ExportFailed, check_target, discard, pack, publish, target_of
from .query import Query, compile_query
from .requests import Request, with_request
from .statement import Manifest, ManifestInvalid, open_envelope, parse_manifest, sign_statement, statement
from .summary import Summary
from .summary_page import summary_page
from .writing import LeafWriter, file_digest, write_file
from .zipped import open_package

__all__ = ["ExportFailed", "ExportResult", "export_package"]

Artifact = Callable[[str], bytes | None]
"""The bytes of a reference artifact by its SHA-256, or None."""
Progress = Callable[[int, int], None]
"""Is told how many leaves are written, of how many."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported. ``entry`` is the body of the ``evidence.exported`` control entry (section 11)."""

    folder: Path
    manifest_sha256: str
    leaves: int
    selected: int
    withheld: int
    flagged: int
    intervals: list[dict[str, Any]]
    entry: dict[str, Any]


@dataclass(slots=True)
class _Log:
    """One log on its way into the package."""

    log_id: str
    partition: str
    checkpoint: StoredCheckpoint
    begin: int
    end: int
    files: dict[str, list[str]] = field(default_factory=dict)
    previous: dict[str, Any] | None = None


def export_package(
    store: Reader,
    artifact: Artifact,
    key: SigningKey,
    deployment: str,
    out: Path,
    *,
    time_from: int,
    time_to: int,
    where: str | None = None,
    control: str | None = None,
    previous: Path | None = None,
    request: Request | None = None,
    zipped: bool = False,
    record: Callable[[dict[str, Any]], None] | None = None,
    progress: Progress | None = None,
) -> ExportResult:
    """Write the evidence of arrival times ``[time_from, time_to)`` (nanoseconds) into the new folder ``out``.

    The package is complete when it appears under its name: it is written beside it first.

    Args:
        store: a reader of its own, since an export runs long.
        artifact: gives reference artifacts by digest.
        key: the deployment's signing key.
        deployment: its name.
        out: a folder that does not exist yet, or is empty.
        time_from: first arrival time.
        time_to: arrival time that is no longer covered.
        where: a query over header fields; what it does not select is withheld, and its headers stay.
        control: id of the control log; found in the store when not given.
        previous: an earlier package to be consistent with; the last recorded export when not given.
        request: the sealed request that the package answers; times and query are then its own.
        zipped: make one zip file of it, whose name ends in ``.zip``.
        record: appends the ``evidence.exported`` control entry with the given body.
        progress: called now and then.

    Raises:
        QueryInvalid: ``where`` cannot be read.
        ExportFailed: no signed checkpoint yet, an empty range of time, ``out`` in the way, a leaf missing.
    """
    query = None if where is None else compile_query(where)
    if not 0 <= time_from < time_to:
        raise ExportFailed("The evidence would cover no time.", remedy="Give a --to that is later than --from.")
    out = target_of(out, zipped=zipped)
    check_target(out, zipped=zipped)
    export = _Export(store, artifact, key, deployment, out, time_from, time_to, query, progress or _silent)
    export.request, export.zipped = request, zipped
    return export.run(control or control_log_of(store), previous, record)


def _silent(done: int, total: int) -> None:
    """No progress is shown."""


class _Export:
    def __init__(
        self,
        store: Reader,
        artifact: Artifact,
        key: SigningKey,
        deployment: str,
        out: Path,
        time_from: int,
        time_to: int,
        query: Query | None,
        progress: Progress,
    ) -> None:
        self.store, self.artifact, self.key, self.deployment, self.out = store, artifact, key, deployment, out
        self.time_from, self.time_to, self.query, self.progress = time_from, time_to, query, progress
        self.counts = {"leaves": 0, "selected": 0, "withheld": 0, "flagged": 0}
        self.summary = Summary()
        self.request: Request | None = None
        self.zipped = False
        self.done = self.total = 0
        self.keys = KeyLeaves([], [])

    def run(
        self, control_id: str, previous: Path | None, record: Callable[[dict[str, Any]], None] | None
    ) -> ExportResult:
        # The control log comes first: what its rounds say of the other logs is then never newer than their checkpoints.
        control = self._log(control_id, "control")
        leaves = control_leaves(self.store, control_id, control.checkpoint.size)
        self.keys = key_leaves(self.store, self.deployment, control_id, control.checkpoint.size)
        self.keys.check(self.key)
        logs = [self._log(leaf.body["log_id"], leaf.body["partition"]) for leaf in leaves.opened_data_logs()]
        if leaves.last_round is None:
            raise ExportFailed(
                "No round of checkpoints is sealed yet.",
                remedy="Let `auditspan up` run for some seconds, then try again.",
            )
        self._find_previous([*logs, control], leaves, previous)
        self.total = sum(log.end - log.begin for log in (*logs, control))
        partial = self.out.parent / f".{self.out.name}.partial-{uuid.uuid4().hex[:8]}"
        partial.mkdir(parents=True, mode=0o700)
        intervals = [
            {"log_id": log.log_id, "from": log.begin, "to": log.end, "size": log.checkpoint.size}
            for log in (*logs, control)
        ]
        try:
            digest = self._write(partial, logs, control, leaves)
            entry = {
                "from": str(self.time_from),
                "to": str(self.time_to),
                "where": self.query.text if self.query else None,
                "manifest_sha256": digest,
                "intervals": intervals,
                **({"request": self.request.id} if self.request else {}),
            }
            ready = pack(partial) if self.zipped else partial
            if record is not None:
                # Before it appears: no package may be in the world that the log knows nothing of.
                record(entry)
            publish(ready, self.out)
        except BaseException:  # an interrupted export leaves no part of a package behind either
            discard(partial)
            raise
        return ExportResult(folder=self.out, manifest_sha256=digest, intervals=intervals, entry=entry, **self.counts)

    def _log(self, log_id: str, partition: str) -> _Log:
        checkpoint = self.store.last_checkpoint(log_id)
        if checkpoint is None:
            raise ExportFailed(
                f"The log {log_id} ({partition}) has no signed checkpoint yet.",
                remedy="Let `auditspan up` run for some seconds, then try again.",
            )
        begin, end = choose_interval(self.store, log_id, checkpoint.size, self.time_from, self.time_to)
        return _Log(log_id, partition, checkpoint, begin, end)

    def _find_previous(self, logs: Iterable[_Log], leaves: Any, folder: Path | None) -> None:
        notes: dict[str, str] = {}
        if folder is not None:
            manifest = _read_manifest(folder, [self.key.public_key(), *self.keys.keys])
            notes = {log.log_id: log.checkpoint for log in (*manifest.logs, manifest.control)}
        elif leaves.last_export is not None:
            notes = self._recorded_notes(leaves.last_export)
        for log in logs:
            note = notes.get(log.log_id)
            if note is None:
                continue
            size = int(note.split("\n")[1])
            if size > log.checkpoint.size:
                raise ExportFailed(
                    f"The log {log.log_id} has {log.checkpoint.size} leaves, and {size} at the previous export.",
                    remedy="The store was rolled back or restored: run `auditspan doctor` before anything is exported.",
                )
            proof = subtrees_of(self.store, log.log_id).consistency(size, log.checkpoint.size)
            log.previous = {"checkpoint": note, "consistency": encoded(proof)}

    def _recorded_notes(self, entry: Mapping[str, Any]) -> dict[str, str]:
        notes = {}
        for interval in entry["intervals"]:
            found = self.store.query(
                "SELECT note FROM auditspan.checkpoints "
                "WHERE log_id = {log_id:String} AND size = {size:UInt64} LIMIT 1",
                {"log_id": interval["log_id"], "size": interval["size"]},
            )
            if found.num_rows:
                notes[interval["log_id"]] = found["note"][0].as_py()
        return notes

    def _write(self, folder: Path, logs: Sequence[_Log], control: _Log, leaves: Any) -> str:
        epochs: set[int] = set()
        for log in (*logs, control):
            epochs |= epochs_named(self.store, log.log_id, log.begin, log.end)
        for log in logs:
            self._write_log(folder, log)
        self._write_control(folder, control)
        self._write_reference(folder, leaves.artifacts(epochs))
        anchors = packaged_anchors(
            self.store,
            control.log_id,
            control.begin,
            control.end,
            control.checkpoint.size,
            {log.log_id: (log.end, log.checkpoint.size) for log in logs},
        )
        outside = needed_outside(
            leaves, control.begin, control.end, [log.log_id for log in (*logs, control)], epochs, anchors.rounds
        )
        outside += [leaf for leaf in self.keys.rotated if not control.begin <= leaf.index < control.end]
        if self.request is not None:
            outside = with_request(outside, self.request, control.begin, control.end, control.checkpoint.size)
        value = self._predicate(logs, control, outside, anchors)
        write_file(folder / NOTE, verify_note(value).encode())
        bodies = {number: leaves.epochs[number].body for number in sorted(epochs)}
        summary = summary_page(self.summary, value, list(bodies.values()), Citations(bodies, self.artifact))
        write_file(folder / SUMMARY, summary.encode())
        subjects = {
            path.relative_to(folder).as_posix(): file_digest(path) for path in folder.rglob("*") if path.is_file()
        }
        write_file(folder / MANIFEST, sign_statement(statement(subjects, value), self.key))
        return file_digest(folder / MANIFEST)

    def _write_log(self, folder: Path, log: _Log) -> None:
        events = LeafWriter(folder, "events", log.log_id, EVENT_FILE)
        withheld = LeafWriter(folder, "withheld", log.log_id, WITHHELD_FILE)
        self.summary.log(log.log_id, log.partition, log.begin, log.end)
        for leaves in self._stream(log):
            self.counts["flagged"] += pc.sum(leaves["flagged"]).as_py() or 0
            if self.query is None:
                events.write(leaves)
                self.summary.shown(leaves)
                continue
            parsed = parse_headers(leaves["header"])
            # What the log itself wrote is shown always: it proves the batches and the gaps.
            shown = pc.or_(self.query.select(parsed.table), pa.array(~parsed.events()))
            selected, hidden = leaves.filter(shown), leaves.select(WITHHELD_FILE.names).filter(pc.invert(shown))
            events.write(selected)
            withheld.write(hidden)
            self.summary.shown(selected)
            self.summary.withheld(hidden["leaf_index"], parsed.table.filter(pc.invert(shown)))
        events.close()
        withheld.close()
        log.files = {"events": events.paths, "withheld": withheld.paths}
        self.counts["leaves"] += log.end - log.begin
        self.counts["selected"] += events.rows
        self.counts["withheld"] += withheld.rows

    def _write_control(self, folder: Path, log: _Log) -> None:
        writer = LeafWriter(folder, "control", log.log_id, EVENT_FILE)
        for leaves in self._stream(log):
            writer.write(leaves)
            self.summary.control(leaves)
        writer.close()
        log.files = {"control": writer.paths}

    def _stream(self, log: _Log) -> Iterable[pa.RecordBatch]:
        """The leaves of the interval as a package holds them; fails when the store lacks one."""
        following = log.begin
        for batch in self.store.columns(log.log_id, log.begin, log.end, EVENT_FILE.names):
            if not batch.num_rows:
                continue
            first, last = batch["leaf_index"][0].as_py(), batch["leaf_index"][-1].as_py()
            if first != following or last != first + batch.num_rows - 1:
                raise _lacking(log, following)
            following = last + 1
            yield _as_exported(batch)
            self.done += batch.num_rows
            self.progress(self.done, self.total)
        if following != log.end:
            raise _lacking(log, following)

    def _write_reference(self, folder: Path, digests: Iterable[str]) -> None:
        for digest in sorted(set(digests)):
            content = self.artifact(digest)
            if content is None:
                raise ExportFailed(
                    f"The reference artifact {digest} is not at hand.",
                    remedy="Restore the reference folder of the data directory from a backup.",
                )
            write_file(folder / "reference" / digest, content)

    def _predicate(
        self,
        logs: Sequence[_Log],
        control: _Log,
        outside: Sequence[ControlLeaf],
        anchors: PackagedAnchors,
    ) -> dict[str, Any]:
        proofs = subtrees_of(self.store, control.log_id)
        included = [
            {
                "leaf_index": leaf.index,
                "leaf": leaf.header.decode(),
                "inclusion": encoded(proofs.inclusion(leaf.index, control.checkpoint.size)),
            }
            for leaf in outside
        ]
        rotations = {"keys": self.keys.bodies} if self.keys.rotated else {}
        return {
            "format": 1,
            **rotations,
            "deployment": self.deployment,
            "exported_at": str(time.time_ns()),
            "software": f"auditspan {metadata.version('auditspan')}",
            "query": {
                "from": str(self.time_from),
                "to": str(self.time_to),
                "where": self.query.text if self.query else None,
            },
            **({"request": self.request.named()} if self.request else {}),
            "logs": [{**self._evidence(log), "anchored": anchors.beyond.get(log.log_id)} for log in logs],
            "control": {**self._evidence(control), "included": included},
            "anchors": anchors.entries,
            "counts": self.counts,
        }

    def _evidence(self, log: _Log) -> dict[str, Any]:
        subtrees = subtrees_of(self.store, log.log_id)
        return {
            "log_id": log.log_id,
            "partition": log.partition,
            "interval": [log.begin, log.end],
            "range_proof": {
                "left": encoded(subtrees.roots(0, log.begin)),
                "right": encoded(subtrees.roots(log.end, log.checkpoint.size)),
            },
            "checkpoint": log.checkpoint.note,
            "files": log.files,
            "previous": log.previous,
        }


def _as_exported(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of the store with the types and nulls of a package."""
    columns = []
    for wanted in EVENT_FILE:
        column = batch[wanted.name]
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.type != wanted.type:
            column = column.cast(wanted.type)
        if wanted.nullable and (pa.types.is_string(wanted.type) or pa.types.is_binary(wanted.type)):
            column = empty_as_null(column)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns, schema=EVENT_FILE)


def _lacking(log: _Log, leaf: int) -> ExportFailed:
    return ExportFailed(
        f"The store lacks leaf {leaf} of log {log.log_id}, or has it twice.",
        remedy="The store was altered: run `auditspan doctor`.",
    )


def _read_manifest(folder: Path, keys: Sequence[Ed25519PublicKey]) -> Manifest:
    try:
        with open_package(folder) as package, package.open(MANIFEST) as file:
            payload, signers = open_envelope(file.read(), keys)
        if not signers:
            raise ExportFailed(
                f"The package {folder} is not signed by this deployment.", remedy="Give a package of this deployment."
            )
        return parse_manifest(payload)
    except (OSError, PathRefused, ManifestInvalid, json.JSONDecodeError) as error:
        raise ExportFailed(f"{folder} is no evidence package: {error}.", remedy="Give an earlier package.") from error
