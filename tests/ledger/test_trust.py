"""``trust.json`` in both versions."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from timestamp_authority import OpensslAuthority
from witness_by_hand import HandWitness

from auditspan.ledger.keys import KeyFileError
from auditspan.ledger.trust import AnchorPolicy, load_trust

KEY = base64.b64encode(Ed25519PrivateKey.from_private_bytes(b"\x02" * 32).public_key().public_bytes_raw()).decode()
WITNESSES = [HandWitness(f"witness.example/{number}") for number in range(2)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    return OpensslAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def document(authority: OpensslAuthority) -> dict[str, Any]:
    return {
        "version": 2,
        "deployment": "plant",
        "keys": [{"algorithm": "Ed25519", "public_key": KEY, "added_at": "2026-11-27T00:00:00Z"}],
        "witnesses": [witness.vkey for witness in WITNESSES],
        "timestamp_authorities": [
            {"name": "tsa", "certificates": [authority.root_pem, authority.intermediate_pem]},
        ],
        "policy": {"witnesses": 2, "timestamp_authorities": 1},
    }


def load(folder: Path, document: Any) -> Any:
    path = folder / "trust.json"
    path.write_text(json.dumps(document))
    return load_trust(path)


def test_version_2_names_witnesses_authorities_and_a_policy(
    document: dict[str, Any], authority: OpensslAuthority, tmp_path: Path
) -> None:
    trust = load(tmp_path, document)
    assert [witness.vkey for witness in trust.witnesses] == [witness.vkey for witness in WITNESSES]
    assert [one.name for one in trust.timestamp_authorities] == ["tsa"]
    assert trust.timestamp_authorities[0].roots == (authority.root,)
    assert trust.timestamp_authorities[0].intermediates == (authority.intermediate,)
    assert trust.policy == AnchorPolicy(2, 1)


def test_version_1_trusts_nobody_and_demands_nothing(document: dict[str, Any], tmp_path: Path) -> None:
    trust = load(tmp_path, document | {"version": 1})
    assert (trust.deployment, len(trust.keys)) == ("plant", 1)
    assert (trust.witnesses, trust.timestamp_authorities, trust.policy) == ((), (), AnchorPolicy(0, 0))


def test_what_version_2_leaves_out_is_nobody_and_nothing(document: dict[str, Any], tmp_path: Path) -> None:
    for name in ("witnesses", "timestamp_authorities", "policy"):
        document.pop(name)
    assert load(tmp_path, document).policy == AnchorPolicy(0, 0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.update(version=3), "no version that is known"),
        (lambda d: d.update(version=True), "no version that is known"),
        (lambda d: d.update(keys=[]), "at least one key"),
        (lambda d: d.pop("keys"), "has no 'keys'"),
        (lambda d: d.update(witnesses=["x"]), "no verifier key"),
        (lambda d: d.update(witnesses=[7]), "wrong type"),
        (lambda d: d.update(witnesses="x"), "arrays"),
        (lambda d: d.update(witnesses=d["witnesses"] * 2), "a witness is in it twice"),
        (lambda d: d["timestamp_authorities"].append(d["timestamp_authorities"][0]), "one name"),
        (lambda d: d["timestamp_authorities"].append({**d["timestamp_authorities"][0], "name": "x"}), "one root"),
        (lambda d: d["timestamp_authorities"][0].update(certificates=[]), "no root"),
        (lambda d: d["timestamp_authorities"][0].update(certificates=["x"]), "not a usable"),
        (lambda d: d["timestamp_authorities"][0].update(name=""), "no name"),
        (lambda d: d["policy"].update(witnesses=3), "demands 3 witnesses"),
        (lambda d: d["policy"].update(timestamp_authorities=2), "demands 2 witnesses and 2 timestamp"),
        (lambda d: d["policy"].update(witnesses=-1), "numbers"),
        (lambda d: d["policy"].update(witnesses=True), "numbers"),
        (lambda d: d["policy"].update(witnesses="1"), "numbers"),
        (lambda d: d.update(policy=7), "wrong type"),
    ],
)
def test_anything_else_is_refused_and_says_why(
    document: dict[str, Any], change: Callable[[dict[str, Any]], Any], words: str, tmp_path: Path
) -> None:
    change(document)
    with pytest.raises(KeyFileError, match=words):
        load(tmp_path, document)


def test_one_key_under_two_names_is_no_two_witnesses(document: dict[str, Any], tmp_path: Path) -> None:
    document["witnesses"] = [HandWitness("a.example", WITNESSES[0].key).vkey, WITNESSES[0].vkey]
    with pytest.raises(KeyFileError, match="one key"):
        load(tmp_path, document)


def test_a_file_that_is_too_large_or_nested_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trust.json"
    for text in ("[" * 100_000, '{"x":"' + "x" * (5 << 20) + '"}', "7"):
        path.write_text(text)
        with pytest.raises(KeyFileError, match="not a usable"):
            load_trust(path)
