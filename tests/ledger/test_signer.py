from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditspan.ledger.checkpoint import log_origin, open_checkpoint
from auditspan.ledger.merkle import EMPTY_ROOT, CompactRange, consistency_proof, leaf_hash
from auditspan.ledger.signer import Signed, Signer, SignerRefused

LOG = "0123456789abcdef" * 2
KEY = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
LEAVES = [leaf_hash(b"leaf %d" % i) for i in range(40)]
OTHERS = [leaf_hash(b"else %d" % i) for i in range(40)]


def root(size: int, leaves: list[bytes] = LEAVES) -> bytes:
    tree = CompactRange()
    tree.extend(leaves[:size])
    return tree.root()


def prove(size: int, leaves: list[bytes] = LEAVES):
    def subtree(begin: int, end: int) -> bytes:
        tree = CompactRange()
        tree.extend(leaves[begin:end])
        return tree.root()

    return lambda old: consistency_proof(old, size, subtree)


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    with Signer(KEY, tmp_path, "plant") as made:
        yield made


def sign(signer: Signer, size: int, leaves: list[bytes] = LEAVES) -> str:
    return signer.sign(LOG, size, root(size, leaves), prove(size, leaves))


def test_a_note_says_size_and_root_under_the_logs_origin(signer: Signer) -> None:
    note = sign(signer, 5)
    checkpoint = open_checkpoint(note, log_origin("plant", LOG), [KEY.public_key()])
    assert (checkpoint.size, checkpoint.root) == (5, root(5))


def test_a_log_grows(signer: Signer) -> None:
    for size in (0, 1, 1, 7, 8, 33, 40):
        sign(signer, size)
        assert signer.last(LOG) == Signed(size, root(size))


def test_signing_one_tree_twice_gives_one_note(signer: Signer) -> None:
    assert sign(signer, 5) == sign(signer, 5)


def test_a_smaller_tree_is_refused(signer: Signer) -> None:
    sign(signer, 9)
    with pytest.raises(SignerRefused, match=r"has 8 leaves.*put the newest one back"):
        sign(signer, 8)
    assert signer.last(LOG) == Signed(9, root(9))


@pytest.mark.parametrize("size", [9, 10, 16, 40])
def test_a_tree_that_does_not_contain_the_last_one_is_refused(signer: Signer, size: int) -> None:
    sign(signer, 9)
    with pytest.raises(SignerRefused, match="put the newest one back"):
        sign(signer, size, OTHERS)
    with pytest.raises(SignerRefused):
        signer.sign(LOG, size, root(size, OTHERS), lambda old: [])
    assert signer.last(LOG) == Signed(9, root(9))
    sign(signer, 40)


def test_an_empty_tree_has_one_root(signer: Signer) -> None:
    with pytest.raises(SignerRefused):
        signer.sign(LOG, 0, root(3), lambda old: [])
    signer.sign(LOG, 0, EMPTY_ROOT, lambda old: [])


def test_logs_do_not_know_each_other(signer: Signer) -> None:
    sign(signer, 9)
    other = "ff" * 16
    signer.sign(other, 2, root(2, OTHERS), prove(2, OTHERS))
    assert (signer.last(LOG), signer.last(other)) == (Signed(9, root(9)), Signed(2, root(2, OTHERS)))
    with pytest.raises(ValueError, match="no log id"):
        signer.last("../etc")


def test_the_state_outlives_the_process(tmp_path: Path) -> None:
    with Signer(KEY, tmp_path, "plant") as first:
        sign(first, 9)
    with Signer(KEY, tmp_path, "plant") as second:
        with pytest.raises(SignerRefused):
            sign(second, 3)
        sign(second, 12)


def test_a_second_signer_is_refused(signer: Signer, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\n"
        "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey\n"
        "from auditspan.ledger.signer import Signer, SignerRefused\n"
        "try: Signer(Ed25519PrivateKey.generate(), pathlib.Path(sys.argv[1]), 'plant')\n"
        "except SignerRefused as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "Another process signs" in told.stdout


def test_nothing_is_signed_before_it_is_on_disk(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    sign(signer, 5)
    synced: list[str] = []
    real = os.fsync

    def watched(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", watched)
    sign(signer, 6)
    assert [Path(path).suffix for path in synced] == [".tmp", ""]

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        sign(signer, 7)
    assert signer.last(LOG) == Signed(6, root(6))


@pytest.mark.parametrize("content", ["", "{}", '{"size": 3}', '{"size":3,"root":"%"}', "[]"])
def test_damaged_state_is_no_fresh_start(signer: Signer, tmp_path: Path, content: str) -> None:
    sign(signer, 5)
    (tmp_path / f"{LOG}.json").write_text(content)
    with pytest.raises(SignerRefused, match="does not say which tree"):
        sign(signer, 6)


def test_without_a_state_directory_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(SignerRefused, match="cannot be used"):
        Signer(KEY, tmp_path / "none", "plant")
