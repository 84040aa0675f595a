"""The files of a rotation: whenever it is interrupted, the key's file is a key, and the same rotation goes on."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from auditspan.ledger import rotating
from auditspan.ledger.keys import KeyFileError, init_keys, load_signing_key
from auditspan.ledger.rotating import KeyFiles, begin_rotation, finish_rotation, pending_rotation
from auditspan.ledger.rotation import open_rotation
from auditspan.ledger.signing_key import public_bytes
from auditspan.ledger.trust import load_trust

NOW = 1_795_500_000_500_000_000
SECOND = 1_000_000_000
DAY = 86_400


@pytest.fixture
def files(tmp_path: Path) -> KeyFiles:
    (tmp_path / "keys").mkdir()
    made = KeyFiles(tmp_path / "keys" / "signing.pem", tmp_path / "trust.json")
    init_keys(
        signing_key=made.signing_key,
        salt_key=tmp_path / "keys" / "salt.key",
        trust=made.trust,
        deployment="plant",
        added_at="2026-11-24T00:00:00Z",
    )
    return made


def public(path: Path) -> bytes:
    return public_bytes(load_signing_key(path).public_key())


def names(files: KeyFiles) -> set[str]:
    return {path.name for path in files.signing_key.parent.iterdir()}


def test_a_rotation_from_begin_to_end(files: KeyFiles) -> None:
    old = public(files.signing_key)
    body = begin_rotation(files, "plant", NOW, DAY)
    assert public(files.signing_key) == old, "nothing changes before it is journaled"
    rotation = finish_rotation(files, body)
    assert public_bytes(rotation.old) == old
    assert public_bytes(rotation.new) == public(files.signing_key) != old
    assert public(files.retired(rotation)) == old
    assert names(files) == {"signing.pem", "salt.key", files.retired(rotation).name}
    for path in files.signing_key.parent.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    trust = load_trust(files.trust)
    assert [public_bytes(key) for key in trust.keys] == [old, public(files.signing_key)]
    assert trust.retired_at == {old: rotation.retired_at}
    assert rotation.retired_at == (NOW + DAY * SECOND) // SECOND * SECOND
    assert stat.S_IMODE(files.trust.stat().st_mode) == 0o644
    entries = json.loads(files.trust.read_text())["keys"]
    assert entries[0]["added_at"] == "2026-11-24T00:00:00Z" and entries[0]["retired_at"] == "2026-11-25T06:00:00Z"
    assert pending_rotation(files) is None


def test_several_one_after_the_other(files: KeyFiles) -> None:
    seen = [public(files.signing_key)]
    for number in range(3):
        finish_rotation(files, begin_rotation(files, "plant", NOW + number * SECOND, DAY))
        seen.append(public(files.signing_key))
    trust = load_trust(files.trust)
    assert [public_bytes(key) for key in trust.keys] == seen and len(set(seen)) == 4
    assert set(trust.retired_at) == set(seen[:3])


def test_what_else_trust_json_says_stays(files: KeyFiles) -> None:
    document = json.loads(files.trust.read_text())
    more = {"witnesses": ["w+1+x"], "policy": {"witnesses": 1}}
    files.trust.write_text(json.dumps(document | more))
    finish_rotation(files, begin_rotation(files, "plant", NOW, DAY))
    after = json.loads(files.trust.read_text())
    assert {name: after[name] for name in ("witnesses", "policy")} == {
        "witnesses": ["w+1+x"],
        "policy": {"witnesses": 1},
    }


class Killed(BaseException):
    """The process is gone at this very place."""


STEPS = 14
"""More than there are calls that write."""


@pytest.mark.parametrize("survived", range(STEPS))
def test_killed_at_any_step_it_goes_on_to_the_same_end(
    files: KeyFiles, survived: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every durable step is counted, and the one after ``survived`` of them does not come."""
    left = survived
    real = {name: getattr(os, name) for name in ("fsync", "link")}

    def step(name: str):
        def counted(*arguments: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real[name](*arguments, **options)

        return counted

    old = public(files.signing_key)
    begun: list[object] = []
    with monkeypatch.context() as patched:
        for name in real:
            patched.setattr(os, name, step(name))
        try:
            body = begin_rotation(files, "plant", NOW, DAY)
            begun.append(body)
            finish_rotation(files, body)
        except Killed:
            pass
    assert len(public(files.signing_key)) == 32, "at every moment it is a key"
    load_trust(files.trust)
    body = begin_rotation(files, "plant", NOW + SECOND, DAY)
    if begun and public(files.signing_key) == old:
        assert body == begun[0], "what was journaled is what is finished"
    rotation = finish_rotation(files, body)
    if begun:
        assert public_bytes(rotation.old) in (old, public_bytes(open_rotation(begun[0]).new))
    assert public(files.signing_key) == public_bytes(rotation.new)
    assert public_bytes(load_trust(files.trust).keys[-1]) == public_bytes(rotation.new)
    assert not files.next_key.exists() and not files.statement.exists()
    assert finish_rotation(files, body) == rotation, "once more does no harm"


def test_an_old_statement_is_made_anew_with_the_same_key(files: KeyFiles) -> None:
    first = open_rotation(begin_rotation(files, "plant", NOW, DAY))
    again = open_rotation(begin_rotation(files, "plant", NOW + DAY * SECOND // 2 - SECOND, DAY))
    assert again == first
    later = open_rotation(begin_rotation(files, "plant", NOW + DAY * SECOND, DAY))
    assert public_bytes(later.new) == public_bytes(first.new)
    assert later.at > first.at and later.retired_at > first.retired_at


def test_too_short_an_overlap_is_refused_before_anything_is_made(files: KeyFiles) -> None:
    with pytest.raises(KeyFileError, match="too short"):
        begin_rotation(files, "plant", NOW, rotating.SHORTEST_OVERLAP - 1)
    assert names(files) == {"signing.pem", "salt.key"}


def test_keys_that_do_not_belong_together_are_refused(files: KeyFiles, tmp_path: Path) -> None:
    body = begin_rotation(files, "plant", NOW, DAY)
    before = files.signing_key.read_bytes()
    kept = files.next_key.read_bytes()
    files.next_key.write_bytes(before)
    with pytest.raises(KeyFileError, match="is not the key to which"):
        finish_rotation(files, body)
    files.next_key.write_bytes(kept)
    files.statement.write_text("{}")
    with pytest.raises(KeyFileError, match="no statement of a rotation"):
        begin_rotation(files, "plant", NOW, DAY)
    document = json.loads(files.trust.read_text())
    document["keys"][0]["public_key"] = "A" * 43 + "="
    files.trust.write_text(json.dumps(document))
    with pytest.raises(KeyFileError, match="does not name the key"):
        finish_rotation(files, body)
    assert files.signing_key.read_bytes() == before
