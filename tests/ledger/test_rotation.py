"""A rotation holds only with the word of both keys, and leads only where trust began."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from auditspan.canonical import canonical_json
from auditspan.ledger.rotation import RotationInvalid, follow, open_rotation, sign_rotation
from auditspan.ledger.signing_key import public_bytes

KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 6)]
PUBLIC = [key.public_key() for key in KEYS]
TIMES = st.integers(min_value=0, max_value=2**63)


def body(old: int, new: int, at: int = 10, retired_at: int = 20, deployment: str = "plant") -> dict[str, Any]:
    return json.loads(json.dumps(sign_rotation(deployment, KEYS[old], KEYS[new], at, retired_at)))


@given(st.text(max_size=40).filter(lambda text: text.isprintable()), TIMES, TIMES)
def test_what_was_signed_is_read(deployment: str, at: int, overlap: int) -> None:
    rotation = open_rotation(body(0, 1, at, at + overlap, deployment))
    assert (rotation.deployment, rotation.at, rotation.retired_at) == (deployment, at, at + overlap)
    assert [public_bytes(key) for key in (rotation.old, rotation.new)] == [public_bytes(key) for key in PUBLIC[:2]]


def test_both_signatures_are_over_the_canonical_statement() -> None:
    said = body(0, 1)
    text = b'{"at":"10","deployment":"plant","from":"%s","retired_at":"20","to":"%s"}' % tuple(
        base64.b64encode(public_bytes(key)) for key in PUBLIC[:2]
    )
    assert canonical_json(said["statement"]) == text
    PUBLIC[0].verify(base64.b64decode(said["signatures"]["from"]), text)
    PUBLIC[1].verify(base64.b64decode(said["signatures"]["to"]), text)


@given(st.data())
def test_another_byte_anywhere_is_refused(data: st.DataObject) -> None:
    said = body(0, 1)
    part = data.draw(st.sampled_from(["statement", "signatures"]))
    name = data.draw(st.sampled_from(sorted(said[part])))
    text = said[part][name]
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("0123456789ABab+/=é\ud800").filter(lambda letter: letter != text[place]))
    said[part][name] = text[:place] + letter + text[place + 1 :]
    try:
        same = base64.b64decode(said[part][name], validate=True) == base64.b64decode(text)
    except ValueError:
        same = False
    if part == "signatures" and same:
        return  # base64 has spare bits at its end
    with pytest.raises(RotationInvalid):
        open_rotation(said)


@pytest.mark.parametrize(
    "change",
    [
        lambda said: said["signatures"].update(to=said["signatures"]["from"]),
        lambda said: said["signatures"].update({"from": said["signatures"]["to"]}),
        lambda said: said["signatures"].pop("to"),
        lambda said: said["signatures"].update(more="x"),
        lambda said: said["statement"].pop("at"),
        lambda said: said["statement"].update(more="x"),
        lambda said: said["statement"].update(at=10),
        lambda said: said["statement"].update(at="010"),
        lambda said: said["statement"].update(at="-1"),
        lambda said: said["statement"].update(at="9" * 21),
        lambda said: said["statement"].update(to="AA=="),
        lambda said: said["statement"].update(deployment=None),
        lambda said: said.update(more="x"),
        lambda said: said.pop("statement"),
    ],
)
def test_what_is_no_statement_is_refused(change: Any) -> None:
    said = body(0, 1)
    change(said)
    with pytest.raises(RotationInvalid):
        open_rotation(said)


@pytest.mark.parametrize("hostile", [None, [], 7, "x", {}, {"statement": [], "signatures": {}}, [[[]]]])
def test_nothing_hostile_raises_anything_else(hostile: Any) -> None:
    with pytest.raises(RotationInvalid):
        open_rotation(hostile)


def test_a_key_does_not_follow_itself_and_none_retires_before() -> None:
    for said in (body(0, 0), body(0, 1, 20, 10)):
        with pytest.raises(RotationInvalid):
            open_rotation(said)


def led(begin: list[int], *bodies: dict[str, Any]) -> list[tuple[int, int]]:
    raw = [public_bytes(key) for key in PUBLIC]
    found = follow("plant", [PUBLIC[number] for number in begin], bodies)
    return [(raw.index(public_bytes(one.old)), raw.index(public_bytes(one.new))) for one in found]


def test_rotations_are_followed_from_where_trust_begins() -> None:
    chain = [body(0, 1), body(1, 2), body(2, 3)]
    assert led([0], *chain) == [(0, 1), (1, 2), (2, 3)]
    assert led([1], *chain) == [(1, 2), (2, 3)]
    assert led([0, 1, 2, 3], *chain) == [(0, 1), (1, 2), (2, 3)]
    assert led([4], *chain) == []


def test_the_first_from_a_key_counts_and_none_leads_back() -> None:
    assert led([0], body(0, 1), body(0, 1), body(0, 2), body(1, 0), body(1, 3)) == [(0, 1), (1, 3)]


def test_strangers_and_other_deployments_lead_nowhere() -> None:
    forged = copy.deepcopy(body(0, 4))
    forged["signatures"]["from"] = forged["signatures"]["to"]
    assert led([0], forged, body(4, 2), body(0, 1, deployment="elsewhere"), {}, body(0, 3)) == [(0, 3)]
