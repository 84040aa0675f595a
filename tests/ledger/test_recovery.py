"""The statement by which one deployment goes on for another: signed by both keys, and nothing else is one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from auditspan.canonical import canonical_json
from auditspan.errors import AuditSpanError
from auditspan.ledger.recovery import (
    LONGEST_TEXT,
    RecoveredLog,
    Recovery,
    RecoveryInvalid,
    described,
    open_recovery,
    read_recovery,
    sign_recovery,
)
from auditspan.ledger.signing_key import key_id

OLD, NEW, OTHER = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2, 3))

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
trees = st.tuples(st.integers(0, 2**53 - 1), st.binary(min_size=32, max_size=32))
logs = st.builds(
    RecoveredLog,
    log_id=st.binary(min_size=16, max_size=16).map(bytes.hex),
    partition=texts,
    stored=trees,
    signed=st.none() | trees,
    carried=st.integers(0, 2**53 - 1),
)


def a_recovery(**more: Any) -> Recovery:
    given = {
        "deployment": "second.example.com",
        "predecessor": "first.example.com",
        "at": 1_795_000_000_000_000_000,
        "by": "user:ops",
        "reason": "the disk was lost",
        "logs": [RecoveredLog("ab" * 16, "events-0", (5, bytes(32)), (9, b"\x01" * 32), 3)],
    }
    return Recovery(old=OLD.public_key(), new=NEW.public_key(), **given | more)


@given(st.lists(logs, max_size=5), texts, texts, st.integers(0, 2**63 - 1))
def test_what_is_signed_is_read_again(found: list[RecoveredLog], by: str, reason: str, at: int) -> None:
    recovery = a_recovery(logs=found, by=by, reason=reason, at=at)
    body = json.loads(canonical_json(sign_recovery(recovery, OLD, NEW)))
    assert open_recovery(body).statement() == recovery.statement()


@given(st.data())
def test_whatever_is_changed_it_is_none(data: st.DataObject) -> None:
    """A value is changed, or a member taken away or added, anywhere in it."""
    body = copy.deepcopy(sign_recovery(a_recovery(), OLD, NEW))
    place: Any = body
    while True:
        name = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        inner = place[name]
        if not isinstance(inner, dict | list) or not inner or data.draw(st.booleans()):
            break
        place = inner
    wanted = data.draw(st.sampled_from(["change", "remove", "add"]))
    if wanted == "change":
        others = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just([]), st.just({}))
        place[name] = data.draw(others.filter(lambda value: json.dumps(value) != json.dumps(inner)))
    elif wanted == "remove":
        del place[name]
    elif isinstance(place, dict):
        place["more"] = 1
    else:
        place.append(1)
    with pytest.raises(RecoveryInvalid):
        open_recovery(body)


@pytest.mark.parametrize(
    "more",
    [
        {"by": ""},
        {"reason": ""},
        {"reason": "x" * (LONGEST_TEXT + 1)},
        {"reason": "\u00e9" * LONGEST_TEXT},
        {"predecessor": "second.example.com"},
        {"at": -1},
        {"logs": [RecoveredLog("ab" * 15, "events-0", (5, bytes(32)), None)]},
        {"logs": [RecoveredLog("ab" * 16, "events-0", (5, bytes(31)), None)]},
        {"logs": [RecoveredLog("ab" * 16, "events-0", (-1, bytes(32)), None)]},
        {"logs": [RecoveredLog("ab" * 16, "events-0", (5, bytes(32)), None, -1)]},
        {"new": OLD.public_key()},
    ],
)
def test_what_cannot_be_stated(more: dict[str, Any]) -> None:
    recovery = a_recovery()
    changed = Recovery(
        **{name: getattr(recovery, name) for name in recovery.__dataclass_fields__} | more,
    )
    with pytest.raises(RecoveryInvalid):
        sign_recovery(changed, OLD, OLD if "new" in more else NEW)


def test_another_key_than_the_statement_names() -> None:
    for old, new in ((OTHER, NEW), (OLD, OTHER)):
        with pytest.raises(RecoveryInvalid, match="not signed by both"):
            sign_recovery(a_recovery(), old, new)


@pytest.mark.parametrize("value", [None, 7, "x", [], {}, {"statement": [], "signatures": {}}, {"statement": {}}])
def test_what_is_no_statement(value: Any) -> None:
    with pytest.raises(RecoveryInvalid):
        open_recovery(value)


def test_what_is_lost() -> None:
    def log(stored: tuple[int, bytes], signed: tuple[int, bytes] | None) -> RecoveredLog:
        return RecoveredLog("ab" * 16, "events-0", stored, signed)

    assert log((5, bytes(32)), (9, bytes(32))).lost == (5, 9)
    for signed in (None, (5, bytes(32)), (4, b"\x01" * 32)):
        assert log((5, bytes(32)), signed).lost is None
        assert not log((5, bytes(32)), signed).differs
    assert log((5, bytes(32)), (5, b"\x01" * 32)).differs


def test_a_report_names_keys_by_their_ids() -> None:
    said = described(a_recovery())
    assert said["from"] == key_id(OLD.public_key())
    assert said["to"] == key_id(NEW.public_key())
    assert said["logs"] == a_recovery().statement()["logs"]


def test_the_file_of_a_deployment(tmp_path: Path) -> None:
    path = tmp_path / "recovered.json"
    assert read_recovery(path, "second.example.com") is None
    body = sign_recovery(a_recovery(), OLD, NEW)
    path.write_text(json.dumps(body))
    assert read_recovery(path, "second.example.com") == body
    with pytest.raises(AuditSpanError, match="of the deployment 'second"):
        read_recovery(path, "third.example.com")
    for text in ("", "{}", "\xff", json.dumps({**body, "more": 1})):
        path.write_text(text)
        with pytest.raises(AuditSpanError, match="no statement of a recovery"):
            read_recovery(path, "second.example.com")
