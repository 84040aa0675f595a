"""What signs shows itself nowhere: not printed, not pickled, not in the text of any error."""

from __future__ import annotations

import base64
import copy
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from auditspan.errors import AuditSpanError
from auditspan.ledger.checkpoint import Checkpoint, log_origin, open_checkpoint, sign_checkpoint
from auditspan.ledger.keys import init_keys, load_salt_key, load_signing_key
from auditspan.ledger.merkle import EMPTY_ROOT
from auditspan.ledger.rotating import KeyFiles, begin_rotation, finish_rotation
from auditspan.ledger.signer import Signer, SignerRefused
from auditspan.ledger.signing_key import FileSigningKey, key_id, public_text
from auditspan.ledger.trust import load_trust


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    made = KeyFiles(tmp_path / "signing.pem", tmp_path / "trust.json")
    init_keys(
        signing_key=made.signing_key,
        salt_key=tmp_path / "salt.key",
        trust=made.trust,
        deployment="plant",
        added_at="2026-11-24T00:00:00Z",
    )
    return made


def secrets(folder: Path) -> list[bytes]:
    """Every form in which a key of ``folder`` could be written."""
    found = []
    for path in [*folder.rglob("*.pem"), *folder.rglob("salt.key")]:
        content = path.read_bytes()
        raw = content
        if path.suffix == ".pem":
            key = load_pem_private_key(content, password=None)
            assert isinstance(key, Ed25519PrivateKey)
            raw = key.private_bytes_raw()
            found.append(b"".join(content.splitlines()[1:-1])[20:])
        found += [raw, raw.hex().encode(), raw.hex().upper().encode(), base64.b64encode(raw), repr(raw).encode()[2:-1]]
    assert found
    return found


def test_a_file_is_a_key_that_signs_as_the_library_does(files: KeyFiles) -> None:
    key = load_signing_key(files.signing_key)
    plain = load_pem_private_key(files.signing_key.read_bytes(), password=None)
    assert isinstance(plain, Ed25519PrivateKey)
    assert key.sign(b"data") == plain.sign(b"data")
    assert public_text(key.public_key()) == public_text(plain.public_key())
    checkpoint = Checkpoint(log_origin("plant", "ab" * 16), 0, EMPTY_ROOT)
    assert open_checkpoint(sign_checkpoint(checkpoint, key), checkpoint.origin, [plain.public_key()]) == checkpoint


def test_any_object_with_these_two_methods_signs(tmp_path: Path) -> None:
    """As a hardware module's would be."""
    inner = Ed25519PrivateKey.generate()

    class Module:
        def public_key(self) -> Any:
            return inner.public_key()

        def sign(self, data: bytes, /) -> bytes:
            return inner.sign(data)

    with Signer(Module(), tmp_path, "plant") as signer:
        note = signer.sign("ab" * 16, 0, EMPTY_ROOT, lambda _: [])
    assert open_checkpoint(note, log_origin("plant", "ab" * 16), [inner.public_key()]).size == 0


def test_it_shows_the_id_of_its_public_half_alone(files: KeyFiles, tmp_path: Path) -> None:
    key = load_signing_key(files.signing_key)
    assert isinstance(key, FileSigningKey)
    shown = f"{key!r} {key!s} {key} {[key]} {vars(FileSigningKey)}"
    assert key_id(key.public_key()) in shown
    assert not any(secret in shown.encode() for secret in secrets(tmp_path))
    for take in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="signing key"):
            take(key)
    with pytest.raises(AttributeError):
        key.__dict__  # noqa: B018 - there is none


def failures(files: KeyFiles, folder: Path) -> Iterator[Callable[[], object]]:
    """Every way in which loading, rotating and signing goes wrong, with the keys at hand."""
    pem, salt = files.signing_key.read_bytes(), (folder / "salt.key").read_bytes()
    key = load_signing_key(files.signing_key)

    def written(path: Path, content: bytes, load: Callable[[Path], object]) -> Callable[[], object]:
        def act() -> object:
            before = path.read_bytes()
            path.write_bytes(content)
            try:
                return load(path)
            finally:
                path.write_bytes(before)

        return act

    for content in (b"", pem[:-40], pem[40:], pem.replace(b"PRIVATE", b"SECRET"), pem[:60] + b"!!!!" + pem[64:]):
        yield written(files.signing_key, content, load_signing_key)
    for content in (salt[:-1], salt + b"x", b""):
        yield written(folder / "salt.key", content, load_salt_key)
    yield written(files.trust, pem, load_trust)
    yield written(files.trust, salt, load_trust)

    def readable_by_all() -> object:
        files.signing_key.chmod(0o644)
        try:
            return load_signing_key(files.signing_key)
        finally:
            files.signing_key.chmod(0o600)

    yield readable_by_all
    yield lambda: begin_rotation(files, "plant", 0, 1)
    yield lambda: init_keys(
        signing_key=files.signing_key, salt_key=folder / "salt.key", trust=files.trust, deployment="x", added_at="x"
    )

    def shrunk() -> object:
        (folder / "signer").mkdir(exist_ok=True)
        with Signer(key, folder / "signer", "plant") as signer:
            signer.sign("ab" * 16, 5, b"r" * 32, lambda _: [])
            return signer.sign("ab" * 16, 4, b"r" * 32, lambda _: [])

    yield shrunk

    def mixed_up() -> object:
        body = begin_rotation(files, "plant", 0, 3600)
        files.next_key.write_bytes(pem)
        return finish_rotation(files, body)

    yield mixed_up


def test_no_failure_tells_a_key(files: KeyFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    known = secrets(tmp_path)
    said = []
    for act in failures(files, tmp_path):
        with pytest.raises((AuditSpanError, SignerRefused)) as caught:
            act()
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=False)
        said.append("".join(shown.format()) + repr(caught.value) + str(caught.value) + caught.value.remedy)
    assert len(said) > 12
    known += secrets(tmp_path)
    text = ("".join(said) + caplog.text).encode()
    assert b"signing.pem" in text, "they do say what is wrong"
    assert not [secret for secret in known if secret in text]
