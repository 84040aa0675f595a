from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from auditspan.ledger.keys import (
    KeyFileError,
    init_keys,
    load_salt_key,
    load_signing_key,
    write_secret_file,
)
from auditspan.ledger.signing_key import public_bytes
from auditspan.ledger.trust import load_trust


class Files:
    def __init__(self, root: Path) -> None:
        self.signing, self.salt, self.trust = root / "signing.pem", root / "salt.key", root / "trust.json"

    def make(self) -> None:
        init_keys(
            signing_key=self.signing,
            salt_key=self.salt,
            trust=self.trust,
            deployment="plant",
            added_at="2026-11-24T00:00:00Z",
        )


@pytest.fixture
def files(tmp_path: Path) -> Files:
    made = Files(tmp_path)
    made.make()
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = Files(tmp_path)
        files.make()
    finally:
        os.umask(before)
    assert (mode(files.signing), mode(files.salt), mode(files.trust)) == (0o600, 0o600, 0o644)


def test_the_public_file_trusts_the_private_key(files: Files) -> None:
    trust = load_trust(files.trust)
    assert trust.deployment == "plant"
    assert [public_bytes(key) for key in trust.keys] == [public_bytes(load_signing_key(files.signing).public_key())]
    assert b"PRIVATE" not in files.trust.read_bytes()


def test_the_salt_key_has_32_random_bytes(files: Files, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Files(tmp_path / "other")
    other.make()
    assert len(load_salt_key(files.salt)) == 32
    assert load_salt_key(files.salt) != load_salt_key(other.salt)


@pytest.mark.parametrize("kept", ["signing", "salt", "trust"])
def test_nothing_is_overwritten(files: Files, kept: str) -> None:
    for name in {"signing", "salt", "trust"} - {kept}:
        getattr(files, name).unlink()
    before = getattr(files, kept).read_bytes()
    with pytest.raises(KeyFileError, match="exists already"):
        files.make()
    assert getattr(files, kept).read_bytes() == before
    assert not any(getattr(files, name).exists() for name in {"signing", "salt", "trust"} - {kept})


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o620])
def test_private_keys_that_others_can_reach_are_refused(files: Files, bits: int) -> None:
    for path, load in ((files.signing, load_signing_key), (files.salt, load_salt_key)):
        path.chmod(bits)
        with pytest.raises(KeyFileError, match="chmod 600"):
            load(path)


def test_missing_and_broken_keys_say_what_to_do(files: Files, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="auditspan keys init"):
        load_signing_key(tmp_path / "none")
    for path, load in ((files.signing, load_signing_key), (files.salt, load_salt_key)):
        path.write_bytes(b"rubbish")
        with pytest.raises(KeyFileError, match="backup") as caught:
            load(path)
        assert "rubbish" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(version=3),
        lambda d: d.update(keys=[]),
        lambda d: d.pop("deployment"),
        lambda d: d["keys"][0].update(algorithm="RSA"),
        lambda d: d["keys"][0].update(public_key="AAAA"),
        lambda d: d["keys"][0].update(public_key="not base64!"),
        lambda d: d.update(keys="text"),
    ],
)
def test_a_trust_file_of_another_form_is_refused(files: Files, change: object) -> None:
    document = json.loads(files.trust.read_text())
    change(document)  # type: ignore[operator]
    files.trust.write_text(json.dumps(document))
    with pytest.raises(KeyFileError):
        load_trust(files.trust)


def test_a_trust_file_that_is_no_object_is_refused(files: Files) -> None:
    for text in ("[]", "7", "no json"):
        files.trust.write_text(text)
        with pytest.raises(KeyFileError):
            load_trust(files.trust)


def test_a_secret_file_is_new_private_and_no_link(tmp_path: Path) -> None:
    path = tmp_path / "read.token"
    write_secret_file(path, "secret\n")
    assert (path.read_text(), mode(path)) == ("secret\n", 0o600)
    with pytest.raises(KeyFileError):
        write_secret_file(path, "other")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        write_secret_file(tmp_path / "link", "other")
    assert not (tmp_path / "elsewhere").exists()
    with pytest.raises(KeyFileError, match="folder"):
        write_secret_file(tmp_path / "none" / "file", "x")
