"""Tokens of OpenSSL's authority, ours over HTTP, and everything that is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from timestamp_authority import OpensslAuthority, Served, served, verified_by_openssl

from auditspan.ledger.bounded_post import BoundedPost, Unanswered
from auditspan.ledger.timestamps import (
    AuthorityRefused,
    CertificatesInvalid,
    TimestampAuthority,
    TimestampInvalid,
    request_timestamp,
    verify_timestamp,
)

MESSAGE = b"auditspan/plant/0123\n7\nAAAA\n"
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def openssl(openssl_here: None, tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    return OpensslAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def service(openssl: OpensslAuthority) -> Iterator[Served]:
    with served(openssl) as state:
        yield state


def trusted(authority: OpensslAuthority, *more: x509.Certificate) -> TimestampAuthority:
    return TimestampAuthority.of(authority.name, [authority.root, *more])


def post(seconds: float = 10.0) -> BoundedPost:
    return BoundedPost(seconds, 64 << 10, threading.Event())


def test_a_token_over_http_verifies_here_and_by_openssl(service: Served) -> None:
    before = time.time_ns()
    token = request_timestamp(post(), service.url, MESSAGE)
    stamp = verify_timestamp(token, MESSAGE, [trusted(service.authority)])
    assert stamp.authority == "test"
    assert before - 2 * SECOND <= stamp.time <= time.time_ns() + SECOND
    assert service.content_types == ["application/timestamp-query"]
    assert verified_by_openssl(service.authority, token, MESSAGE)
    assert not verified_by_openssl(service.authority, token, MESSAGE + b"x"), "openssl looks at the message"


def test_the_token_holds_its_chain(openssl: OpensslAuthority) -> None:
    assert verify_timestamp(openssl.token(MESSAGE), MESSAGE, [trusted(openssl)]).authority == "test"


def test_certificates_that_tokens_lack_may_stand_in_the_trust_file(openssl_here: None, tmp_path: Path) -> None:
    bare = OpensslAuthority(tmp_path / "bare", "bare", whole=False)
    token = bare.token(MESSAGE)
    assert verify_timestamp(token, MESSAGE, [trusted(bare)]).authority is None
    assert verify_timestamp(token, MESSAGE, [trusted(bare, bare.intermediate)]).authority == "bare"


def test_a_forger_who_brings_his_own_root_is_a_stranger(openssl: OpensslAuthority, tmp_path: Path) -> None:
    """The root in a token is no root that is trusted, whatever names it bears."""
    forger = OpensslAuthority(tmp_path / "forger", openssl.name)
    token = forger.token(MESSAGE)
    assert verify_timestamp(token, MESSAGE, [trusted(forger)]).authority == "test"
    assert verify_timestamp(token, MESSAGE, [trusted(openssl)]).authority is None
    assert verify_timestamp(token, MESSAGE, []).authority is None


def test_the_authority_whose_root_it_is_is_named(openssl: OpensslAuthority, tmp_path: Path) -> None:
    other = OpensslAuthority(tmp_path / "other", "other")
    both = [trusted(openssl), trusted(other)]
    assert verify_timestamp(other.token(MESSAGE), MESSAGE, both).authority == "other"
    assert verify_timestamp(openssl.token(MESSAGE), MESSAGE, both).authority == "test"


def test_a_signer_must_be_there_to_stamp_and_valid_then(openssl_here: None, tmp_path: Path) -> None:
    signing = [x509.ExtendedKeyUsageOID.TIME_STAMPING, x509.ExtendedKeyUsageOID.CODE_SIGNING]
    for name, options in {"expired": {"days": -1}, "purposes": {"purposes": signing}}.items():
        authority = OpensslAuthority(tmp_path / name, name, **options)  # type: ignore[arg-type]
        try:
            token = authority.token(MESSAGE)
        except AssertionError:  # OpenSSL itself refuses to stamp with it
            continue
        assert verify_timestamp(token, MESSAGE, [trusted(authority)]).authority is None


def test_another_message_or_hash_is_refused(openssl: OpensslAuthority) -> None:
    token = openssl.token(MESSAGE)
    with pytest.raises(TimestampInvalid, match="the token is over"):
        verify_timestamp(token, MESSAGE + b"x", [trusted(openssl)])
    with pytest.raises(TimestampInvalid, match="not SHA-256"):
        verify_timestamp(openssl.token(MESSAGE, "sha512"), MESSAGE, [trusted(openssl)])


def test_every_flipped_bit_of_what_is_signed_is_noticed(openssl_here: None, tmp_path: Path) -> None:
    """No changed token says anything else. A few bytes of CMS are bound by nothing, and change nothing."""
    openssl = OpensslAuthority(tmp_path / "bare", whole=False)
    by = [trusted(openssl, openssl.intermediate)]
    token = openssl.token(MESSAGE)
    honest = verify_timestamp(token, MESSAGE, by)
    assert honest.authority == "test"
    accepted = []
    for place in range(0, len(token), 2):
        changed = token[:place] + bytes([token[place] ^ 1]) + token[place + 1 :]
        try:
            stamp = verify_timestamp(changed, MESSAGE, by)
        except TimestampInvalid:
            continue
        if stamp.authority is not None:
            assert stamp == honest
            accepted.append(place)
    assert len(accepted) < len(token) // 2 * 0.05, accepted


@given(st.binary(max_size=300))
def test_rubbish_is_no_token(content: bytes) -> None:
    with pytest.raises(TimestampInvalid):
        verify_timestamp(content, MESSAGE, [])


@given(data=st.data())
def test_a_token_that_is_cut_or_mixed_never_raises_anything_else(
    openssl: OpensslAuthority, data: st.DataObject
) -> None:
    token = _kept(openssl)
    cut = data.draw(st.integers(0, len(token)))
    changed = token[:cut] + data.draw(st.binary(max_size=40)) + token[data.draw(st.integers(cut, len(token))) :]
    try:
        stamp = verify_timestamp(changed, MESSAGE, [trusted(openssl)])
    except TimestampInvalid:
        return
    assert stamp.authority is None or stamp == verify_timestamp(token, MESSAGE, [trusted(openssl)])


_TOKENS: dict[str, bytes] = {}


def _kept(authority: OpensslAuthority) -> bytes:
    return _TOKENS.setdefault(authority.name, authority.token(MESSAGE))


def test_an_answer_that_is_no_token_is_refused(service: Served) -> None:
    service.answer = b"<html>"
    with pytest.raises(AuthorityRefused, match="no timestamp response"):
        request_timestamp(post(), service.url, MESSAGE)
    # A rejection: status 2 and no token (RFC 3161 section 2.4.2).
    service.answer = b"\x30\x05\x30\x03\x02\x01\x02"
    with pytest.raises(AuthorityRefused, match="status 2"):
        request_timestamp(post(), service.url, MESSAGE)
    service.answer, service.status = None, 503
    with pytest.raises(AuthorityRefused, match="503"):
        request_timestamp(post(), service.url, MESSAGE)


def test_an_answer_to_another_question_is_refused(service: Served) -> None:
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder

    def answer(message: bytes) -> bytes:
        query = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
        return service.authority.reply(query.as_bytes())

    service.answer = answer(MESSAGE)  # replayed: it was given to somebody before
    with pytest.raises(AuthorityRefused, match="nonce"):
        request_timestamp(post(), service.url, MESSAGE)


def test_time_and_size_are_bounded(service: Served) -> None:
    service.answer = b"x" * 200_000
    with pytest.raises(Unanswered, match="more than 65536 bytes"):
        request_timestamp(post(), service.url, MESSAGE)
    service.answer, service.trickle = b"x" * 1000, 0.2
    asking = post(0.5)
    began = time.monotonic()
    with pytest.raises(Unanswered, match=r"within 0\.5 s"):
        request_timestamp(asking, service.url, MESSAGE)
    assert time.monotonic() - began < 5
    with pytest.raises(Unanswered, match="still under way"):
        request_timestamp(asking, service.url, MESSAGE)


def test_nobody_there_is_said_and_giving_up_is_at_once(service: Served) -> None:
    with pytest.raises(Unanswered, match="refused"):
        request_timestamp(post(), "http://127.0.0.1:1/tsr", MESSAGE)
    service.answer, service.trickle = b"x" * 1000, 0.2
    give_up = threading.Event()
    give_up.set()
    began = time.monotonic()
    with pytest.raises(Unanswered, match="ends"):
        request_timestamp(BoundedPost(60, 1 << 16, give_up), service.url, MESSAGE)
    assert time.monotonic() - began < 5


def test_only_http_is_spoken(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    with pytest.raises(Unanswered):
        post()(f"file://{secret}", b"", "text/plain")


def test_an_authority_needs_a_root(openssl: OpensslAuthority) -> None:
    with pytest.raises(CertificatesInvalid, match="None of the 1"):
        TimestampAuthority.of("x", [openssl.intermediate])
