"""The signer follows the rotations that the control log seals, and signs with no other key."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sealing_deployment
from auditspan.processors.control_entries import ControlLog
from auditspan.processors.signing_keys import signing_keys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sealing_deployment import KEY, Deployment, running
from sealing_inputs import NOW, access, request
from test_pipeline import control_entries, signed_everything
from waiting import until

from auditspan.errors import AuditSpanError
from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.rotation import sign_rotation
from auditspan.ledger.signer import SignerRefused
from auditspan.ledger.signing_key import SigningKey, key_id
from auditspan.store.clickhouse import ClickHouseStore

NEXT = Ed25519PrivateKey.from_private_bytes(b"\x06" * 32)
THIRD = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
HOUR = 3600 * 10**9


class InPlace:
    """The key's file: which key is there."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key

    def __call__(self) -> SigningKey:
        return self.key


def rotated(old: Any, new: Any, *, overlap: int = HOUR, deployment: str = "plant") -> Any:
    now = time.time_ns()
    return json.loads(json.dumps(sign_rotation(deployment, old, new, now, now + overlap)))


def last_signers(deployment: Deployment) -> set[str]:
    """Ids of the keys that signed the last checkpoint of each log."""
    found = set()
    for status in deployment.pipeline.status():
        kept = deployment.store.last_checkpoint(status.log_id)
        assert kept is not None
        found.add(signer_of(kept.note, status.log_id))
    return found


def signer_of(note: str, log_id: str) -> str:
    for key in (KEY, NEXT, THIRD):
        try:
            open_checkpoint(note, log_origin("plant", log_id), [key.public_key()])
        except CheckpointInvalid:
            continue
        return key_id(key.public_key())
    raise AssertionError("a stranger signed it")


def sealed_and_signed(deployment: Deployment, number: int) -> None:
    deployment.append("events-0", [request(access(number))], NOW)
    until(lambda: signed_everything(deployment))


def test_the_running_signer_goes_over_to_the_new_key_once_it_is_there(tmp_path: Path) -> None:
    place = InPlace(KEY)
    with running(tmp_path, load_key=place) as deployment:
        sealed_and_signed(deployment, 0)
        deployment.pipeline.rotate("user:ops", rotated(KEY, NEXT))
        until(lambda: control_entries(deployment.store, "audit.key.rotated"), "the rotation to be sealed")
        sealed_and_signed(deployment, 1)
        assert last_signers(deployment) == {key_id(KEY.public_key())}, "its file is not there yet: the old one is valid"
        place.key = NEXT
        until(lambda: deployment.pipeline.signing_key == key_id(NEXT.public_key()), "the new key to sign")
        sealed_and_signed(deployment, 2)
        assert last_signers(deployment) == {key_id(NEXT.public_key())}
        (entry,) = control_entries(deployment.store, "audit.key.rotated")
        assert entry["statement"]["deployment"] == "plant"
        assert len(control_entries(deployment.store, "audit.key.added")) == 1, "the first key alone is added"


def test_after_a_restart_the_next_key_signs_on_and_what_the_old_one_signed_is_believed(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        sealed_and_signed(deployment, 0)
    with running(tmp_path, load_key=InPlace(NEXT), keys=[NEXT.public_key()]) as deployment:
        # Journaled while it was stopped, as far as this process knows.
        deployment.pipeline.rotate("user:ops", rotated(KEY, NEXT))
        until(lambda: deployment.pipeline.signing_key == key_id(NEXT.public_key()), "the new key to sign")
        sealed_and_signed(deployment, 1)
    # Started with the old key still given, as a process whose key was replaced while it ended.
    with running(tmp_path, load_key=InPlace(NEXT)) as deployment:
        assert deployment.pipeline.signing_key == key_id(NEXT.public_key())
        sealed_and_signed(deployment, 2)
        assert last_signers(deployment) == {key_id(NEXT.public_key())}


def test_two_rotations_at_once_lead_to_the_last_key(tmp_path: Path) -> None:
    place = InPlace(KEY)
    with running(tmp_path, load_key=place) as deployment:
        sealed_and_signed(deployment, 0)
        deployment.pipeline.rotate("user:ops", rotated(KEY, NEXT))
        deployment.pipeline.rotate("user:ops", rotated(NEXT, THIRD))
        place.key = THIRD
        until(lambda: deployment.pipeline.signing_key == key_id(THIRD.public_key()), "the last key to sign")
        sealed_and_signed(deployment, 1)
        assert last_signers(deployment) == {key_id(THIRD.public_key())}


def test_a_process_with_a_key_of_no_rotation_signs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tmp_path) as deployment:
        sealed_and_signed(deployment, 0)
    monkeypatch.setattr(sealing_deployment, "KEY", THIRD)
    with pytest.raises(SignerRefused, match="is none that the control log of 'plant' names"), running(tmp_path):
        pass


