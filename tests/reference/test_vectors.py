"""The vectors, the slow deriver and the product say the same."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.epochs import effective
from auditspan.processors.references import epoch_of
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from auditspan.ledger import checkpoint, merkle
from auditspan.policy.activation import Activation

from .derive import Batch, Entry, Log, epochs_in_force
from .product import GivenFacts, SealedLogs, product_leaves

VECTORS = Path(__file__).parents[1] / "vectors"
sys.path.insert(0, str(VECTORS))

import generate  # noqa: E402

NAMES = sorted(path.stem for path in VECTORS.glob("*.json"))


def vector(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def decoded(values: list[str]) -> list[bytes]:
    return [base64.b64decode(value) for value in values]


def test_there_is_a_vector_of_every_kind() -> None:
    assert sorted(generate.VECTORS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_slow_deriver_gives_the_vector(name: str) -> None:
    assert generate.written(generate.made(name)) == (VECTORS / f"{name}.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_the_product_gives_the_vectors_leaves(name: str) -> None:
    sealed, given = SealedLogs(), vector(name)
    earlier = given.get("earlier", ())
    for one in earlier:
        _leaves_of_the_product(vector(one), sealed)
    leaves = _leaves_of_the_product(given, sealed, [vector(one)["log"]["log_id"] for one in earlier])
    for made, expected in zip(leaves, given["leaves"], strict=False):
        assert json.loads(made) == json.loads(expected)
    assert [leaf.decode() for leaf in leaves] == given["leaves"]


def _leaves_of_the_product(given: dict[str, Any], sealed: SealedLogs, earlier: Sequence[str] = ()) -> list[bytes]:
    log = Log(**given["log"] | {"opened_at": int(given["log"]["opened_at"])})
    entries = [
        Entry(**entry | {"arrival_time": int(entry["arrival_time"]), "body": base64.b64decode(entry["body"])})
        for entry in given["entries"]
    ]
    batches = [Batch(**batch) for batch in given["batches"]]
    facts = {(offset, ordinal): said.encode() for offset, ordinal, said in given["facts"]}
    return product_leaves(log, entries, batches, bytes.fromhex(given["salt_key"]), GivenFacts(facts), sealed, earlier)


@pytest.mark.parametrize("name", NAMES)
def test_the_product_gives_the_vectors_roots_and_range_proofs(name: str) -> None:
    given = vector(name)
    hashes = [merkle.leaf_hash(leaf.encode()) for leaf in given["leaves"]]
    tree = merkle.CompactRange()
    roots = [tree.root()]
    for leaf in hashes:
        tree.append(leaf)
        roots.append(tree.root())
    assert roots == decoded(given["roots"])
    assert given["range_proofs"]
    for proof in given["range_proofs"]:
        begin, end, size = proof["begin"], proof["end"], proof["size"]
        left, right = decoded(proof["left"]), decoded(proof["right"])
        assert merkle.verify_range(left, hashes[begin:end], right, begin, size) == roots[size]


@pytest.mark.parametrize("name", NAMES)
def test_the_product_signs_and_opens_the_vectors_checkpoint(name: str) -> None:
    given = vector(name)
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(given["signing_key"]))
    origin = checkpoint.log_origin(given["log"]["deployment"], given["log"]["log_id"])
    opened = checkpoint.open_checkpoint(given["checkpoint"], origin, [key.public_key()])
    assert (opened.size, opened.root) == (len(given["leaves"]), base64.b64decode(given["roots"][-1]))
    assert checkpoint.sign_checkpoint(opened, key) == given["checkpoint"]


def test_the_vectors_have_every_fault_and_class_of_leaf() -> None:
    leaves = [json.loads(leaf) for name in NAMES for leaf in vector(name)["leaves"]]
    assert {fault for leaf in leaves for fault in leaf.get("faults", ())} == {
        "attribute.duplicate_key",
        "attribute.limit",
        "attribute.wrong_type",
        "class.unknown",
        "duplicate_suspect",
        "identity.conflict",
        "request.non_canonical",
        "request.undecodable",
        "span.invalid_id",
        "span.undecodable",
        "time.end_before_start",
        "time.missing",
        "time.outside_window",
    }
    assert {leaf["class"] for leaf in leaves if isinstance(leaf["class"], str)} >= {
        "audit.batch",
        "audit.checkpoint",
        "audit.conflict",
        "audit.gap",
        "audit.gap.closed",
        "audit.heartbeat",
        "audit.key.added",
        "audit.log.closed",
        "audit.log.opened",
        "audit.quarantined",
        "audit.reference.activated",
        "evidence.exported",
        "license.granted",
        "model.access",
        "other",
    }
    assert {leaf.get("determination") for leaf in leaves} == {
        None,
        "no_license_required",
        "exception",
        "review",
        "license_required",
        "prohibited",
    }


def test_of_two_epochs_with_one_number_the_first_is_the_one_that_a_batch_names() -> None:
    leaves = [leaf.encode() for leaf in vector("activated")["leaves"]]
    named = [json.loads(leaf)["body"]["epoch"] for leaf in leaves if json.loads(leaf)["class"] == "audit.batch"]
    bodies = [json.loads(leaf)["body"]["body"] for leaf in leaves if b'"audit.reference.activated"' in leaf]
    assert [(body["number"], body.get("officer")) for body in bodies] == [
        (1, None),
        (2, "m.berger"),
        (2, "l.ito"),
        (3, None),
    ]
    in_force = [(0, ""), *epochs_in_force(leaves)]
    assert [(epoch["number"], epoch["digest"]) for epoch in named] == in_force
    assert in_force == [(0, ""), *((epoch.number, epoch.digest) for epoch in map(epoch_of, effective(bodies)))]
    assert (
        Activation.of(bodies[1]).body(2, [{k: a[k] for k in a if k != "officer"} for a in bodies[1]["artifacts"]])
        == bodies[1]
    )


def test_what_earlier_generations_sealed_shows_in_the_vector_of_their_successor() -> None:
    given = vector("successor")
    assert given["earlier"] == ["closed", "unused"]
    leaves = [json.loads(leaf) for leaf in given["leaves"]]
    assert {"duplicate_suspect", "identity.conflict"} <= {fault for leaf in leaves for fault in leaf.get("faults", ())}
    assert sum(leaf["body"]["duplicates"] for leaf in leaves if leaf["class"] == "audit.batch") == 4
    late = [leaf["body"] for leaf in leaves if leaf["class"] == "audit.gap.closed"]
    assert [(one["from"], one["to"]) for one in late] == [(3, 4), (5, 6)]
    first = next(leaf for leaf in leaves if leaf["class"] == "audit.batch")
    ended = json.loads(vector("closed")["leaves"][-1])["body"]
    assert first["body"]["watermark"] == leaves[1]["arrival_time"], "a clock of its own"
    assert int(ended["watermark"]) > int(leaves[1]["arrival_time"])
