"""``deploy/``: no container runs here, so what can be wrong in it is looked up against what the product really has."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import shlex
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from auditspan.cli.main import app
from auditspan.config import Settings, load_settings
from auditspan.data_directory import DataDirectory
from auditspan.store.clickhouse import ClickHouseStore

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("auditspan"))
JOBS = sorted(name for name, service in SERVICES.items() if service["restart"] == "no")
"""They end by themselves: nobody asks for their health."""
SERVING = sorted(set(SERVICES) - set(JOBS))
SCRIPTS = sorted(DEPLOY.glob("*.sh"))

VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")
GIVEN = {"AUDITSPAN_DEPLOYMENT": "audit.example.org", "KAFKA_CLUSTER_ID": "x" * 22}


def environment(service: str) -> dict[str, str]:
    found = {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}
    return {name: VARIABLE.sub(lambda match: GIVEN[match[1]], value) for name, value in found.items()}


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)
    return load_settings(None)


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours, in services and scripts."""
    for name in OURS:
        service = SERVICES[name]
        if "entrypoint" not in service:
            yield name, service["command"]
    for script in SCRIPTS:
        for line in script.read_text().splitlines():
            words = shlex.split(line, comments=True)
            if "auditspan" in words:
                yield script.name, words[words.index("auditspan") + 1 :]


COMMANDS = list(commands())


def test_there_is_what_the_deployment_promises() -> None:
    assert [name for name in SERVICES if name.startswith("kafka")] == ["kafka-1", "kafka-2", "kafka-3"]
    assert {name for name, _ in COMMANDS} == {
        *("collector-1", "collector-2", "processor-1", "processor-2", "init.sh", "token.sh")
    }
    said = {tuple(command[:2]) for _, command in COMMANDS}
    assert {("collect", "--data"), ("process", "--data"), ("kafka", "init"), ("store", "check")} <= said


