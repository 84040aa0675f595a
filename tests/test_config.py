"""Settings: one TOML file, the environment over it, the options of a command over both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from auditspan.config import Address, Settings, SettingsInvalid, load_settings

PROGRAM = Path(sys.executable).parent / "auditspan"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("AUDITSPAN_"):
            monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "auditspan.toml"
    path.write_text(
        'deployment = "plant.example"\n[listen]\nsql = "127.0.0.1:1"\notlp_http = "127.0.0.1:2"\n'
        "[journal]\npartitions = 4\nkeep_days = 0\n"
    )
    return path


def test_defaults_are_those_of_the_documents() -> None:
    settings = load_settings(None)
    listen = settings.listen
    assert (listen.otlp_http, listen.otlp_grpc, listen.sql) == ("127.0.0.1:4318", "127.0.0.1:4317", "127.0.0.1:8123")
    assert settings.journal.partitions == 1
    assert settings.journal.keep_days == 30
    assert not settings.collector.allow_anonymous


def test_options_over_environment_over_file_over_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITSPAN_LISTEN__SQL", "127.0.0.1:10")
    monkeypatch.setenv("AUDITSPAN_LISTEN__OTLP_HTTP", "127.0.0.1:20")
    monkeypatch.setenv("AUDITSPAN_JOURNAL__PARTITIONS", "8")
    settings = load_settings(file, {"listen": {"sql": "127.0.0.1:100"}})
    assert settings.listen.sql == "127.0.0.1:100"
    assert settings.listen.otlp_http == "127.0.0.1:20"
    assert settings.listen.otlp_grpc == "127.0.0.1:4317"
    assert settings.journal.partitions == 8
    assert settings.journal.keep_days == 0
    assert settings.deployment == "plant.example"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("deploymnet = 'a'", "deploymnet"),
        ("[listen]\nsqll = 'a:1'", "listen.sqll"),
        ("[listen]\nsql = 'nowhere'", "listen.sql"),
        ("[listen]\nsql = '127.0.0.1:65536'", "listen.sql"),
        ("[journal]\npartitions = 0", "journal.partitions"),
        ("[journal]\nkeep_days = -1", "journal.keep_days"),
        ("[processor]\ncheckpoint_seconds = 5", "processor.checkpoint_seconds"),
        ("deployment = 'Has Space'", "deployment"),
        ("listen = 3", "listen"),
    ],
)
def test_what_is_unknown_or_out_of_range_is_named(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SettingsInvalid, match=f"{named}: ") as caught:
        load_settings(tmp_path / "a.toml")
    assert "config show" in caught.value.remedy


@pytest.mark.parametrize("content", [b"a = [", b"\xff\xfe", b"[a]\n[a]"])
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(SettingsInvalid, match=r"a\.toml"):
        load_settings(tmp_path / "a.toml")
    with pytest.raises(SettingsInvalid, match=r"missing\.toml"):
        load_settings(tmp_path / "missing.toml")
    with pytest.raises(SettingsInvalid):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AUDITSPAN_LISTEN", "no json"),
        ("AUDITSPAN_LISTEN__SQLL", "127.0.0.1:1"),
        ("AUDITSPAN_JOURNAL__PARTITIONS", "many"),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsInvalid):
        load_settings(None)


def test_variables_of_the_instrumentation_are_not_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITSPAN_TOKEN", "ast_x")
    monkeypatch.setenv("AUDITSPAN_SPOOL_DIRECTORY", "/var/spool/auditspan")
    assert load_settings(None).model_dump() == Settings().model_dump()


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:4318", "127.0.0.1", 4318), ("[::1]:0", "::1", 0), ("name:65535", "name", 65535)],
)
def test_addresses(text: str, host: str, port: int) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, str(address)) == (host, port, text)


@pytest.mark.parametrize("text", ["", ":", "host", "host:", ":1", "host:-1", "host:1x", "host:70000", "host:१"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


def show(*options: str, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [PROGRAM, "config", "show", *options], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert "Traceback" not in done.stderr
    return {"status": done.returncode, "out": done.stdout, "err": done.stderr}


def test_config_show_prints_the_effective_values(file: Path) -> None:
    said = json.loads(str(show("--data", str(file.parent), "--json", AUDITSPAN_LISTEN__SQL="127.0.0.1:9")["out"]))
    assert said["deployment"] == "plant.example"
    assert said["listen"] == {"otlp_http": "127.0.0.1:2", "otlp_grpc": "127.0.0.1:4317", "sql": "127.0.0.1:9"}
    table = str(show("--config", str(file), COLUMNS="100")["out"])
    assert "AUDITSPAN_JOURNAL__KEEP_DAYS" in table
    assert "plant.example" in table
    file.write_text("deploymnet = 1")
    refused = show("--config", str(file), "--json")
    assert refused["status"] == 1
    assert "deploymnet" in json.loads(str(refused["out"]))["message"]


@pytest.mark.parametrize("url", ["sqlite", "kafka://127.0.0.1:9092", "kafka://a:1,b:2,[::1]:3"])
def test_a_journal_has_a_url(url: str) -> None:
    assert load_settings(None, {"journal": {"url": url}}).journal.url == url


@pytest.mark.parametrize(
    "url", ["kafka://", "kafka://host", "kafka://a:1,", "kafka://a:1 ,b:2", "kafka://a:1\n", "postgres://a:1", ""]
)
def test_another_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"journal\.url: it is neither `sqlite` nor kafka://HOST:PORT"):
        load_settings(None, {"journal": {"url": url}})


@pytest.mark.parametrize(
    ("kafka", "said"),
    [
        ({"foreign_topics": ["auditspan.events"]}, "foreign_topics cannot name 'auditspan.events'"),
        ({"foreign_topics": ["auditspan.events.control"]}, "foreign_topics cannot name"),
        ({"foreign_topics": ["events"]}, "foreign_topics cannot name 'events'"),
        ({"foreign_topics": ["one", "one"]}, "named twice"),
        ({"delivery_timeout_seconds": 2, "request_timeout_seconds": 3}, "delivery_timeout_seconds must be at least"),
        ({"min_insync_replicas": 4}, "min_insync_replicas cannot be more than"),
        ({"topic": "no spaces"}, r"kafka\.topic"),
        ({"acks": 1}, r"kafka\.acks"),
    ],
)
def test_kafka_settings_that_do_not_fit_are_refused(kafka: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsInvalid, match=said):
        load_settings(None, {"kafka": kafka})


def test_a_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDITSPAN_KAFKA__SASL_PASSWORD", "hunter2")
    settings = load_settings(None)
    assert settings.kafka.sasl_password is not None
    assert settings.kafka.sasl_password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(settings) + str(settings.model_dump(mode="json"))
