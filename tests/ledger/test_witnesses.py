"""Cosignatures of a witness that others wrote, and all that a witness or a forger may say instead."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from litewitness import Litewitness, RunningWitness
from witness_by_hand import HandWitness, listening

from auditspan.ledger.bounded_post import BoundedPost
from auditspan.ledger.checkpoint import Checkpoint, log_origin, open_checkpoint, sign_checkpoint, verifier_key
from auditspan.ledger.merkle import CompactRange, consistency_proof
from auditspan.ledger.witnesses import (
    CosignatureInvalid,
    Witness,
    WitnessConflict,
    WitnessKeyInvalid,
    WitnessRefused,
    add_checkpoint,
    cosignatures,
    signature_lines,
)

KEY = Ed25519PrivateKey.from_private_bytes(b"\x21" * 32)
LEAVES = [hashlib.sha256(b"\x00%d" % number).digest() for number in range(40)]
POST = BoundedPost(10.0, 16 << 10, threading.Event())


def root(begin: int, end: int) -> bytes:
    tree = CompactRange()
    tree.extend(LEAVES[begin:end])
    return tree.root()


def checkpoint(size: int, log: str = "ab" * 16) -> Checkpoint:
    return Checkpoint(log_origin("plant", log), size, root(0, size))


def proof(old: int, new: int) -> list[bytes]:
    return consistency_proof(old, new, root) if 0 < old < new else []


@pytest.fixture
def running(litewitness: Litewitness) -> Iterator[RunningWitness]:
    with litewitness.running("witness.example/w1") as witness:
        yield witness


def add(witness: RunningWitness, size: int, old: int, log: str = "ab" * 16):
    what = checkpoint(size, log)
    return add_checkpoint(
        POST, witness.url, Witness.parse(witness.vkey), what, sign_checkpoint(what, KEY), old, proof(old, size)
    )


def test_a_witness_that_others_wrote_cosigns_a_log_that_grows(running: RunningWitness) -> None:
    witness = Witness.parse(running.vkey)
    assert running.vkey in running.page(), "it calls itself by the same verifier key"
    assert witness.vkey == running.vkey
    running.know(checkpoint(7).origin, verifier_key(checkpoint(7).origin, KEY.public_key()))
    first = add(running, 7, 0)
    note = sign_checkpoint(checkpoint(7), KEY) + first.line + "\n"
    assert cosignatures(signature_lines(note), checkpoint(7), [witness]) == [first]
    assert open_checkpoint(note, checkpoint(7).origin, [KEY.public_key()]) == checkpoint(7), "the log's own line counts"
    assert add(running, 33, 7).time >= first.time
    assert add(running, 33, 33).witness == witness, "the same tree again needs no proof"
    with pytest.raises(WitnessConflict) as caught:
        add(running, 40, 7)
    assert caught.value.size == 33
    assert add(running, 40, 33).witness == witness


def test_it_cosigns_no_second_history_and_no_stranger(running: RunningWitness) -> None:
    origin = checkpoint(7).origin
    with pytest.raises(WitnessRefused, match=r"403|404"):
        add(running, 7, 0)
    running.know(origin, verifier_key(origin, KEY.public_key()))
    add(running, 7, 0)
    other = Checkpoint(origin, 9, hashlib.sha256(b"another").digest())
    with pytest.raises(WitnessRefused, match="422") as caught:
        add_checkpoint(
            POST, running.url, Witness.parse(running.vkey), other, sign_checkpoint(other, KEY), 7, proof(7, 9)
        )
    assert caught.value.status == 422 and "auditspan doctor" in str(caught.value)
    stranger = sign_checkpoint(checkpoint(9), Ed25519PrivateKey.generate())
    with pytest.raises(WitnessRefused, match="does not know the key"):
        add_checkpoint(POST, running.url, Witness.parse(running.vkey), checkpoint(9), stranger, 7, proof(7, 9))


HAND = HandWitness("hand.example/w")


def answered(status: int, text: str):
    with listening(lambda path, body: (status, text)) as url:
        return add_checkpoint(
            POST, url, Witness.parse(HAND.vkey), checkpoint(9), sign_checkpoint(checkpoint(9), KEY), 0, []
        )


def test_the_request_is_as_the_protocol_says() -> None:
    seen = []

    def answer(path: str, body: str) -> tuple[int, str]:
        seen.append((path, body))
        return 200, HAND.cosign(body.partition("\n\n")[2], 5) + "\n"

    note = sign_checkpoint(checkpoint(9), KEY)
    with listening(answer) as url:
        found = add_checkpoint(POST, f"{url}/w/", Witness.parse(HAND.vkey), checkpoint(9), note, 4, proof(4, 9))
    assert found.time == 5
    path, body = seen[0]
    hashes = "".join(f"{base64.b64encode(each).decode()}\n" for each in proof(4, 9))
    assert path == "/w/add-checkpoint"
    assert body == f"old 4\n{hashes}\n{note}"


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "does not read"), (403, "does not know the key"), (404, "does not know this log"), (422, "another history"),
     (500, "answered 500"), (302, "answered 302")],
)  # fmt: skip
def test_refusals_say_what_to_do(status: int, words: str) -> None:
    with pytest.raises(WitnessRefused, match=words) as caught:
        answered(status, "")
    assert caught.value.status == status and caught.value.remedy


def test_a_conflict_without_a_size_is_refused() -> None:
    for text in ("", "7", "x\n", "07\n", "-1\n", "9" * 40 + "\n"):
        with pytest.raises(WitnessRefused, match="without the size"):
            answered(409, text)
    with pytest.raises(WitnessConflict) as caught:
        answered(409, "7\n")
    assert caught.value.size == 7


def test_a_replayed_foreign_or_undated_answer_is_refused() -> None:
    own, old, other = checkpoint(9), checkpoint(8), checkpoint(9, "cd" * 16)
    for what in (old, other):
        with pytest.raises(WitnessRefused, match="not valid for this checkpoint"):
            answered(200, HAND.cosign(sign_checkpoint(what, KEY), 5) + "\n")
    with pytest.raises(WitnessRefused, match="not valid"):
        answered(200, HAND.cosign(sign_checkpoint(own, KEY), 0) + "\n")
    stranger = HandWitness("hand.example/w")
    for text in (stranger.cosign(sign_checkpoint(own, KEY), 5) + "\n", "", "rubbish", "— hand.example/w !!!\n"):
        with pytest.raises(WitnessRefused, match="not by the key"):
            answered(200, text)


def test_lines_of_others_are_passed_over_and_each_witness_counts_once() -> None:
    witness, note = Witness.parse(HAND.vkey), sign_checkpoint(checkpoint(9), KEY)
    others = [HandWitness(f"other.example/{number}") for number in range(3)]
    lines = [*(one.cosign(note, 7) for one in others), HAND.cosign(note, 5), HAND.cosign(note, 6)]
    assert [one.time for one in cosignatures(lines, checkpoint(9), [witness])] == [5]
    assert cosignatures(lines, checkpoint(9), []) == []
    with pytest.raises(CosignatureInvalid):
        cosignatures([HAND.cosign(sign_checkpoint(checkpoint(8), KEY), 5)], checkpoint(9), [witness])
    short = base64.b64encode(base64.b64decode(HAND.cosign(note, 5).rpartition(" ")[2])[:-1]).decode()
    with pytest.raises(CosignatureInvalid, match="no timestamped"):
        cosignatures([f"— {HAND.name} {short}"], checkpoint(9), [witness])


@given(st.integers(0, 75), st.integers(0, 7))
def test_every_bit_of_a_cosignature_counts(place: int, bit: int) -> None:
    witness, note = Witness.parse(HAND.vkey), sign_checkpoint(checkpoint(9), KEY)
    raw = bytearray(base64.b64decode(HAND.cosign(note, 1_795_500_000).rpartition(" ")[2]))
    raw[place] ^= 1 << bit
    line = f"— {HAND.name} {base64.b64encode(raw).decode()}"
    try:
        assert cosignatures([line], checkpoint(9), [witness]) == [], "with another key id it is somebody else's"
    except CosignatureInvalid:
        assert place >= 4


@given(st.text(max_size=200))
def test_a_verifier_key_is_one_or_is_refused(text: str) -> None:
    with pytest.raises(WitnessKeyInvalid):
        Witness.parse(text)


def test_verifier_keys_of_another_type_length_or_id_are_refused() -> None:
    name, key_id, encoded = HAND.vkey.split("+", 2)
    raw = base64.b64decode(encoded)
    as_log = base64.b64encode(b"\x01" + raw[1:]).decode()
    for wrong in (
        f"{name}+{key_id}+{as_log}",
        f"{name}+00000000+{encoded}",
        f"other+{key_id}+{encoded}",
        f"{name} x+{key_id}+{encoded}",
        f"+{key_id}+{encoded}",
        f"{name}+{key_id}+{base64.b64encode(raw[:-1]).decode()}",
        verifier_key(checkpoint(1).origin, KEY.public_key()),
    ):
        with pytest.raises(WitnessKeyInvalid, match="This is no verifier key"):
            Witness.parse(wrong)
    assert Witness.parse(HAND.vkey).vkey == HAND.vkey
