"""Leaves checked by what is stored alone: their own headers, the salt key, and what was signed; no journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.hashing import DIGEST_LENGTH, as_binary, leaf_hashes
from auditspan.ledger.typed_columns import from_payloads, read_headers
from auditspan.store.contract import Store
from auditspan.store.schema import HEADER_COLUMNS, PAYLOAD_COLUMNS

from .. import payloads as bytes_of
from .compare import RENDERED, STORED, Difference, Run, differences, differing_rows, report, runs
from .report import Findings
from .trees import Trees

__all__ = ["check_by_headers"]

_HASHES: Final = (
    rb'"facts_hash":(?:null|"(?P<facts>[0-9a-f]{64})").*'
    rb'"payload_hash":"(?P<payload>[0-9a-f]{64})".*"position":\[(?P<offset>[0-9]{1,18}),(?P<ordinal>[0-9]{1,9})\]'
)
_COLUMNS: Final = tuple(name for name in STORED if name not in RENDERED | {"sealing_month"})


def check_by_headers(
    store: Store,
    log_id: str,
    end: int,
    salt_key: bytes,
    trees: Trees,
    findings: Findings,
    progress: Callable[[int], None],
    begin: int = 0,
) -> None:
    """Check the leaves ``[begin, end)`` of a log by what is stored alone, as where the journal no longer gives them.

    Found is every stored byte that is not what a header says: payload, salt, facts, typed columns. A header itself is
    held against the kept nodes and the signed trees, which name it within 256 leaves.
    """
    odd: list[Difference] = []
    for run in runs(store.columns(log_id, begin, end, _COLUMNS), begin, end, odd):
        report(findings, odd)
        odd.clear()
        headers = run.rows.column("header").cast(pa.binary())
        read = read_headers(headers)
        for row, why in read.malformed.items():
            findings.add("leaf.differs", run.begin + row, "a header of version 1", why, column="header")
        good = np.ones(len(headers), np.bool_)
        good[list(read.malformed)] = False
        _report(findings, run, read.columns, HEADER_COLUMNS.names, good)
        payloads = run.rows.column("payload").cast(pa.binary())
        given = pc.if_else(pc.greater(pc.binary_length(payloads), 0), payloads, pa.scalar(None, pa.binary()))
        _report(findings, run, from_payloads(given), PAYLOAD_COLUMNS.names, good)
        _check_hashes(findings, run, log_id, salt_key, headers, given)
        while trees.size < run.begin:
            # The hole is a fault already; the tree goes on so that later leaves keep their places.
            trees.extend(np.zeros((min(run.begin - trees.size, 1 << 16), DIGEST_LENGTH), np.uint8))
        trees.extend(leaf_hashes(headers))
        progress(len(run.rows))
    report(findings, odd)


def _report(findings: Findings, run: Run, derived: pa.Table, names: list[str], good: np.ndarray) -> None:
    report(findings, (one for one in differences(run, derived, names) if good[one.leaf - run.begin]))


def _check_hashes(
    findings: Findings, run: Run, log_id: str, salt_key: bytes, headers: pa.Array, payloads: pa.Array
) -> None:
    """Salts against the key, payloads and facts against the hashes in the headers."""
    said = pc.extract_regex(headers, pattern=_HASHES)
    events = np.flatnonzero(said.is_valid().to_numpy(zero_copy_only=False))
    logs_own = np.setdiff1d(np.arange(len(headers)), events)
    for name in ("payload", "salt", "facts"):
        stored = run.rows.column(name).cast(pa.binary())
        for row in logs_own[pc.binary_length(stored).to_numpy()[logs_own] > 0].tolist():
            findings.add(f"{name}.differs", run.begin + row, "nothing: the log originated the leaf", "something")
    if not len(events):
        return
    choice = pa.array(events)
    fields = pc.struct_field(said, [2]).take(choice), pc.struct_field(said, [3]).take(choice)
    offsets, ordinals = (field.cast(pa.string()).cast(pa.int64()).to_numpy() for field in fields)
    salts = bytes_of.salts(salt_key, log_id, offsets, ordinals.astype(np.int32))
    stored = {name: run.rows.column(name).cast(pa.binary()).take(choice) for name in ("payload", "salt", "facts")}
    documents = pc.if_else(
        pc.greater(pc.binary_length(stored["facts"]), 0), stored["facts"], pa.scalar(None, pa.binary())
    )
    given = {
        "salt": (as_binary(salts), stored["salt"]),
        "payload": (_bytes(pc.struct_field(said, [1]).take(choice)), bytes_of.payload_hashes(salts, stored["payload"])),
        "facts": (
            _bytes(pc.struct_field(said, [0]).take(choice)),
            bytes_of.facts_hashes(salts, documents.dictionary_encode()),
        ),
    }
    for name, (expected, actual) in given.items():
        for place in differing_rows(actual, expected).tolist():
            leaf = run.begin + int(events[place])
            findings.add(f"{name}.differs", leaf, "what key, position and header say", "other bytes", column=name)


def _bytes(digests: pa.Array) -> pa.Array:
    """Hexadecimal as bytes, null where there is none."""
    return pa.array([bytes.fromhex(one.decode()) if one else None for one in digests.to_pylist()], pa.binary())
