"""The outer layers of a token: put in order, nothing is lost, and nothing hostile does more than be refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import pkcs7
from hypothesis import given
from hypothesis import strategies as st
from timestamp_authority import OpensslAuthority

from auditspan.ledger.token_der import granting, in_order, token_in


def test_order_changes_no_certificate(openssl_here: None, tmp_path: Path) -> None:
    orders = set()
    for number in range(4):
        token = OpensslAuthority(tmp_path / str(number)).token(b"x")
        ordered = in_order(token)
        orders.add(token == ordered)
        assert sorted(token) == sorted(ordered), "the same bytes"
        assert in_order(ordered) == ordered
        given, found = (pkcs7.load_der_pkcs7_certificates(one) for one in (token, ordered))
        assert len(found) == 3 and set(found) == set(given)
        assert token_in(granting(token)) == token
    assert False in orders, "OpenSSL writes them as they come"


@given(st.binary(max_size=200))
def test_what_is_no_token_is_refused(content: bytes) -> None:
    for read in (in_order, token_in):
        with contextlib.suppress(ValueError):
            read(content)


@given(st.binary(max_size=300))
def test_what_is_granted_is_found_again(content: bytes) -> None:
    element = b"\x04" + (bytes([len(content)]) if len(content) < 128 else b"\x82" + len(content).to_bytes(2, "big"))
    assert token_in(granting(element + content)) == element + content


def test_a_response_without_a_token() -> None:
    assert token_in(b"\x30\x05\x30\x03\x02\x01\x02") is None
    for wrong in (
        b"",
        b"\x30",
        b"\x30\x00",
        b"\x30\x80\x00\x00",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x31\x00",
        b"\x30\x01",
    ):
        with pytest.raises(ValueError):
            token_in(wrong)
