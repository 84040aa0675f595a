"""Other people's code says of our roots, proofs and notes what ours says: Go's checksum database, and pymerkle."""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from go_tlog import Asked, GoTlog, verifier_key
from pymerkle import InmemoryTree, InvalidProof
from pymerkle import verify_consistency as verify_growth
from test_merkle import root

from auditspan.ledger.checkpoint import Checkpoint, CheckpointInvalid, log_origin, open_checkpoint, sign_checkpoint
from auditspan.ledger.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)

ALL_UP_TO = 40
"""Every leaf of every size up to this one; beyond it some."""
LEAVES = [b"leaf %d" % number for number in range(700)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
PAIRS = [(of, size) for size in range(1, ALL_UP_TO + 1) for of in range(size)] + [
    (of, size)
    for size, of in ((size, random.Random(size).randrange(size)) for size in range(ALL_UP_TO + 1, len(LEAVES), 7))
]


def mth(begin: int, end: int) -> bytes:
    return root(HASHES[begin:end])


def altered(proof: list[bytes], place: int) -> list[bytes]:
    return [*proof[:place], bytes(32), *proof[place + 1 :]]


def test_go_makes_the_same_roots_and_proofs(go_tlog: GoTlog) -> None:
    asked = Asked(LEAVES)
    for of, size in PAIRS:
        asked.root(size, mth(0, size))
        asked.included(of, size, mth(0, size), inclusion_proof(of, size, mth))
        # tlog counts from one: the empty tree is a prefix of every tree, and needs no proof.
        asked.grown(of + 1, size, mth(0, size), consistency_proof(of + 1, size, mth))
    said = go_tlog.ask(asked)
    assert said.roots == said.inclusion == said.consistency == [""] * len(PAIRS)


def test_go_refuses_what_is_refused_here(go_tlog: GoTlog) -> None:
    asked = Asked(LEAVES)
    here: list[tuple[bool, bool]] = []
    for of, size in PAIRS[::5]:
        proof, growth, whole = inclusion_proof(of, size, mth), consistency_proof(of + 1, size, mth), mth(0, size)
        for wrong, other in [(proof[:-1], growth[:-1]), ([*proof, whole], [*growth, whole])] + [
            (altered(proof, place), altered(growth, place)) for place in range(max(len(proof), len(growth)))
        ]:
            asked.included(of, size, whole, wrong)
            asked.grown(of + 1, size, whole, other)
            here.append((holds(of, size, whole, wrong), verify_consistency(of + 1, mth(0, of + 1), size, whole, other)))
    said = go_tlog.ask(asked)
    assert [not each for each in said.inclusion] == [included for included, _ in here]
    assert [not each for each in said.consistency] == [grown for _, grown in here]
    assert sum(map(sum, here)) < len(here) / 10, "what is altered does not hold, but where nothing was there to alter"


def holds(index: int, size: int, whole: bytes, proof: list[bytes]) -> bool:
    try:
        return verify_inclusion(HASHES[index], index, size, proof) == whole
    except ValueError:
        return False


def test_go_opens_our_checkpoints_and_no_others(go_tlog: GoTlog) -> None:
    key, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    origin = log_origin("lab", "ab" * 16)
    checkpoint = Checkpoint(origin, 42, mth(0, 42))
    note = sign_checkpoint(checkpoint, key)
    witnessed = note + sign_checkpoint(Checkpoint("witness.example", 42, mth(0, 42)), stranger).rpartition("\n\n")[2]
    wrong = [
        note.replace("\n42\n", "\n43\n"),
        note.replace("lab", "bal"),
        sign_checkpoint(checkpoint, stranger),
        note.removesuffix("\n"),
        note.replace("\n\n", "\n"),
        note.replace("— ", "- "),
    ]
    asked = Asked()
    for text in (note, witnessed, *wrong):
        asked.note(text, verifier_key(origin, key.public_key()))
    said = go_tlog.ask(asked).texts
    assert said[:2] == [checkpoint.body().decode()] * 2
    assert open_checkpoint(witnessed, origin, [key.public_key()]) == checkpoint
    for text, theirs in zip(wrong, said[2:], strict=True):
        assert theirs.startswith("error: "), theirs
        assert refused(text, origin, key), text


def refused(text: str, origin: str, key: Ed25519PrivateKey) -> bool:
    try:
        open_checkpoint(text, origin, [key.public_key()])
    except CheckpointInvalid:
        return True
    return False


def test_pymerkle_makes_the_same_roots_and_proofs() -> None:
    theirs = InmemoryTree(algorithm="sha256")
    theirs.append_entries(LEAVES)
    for of, size in PAIRS:
        assert theirs.get_root(size) == mth(0, size)
        # Its paths begin with the leaf.
        leaf, *path = theirs.prove_inclusion(of + 1, size).path
        assert (leaf, path) == (HASHES[of], inclusion_proof(of, size, mth))
        # Its proofs of growth have a form of their own, and hold for the roots that ours hold for.
        growth = theirs.prove_consistency(of + 1, size)
        verify_growth(mth(0, of + 1), mth(0, size), growth, of + 1, size)
        if size > of + 1:
            with pytest.raises(InvalidProof):
                verify_growth(mth(0, of + 1), mth(0, size - 1), growth, of + 1, size)
