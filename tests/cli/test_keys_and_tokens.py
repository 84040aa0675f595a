"""Keys and emitters' tokens; commands that must stay light."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import auditspan, fails, gives
from conftest import Running
from waiting import until


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_private_and_trust_is_not(tmp_path: Path) -> None:
    data = tmp_path / "data"
    written = gives("keys", "init", "--data", data)
    assert written["trust"] == str(data / "trust.json")
    for name in ("keys/signing.pem", "keys/salt.key", "read.token"):
        assert mode(data / name) == 0o600
    assert mode(data) == mode(data / "keys") == 0o700
    trusted = (data / "trust.json").read_text()
    assert json.loads(trusted)["deployment"] == "auditspan.local"
    assert "PRIVATE" not in trusted
    assert len((data / "read.token").read_text().strip()) > 40


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    gives("keys", "init", "--data", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert "signing.pem" in fails("keys", "init", "--data", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_the_deployment_is_named_by_the_settings(tmp_path: Path) -> None:
    gives("keys", "init", "--data", tmp_path, env={"AUDITSPAN_DEPLOYMENT": "plant-7.example"})
    assert json.loads((tmp_path / "trust.json").read_text())["deployment"] == "plant-7.example"


def test_a_token_is_printed_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    done = auditspan("token", "create", "inference-1", "--data", tmp_path)
    token = done.out.removesuffix("\n")
    assert done.status == 0
    assert token.startswith("ast_")
    assert "\n" not in token
    assert all(token not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert mode(tmp_path / "tokens.json") == 0o600
    other = gives("token", "create", "inference-2", "--data", tmp_path)
    assert other["emitter"] == "inference-2"
    listed = gives("token", "list", "--data", tmp_path)
    assert [(one["emitter"], one["revoked"]) for one in listed] == [("inference-1", None), ("inference-2", None)]
    assert token not in json.dumps(listed)
    assert "inference-1" in auditspan("token", "list", "--data", tmp_path).out


@pytest.mark.parametrize("name", ["", "anonymous", "two words", "[/red]", "é"])
def test_an_emitter_has_a_plain_name(name: str, tmp_path: Path) -> None:
    assert "cannot be the name" in fails("token", "create", name, "--data", tmp_path)


def test_revoking_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "no valid token" in fails("token", "revoke", "nobody", "--data", tmp_path)


@pytest.mark.parametrize("command", [("list",), ("revoke", "a")])
def test_a_misspelt_directory_is_not_made(command: tuple[str, ...], tmp_path: Path) -> None:
    assert "There is no directory" in fails("token", *command, "--data", tmp_path / "typo")
    assert not (tmp_path / "typo").exists()


def test_a_running_service_refuses_a_revoked_token_soon(running: Running) -> None:
    token = auditspan("token", "create", "leaver", "--data", running.data).out.strip()
    until(lambda: running.service.post(b"", token).status == 200, "the new token to be taken", 5.0)
    revoked = gives("token", "revoke", "leaver", "--data", running.data)
    assert [one["emitter"] for one in revoked] == ["leaver"]
    until(lambda: running.service.post(b"", token).status == 401, "the revoked token to be refused", 5.0)
    assert running.service.post(b"", running.token).status == 200


@pytest.mark.parametrize(
    "command",
    [
        ("token", "create", "a", "--data", "."),
        ("token", "list", "--data", "."),
        ("keys", "init", "--data", "."),
        ("spool", "status", "--spool", "."),
        ("config", "show"),
        ("--help",),
        ("status", "--help"),
        ("doctor", "--help"),
    ],
    ids=" ".join,
)
def test_light_commands_load_nothing_heavy(command: tuple[str, ...], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from auditspan.cli.main import main\n"
        f"sys.argv = ['auditspan', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit as ending:\n    assert not ending.code, ending\n"
        "heavy = ('pyarrow', 'numpy', 'pandas', 'chdb', 'clickhouse_connect', 'starlette', 'grpc', 'cel_expr_python')\n"
        "sys.exit(', '.join(name for name in heavy if name in sys.modules) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