def test_a_retired_key_whose_heir_is_not_here_signs_no_more(tmp_path: Path) -> None:
    clock = Clock()
    with running(tmp_path, clock=clock) as deployment:
        sealed_and_signed(deployment, 0)
        deployment.pipeline.rotate("user:ops", rotated(KEY, NEXT))
        until(lambda: control_entries(deployment.store, "audit.key.rotated"), "the rotation to be sealed")
        sealed_and_signed(deployment, 1)
        clock.ahead = HOUR
        failure = until(deployment.pipeline.failure, "the signer to refuse")
        assert isinstance(failure, SignerRefused)
        assert "is retired" in failure.message and "Copy keys/ and trust.json" in failure.remedy
    with pytest.raises(SignerRefused, match="is retired"), running(tmp_path, clock=clock):
        pass
    with running(tmp_path, clock=clock, load_key=InPlace(NEXT)) as deployment:
        assert deployment.pipeline.signing_key == key_id(NEXT.public_key())


class Clock:
    """Time that can be moved."""

    ahead = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (lambda: rotated(NEXT, THIRD), "is none that the control log"),
        (lambda: rotated(KEY, NEXT, deployment="elsewhere"), "of the deployment 'elsewhere'"),
        (lambda: rotated(KEY, NEXT) | {"signatures": rotated(KEY, THIRD)["signatures"]}, "not signed by both"),
        (lambda: {"statement": "x"}, "cannot be sealed"),
        (lambda: None, "cannot be sealed"),
    ],
)
def test_what_is_no_rotation_of_the_key_in_use_is_not_journaled(
    tmp_path: Path, body: Callable[[], Any], why: str
) -> None:
    with running(tmp_path) as deployment:
        sealed_and_signed(deployment, 0)
        end = deployment.journal.high_water_mark("control")
        with pytest.raises(AuditSpanError, match=why):
            deployment.pipeline.rotate("user:ops", body())
        said = [entry.body for entry in deployment.journal.read("control", end, max_entries=100, max_bytes=1 << 20)]
        assert not any(b"audit.key.rotated" in each for each in said)


def test_a_second_way_on_from_a_key_is_not_journaled(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        sealed_and_signed(deployment, 0)
        first = rotated(KEY, NEXT)
        deployment.pipeline.rotate("user:ops", first)
        deployment.pipeline.rotate("user:ops", first)  # taken up again after an interruption
        with pytest.raises(AuditSpanError, match="was rotated before"):
            deployment.pipeline.rotate("user:ops", rotated(KEY, THIRD))
        with pytest.raises(AuditSpanError, match="no key comes back"):
            deployment.pipeline.rotate("user:ops", rotated(NEXT, KEY))


def test_a_rotation_that_is_journaled_and_not_sealed_yet_is_known(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        sealed_and_signed(deployment, 0)
        control = next(status.log_id for status in deployment.pipeline.status() if status.partition == "control")
    store = ClickHouseStore.embedded(tmp_path / "store")
    journal = SqliteJournal(tmp_path / "journal.sqlite", 1)
    try:
        known = signing_keys(journal, store, control, "plant", [KEY.public_key()])
        assert (len(known.known), known.rotations) == (1, [])
        ControlLog(journal).append("audit.key.rotated", "user:ops", rotated(KEY, NEXT))
        known = signing_keys(journal, store, control, "plant", [KEY.public_key()])
        assert [key_id(each) for each in known.known] == [key_id(key.public_key()) for key in (KEY, NEXT)]
        known.check(NEXT.public_key())
        with pytest.raises(SignerRefused):
            known.check(THIRD.public_key())
    finally:
        journal.close()
        store.close()
