"""Deciding and enforcing with a real `auditspan up`, a real moto server and the script as a user runs it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from auditspan.instrumentation.fingerprint import credential_fingerprint
from epoch_in_force import PARTIES
from moto.server import ThreadedMotoServer
from reference.requests import resource, span
from running_service import Service
from sent_spans import request_of
from waiting import until

import auditspan

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "move_and_provision" / "move_and_provision.py"
INSTRUMENT = Path(sys.executable).parent / "opentelemetry-instrument"
KEY = "AKIADEMOPLATFORM0001"
REASON = "outage 4711, approved by the duty officer"


@pytest.fixture(scope="module")
def service(module_service: Callable[..., Service], tmp_path_factory: pytest.TempPathFactory) -> Service:
    parties = tmp_path_factory.mktemp("parties") / "parties.yaml"
    parties.write_bytes(PARTIES.replace(b"sha256:harbour", credential_fingerprint(KEY).encode()))
    made = module_service(parties=parties, processor__checkpoint_seconds=0.1)
    made.start()
    return made


@pytest.fixture
def aws() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    # What it knows belongs to the process, and outlives a server.
    requests.post(f"http://{host}:{port}/moto-api/reset", timeout=30).raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


def run(service: Service, aws: str, folder: Path, emitter: str, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("AUDITSPAN_", "OTEL_", "AWS_"))}
    return subprocess.run(
        [INSTRUMENT, sys.executable, SCRIPT, "--instance-type", "p5en.48xlarge", "--mebibytes", "6"],
        capture_output=True,
        text=True,
        timeout=120,
        env={
            **clean,
            "AWS_ENDPOINT_URL": aws,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "demo",
            "OTEL_PYTHON_DISTRO": "auditspan",
            "OTEL_PYTHON_CONFIGURATOR": "auditspan",
            "OTEL_RESOURCE_ATTRIBUTES": "export_control.end_user=orchid",
            "AUDITSPAN_ENDPOINT": service.otlp_http,
            "AUDITSPAN_TOKEN": service.token(emitter),
            "AUDITSPAN_SPOOL_DIRECTORY": str(folder / emitter),
            "AUDITSPAN_EXIT_TIMEOUT_SECONDS": "30",
            "AUDITSPAN_ENFORCE_TIMEOUT_SECONDS": "20",
            **{f"AUDITSPAN_{name}": text for name, text in settings.items()},
        },
    )


def stored(service: Service, emitter: str, count: int) -> list[dict[str, Any]]:
    def rows() -> list[dict[str, Any]] | None:
        found = service.rows(
            "SELECT class, outcome, flagged, rule_ids, determination FROM auditspan.events "
            "WHERE emitter = {e:String} AND class IN ('model.transfer', 'accelerator.provision') ORDER BY event_time",
            {"e": emitter},
        )
        return found if len(found) >= count else None

    found: list[dict[str, Any]] = until(rows, f"the records of {emitter}")
    assert len(found) == count
    return found


def clients(aws: str) -> tuple[Any, Any]:
    named = {
        "endpoint_url": aws,
        "region_name": "ap-east-1",
        "aws_access_key_id": KEY,
        "aws_secret_access_key": "demo",
    }
    return boto3.client("s3", **named), boto3.client("ec2", **named)


def objects(aws: str) -> list[str]:
    s3, _ = clients(aws)
    return [item["Key"] for item in s3.list_objects_v2(Bucket="frontier-models").get("Contents", ())]


def test_monitored_only_it_runs_and_is_flagged(service: Service, aws: str, tmp_path: Path) -> None:
    done = run(service, aws, tmp_path, "monitor")
    assert done.returncode == 0, done.stderr
    assert len(objects(aws)) == 1
    found = stored(service, "monitor", 4)
    assert [(row["class"], row["outcome"]) for row in found] == [
        ("model.transfer", "started"),
        ("model.transfer", "success"),
        ("accelerator.provision", "started"),
        ("accelerator.provision", "success"),
    ]
    assert all(row["flagged"] for row in found)


def test_an_enforced_transfer_leaves_no_object_and_one_sealed_refusal(
    service: Service, aws: str, tmp_path: Path
) -> None:
    done = run(service, aws, tmp_path, "transfer", ENFORCE="model.transfer", ENFORCE_OUTCOMES="flagged")
    assert done.returncode == 1
    assert "ExportRefused: upload of s3://frontier-models/paperwork-4gram/model.safetensors is refused" in done.stderr
    assert "us-ear/weights-controlled-recipient" in done.stderr
    assert objects(aws) == []
    (row,) = stored(service, "transfer", 1)
    assert (row["outcome"], row["flagged"]) == ("denied", True)


def test_an_enforced_provisioning_starts_no_machine(service: Service, aws: str, tmp_path: Path) -> None:
    done = run(service, aws, tmp_path, "provision", ENFORCE="accelerator.provision", ENFORCE_OUTCOMES="flagged")
    assert done.returncode == 1
    assert "RunInstances of p5en.48xlarge is refused" in done.stderr and "us-ear/iaas-headquarters" in done.stderr
    assert "TPP 15832" in done.stderr
    _, ec2 = clients(aws)
    assert ec2.describe_instances()["Reservations"] == []
    assert [(row["class"], row["outcome"]) for row in stored(service, "provision", 3)] == [
        ("model.transfer", "started"),
        ("model.transfer", "success"),
        ("accelerator.provision", "denied"),
    ]


def test_break_glass_lets_it_run_and_is_flagged_by_a_rule_of_its_own(
    service: Service, aws: str, tmp_path: Path
) -> None:
    done = run(
        service,
        aws,
        tmp_path,
        "broken",
        ENFORCE="model.transfer,accelerator.provision",
        ENFORCE_OUTCOMES="flagged",
        BREAK_GLASS_REASON=REASON,
    )
    assert done.returncode == 0, done.stderr
    assert len(objects(aws)) == 1
    for row in stored(service, "broken", 4):
        assert row["flagged"] and "company-policy/break-glass" in row["rule_ids"]
    payloads = service.rows("SELECT payload, why FROM auditspan.events WHERE emitter = 'broken' AND flagged")
    assert all(REASON.encode() in row["payload"] for row in payloads)
    assert all("company-policy/break-glass" in row["why"] for row in payloads)


# Every attribute that determinations rest on, with values that mean something, nothing, and the wrong type.
VALUES: dict[str, list[Any]] = {
    "audit.event.class": [
        "model.access", "model.transfer", "accelerator.provision", "accelerator.transfer", "accelerator.inventory"
    ],
    "audit.actor.id": ["sha256:meridian", "orchid", "nobody", "", 7],
    "export_control.end_user": ["orchid", "Meridian Cloud Pte. Ltd.", "harbour", "who", True],
    "export_control.ultimate_parent": ["orchid", "CN", "XX"],
    "export_control.consignee": ["orchid", "nobody"],
    "export_control.destination.country": ["CN", "HK", "MO", "JP", "UA-43", "XX", "IR", 5],
    "cloud.provider": ["aws", "gcp", " AWS "],
    "cloud.region": ["ap-east-1", "us-east-1", "cn-north-1", "moon-1"],
    "host.type": ["p5.48xlarge", "p5en.48xlarge,g5.xlarge", "m5.large", 3],
    "export_control.accelerator.model": ["H100 SXM", "NVIDIA H200", "T4", "Mystery 9000"],
    "client.address": ["8.8.8.8", "127.0.0.1", "::ffff:1.2.4.8", "nowhere"],
    "export_control.eccn": ["3a090.A.1", "4E091", "EAR99", "?"],
    "export_control.license": ["D1234567", "NLR", "x" * 90],
    "export_control.transfer.direction": ["upload", "download", "grant", "sideways"],
    "export_control.training_operations": ["1.2e26", "9e24", "many"],
    "export_control.quantity": [0, 8, -1, "8", 2**53],
    "export_control.weights_published": [True, False, "yes"],
    "export_control.movement": ["export", "sideways", 3],
    "export_control.origin.country": ["US", "CN", "XX"],
    "export_control.transit.countries": [["AE", "CN"], [], "AE"],
    "export_control.lading_time": ["2026-01-14", "2026-01-15T10:00:00Z", "never"],
    "export_control.us_origin": [True, False, "yes"],
    "export_control.us_content": [100, 900, -1, 2**53],
    "export_control.storage.country": ["RU", "US"],
    "export_control.item_form": ["computer", "integrated_circuit", 1],
    "export_control.derivative": [True, False],
    "export_control.added_operations": ["3e25", "?"],
    "export_control.added_operations.permille": [250, 0.5],
    "export_control.actor.nationality": ["CN", "US", "XX"],
    "export_control.end_user.nationality": ["CN", "US"],
    "export_control.chinese_relations": [["supplier"], [], [1]],
    "export_control.known_end_uses": [["military"], ["nuclear", "supercomputer"], [], "military"],
    "export_control.known_violation": [True, False, "no"],
    "export_control.certifications": [["parameters", "us_orders"], [], 7],
    "export_control.break_glass.reason": ["because", "", 1],
}  # fmt: skip


def test_decide_says_of_a_record_what_the_log_then_seals(service: Service) -> None:
    source = random.Random(11)
    now = time.time_ns()
    records = []
    for number in range(200):
        names = [name for name in VALUES if name == "audit.event.class" or source.random() < 0.35]
        attributes = {name: source.choice(VALUES[name]) for name in names}
        records.append({**attributes, "audit.record.id": f"asked-{number}"})
    spans = [
        span(0, record, trace_id=os.urandom(16), span_id=os.urandom(8), start=now + number)
        for number, record in enumerate(records)
    ]
    sending = request_of(resource({"service.name": "asking"}), spans)
    assert service.post(sending.body, service.token("asking")).status == 200

    def rows() -> list[dict[str, Any]] | None:
        found = service.rows(
            "SELECT record_id, facts, determination, flagged, rule_ids, citations, why, eccn, destination_country, "
            "reference_epoch FROM auditspan.events WHERE emitter = 'asking'"
        )
        return found if len(found) == len(records) else None

    sealed = {row["record_id"]: row for row in until(rows, "the records to be sealed")}
    seen = set()
    for number, record in enumerate(records):
        row = sealed[str(record["audit.record.id"])]
        found = auditspan.decide(record, at=now + number, data=service.data)
        assert found.document == row["facts"], record
        assert found.governing == row["determination"], record
        assert (found.flagged, list(found.rule_ids), "; ".join(found.citations), found.why) == (
            row["flagged"],
            row["rule_ids"],
            row["citations"],
            row["why"],
        )
        assert (found.eccn or "", found.destination or "") == (row["eccn"] or "", row["destination_country"] or "")
        assert found.epoch == row["reference_epoch"]
        seen.add((found.governing, found.flagged))
    assert len(seen) >= 4


def test_the_epoch_that_decides_is_the_one_that_the_control_log_sealed(service: Service) -> None:
    found = auditspan.decide({"act": "transfer", "accelerator_model": "H200"}, data=service.data)
    rows = service.rows("SELECT header FROM auditspan.events WHERE class = 'audit.reference.activated'")
    body = json.loads(rows[-1]["header"])["body"]["body"]
    from auditspan.processors.epochs import epoch_of

    assert (found.epoch, found.digest) == (epoch_of(body).number, epoch_of(body).digest)


def test_what_is_known_of_the_epoch_grows_old_only_without_its_service(
    new_service: Callable[..., Service],
) -> None:
    service = new_service(processor__checkpoint_seconds=0.1)
    service.start()
    facts = {"act": "transfer", "accelerator_model": "H200", "destination_country": "CN"}
    first = auditspan.decide(facts, data=service.data).age
    confirmed = service.directory.reference / "in-force.json"
    before = confirmed.stat().st_mtime_ns
    until(lambda: confirmed.stat().st_mtime_ns > before, "the epoch to be confirmed")
    service.stop()
    stopped = confirmed.stat().st_mtime
    # The last good snapshot goes on deciding, and says how old it is.
    found = auditspan.decide(facts, data=service.data)
    assert found.governing == "license_required"
    assert first is not None and found.age is not None and found.age >= 0
    assert abs((time.time() - found.age) - stopped) < 1.0
