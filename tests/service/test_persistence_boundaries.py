"""`auditspan up` killed at every persistence boundary of one record's way loses nothing and seals nothing twice."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from final_checks import Witness, evidence_holds, prove, settle, stored_once
from running_service import Service
from sent_spans import Request, Sent, foreign_request, stream_request
from struck import Boundary, Strike
from tracer import why_impossible

FEW = (1, 5, 40)
"""Spans of the requests that lead to a boundary, one for each strike."""
NODES = (300,)
"""So many that a subtree of 256 leaves is complete, and its root is kept."""
MISSES = 6
AFTER_COMMIT = "after the journal commit"

Struck = tuple[Boundary, tuple[int, ...]]


def _of_journal_and_store(service: Service) -> Iterable[Struck]:
    """In the order in which one request meets them. Nothing else is under way meanwhile."""
    log = Path(f"{service.directory.journal}-wal")
    events = (service.directory.store / "data" / "auditspan" / "events").resolve()
    yield Boundary("before the journal commit", "fdatasync", "journal.sqlite-wal>", [log]), FEW[:1]
    yield Boundary(AFTER_COMMIT, "sendto", "sendto"), FEW
    # The batch is derived and encoded, and the embedded store makes a part of it.
    yield (
        Boundary("encoded, before the engine takes it", "fstat", "auditspan-insert-events", [_handed_over("events")]),
        FEW,
    )
    yield Boundary("between encode and insert", "mkdir", f"{events}/tmp_insert_"), FEW
    yield Boundary("before the insert is visible", "rename", f"{events}/tmp_insert_"), FEW
    yield Boundary("after the insert", "fdatasync", f"{events}>", [events]), FEW


def _of_checkpoint(service: Service) -> Iterable[Struck]:
    """What the signer remembers, the control log's entry, the note in the store."""
    directory = service.directory
    log = Path(f"{directory.journal}-wal")
    (row,) = service.rows(
        "SELECT log_id FROM auditspan.events WHERE leaf_index = 0 AND position(header, {p:String}) > 0",
        {"p": '"partition":"events-0"'},
    )
    signed = directory.signer_state / f"{row['log_id']}.tmp"
    checkpoints = (directory.store / "data" / "auditspan" / "checkpoints").resolve()
    nodes, notes = _handed_over("tree_nodes"), _handed_over("checkpoints")
    yield Boundary("before the tree's nodes are kept", "fstat", "auditspan-insert-tree_nodes", [nodes]), NODES
    yield Boundary("before the checkpoint", "openat", r"\.tmp", [signed]), FEW
    yield Boundary("signed, before it is journaled", "fdatasync", "journal.sqlite-wal>", [log], count=2), FEW
    yield Boundary("journaled, before it is stored", "fstat", "auditspan-insert-checkpoints", [notes]), FEW
    yield Boundary("after the checkpoint", "fdatasync", f"{checkpoints}>", [checkpoints]), FEW


def _handed_over(table: str) -> Path:
    """What the tracer calls the file in memory from which the embedded engine takes rows for ``table``."""
    return Path(f"/memfd:auditspan-insert-{table}")


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_killed_at_every_persistence_boundary(new_service: Callable[..., Service], tmp_path: Path) -> None:
    impossible = why_impossible()
    if impossible is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(impossible)
    # Frequent checkpoints, so that it is soon at rest again; no heartbeats, so that only the request is under way.
    services = [new_service(processor__checkpoint_seconds=0.05, processor__heartbeat_seconds=3600) for _ in range(2)]
    # Two deployments side by side, as most of the time goes by while one starts.
    with ThreadPoolExecutor(2) as together:
        done = [
            together.submit(_strikes, service, boundaries)
            for service, boundaries in zip(services, (_of_journal_and_store, _of_checkpoint), strict=True)
        ]
    for found in done:
        print(found.result())


def _strikes(service: Service, boundaries: Callable[[Service], Iterable[Struck]]) -> str:
    """Strike at each boundary as often as it says, then check the whole."""
    service.start()
    settle(service)
    witness = Witness(service)
    sent = Sent("emitter", service.token("emitter"))
    sequence = 0
    struck: Counter[str] = Counter()
    missed = 0
    for boundary, sizes in list(boundaries(service)):
        while (number := struck[boundary.name]) < len(sizes):
            if number % 2:
                sending = stream_request("stream", sequence, sizes[number])
                sequence += sizes[number]
            else:
                sending = foreign_request(sizes[number])
            hit, sender = _strike(service, boundary, sent, sending)
            # The store merges parts when it likes, with the same calls: such a kill is one more, at another place.
            struck[boundary.name] += hit
            missed += not hit
            assert missed <= MISSES, struck
            witness.read_signer()
            service.start()
            sender.join()
            settle(service)
            witness.look()
    logs = prove(service, witness)
    stored_once(logs, "emitter", sent.payloads())
    said = [header for sealed in logs.values() for header in sealed.headers]
    assert not [header for header in said if header["class"] in {"audit.conflict", "audit.quarantined", "audit.gap"}]
    # What was committed and not acknowledged came again.
    suppressed = sum(header["body"]["duplicates"] for header in said if header["class"] == "audit.batch")
    assert suppressed >= (sum(FEW) if struck[AFTER_COMMIT] else 0)
    evidence_holds(service, service.data.with_suffix(".package"))
    return f"{dict(struck)}, {missed} missed, {len(sent.payloads())} spans, {suppressed} suppressed"


def _strike(service: Service, boundary: Boundary, sent: Sent, sending: Request) -> tuple[bool, threading.Thread]:
    """Lead the service to the boundary; whether it died there, and the sender that goes on until it is heard."""
    sender = threading.Thread(target=sent.deliver, args=(service, sending, threading.Event()), daemon=True)
    before = sum(service.journal_ends().values())
    with Strike(service, boundary, service.data.with_suffix(".seen")) as strike:
        sender.start()
        hit = strike.struck()
    if boundary.name == AFTER_COMMIT:
        # The event loop also hears of other threads by this call, as of a look at the epoch in force.
        hit = hit and sum(service.journal_ends().values()) > before
    return hit, sender
