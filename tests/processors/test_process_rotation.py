"""The signing key is rotated on many machines: on one of them, and the others get copies while they run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from process_group import DEPLOYMENT, PROGRAM, Group, Process, group
from waiting import until

from auditspan.cli.keys import make_keys
from auditspan.data_directory import DataDirectory
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.trust import load_trust

pytestmark = [pytest.mark.kafka, pytest.mark.crash]


def machine(deployment: Group, name: str) -> DataDirectory:
    """Another machine's directory, with copies of what the first one has."""
    directory = DataDirectory(deployment.root / name)
    directory.create()
    for path in ("journal.key", "write.token", "read.token", "auditspan.toml"):
        shutil.copy2(deployment.directory.root / path, directory.root / path)
    copy_keys(deployment, directory)
    return directory


def copy_keys(deployment: Group, to: DataDirectory) -> None:
    """As the operating page has it: trust.json first, so that no key is there that it does not name."""
    shutil.copy2(deployment.directory.trust, to.trust)
    for path in deployment.directory.signing_key.parent.iterdir():
        if not path.name.startswith("retired-"):
            shutil.copy2(path, to.signing_key.parent / path.name)


def started(deployment: Group, directory: DataDirectory) -> Process:
    arguments = ["process", "--data", str(directory.root), "--listen", "127.0.0.1:0"]
    made = Process(directory.root.name, arguments, deployment.root / f"{directory.root.name}.log")
    deployment.processes.append(made)
    made.wait_started()
    return made


def rotate(directory: DataDirectory) -> Any:
    done = subprocess.run(
        [*PROGRAM, "keys", "rotate", "--data", str(directory.root), "--overlap-hours", "1", "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def signer_of_the_last(deployment: Group) -> int:
    """Which key of the first machine's ``trust.json`` signed the newest checkpoint of the control log."""
    row = deployment.store.query("SELECT log_id, note FROM auditspan.checkpoints ORDER BY signed_at DESC LIMIT 1")
    (last,) = row.to_pylist()
    for number, key in enumerate(load_trust(deployment.directory.trust).keys):
        try:
            open_checkpoint(last["note"], log_origin(DEPLOYMENT, last["log_id"]), [key])
        except CheckpointInvalid:
            continue
        return number
    raise AssertionError("a stranger signed it")


def test_each_machine_goes_over_when_it_has_the_key_and_signs_with_the_old_one_until_then(
    tmp_path: Path, kafka
) -> None:
    with group(tmp_path, kafka.url, partitions=2) as deployment:
        first = deployment.start()
        until(first.ready)
        second_machine = machine(deployment, "second")
        deployment.send(0, "stream-0", 0, 20)
        until(deployment.sealed_all)
        until(lambda: "control" in first.owns())
        said = rotate(deployment.directory)
        assert not said["in_use"], "who owns the control log is not asked"
        until(lambda: signer_of_the_last(deployment) == 1, "the first machine to sign with the new key")
        # The other one takes over with the old key: valid until the overlap ends.
        second = started(deployment, second_machine)
        until(second.ready)
        first.kill()
        until(lambda: "control" in second.owns(), "the second to own the control log", 60)
        deployment.send(1, "stream-1", 0, 20)
        until(deployment.sealed_all)
        until(lambda: signer_of_the_last(deployment) == 0, "the second machine to sign, with the old key")
        assert "which is not here" in second.errors()
        copy_keys(deployment, second_machine)
        until(lambda: signer_of_the_last(deployment) == 1, "the second machine to take the new key up")
        deployment.send(0, "stream-0", 20, 20)
        until(deployment.sealed_all)
        assert second.terminate() == 0
        deployment.prove()


def test_a_process_with_a_key_of_no_rotation_ends_and_says_why(tmp_path: Path, kafka) -> None:
    with group(tmp_path, kafka.url, partitions=1) as deployment:
        first = deployment.start()
        until(first.ready)
        deployment.send(0, "stream-0", 0, 10)
        until(deployment.sealed_all)
        assert first.terminate() == 0
        wrong = machine(deployment, "wrong")
        shutil.rmtree(wrong.signing_key.parent)
        wrong.trust.unlink()
        wrong.read_token.unlink()
        make_keys(wrong, DEPLOYMENT)
        process = started(deployment, wrong)
        assert process.popen.wait(90) == 1
        assert "is none that the control log of 'plant' names" in "".join(process.said) + process.errors()
        right = deployment.start()
        until(right.ready)
        deployment.send(0, "stream-0", 10, 10)
        until(deployment.sealed_all)
        assert right.terminate() == 0
        deployment.prove()
