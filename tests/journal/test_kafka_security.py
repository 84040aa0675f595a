"""TLS, SASL and ACLs against a real broker: who may, can; who may not, is told which setting to look at."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import time

import pytest
from broker import JOURNAL_KEY, running
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from kafka import KafkaAdminClient
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ACLResourcePatternType, ResourcePattern, ResourceType

from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError
from auditspan.journal import EntryKind, JournalUnavailable, NewEntry
from auditspan.journal.kafka import KafkaJournal
from auditspan.journal.kafka_connection import KafkaRefused
from auditspan.journal.kafka_topics import check_topics, make_topics

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

PASSWORD = "a secret with spaces"
SINGLE = {
    "replication_factor": 1,
    "min_insync_replicas": 1,
    "connect_timeout_seconds": 10.0,
    "delivery_timeout_seconds": 60.0,
}
_JAAS = "org.apache.kafka.common.security"


class Authority:
    """A certificate authority of the test's own, with certificates as PEM files."""

    def __init__(self, folder):
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._signed(self._name, self._key.public_key(), []).public_bytes(Encoding.PEM))

    def _signed(self, subject, public_key, addresses):
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=not addresses, path_length=None), critical=True)
        )
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def issue(self, name, address="127.0.0.1"):
        """(key, certificate) files."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        files = self.folder / f"{name}.key", self.folder / f"{name}.pem"
        files[0].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files[1].write_bytes(self._signed(subject, key.public_key(), [address]).public_bytes(Encoding.PEM))
        return files


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(tmp_path_factory, authority, kafka_here):
    """One broker with a listener for each way in, and ACLs that deny all that is not granted."""
    folder = tmp_path_factory.mktemp("secured")
    key, certificate = authority.issue("broker")
    store = folder / "broker.pem"
    store.write_bytes(key.read_bytes() + certificate.read_bytes())
    plain = f'{_JAAS}.plain.PlainLoginModule required user_alice="{PASSWORD}" user_nobody="{PASSWORD}";'
    properties = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": store,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authority.file,
        "listener.name.ssl.ssl.client.auth": "required",
        "listener.name.ssl.ssl.principal.mapping.rules": "RULE:^CN=(.*)$/$1/,DEFAULT",
    }
    for listener in ("sasl_plaintext", "sasl_ssl"):
        prefix = f"listener.name.{listener}"
        properties |= {
            f"{prefix}.plain.sasl.jaas.config": plain,
            f"{prefix}.scram-sha-256.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule required;",
            f"{prefix}.scram-sha-512.sasl.jaas.config": f"{_JAAS}.scram.ScramLoginModule required;",
            f"{prefix}.oauthbearer.sasl.jaas.config": f"{_JAAS}.oauthbearer.OAuthBearerLoginModule required;",
        }
    with running(
        folder / "kafka",
        secured=("SASL_PLAINTEXT", "SASL_SSL", "SSL"),
        properties=properties,
        scram=[("alice", PASSWORD)],
    ) as kafka:
        make_topics(kafka.url, KafkaSettings(topic="granted", **SINGLE), 1)
        make_topics(kafka.url, KafkaSettings(topic="denied", **SINGLE), 1)
        administrator = KafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        needed = (ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS, ACLOperation.READ, ACLOperation.WRITE)
        # Whatever begins so: also the topics of later generations, whether they exist or not.
        patterns = [ResourcePattern(ResourceType.TOPIC, "granted", ACLResourcePatternType.PREFIXED)]
        grants = [
            ACL("User:alice", "*", operation, ACLPermissionType.ALLOW, pattern)
            for pattern in patterns
            for operation in needed
        ]
        seen = ResourcePattern(ResourceType.TOPIC, "denied")
        grants.append(ACL("User:alice", "*", ACLOperation.DESCRIBE, ACLPermissionType.ALLOW, seen))
        assert len(administrator.create_acls(grants)["succeeded"]) == len(grants)
        administrator.close()
        yield kafka


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(PASSWORD + "\n")
    return path


def token(tmp_path, subject, seconds=600):
    """An unsecured JWT, which a broker without further configuration takes (and nobody should use)."""

    def part(document):
        return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")

    now = int(time.time())
    path = tmp_path / "token"
    path.write_text(f"{part({'alg': 'none'})}.{part({'sub': subject, 'iat': now, 'exp': now + seconds})}.\n")
    return path


def goes_through(kafka, protocol, **settings) -> None:
    """An entry is written and read, with the group joined nowhere: that needs grants of its own."""
    url = f"kafka://{kafka.secured[protocol]}"
    chosen = KafkaSettings(topic="granted", security_protocol=protocol, **SINGLE, **settings)
    journal = KafkaJournal(url, chosen, 1, JOURNAL_KEY)
    try:
        body = f"{protocol} {settings}".encode()
        (offset,) = journal.append(
            [("events-0", NewEntry(EntryKind.OTLP, "serving", "bearer", 1, "otlp_proto", body))]
        ).result(60)
        assert journal.read("events-0", offset, max_entries=1, max_bytes=99)[0].body == body
        assert journal.probe().result(10) is None
    finally:
        journal.close()


def refused(kafka, protocol, **settings) -> AuditSpanError:
    chosen = KafkaSettings(topic="granted", security_protocol=protocol, **SINGLE, **settings)
    began = time.monotonic()
    with pytest.raises(AuditSpanError) as error:
        check_topics(f"kafka://{kafka.secured[protocol]}", chosen, 1)
    assert time.monotonic() - began < 15, "within a bounded time"
    assert PASSWORD not in str(error.value)
    return error.value


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_a_user_with_the_password_writes_and_reads(secured, authority, password_file, protocol, mechanism):
    tls = {"ssl_ca_file": authority.file} if protocol == "SASL_SSL" else {}
    goes_through(
        secured, protocol, sasl_mechanism=mechanism, sasl_username="alice", sasl_password_file=password_file, **tls
    )


def test_a_token_in_a_file_is_taken(secured, tmp_path):
    goes_through(secured, "SASL_PLAINTEXT", sasl_mechanism="OAUTHBEARER", sasl_token_file=token(tmp_path, "alice"))


def test_a_client_certificate_is_taken(secured, authority):
    key, certificate = authority.issue("alice")
    goes_through(secured, "SSL", ssl_ca_file=authority.file, ssl_key_file=key, ssl_certificate_file=certificate)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_is_refused_by_name(secured, mechanism):
    error = refused(secured, "SASL_PLAINTEXT", sasl_mechanism=mechanism, sasl_username="alice", sasl_password="wrong")
    assert isinstance(error, KafkaRefused)
    assert "credentials" in error.message
    assert "kafka.sasl_password_file" in error.remedy


def test_an_expired_token_is_refused(secured, tmp_path):
    error = refused(
        secured,
        "SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        sasl_token_file=token(tmp_path, "alice", seconds=-600),
    )
    assert isinstance(error, KafkaRefused)


def test_a_stranger_s_certificate_is_refused(secured, authority, tmp_path, password_file):
    other = Authority(tmp_path)
    who = {"sasl_username": "alice", "sasl_password_file": password_file}
    error = refused(secured, "SASL_SSL", ssl_ca_file=other.file, **who)
    assert "is not trusted" in error.message
    assert "kafka.ssl_ca_file" in error.message
    key, certificate = other.issue("alice")
    error = refused(secured, "SSL", ssl_ca_file=authority.file, ssl_key_file=key, ssl_certificate_file=certificate)
    assert secured.secured["SSL"] in error.message


def test_the_wrong_protocol_is_said(secured):
    chosen = KafkaSettings(topic="granted", security_protocol="SSL", **{**SINGLE, "connect_timeout_seconds": 5.0})
    with pytest.raises(JournalUnavailable, match="does not speak TLS with us") as error:
        check_topics(secured.url, chosen, 1)
    assert "kafka.security_protocol" in error.value.remedy
    chosen = KafkaSettings(topic="granted", **{**SINGLE, "connect_timeout_seconds": 5.0})
    with pytest.raises(JournalUnavailable, match="does not speak PLAINTEXT"):
        check_topics(f"kafka://{secured.secured['SASL_SSL']}", chosen, 1)


def test_what_an_acl_denies_is_said(secured, password_file):
    who = {"security_protocol": "SASL_PLAINTEXT", "sasl_password_file": password_file, "sasl_mechanism": "PLAIN"}
    url = f"kafka://{secured.secured['SASL_PLAINTEXT']}"
    with pytest.raises(AuditSpanError, match=r"denied by an ACL|is missing"):
        check_topics(url, KafkaSettings(topic="granted", sasl_username="nobody", **who, **SINGLE), 1)
    with pytest.raises(AuditSpanError, match=r"configuration is unreadable|denied by an ACL"):
        check_topics(url, KafkaSettings(topic="denied", sasl_username="alice", **who, **SINGLE), 1)
    with pytest.raises(KafkaRefused, match="denied by an ACL"):
        make_topics(url, KafkaSettings(topic="new", sasl_username="alice", **who, **SINGLE), 1)
    journal = KafkaJournal(url, KafkaSettings(topic="granted", sasl_username="alice", **who, **SINGLE), 1, JOURNAL_KEY)
    assignment = journal.assignment()
    with pytest.raises(KafkaRefused, match=r"consumer group was denied by an ACL"):
        for _ in range(100):
            assignment.poll(0.1)
    assignment.close()
    journal.close()


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"security_protocol": "SASL_SSL", "sasl_username": "alice"}, "kafka.sasl_password_file"),
        ({"security_protocol": "SASL_SSL"}, "kafka.sasl_username"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "kafka.sasl_token_file"),
        ({"security_protocol": "SSL", "ssl_ca_file": "/nowhere/ca.pem"}, "kafka.ssl_ca_file"),
        ({"security_protocol": "SSL", "ssl_certificate_file": "/nowhere/me.pem"}, "kafka.ssl_certificate_file"),
        (
            {"security_protocol": "SASL_SSL", "sasl_username": "alice", "sasl_password_file": "/nowhere/password"},
            "kafka.sasl_password_file",
        ),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named_before_anything_is_sent(settings, setting):
    with pytest.raises(KafkaRefused) as error:
        check_topics("kafka://127.0.0.1:1", KafkaSettings(**settings), 1)
    assert setting in str(error.value)
