"""What must hold of a deployment whatever was done to it, from its journal, its store and its signatures alone."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from clickhouse_connect.driver.exceptions import Error
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from reference.derive import Entry, Log, derive, epoch_digest
from reference.journal import batches_of, opened_logs
from reference.tree import Tree
from running_service import Service
from waiting import until

from auditspan.data_directory import DataDirectory


class Checked(Protocol):
    """A deployment that answers, whatever it is made of."""

    @property
    def directory(self) -> DataDirectory:
        """With the keys."""

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """What its store gives to a reader."""

    def entries(self, partition: str) -> list[Entry]:
        """What its journal has of a partition, from the first entry on, read past the product."""

    def journal_ends(self) -> dict[str, int]:
        """How many entries each partition has."""


@dataclass(frozen=True)
class Checkpoint:
    """A signed checkpoint that somebody has seen."""

    log_id: str
    size: int
    root: bytes


@dataclass(frozen=True)
class SealedLog:
    """A log that was checked, with its rows in order of leaves."""

    log: Log
    rows: list[dict[str, Any]]
    headers: list[dict[str, Any]]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [header for header in self.headers if header["class"] == name]


def opened(note: str, service: Checked, deployment: str, log_id: str) -> Checkpoint:
    """A note, read as section 12 of the evidence format says, with its signature checked."""
    text, _, signed = note.partition("\n\n")
    origin, size, root = text.split("\n")
    assert origin == f"auditspan/{deployment}/{log_id}"
    dash, name, signature = signed.rstrip("\n").split(" ")
    assert (dash, name) == ("—", origin)
    trust = json.loads(service.directory.trust.read_text())
    (key,) = (base64.b64decode(one["public_key"]) for one in trust["keys"])
    raw = base64.b64decode(signature)
    assert raw[:4] == hashlib.sha256(origin.encode() + b"\x0a\x01" + key).digest()[:4]
    Ed25519PublicKey.from_public_bytes(key).verify(raw[4:], f"{text}\n".encode())
    return Checkpoint(log_id, int(size), base64.b64decode(root))


class Witness:
    """Remembers every checkpoint it is shown, also those of which a kill leaves nothing else."""

    def __init__(self, service: Checked) -> None:
        self._service = service
        self.notes: set[tuple[str, str]] = set()
        self.states: set[Checkpoint] = set()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness")

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def look(self) -> None:
        """Read what the store shows; a service that is away now is looked at later."""
        try:
            rows = self._service.rows("SELECT log_id, note FROM auditspan.checkpoints")
        except (Error, OSError):
            return
        self.notes |= {(row["log_id"], row["note"]) for row in rows}

    def read_signer(self) -> None:
        """Read what the signer remembers, which is never behind what it gave away."""
        for path in self._service.directory.signer_state.glob("*.json"):
            said = json.loads(path.read_text())
            self.states.add(Checkpoint(path.stem, said["size"], base64.b64decode(said["root"])))

    def _watch(self) -> None:
        while not self._enough.wait(0.25):
            self.look()


_LOOK = 0.1
"""Seconds between two questions to a store that has better things to do."""


def settle(service: Checked, seconds: float = 90) -> None:
    """Wait until everything in the journal is sealed and signed, and nothing more comes."""

    def settled() -> bool:
        ends = service.journal_ends()
        logs, signed = _sealed(service)
        if len(logs) != len(ends) or any(signed.get(log["log_id"]) != log["leaves"] for log in logs):
            return False
        return sorted(log["to"] for log in logs) == sorted(ends.values())

    until(settled, "everything to be sealed and signed", seconds, _LOOK)


def catch_up(service: Checked, seconds: float = 90) -> None:
    """Wait until everything that the journal holds now is sealed and signed. Heartbeats may follow all the while."""
    ends = service.journal_ends()
    places = {partition: log.log_id for partition, log in opened_logs(service.entries("control")).items()}
    assert ends.keys() == places.keys()

    def sealed() -> dict[str, int] | None:
        found = {log["log_id"]: log for log in _sealed(service)[0]}
        whole = all(places[name] in found and found[places[name]]["to"] >= end for name, end in ends.items())
        return {log_id: log["leaves"] for log_id, log in found.items()} if whole else None

    leaves = until(sealed, "everything to be sealed", seconds, _LOOK)

    def signed() -> bool:
        sizes = _sealed(service)[1]
        return all(sizes.get(log_id, 0) >= count for log_id, count in leaves.items())

    until(signed, "everything to be signed", seconds, _LOOK)


def _sealed(service: Checked) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Every log with its leaves and the offset to which it is sealed; the greatest signed size by log."""
    logs = service.rows(
        "SELECT log_id, max(leaf_index) + 1 AS leaves, argMax(header, leaf_index) AS header, "
        "argMax(class, leaf_index) AS class FROM auditspan.events GROUP BY log_id"
    )
    assert all(log["class"] == "audit.batch" for log in logs)
    for log in logs:
        log["to"] = json.loads(log["header"])["body"]["to"]
    signed = service.rows("SELECT log_id, max(size) AS size FROM auditspan.checkpoints GROUP BY log_id")
    return logs, {row["log_id"]: row["size"] for row in signed}


