"""A timestamp authority that others wrote: OpenSSL's ``ts``, alone or behind HTTP on loopback.

Its certificates are made here; every token is OpenSSL's.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

__all__ = ["OpensslAuthority", "Served", "missing", "served", "verified_by_openssl"]

_CONFIG = """
[tsa]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.3.6.1.4.1.13762.3
digests = sha256, sha384, sha512
accuracy = secs:1
ordering = no
tsa_name = no
ess_cert_id_chain = no
ess_cert_id_alg = sha256
"""
_STAMPS = [x509.ExtendedKeyUsageOID.TIME_STAMPING]


def missing() -> str | None:
    """Why OpenSSL cannot be used here; None when it can."""
    return None if shutil.which("openssl") else "OpenSSL is not installed"


@dataclass
class OpensslAuthority:
    """Root, an authority below it and a signer below that, in a folder of their own.

    Args:
        folder: where everything lies; made if it is not there.
        name: in the certificates.
        purposes: of the signer's key.
        days: how long the signer's certificate is valid; negative: it was.
        whole: whether tokens hold the authority between signer and root, and the root itself.
    """

    folder: Path
    name: str = "test"
    purposes: list[x509.ObjectIdentifier] = field(default_factory=lambda: list(_STAMPS))
    days: int = 30
    whole: bool = True

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
        self.root = self._certificate(f"{self.name} root", keys[0], f"{self.name} root", keys[0], authority=True)
        between = self._certificate(f"{self.name} between", keys[1], f"{self.name} root", keys[0], authority=True)
        signer = self._certificate(f"{self.name} signer", keys[2], f"{self.name} between", keys[1], authority=False)
        self.intermediate, self.signer = between, signer
        pem = {one: one.public_bytes(Encoding.PEM).decode() for one in (self.root, between, signer)}
        self.root_pem, self.intermediate_pem = pem[self.root], pem[between]
        self.signer_key = keys[2]
        (self.folder / "serial").write_text("01\n")
        (self.folder / "signer.pem").write_text(pem[signer])
        (self.folder / "root.pem").write_text(pem[self.root])
        (self.folder / "between.pem").write_text(pem[between])
        (self.folder / "chain.pem").write_text(pem[between] + pem[self.root])
        (self.folder / "signer.key").write_bytes(
            keys[2].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        chain = f"certs = {self.folder}/chain.pem\n" if self.whole else ""
        (self.folder / "openssl.cnf").write_text(_CONFIG.format(folder=self.folder) + chain)
        self._guard = threading.Lock()

    def _certificate(
        self,
        subject: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: str,
        by: ec.EllipticCurvePrivateKey,
        *,
        authority: bool,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        begin, end = now - timedelta(days=60), now + timedelta(days=60 if authority else self.days)

        def named(name: str) -> x509.Name:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])

        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
             "encipher_only", "decipher_only"), False)  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(subject))
            .issuer_name(named(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **usage), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
        )
        if not authority:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.purposes), critical=True)
        return builder.sign(by, SHA256())

    def reply(self, query: bytes) -> bytes:
        """OpenSSL's answer to a ``TimeStampReq``."""
        with self._guard:
            (self.folder / "query").write_bytes(query)
            _run(
                ["openssl", "ts", "-reply", "-config", str(self.folder / "openssl.cnf"), "-section", "tsa",
                 "-queryfile", str(self.folder / "query"), "-out", str(self.folder / "reply")])  # fmt: skip
            return (self.folder / "reply").read_bytes()

    def token(self, message: bytes, digest: str = "sha256") -> bytes:
        """A token over a message, asked for by OpenSSL as well."""
        with self._guard:
            (self.folder / "message").write_bytes(message)
            _run(
                ["openssl", "ts", "-query", "-data", str(self.folder / "message"), f"-{digest}", "-cert",
                 "-out", str(self.folder / "asked")])  # fmt: skip
        self.reply((self.folder / "asked").read_bytes())
        with self._guard:
            _run(
                ["openssl", "ts", "-reply", "-in", str(self.folder / "reply"), "-token_out",
                 "-out", str(self.folder / "token")])  # fmt: skip
            return (self.folder / "token").read_bytes()


def verified_by_openssl(authority: OpensslAuthority, token: bytes, message: bytes) -> bool:
    """What ``openssl ts -verify`` says of a token over a message, under the authority's root."""
    folder = authority.folder
    (folder / "given").write_bytes(token)
    (folder / "data").write_bytes(message)
    done = subprocess.run(
        ["openssl", "ts", "-verify", "-token_in", "-in", str(folder / "given"), "-data", str(folder / "data"),
         "-CAfile", str(folder / "root.pem"), "-untrusted", str(folder / "between.pem")],
        capture_output=True, text=True, timeout=60)  # fmt: skip
    return done.returncode == 0 and "Verification: OK" in done.stdout


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise AssertionError(f"{' '.join(command[:3])}: {done.stderr}")


@dataclass
class Served:
    """An authority behind HTTP, and how it behaves: `status`, `answer` and `delay` may be set at any time."""

    url: str
    authority: OpensslAuthority
    status: int = 200
    answer: bytes | None = None
    trickle: float = 0.0
    """Seconds between two bytes of the answer."""
    asked: int = 0
    content_types: list[str] = field(default_factory=list)


@contextmanager
def served(authority: OpensslAuthority, port: int = 0) -> Iterator[Served]:
    """The authority on a free port of the loopback address, until the end of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked += 1
            state.content_types.append(self.headers["Content-Type"])
            body = state.answer if state.answer is not None else authority.reply(query)
            self.send_response(state.status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not state.trickle:
                self.wfile.write(body)
                return
            for byte in body:
                try:
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
                except OSError:
                    return
                time.sleep(state.trickle)  # a slow peer is what is tested

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    state = Served(f"http://127.0.0.1:{server.server_address[1]}/tsr", authority)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
