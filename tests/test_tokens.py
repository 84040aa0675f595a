"""Tokens of emitters: hashes only, revocable while a service runs, bad files never let anybody in."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
import time

import pytest

from auditspan.errors import AuditSpanError
from auditspan.tokens import TokenRegistry, TokensUnavailable


@pytest.fixture
def path(tmp_path):
    return tmp_path / "tokens.json"


@pytest.fixture
def registry(path):
    return TokenRegistry(path)


def seen_within(seconds, check):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_a_token_names_its_emitter_and_no_other_text_does(registry):
    token = registry.create("inference/eu-1")
    assert token.startswith("ast_")
    assert len(token) == len("ast_") + 43
    assert registry.check(token) == "inference/eu-1"
    for other in ("", "ast_", token[:-1], token + "A", token.upper(), "x" * 100_000, "ast_\ud800", "é"):
        assert registry.check(other) is None
    assert registry.create("inference/eu-1") != token


def test_the_file_holds_hashes_for_the_owner_alone(registry, path):
    token = registry.create("emitter")
    assert token not in path.read_text()
    assert token.removeprefix("ast_") not in path.read_text()
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_tokens_survive_a_restart(registry, path):
    token = registry.create("emitter")
    assert TokenRegistry(path).check(token) == "emitter"


def test_a_revocation_in_another_process_acts_within_a_second(registry, path):
    token, other = registry.create("emitter"), registry.create("other")
    assert registry.check(token) == "emitter"
    code = "import sys; from auditspan.tokens import TokenRegistry; TokenRegistry(sys.argv[1]).revoke('emitter')"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=30)
    assert seen_within(1, lambda: registry.check(token) is None)
    assert registry.check(other) == "other"


def test_a_new_token_of_another_process_is_known_within_a_second(registry, path):
    assert registry.check("ast_x") is None
    token = TokenRegistry(path).create("emitter")
    assert seen_within(1, lambda: registry.check(token) == "emitter")


def test_the_first_request_with_a_new_token_is_not_refused(registry, path):
    assert registry.check("ast_unknown") is None
    token = TokenRegistry(path).create("newcomer")
    assert registry.check(token) == "newcomer"


def test_tokens_are_revoked_by_id_or_by_emitter_and_stay_listed(registry):
    first, second, third = registry.create("a"), registry.create("a"), registry.create("b")
    identifier = registry.list()[0].id
    assert [one.id for one in registry.revoke(identifier)] == [identifier]
    assert [registry.check(token) for token in (first, second, third)] == [None, "a", "b"]
    assert [one.emitter for one in registry.revoke("a")] == ["a"]
    assert [registry.check(token) for token in (first, second, third)] == [None, None, "b"]
    listed = registry.list()
    assert [(one.emitter, one.revoked is None) for one in listed] == [("a", False), ("a", False), ("b", True)]
    assert all(one.created <= (one.revoked or time.time_ns()) for one in listed)
    for name in ("a", "nobody"):
        with pytest.raises(AuditSpanError, match="no valid token"):
            registry.revoke(name)


@pytest.mark.parametrize("name", ["", "anonymous", "internal", "kafka:a/b", "-x", "a b", "a\n", "é", "x" * 129, "../x"])
def test_names_that_could_be_mistaken_are_refused(registry, path, name):
    with pytest.raises(AuditSpanError, match="cannot be the name"):
        registry.create(name)
    assert not path.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"format": 2, "tokens": []}', '{"format": 1, "tokens": [{"x": 1}]}']
)
def test_a_damaged_file_admits_nobody_and_says_so(registry, path, content):
    token = registry.create("emitter")
    path.write_text(content)
    fresh = TokenRegistry(path)
    with pytest.raises(TokensUnavailable):
        fresh.check(token)
    with pytest.raises(TokensUnavailable):
        fresh.create("other")
    assert path.read_text() == content


def test_a_file_that_others_can_write_admits_nobody(registry, path):
    token = registry.create("emitter")
    path.chmod(0o620)
    with pytest.raises(TokensUnavailable, match="chmod 600"):
        TokenRegistry(path).check(token)


def test_no_file_means_no_token(registry, path):
    token = registry.create("emitter")
    assert registry.check(token) == "emitter"
    path.unlink()
    assert seen_within(1, lambda: registry.check(token) is None)


def test_tokens_created_at_the_same_time_are_all_kept(path):
    made = []
    threads = [
        threading.Thread(target=lambda number=number: made.append(TokenRegistry(path).create(f"e{number}")))
        for number in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    registry = TokenRegistry(path)
    assert sorted(registry.check(token) for token in made) == sorted(f"e{number}" for number in range(12))
    assert json.loads(path.read_text())["format"] == 1


def test_a_token_is_good_for_its_roles_alone(registry, path):
    emitter, officer = registry.create("inference-1"), registry.create("m.berger", ["officer"])
    both = registry.create("k.both", ["officer", "emitter"])
    assert officer.startswith("aso_")
    again = TokenRegistry(path)
    assert [again.check(token) for token in (emitter, officer, both)] == ["inference-1", None, "k.both"]
    assert [again.check(token, "officer") for token in (emitter, officer, both)] == [None, "m.berger", "k.both"]
    registry.revoke("m.berger")
    assert TokenRegistry(path).check(officer, "officer") is None
    assert [token.roles for token in again.list()] == [("emitter",), ("officer",), ("emitter", "officer")]
    for wrong in ([], ["admin"], ["officer", "admin"]):
        with pytest.raises(AuditSpanError, match="cannot have the role"):
            registry.create("somebody", wrong)


def test_files_of_emitters_alone_are_as_they_were_before_there_were_roles(registry, path):
    registry.create("inference-1")
    document = json.loads(path.read_text())
    assert set(document["tokens"][0]) == {"id", "emitter", "sha256", "created", "revoked"}
    document["tokens"][0]["roles"] = ["king"]
    path.write_text(json.dumps(document))
    with pytest.raises(TokensUnavailable):
        TokenRegistry(path).check("x")