def prove(service: Checked, witness: Witness | None = None) -> dict[str, SealedLog]:
    """Check every log of a running service against its journal; the logs by partition.

    Leaf indexes and journal intervals are without holes, the slow deriver makes the same leaves from the journal, and
    every checkpoint that was ever seen is of a prefix of them.
    """
    if witness is not None:
        witness.look()
        witness.read_signer()
    # Before the leaves, of which a service that is still there may seal more.
    stored = {
        (row["log_id"], row["note"]) for row in service.rows("SELECT DISTINCT log_id, note FROM auditspan.checkpoints")
    }
    salt_key = service.directory.salt_key.read_bytes()
    logs = opened_logs(service.entries("control"))
    proven = {partition: _proven(service, log, salt_key) for partition, log in logs.items()}
    epochs = {(0, "")}
    notes: set[tuple[str, str]] = set(witness.notes) if witness is not None else set()
    for header in proven["control"].headers:
        if header["class"] == "audit.reference.activated":
            epochs.add((header["body"]["body"]["number"], epoch_digest(header["body"]["body"])))
        if header["class"] == "audit.checkpoint":
            notes |= {(one["log_id"], one["note"]) for one in header["body"]["body"]["checkpoints"]}
    deployment = logs["control"].deployment
    assert witness is None or witness.notes <= stored, "a checkpoint that was shown is gone"
    signed = {opened(note, service, deployment, log_id) for log_id, note in notes | stored}
    signed |= witness.states if witness is not None else set()
    for sealed in proven.values():
        batches = [header["body"] for header in sealed.headers if header["class"] == "audit.batch"]
        assert {(batch["epoch"]["number"], batch["epoch"]["digest"]) for batch in batches} <= epochs
        tree = Tree([row["header"] for row in sealed.rows])
        mine = [checkpoint for checkpoint in signed if checkpoint.log_id == sealed.log.log_id]
        assert mine
        for checkpoint in mine:
            assert tree.root(checkpoint.size) == checkpoint.root, checkpoint
    return proven


def _proven(service: Checked, log: Log, salt_key: bytes) -> SealedLog:
    rows = service.rows(
        "SELECT leaf_index, class, record_id, header, payload, facts, flagged, determination FROM auditspan.events "
        "WHERE log_id = {log_id:String} ORDER BY leaf_index",
        {"log_id": log.log_id},
    )
    assert [row["leaf_index"] for row in rows] == list(range(len(rows)))
    leaves = [row["header"] for row in rows]
    headers = [json.loads(leaf) for leaf in leaves]
    bounds = [header["body"] for header in headers if header["class"] == "audit.batch"]
    assert [bound["from"] for bound in bounds] == [0, *(bound["to"] for bound in bounds[:-1])]
    facts = {tuple(header["position"]): row["facts"] for header, row in zip(headers, rows, strict=True) if row["facts"]}
    entries = service.entries(log.partition)
    derived = derive(log, entries, batches_of(leaves), salt_key, facts)
    for number, (stored, expected) in enumerate(zip(leaves, derived.leaves, strict=False)):
        assert stored == expected, (log.partition, number)
    assert len(leaves) == len(derived.leaves)
    return SealedLog(log, rows, headers)


def stored_once(logs: dict[str, SealedLog], emitter: str, payloads: Iterable[bytes]) -> None:
    """Every payload is sealed for this emitter exactly once, and nothing else is."""
    expected = Counter(payloads)
    assert set(expected.values()) <= {1}
    found = Counter(
        row["payload"]
        for sealed in logs.values()
        for row, header in zip(sealed.rows, sealed.headers, strict=True)
        if header.get("emitter") == emitter
    )
    assert not expected - found, f"{len(expected - found)} of {len(expected)} acknowledged spans of {emitter} are lost"
    assert not found - expected, f"{len(found - expected)} spans of {emitter} are sealed that nobody expects"


def evidence_holds(service: Service, folder: Path, earlier: Path | None = None) -> None:
    """The package that an auditor gets is VALID, and the doctor finds nothing wrong when the service has ended.

    With the ``earlier`` package it proves as well that what that one showed was only added to.
    """
    previous = ("--previous", earlier) if earlier is not None else ()
    exported = service.run("evidence", "export", "--data", service.data, "--out", folder, *previous)
    if earlier is not None:
        envelope = json.loads((folder / "manifest.json").read_text())
        predicate = json.loads(base64.b64decode(envelope["payload"]))["predicate"]
        assert all(log["previous"] for log in predicate["logs"])
    report = service.run("evidence", "verify", folder, "--trust", service.directory.trust)
    assert (report["verdict"], report["exit_code"]) == ("VALID", 0)
    assert exported["selected"] > 0
    settle(service)
    service.stop()
    findings = service.run("doctor", "--data", service.data, "--full")
    assert not [finding for finding in findings if finding["state"] == "wrong"], findings
    of_logs = [finding for finding in findings if finding["check"].startswith(("control", "events-"))]
    assert len(of_logs) >= 4
    assert {finding["state"] for finding in of_logs} == {"ok"}, of_logs
