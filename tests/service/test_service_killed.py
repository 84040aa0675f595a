"""`auditspan up` killed under load at random instants loses nothing that it acknowledged and seals nothing twice."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from auditspan.instrumentation.recorder import Recorder
from auditspan.instrumentation.settings import InstrumentationSettings
from final_checks import SealedLog, Witness, evidence_holds, prove, settle, stored_once
from opentelemetry.sdk.resources import Resource
from running_service import Service
from sent_spans import Request, Sent, foreign_request, stream_request
from waiting import until

KILLS = 12


def _send(service: Service, sent: Sent, chance: random.Random, enough: threading.Event) -> None:
    """Foreign spans and streams, most of them once, some again although they were acknowledged."""
    streams = {f"{sent.emitter}-{number}": 0 for number in range(3)}
    while not enough.is_set():
        count = chance.choice([1, 1, 3, 10, 60])
        if chance.random() < 0.5:
            sending = foreign_request(count)
        else:
            stream = chance.choice(list(streams))
            sending = stream_request(stream, streams[stream], count)
            streams[stream] += count
        # What is under way at the end is delivered too, or its stream would have a hole.
        assert sent.deliver(service, sending, threading.Event())
        if chance.random() < 0.1:
            again = chance.choice(sent.acknowledged)
            assert sent.deliver(service, Request(again.body, ()), threading.Event())
        enough.wait(chance.uniform(0, 0.08))


def _record(recorder: Recorder, recorded: list[str], enough: threading.Event) -> None:
    """What instrumented code does: it goes on, whatever becomes of the service."""
    while not enough.wait(0.01):
        attributes = {"audit.action": f"step-{len(recorded)}", "audit.outcome": "success"}
        recorded.append(recorder.record("model.access", attributes))


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_killed_under_load_at_random_instants(new_service: Callable[..., Service], tmp_path: Path) -> None:
    seed = int(os.environ.get("AUDITSPAN_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"AUDITSPAN_TEST_SEED={seed}")
    chance = random.Random(seed)
    service = new_service(journal__partitions=2)
    service.start()
    enough = threading.Event()
    senders = [Sent(f"sender-{number}", service.token(f"sender-{number}")) for number in range(3)]
    threads = [
        threading.Thread(target=_send, args=(service, sent, random.Random(seed + number), enough))
        for number, sent in enumerate(senders)
    ]
    recorders = {}
    for name in ("recorder-0", "recorder-1"):
        settings = InstrumentationSettings(
            endpoint=service.otlp_http,
            token=service.token(name),
            spool_directory=tmp_path / name,
            backoff_initial=0.02,
            backoff_limit=0.2,
            heartbeat_interval=0.5,
            exit_timeout=30.0,
        )
        recorders[name] = Recorder(settings, resource=Resource({"service.name": name}))
    recorded: dict[str, list[str]] = {name: [] for name in recorders}
    threads += [
        threading.Thread(target=_record, args=(recorder, recorded[name], enough))
        for name, recorder in recorders.items()
    ]
    witness = Witness(service)
    with witness:
        for thread in threads:
            thread.start()
        for number in range(KILLS):
            if number % 4 == 3:
                # Wherever it is on its way up, which the last kill made longer.
                enough.wait(chance.uniform(0.2, 2.0))
            else:
                service.wait_ready()
                acknowledged = sum(len(sent.acknowledged) for sent in senders)
                until(lambda a=acknowledged: sum(len(sent.acknowledged) for sent in senders) > a, "an answer")
                enough.wait(chance.uniform(0, 1.2))
            service.kill()
            witness.read_signer()
            if number == KILLS // 2:
                # What an auditor got in between must be consistent with what comes later; no service is needed.
                service.run("evidence", "export", "--data", service.data, "--out", tmp_path / "earlier")
            service.start(wait=False)
        service.wait_ready()
        enough.set()
        for thread in threads:
            thread.join()
        for recorder in recorders.values():
            assert recorder.flush(60)
            recorder.close()
        settle(service)
    logs = prove(service, witness)
    for sent in senders:
        stored_once(logs, sent.emitter, sent.payloads())
        assert sent.attempts > len(sent.acknowledged), "no sender ever met a killed service"
    for name in recorders:
        _whole_stream(logs, name, recorded[name])
    said = [header for sealed in logs.values() for header in sealed.headers]
    assert not [header for header in said if header["class"] in {"audit.conflict", "audit.quarantined", "audit.gap"}]
    suppressed = sum(header["body"]["duplicates"] for header in said if header["class"] == "audit.batch")
    assert suppressed >= sum(len(sending.payloads) == 0 for sent in senders for sending in sent.acknowledged) > 0
    print(
        f"{KILLS} kills, {sum(len(sent.payloads()) for sent in senders)} spans acknowledged, "
        f"{sum(map(len, recorded.values()))} recorded, {suppressed} suppressed, "
        f"{len(witness.notes)} checkpoints seen, {len(said)} leaves"
    )
    evidence_holds(service, tmp_path / "package", tmp_path / "earlier")


def _whole_stream(logs: dict[str, SealedLog], emitter: str, recorded: list[str]) -> None:
    """One stream, from its opening to its end, with every record once."""
    mine = [header for sealed in logs.values() for header in sealed.headers if header.get("emitter") == emitter]
    assert len({header["stream"] for header in mine}) == 1
    assert sorted(header["sequence"] for header in mine) == list(range(len(mine)))
    found = Counter(header["record_id"] for header in mine if header["class"] == "model.access")
    assert found == Counter(recorded)
    (opening,) = [header for header in mine if header["class"] == "audit.stream.opened"]
    (closing,) = [header for header in mine if header["class"] == "audit.stream.closed"]
    assert (opening["sequence"], closing["sequence"]) == (0, len(mine) - 1)
