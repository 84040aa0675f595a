"""The script as a user runs it, unchanged, under ``opentelemetry-instrument``, against a cloud on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from auditspan.instrumentation.adoption import has_dead_streams
from auditspan.instrumentation.fingerprint import credential_fingerprint
from auditspan.instrumentation.frames import MAGIC, Frame, FrameKind, read_frames
from moto.server import ThreadedMotoServer

SCRIPT = Path(__file__).parents[2] / "examples" / "move_and_provision" / "move_and_provision.py"
SCRIPTS = Path(sys.executable).parent
KEY = "AKIADEMOPLATFORM0001"


@pytest.fixture
def aws():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def run(aws, spool, *before):
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("AUDITSPAN_", "OTEL_", "AWS_"))}
    return subprocess.run(
        [*before, sys.executable, SCRIPT, "--bucket", f"models-{len(before)}"],
        capture_output=True,
        text=True,
        timeout=180,
        env={
            **clean,
            "AWS_ENDPOINT_URL": aws,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": "demo",
            "OTEL_PYTHON_DISTRO": "auditspan",
            "OTEL_PYTHON_CONFIGURATOR": "auditspan",
            "AUDITSPAN_ENDPOINT": "http://127.0.0.1:9",
            "AUDITSPAN_EXIT_TIMEOUT_SECONDS": "0",
            "AUDITSPAN_SPOOL_DIRECTORY": str(spool),
        },
    )


def records(spool):
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    found = []
    for segment in sorted(spool.glob("*/*.spool")):
        for item in read_frames(segment.read_bytes(), len(MAGIC)):
            if isinstance(item, Frame) and item.kind is FrameKind.RECORD:
                span = Span.FromString(item.body)
                found.append({pair.key: pair.value.string_value or pair.value.int_value for pair in span.attributes})
    return [item for item in found if not item["audit.event.class"].startswith("audit.")]


def test_two_actions_and_four_records(aws, tmp_path):
    plain = run(aws, tmp_path / "none")
    assert plain.returncode == 0, plain.stderr
    assert not (tmp_path / "none").exists()

    spool = tmp_path / "spool"
    recorded = run(aws, spool, SCRIPTS / "opentelemetry-instrument")
    assert recorded.returncode == 0, recorded.stderr
    assert [line.split()[0] for line in recorded.stdout.splitlines()] == ["uploaded", "started", "started"]
    assert [(item["audit.event.class"], item["audit.outcome"]) for item in records(spool)] == [
        ("model.transfer", "started"),
        ("model.transfer", "success"),
        ("accelerator.provision", "started"),
        ("accelerator.provision", "success"),
    ]
    moved, started = records(spool)[1::2]
    assert moved["audit.target.id"] == "s3://models-1/paperwork-4gram/model.safetensors"
    assert moved["export_control.artifact.size"] == 12 << 20
    assert (started["host.type"], started["export_control.quantity"]) == ("p5.48xlarge", 2)
    assert moved["cloud.region"] == started["cloud.region"] == "ap-east-1"
    assert moved["audit.actor.id"] == started["audit.actor.id"] == credential_fingerprint(KEY)
    assert has_dead_streams(spool)
