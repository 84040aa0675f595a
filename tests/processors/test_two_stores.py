"""``auditspan up``, with a store of its own, and ``auditspan process`` on the same topic: whoever comes second ends."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path
from urllib.parse import urlencode

import pytest
from process_group import Group, Process, group
from waiting import until

pytestmark = [pytest.mark.kafka, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SIGNED = "SELECT count() FROM auditspan.checkpoints WHERE size > 0"


def begin_up(deployment: Group) -> Process:
    """`auditspan up` with a copy of the deployment's keys and settings, except its store."""
    data = deployment.root / "up"
    shutil.copytree(deployment.directory.signing_key.parent, data / "keys")
    for kept in (deployment.directory.trust, deployment.directory.journal_key, deployment.directory.read_token):
        shutil.copy(kept, data)
    settings = deployment.directory.settings.read_text()
    store = f'[store]\nurl = "{deployment.store_url}"\n'
    assert store in settings
    (data / deployment.directory.settings.name).write_text(settings.replace(store, ""))
    addresses = [f"--{name}=127.0.0.1:0" for name in ("otlp-http", "otlp-grpc", "sql")]
    return begin(deployment, "up", "up", "--data", str(data), *addresses)


def begin(deployment: Group, name: str, *arguments: str) -> Process:
    made = Process(name, list(arguments), deployment.root / f"{name}.log")
    deployment.processes.append(made)
    return made


def check_refused(process: Process) -> str:
    """It has ended by itself, and says that its store is not the one that was signed; all that it told."""
    until(lambda: process.popen.poll() is not None, f"{process.name} to end", 120)
    process._listener.join(10)
    told, said = "".join(process.said), process.errors()
    assert process.popen.returncode == 1, said
    assert "has 0 leaves in the store without the tree of" in said
    assert "as the control partition of the journal says" in said
    assert "or is another one" in said
    assert "Traceback" not in said
    assert '"error": "SignerRefused"' in told
    return told


def test_up_is_refused_where_processes_have_signed(tmp_path: Path, kafka) -> None:
    with group(tmp_path, kafka.url, partitions=1) as deployment:
        process = deployment.start()
        deployment.send(0, "stream", 0, 50)
        until(deployment.sealed_all)
        until(lambda: deployment.store.query(SIGNED)["count()"][0].as_py(), "a checkpoint")
        assert "otlp_http" not in check_refused(begin_up(deployment)), "it never said that it takes events"
        deployment.send(0, "stream", 50, 50)
        until(deployment.sealed_all)
        assert process.terminate() == 0
        deployment.prove()


def test_processes_are_refused_where_up_has_signed(tmp_path: Path, kafka) -> None:
    with group(tmp_path, kafka.url, partitions=1) as deployment:
        up = begin_up(deployment)
        up.wait_started(120)

        def answer(sql: str) -> int:
            password = deployment.directory.read_token.read_text().strip()
            asked = urlencode({"query": sql, "user": "reader", "password": password})
            with urllib.request.urlopen(f"{up.endpoints['sql']}/?{asked}") as said:
                return int(said.read())

        sealed = "SELECT uniqExact(record_id) FROM auditspan.events WHERE class = 'model.access'"
        deployment.send(0, "stream", 0, 50)
        until(lambda: answer(sealed) == 50 and answer(SIGNED), "50 events under a checkpoint")
        arguments = ("--data", str(deployment.directory.root), "--listen", "127.0.0.1:0")
        check_refused(begin(deployment, "process", "process", *arguments))
        assert not deployment.logs(), "nothing was sealed in the other store"
        deployment.send(0, "stream", 50, 50)
        until(lambda: answer(sealed) == 100, "100 events")
        with urllib.request.urlopen(f"{up.endpoints['otlp_http']}/readyz") as ready:
            assert ready.status == 200
        assert up.terminate() == 0
