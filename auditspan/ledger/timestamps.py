"""RFC 3161 timestamps over checkpoints: who does not know the deployment says when a tree existed.

What is stamped, and what of the answer is kept, is in ``docs/evidence-format.md`` section 16. A token is checked in two
steps that do not rest on each other: whether its signer's certificate leads to a root that is trusted, and whether the
signer signed it. The library for the second puts every certificate of a token among those that it trusts, a root of a
forger's own included, so it must never be asked for the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from auditspan.errors import AuditSpanError
from auditspan.ledger.bounded_post import Post
from auditspan.ledger.token_der import granting, in_order, token_in

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

__all__ = [
    "LARGEST_TOKEN",
    "AuthorityRefused",
    "CertificatesInvalid",
    "Timestamp",
    "TimestampAuthority",
    "TimestampInvalid",
    "request_timestamp",
    "verify_timestamp",
]

LARGEST_TOKEN: Final = 64 << 10
"""Bytes of a token. Those of public authorities, with their chains, have 3 to 8 thousand."""

_SHA256: Final = x509.ObjectIdentifier("2.16.840.1.101.3.4.2.1")
_DEEPEST_CHAIN: Final = 8
_MOST_CERTIFICATES: Final = 32


class CertificatesInvalid(AuditSpanError):
    """None of the certificates of an authority is a root."""


class AuthorityRefused(AuditSpanError):
    """An authority answered, and gave no token over what it was asked for."""


class TimestampInvalid(Exception):
    """The bytes are no timestamp token over this message, whoever is trusted."""


@dataclass(frozen=True, slots=True)
class TimestampAuthority:
    """An authority that is trusted: its roots, and certificates between them and its signers that tokens may lack."""

    name: str
    roots: tuple[x509.Certificate, ...] = field(repr=False)
    intermediates: tuple[x509.Certificate, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, name: str, certificates: Sequence[x509.Certificate]) -> TimestampAuthority:
        """From certificates in any order: those that signed themselves are the roots.

        Raises:
            CertificatesInvalid: none did.
        """
        roots = tuple(one for one in certificates if _signed_itself(one))
        if not roots:
            raise CertificatesInvalid(
                f"None of the {len(certificates)} certificates of {name} is a root: one that signed itself.",
                remedy="Take the root from where the authority publishes it, and compare fingerprints by another way.",
            )
        return cls(name, roots, tuple(one for one in certificates if one not in roots))


@dataclass(frozen=True, slots=True)
class Timestamp:
    """What a token says: the message existed at ``time``, nanoseconds since 1970.

    ``authority`` is the trusted one that says so; None when its signer leads to no root that is trusted, and then
    neither signature nor time was looked at.
    """

    time: int
    authority: str | None


def request_timestamp(post: Post, url: str, message: bytes) -> bytes:
    """A token over a message, as DER of the ``TimeStampToken`` (RFC 3161 section 2.4.2) with its certificates.

    The hash is SHA-256, with a nonce. Status, imprint and nonce of the answer are checked here; who signed it is the
    caller's question (`verify_timestamp`).

    Raises:
        AuthorityRefused: no token came, or one over something else.
        Unanswered: the authority cannot be reached, or does not answer in time.
    """
    from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response

    asked = TimestampRequestBuilder().data(message).hash_algorithm(HashAlgorithm.SHA256).build()
    answer = post(url, asked.as_bytes(), "application/timestamp-query")
    if answer.status != 200:
        raise _refused(f"it answered {answer.status}")
    try:
        with _contained("no timestamp response"):
            token = token_in(answer.body)
            if token is None:
                refusal = decode_timestamp_response(answer.body)
                raise TimestampInvalid(f"status {refusal.status} {' '.join(refusal.status_string)[:200]!r}")
        response = _parsed(token, message)
        with _contained("no nonce"):
            if response.tst_info.nonce != asked.nonce:
                raise TimestampInvalid("the nonce is another one")
    except TimestampInvalid as error:
        raise _refused(str(error)) from error
    return token


def verify_timestamp(token: bytes, message: bytes, authorities: Sequence[TimestampAuthority]) -> Timestamp:
    """Verify a token over a message, against the roots of these authorities.

    Certificates must be valid at the time that the token states (RFC 3161 section 4); whether they were revoked cannot
    be told offline.

    Raises:
        TimestampInvalid: it is no token over the message, or its signer leads to a root and did not sign it.
    """
    response = _parsed(token, message)
    with _contained("no time in the token"):
        at = response.tst_info.gen_time.replace(tzinfo=UTC)
    signer, others = _signer(response)
    time = (int(at.timestamp()) * 1_000_000 + at.microsecond) * 1_000
    for authority in authorities:
        if _leads_to(signer, (*others, *authority.intermediates), authority.roots, at):
            _check_signature(response, message, signer, authority)
            return Timestamp(time, authority.name)
    return Timestamp(time, None)


def _parsed(token: bytes, message: bytes) -> TimeStampResponse:
    """A token read, its imprint compared."""
    from rfc3161_client import decode_timestamp_response

    if len(token) > LARGEST_TOKEN:
        raise TimestampInvalid(f"a token of {len(token)} bytes")
    with _contained("no timestamp token"):
        response = decode_timestamp_response(granting(in_order(token)))
        imprint = response.tst_info.message_imprint
        algorithm, digest = imprint.hash_algorithm, bytes(imprint.message)
    if algorithm != _SHA256:
        raise TimestampInvalid(f"the imprint is by the algorithm {algorithm.dotted_string}, not SHA-256")
    if digest != hashlib.sha256(message).digest():
        raise TimestampInvalid(f"the token is over {digest.hex()}")
    return response


def _signer(response: TimeStampResponse) -> tuple[x509.Certificate, list[x509.Certificate]]:
    """The certificate of whoever signed, as the token names it, and the other certificates in it."""
    with _contained("no certificates in the token"):
        encoded = sorted(bytes(each) for each in response.signed_data.certificates)
        signers = list(response.signed_data.signer_infos)
        if not 0 < len(encoded) <= _MOST_CERTIFICATES or len(signers) != 1:
            raise TimestampInvalid(f"{len(signers)} signers and {len(encoded)} certificates")
        named = signers[0].issuer, signers[0].serial_number
        certificates = [x509.load_der_x509_certificate(each) for each in encoded]
        # Two under one name could be taken for each other by the two steps.
        if len({(one.issuer, one.serial_number) for one in certificates}) != len(certificates):
            raise TimestampInvalid("two certificates with one issuer and serial number")
        found = [one for one in certificates if (one.issuer, one.serial_number) == named]
    if not found:
        raise TimestampInvalid("the signer's certificate is not in the token")
    return found[0], [one for one in certificates if one is not found[0]]


def _leads_to(
    signer: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    at: datetime,
) -> bool:
    """Whether there is a chain of certificates, all valid then, from a signer of timestamps to one of the roots."""
    try:
        verifier = (
            PolicyBuilder()
            .store(Store(list(roots)))
            .time(at)
            .max_chain_depth(_DEEPEST_CHAIN)
            .extension_policies(
                ca_policy=ExtensionPolicy.permit_all()
                .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _is_authority)
                .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _signs_certificates),
                ee_policy=ExtensionPolicy.permit_all().require_present(
                    x509.ExtendedKeyUsage, Criticality.CRITICAL, _stamps_alone
                ),
            )
            .build_client_verifier()
        )
        with _contained("no chain of certificates"):
            verifier.verify(signer, list(intermediates))
    except (VerificationError, TimestampInvalid, ValueError):
        return False
    return True


def _is_authority(_policy: Policy, _certificate: x509.Certificate, extension: x509.BasicConstraints) -> None:
    if not extension.ca:
        raise ValueError("no authority")


def _signs_certificates(_policy: Policy, _certificate: x509.Certificate, extension: x509.KeyUsage | None) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("a key that signs no certificates")


def _stamps_alone(_policy: Policy, _certificate: x509.Certificate, extension: x509.ExtendedKeyUsage) -> None:
    """RFC 3161 section 2.3: the one purpose of the key is stamping."""
    if list(extension) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise ValueError("not for timestamps alone")


def _check_signature(
    response: TimeStampResponse, message: bytes, signer: x509.Certificate, authority: TimestampAuthority
) -> None:
    from rfc3161_client import VerifierBuilder

    with _contained("the signer did not sign the token"):
        # The signer's certificate is bound to what was found above; its chain was judged there.
        VerifierBuilder(
            tsa_certificate=signer, intermediates=list(authority.intermediates), roots=list(authority.roots)
        ).build().verify(response, hashlib.sha256(message).digest())


def _signed_itself(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


@contextmanager
def _contained(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is `TimestampInvalid`."""
    try:
        yield
    except (TimestampInvalid, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # the libraries are Rust: what they do not expect is a panic, which is no Exception
        raise TimestampInvalid(f"{what}: {_said(error)}") from error


def _said(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__


def _refused(why: str) -> AuthorityRefused:
    return AuthorityRefused(
        f"The timestamp authority gave no token: {why}.",
        remedy="It is asked again. If this goes on, look at its URL and at what it allows.",
    )
