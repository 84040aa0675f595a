from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from auditspan.ledger.checkpoint import (
    Checkpoint,
    CheckpointInvalid,
    log_origin,
    open_checkpoint,
    public_bytes,
    sign_checkpoint,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
ORIGIN = log_origin("lab", "ab" * 16)
ROOT = hashlib.sha256(b"root").digest()
CHECKPOINT = Checkpoint(ORIGIN, 42, ROOT)


def code(note: str, origin: str = ORIGIN, key: Ed25519PrivateKey = KEY) -> str:
    with pytest.raises(CheckpointInvalid) as raised:
        open_checkpoint(note, origin, [key.public_key()])
    return raised.value.code


def test_the_note_is_written_as_c2sp_says() -> None:
    note = sign_checkpoint(CHECKPOINT, KEY)
    body = f"{ORIGIN}\n42\n{base64.b64encode(ROOT).decode()}\n"
    text, blank, signature_line = note.partition("\n\n")
    assert text + "\n" == body == CHECKPOINT.body().decode()
    dash, name, encoded = signature_line.removesuffix("\n").split(" ")
    assert (blank, dash, name) == ("\n\n", "—", ORIGIN)
    signature = base64.b64decode(encoded)
    public = public_bytes(KEY.public_key())
    assert signature[:4] == hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public).digest()[:4]
    KEY.public_key().verify(signature[4:], body.encode())


@settings(deadline=None)
@given(st.integers(0, 2**63), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_read_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert (
        open_checkpoint(sign_checkpoint(checkpoint, KEY), ORIGIN, [OTHER.public_key(), KEY.public_key()]) == checkpoint
    )


def test_signatures_of_witnesses_are_passed_over() -> None:
    witness = "— witness.example " + base64.b64encode(b"\0" * 68).decode() + "\n"
    text, signature = sign_checkpoint(CHECKPOINT, KEY).split("\n\n")
    note = f"{text}\n\n{witness}{signature}{witness}"
    assert open_checkpoint(note, ORIGIN, [KEY.public_key()]) == CHECKPOINT


def test_every_changed_character_is_noticed() -> None:
    note = sign_checkpoint(CHECKPOINT, KEY)
    for place in range(len(note)):
        changed = note[:place] + ("A" if note[place] != "A" else "B") + note[place + 1 :]
        with pytest.raises(CheckpointInvalid):
            open_checkpoint(changed, ORIGIN, [KEY.public_key()])


def test_each_fault_has_its_code() -> None:
    note = sign_checkpoint(CHECKPOINT, KEY)
    assert code(note, origin=log_origin("lab", "cd" * 16)) == "checkpoint.origin"
    assert code(note, key=OTHER) == "checkpoint.signature"
    assert code(note.replace("\n42\n", "\n43\n")) == "checkpoint.signature"
    other_log = sign_checkpoint(Checkpoint(log_origin("lab", "cd" * 16), 42, ROOT), KEY)
    assert code(note.partition("\n\n")[0] + "\n\n" + other_log.partition("\n\n")[2]) == "checkpoint.signature"


@pytest.mark.parametrize(
    "damage",
    [
        lambda note: "",
        lambda note: note.replace("\n42\n", "\n042\n"),
        lambda note: note.replace("\n42\n", "\n-42\n"),
        lambda note: note.replace("\n42\n", "\n４２\n"),
        lambda note: note.replace("\n42\n", "\n\n"),
        lambda note: note.replace(base64.b64encode(ROOT).decode(), base64.b64encode(ROOT[:31]).decode()),
        lambda note: note.replace(base64.b64encode(ROOT).decode(), "not base64!"),
        lambda note: note.replace("\n\n", "\nextension\n\n"),
        lambda note: note.replace("\n\n", "\n"),
        lambda note: note.removesuffix("\n"),
        lambda note: note.replace("— ", "- "),
        lambda note: note.partition("\n\n")[0] + "\n\n— " + ORIGIN + " !!!\n",
    ],
)
def test_what_is_no_checkpoint_is_malformed(damage) -> None:
    assert code(damage(sign_checkpoint(CHECKPOINT, KEY))) == "checkpoint.malformed"
