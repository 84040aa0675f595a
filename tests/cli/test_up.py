"""`auditspan up`: how it starts, what it refuses to start on, how it ends, what it logs."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command_line import auditspan, fails, gives
from conftest import Running, send
from running_service import PROGRAM, Service

FREE = ("--otlp-http=127.0.0.1:0", "--otlp-grpc=127.0.0.1:0", "--sql=127.0.0.1:0")


def test_it_takes_free_ports_and_says_which(running: Running) -> None:
    endpoints = running.service.directory.read_endpoints()
    ports = {urlsplit(endpoint).port for endpoint in endpoints.values()}
    assert set(endpoints) == {"otlp_http", "otlp_grpc", "sql"}
    assert len(ports) == 3
    assert 0 not in ports
    with urllib.request.urlopen(f"{endpoints['otlp_http']}/readyz") as answer:
        assert answer.status == 200
    assert all(endpoint in running.service.said() for endpoint in endpoints.values())


def test_a_second_one_on_the_same_directory_is_refused(running: Running) -> None:
    said = fails("up", "--data", running.data, *FREE)
    assert running.service.process is not None
    assert f"Process {running.service.process.pid} (auditspan up) already runs" in said
    assert gives("status", "--data", running.data)["ready"], "and the first one did not notice"


@pytest.mark.parametrize("option", ["--otlp-http", "--otlp-grpc", "--sql"])
def test_a_bad_address_is_refused(option: str, tmp_path: Path) -> None:
    assert "HOST:PORT" in fails("up", "--data", tmp_path, f"{option}=nonsense")
    assert "HOST:PORT" in fails("up", "--data", tmp_path, f"{option}=127.0.0.1:banana")
    assert "65535" in fails("up", "--data", tmp_path, f"{option}=127.0.0.1:70000")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--otlp-http", "--otlp-grpc", "--sql"])
def test_a_port_in_use_is_refused(option: str, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = auditspan("up", "--data", tmp_path, *FREE, f"{option}={address}")
    assert done.status == 1
    assert f"cannot listen on {address}" in done.err
    if option != "--otlp-grpc":
        assert not (tmp_path / "journal" / "journal.sqlite").exists(), "it was found before anything was opened"


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    assert "cannot listen on 192.0.2.1:4318" in fails("up", "--data", tmp_path, *FREE, "--otlp-http=192.0.2.1:4318")


def test_sigterm_seals_what_was_acknowledged(tmp_path: Path) -> None:
    service = Service(tmp_path / "data")
    service.run("keys", "init", "--data", service.data)
    try:
        service.start()
        for _ in range(5):
            send(service, service.token("gateway"))
        service.stop()
    finally:
        service.close()
    assert not service.directory.endpoints.exists()
    assert not service.directory.control_socket.exists()
    assert len(gives("events", "--data", service.data, "--class", "model.access")) == 15
    findings = {finding["check"]: finding for finding in gives("doctor", "--data", service.data, "--full")}
    assert findings["events-0"]["found"].startswith("all ")
    assert findings["events-0 proof"]["state"] == findings["control proof"]["state"] == "ok"


def test_a_deployment_keeps_its_name(stopped: Path) -> None:
    said = fails("up", "--data", stopped, *FREE, env={"AUDITSPAN_DEPLOYMENT": "other.example"})
    assert "'auditspan.local', not of 'other.example'" in said


def test_keys_that_are_gone_are_not_made_anew(stopped: Path) -> None:
    for key in (stopped / "keys").iterdir():
        key.unlink()
    fails("up", "--data", stopped, *FREE)
    assert "Put the keys back" in fails("keys", "init", "--data", stopped)
    assert not list((stopped / "keys").iterdir())


def test_a_party_registry_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    registry = tmp_path / "parties.yaml"
    up = ("up", "--data", tmp_path / "data", *FREE, "--parties", registry)
    assert "cannot be read" in fails(*up)
    registry.write_text("parties: [\n")
    assert "YAML" in fails(*up)
    registry.write_text("parties:\n  - id: p1\n    name: P\n    country: Atlantis\n")
    said = fails(*up)
    assert "'Atlantis' is no country" in said
    assert "line 4" in said or ":4" in said, said


def test_a_read_token_that_is_empty_opens_nothing(stopped: Path) -> None:
    (stopped / "read.token").write_text("\n")
    assert "holds no token" in fails("up", "--data", stopped, *FREE)


@pytest.mark.parametrize("where", ["/proc/auditspan", "/dev/null/data"])
def test_a_directory_that_cannot_be_made_is_explained(where: str) -> None:
    assert where.split("/")[1] in fails("up", "--data", where, *FREE)


def test_the_log_has_times_and_levels_and_no_secret(running: Running) -> None:
    service = running.service
    send(service, running.token)
    assert service.post(b"", "ast_WRONGSECRET").status == 401
    assert service.post(b"\xff" * 40, running.token).status == 400
    query = f"{running.sql}/?query=SELECT%201&password={running.read_token}"
    with urllib.request.urlopen(query) as answer:
        assert answer.read() == b"1\n"
    bad = auditspan("status", "--url", running.sql.replace("//", "//any:asr_WRONGSECRET@"))
    assert bad.status == 1
    log = service.log.read_text()
    assert log
    for secret in (running.token, running.read_token, "WRONGSECRET"):
        assert secret not in log + bad.err + bad.out
    lines = [line for line in log.splitlines() if not re.match(r"(OTLP/|SQL )", line)]
    stamped = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR|CRITICAL) [\w.]+: ")
    assert all(stamped.match(line) for line in lines), lines
    assert not any("uvicorn" in line for line in lines)


def test_a_supervisor_reads_the_endpoints_as_json(tmp_path: Path) -> None:
    command = [PROGRAM, "up", "--data", tmp_path / "data", *FREE, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "}\n")
        document = json.loads("".join(lines) + "}")
        assert set(document) == {"otlp_http", "otlp_grpc", "sql"}
        process.terminate()
        assert process.wait(60) == 0


def test_it_does_not_pass_over_a_store_that_the_settings_name(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert "store.url" in fails("up", "--data", data, env={"AUDITSPAN_STORE__URL": "http://127.0.0.1:9"})
    assert not data.exists()