@pytest.mark.parametrize(("where", "command"), COMMANDS, ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_exists_and_so_do_its_options(where: str, command: list[str]) -> None:
    found = typer.main.get_command(app)
    path = []
    rest = list(command)
    while hasattr(found, "commands"):
        assert rest[0] in found.commands, f"{where}: auditspan {' '.join([*path, rest[0]])}"
        found = found.commands[rest[0]]
        path.append(rest.pop(0))
    known = {option for parameter in found.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in rest if word.startswith("-")}
    assert used <= known, f"{where}: {used - known} of auditspan {' '.join(path)}"
    required = {p.opts[0] for p in found.params if p.required and p.param_type_name == "option"}
    assert required <= used
    arguments = [word for i, word in enumerate(rest) if not word.startswith("-") and not rest[i - 1].startswith("-")]
    assert len(arguments) == sum(p.param_type_name == "argument" for p in found.params)
    done = CliRunner().invoke(app, [*path, "--help"])
    assert done.exit_code == 0
    assert "auditspan" in done.output


@pytest.mark.parametrize("service", OURS)
def test_every_setting_exists_and_is_valid(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment(service):
        assert name.startswith("AUDITSPAN_"), f"{name} is no setting of ours"
        model: Any = Settings
        parts = name.removeprefix("AUDITSPAN_").lower().split("__")
        for place, part in enumerate(parts):
            assert part in model.model_fields, f"{service}: {name} sets nothing"
            model = model.model_fields[part].annotation
            is_section = isinstance(model, type) and issubclass(model, BaseModel)
            assert is_section == (place < len(parts) - 1), name
    settings_of(service, monkeypatch)


@pytest.mark.parametrize("service", ["collector-1", "collector-2", "processor-1", "processor-2", "init"])
def test_all_speak_of_one_journal_and_one_store(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(service, monkeypatch)
    assert settings.deployment == GIVEN["AUDITSPAN_DEPLOYMENT"]
    brokers = settings.journal.url.removeprefix("kafka://").split(",")
    assert sorted(brokers) == [f"kafka-{number}:9092" for number in (1, 2, 3)]
    assert (settings.kafka.replication_factor, settings.kafka.min_insync_replicas) == (3, 2)
    assert settings.journal.partitions == 4
    if not service.startswith("collector"):
        assert settings.store.url == "http://clickhouse:8123"
        assert settings.store.user == ("owner" if service == "init" else "writer")
        assert str(settings.store.password_file) == f"/run/secrets/store_{settings.store.user}"
        mounted = {f"/run/secrets/{name}" for name in SERVICES[service]["secrets"]}
        assert {str(settings.store.password_file), str(settings.store.read_password_file)} <= mounted


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_bounded_watched_and_durable(service: str) -> None:
    said = SERVICES[service]
    assert re.fullmatch(r"[1-9][0-9]*[mg]", said["mem_limit"])
    assert said["volumes"]
    for volume in said["volumes"]:
        name, _, path = volume.partition(":")
        assert name in COMPOSE["volumes"], f"{volume} is no named volume"
        assert path.startswith("/var/lib/")
    for port in said.get("ports", []):
        assert port.startswith("127.0.0.1:"), f"{port} is published to others than this machine"
    assert set(said["networks"]) <= set(COMPOSE["networks"])
    for secret in said.get("secrets", []):
        assert (secret if isinstance(secret, str) else secret["source"]) in COMPOSE["secrets"]
    assert set(said.get("depends_on", {})) <= set(SERVICES)
    if service in SERVING:
        assert said["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout", "retries", "start_period"} <= said["healthcheck"].keys()
        assert said["restart"] == "unless-stopped"


def test_published_ports_are_each_published_once() -> None:
    published = [port.rsplit(":", 1)[0] for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == len(set(published)) == 7


@pytest.mark.parametrize("service", ["collector-1", "processor-2"])
def test_health_is_asked_where_the_service_listens(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(service, monkeypatch)
    address = settings.listen.otlp_http if service.startswith("collector") else settings.processor.listen
    port = address.rpartition(":")[2]
    (asked,) = re.findall(r"http://127\.0\.0\.1:(\d+)/readyz", SERVICES[service]["healthcheck"]["test"][-1])
    assert asked == port
    assert any(published.endswith(f":{port}") for published in SERVICES[service]["ports"])


def test_an_acknowledged_record_is_on_two_brokers() -> None:
    for number in (1, 2, 3):
        said = environment(f"kafka-{number}")
        assert said["KAFKA_NODE_ID"] == str(number)
        assert said["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://kafka-{number}:9092"
        assert (said["KAFKA_DEFAULT_REPLICATION_FACTOR"], said["KAFKA_MIN_INSYNC_REPLICAS"]) == ("3", "2")
        assert said["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "False" or (
            said["KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE"] == "false"
        )
        assert said["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
        (volume,) = SERVICES[f"kafka-{number}"]["volumes"]
        assert volume == f"kafka-{number}:{said['KAFKA_LOG_DIRS']}"


def test_no_secret_stands_in_a_file_that_ships() -> None:
    for path in (DEPLOY / "compose.yaml", DEPLOY / "Dockerfile", *SCRIPTS):
        for line in path.read_text().splitlines():
            said = re.search(r"(?i)(password|token|secret|key)\w*\s*[:=]\s*(\S+)", line.partition("#")[0])
            if said and "PASSWORD_FILE" not in said[0]:
                assert said[2].startswith(("{", "[", "$", '"$', "<<", "*")), f"{path.name}: {line}"
    for service in SERVICES:
        for name, value in environment(service).items():
            assert not re.search(r"(?i)password(?!_file)", name), f"{service}: {name}={value}"
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"deploy/.env", "deploy/secrets/"} <= set(ignored)


def test_versions_are_those_that_the_tests_run(tmp_path: Path) -> None:
    kafka = SERVICES["kafka-1"]["image"].rpartition(":")[2]
    pom = ET.parse(ROOT / "tests" / "kafka" / "pom.xml")
    namespace = {"m": "http://maven.apache.org/POM/4.0.0"}
    assert kafka in {version.text for version in pom.iterfind(".//m:dependency/m:version", namespace)}
    store = ClickHouseStore.embedded(tmp_path / "store")
    version = store.query("SELECT version() AS v")["v"][0].as_py()
    store.close()
    assert SERVICES["clickhouse"]["image"].rpartition(":")[2] == ".".join(version.split(".")[:2])


def test_the_image_has_what_the_services_run() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    copied = {word for line in text.splitlines() if line.startswith("COPY ") for word in line.split()[1:-1]}
    context = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line.startswith("!")}
    for source in copied - {"--from=build", "/opt/auditspan"}:
        assert (ROOT / source).exists(), source
        assert source in context, f"{source} is kept out of the build"
    for name in OURS:
        for word in SERVICES[name].get("entrypoint", []):
            if word.endswith(".sh"):
                assert f"deploy/{Path(word).name}" in copied
                assert f"{Path(word).parent}/" in text
        for volume in SERVICES[name]["volumes"]:
            path = volume.partition(":")[2]
            assert path in text, f"a new volume on {path} would belong to root"
    assert "USER auditspan" in text
    packages = re.findall(r'^    "(auditspan[\w.]*)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    folders = {name.split(".")[1] if name.count(".") else name for name in packages}
    assert {"auditspan", *(f for f in folders if (ROOT / f).is_dir())} <= copied


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_name_the_files_that_there_are(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/bin/sh\n")
    assert "set -eu" in text
    directory = DataDirectory(Path("$directory"))
    known = {str(path) for path in (directory.trust, directory.journal_key, directory.tokens)}
    used = set(re.findall(r'"(\$directory/[\w.]+)"', text))
    assert used
    assert used <= known
    assert {volume.split(":")[1] for volume in SERVICES["init"]["volumes"]} >= {
        line.partition("=")[2] for line in text.splitlines() if line.startswith("directory=")
    }


def test_prepare_draws_what_the_services_mount(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("prepare", DEPLOY / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.prepare(tmp_path, "audit.example.org")
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for secret in COMPOSE["secrets"].values():
        assert (tmp_path / secret["file"]).read_text()
    drawn = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    assert drawn.keys() == set(VARIABLE.findall((DEPLOY / "compose.yaml").read_text()))
    assert drawn["AUDITSPAN_DEPLOYMENT"] == "audit.example.org"
    assert re.fullmatch(r"[A-Za-z0-9_-]{22}", drawn["KAFKA_CLUSTER_ID"])
    users = ET.parse(tmp_path / "secrets" / "clickhouse_users.xml").getroot().find("users")
    assert users is not None
    assert {user.tag for user in users} == {"default", "owner", "writer", "reader"}
    assert users.find("default").attrib == {"remove": "remove"}  # type: ignore[union-attr]
    for role in ("owner", "writer", "reader"):
        password = (tmp_path / "secrets" / f"store_{role}").read_text().strip()
        assert len(password) >= 32
        digest = users.findtext(f"{role}/password_sha256_hex")
        assert digest == hashlib.sha256(password.encode()).hexdigest()
    roles = (DEPLOY / "clickhouse" / "roles.sql").read_text()
    for role in ("owner", "writer", "reader"):
        grants = [query.text for query in users.iterfind(f"{role}/grants/query")]
        assert grants
        assert all(f"{grant} TO auditspan_{role};" in roles for grant in grants)
        assert sum(f"TO auditspan_{role};" in line and line.startswith("GRANT") for line in roles.splitlines()) == len(
            grants
        )
        assert users.findtext(f"{role}/profile") == f"auditspan_{role}"
    said = ET.parse(tmp_path / "secrets" / "clickhouse_users.xml").getroot()
    assert said.findtext("profiles/auditspan_writer/async_insert") == "0"
    assert said.findtext("profiles/auditspan_reader/readonly") == "1"
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    module.prepare(tmp_path, "another.example.org")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
