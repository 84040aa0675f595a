"""How the brokers are reached: settings to options of the client library, its errors to ours."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Final

from kafka import errors as kafka_errors
from kafka.net.compat import KafkaNetClient
from kafka.net.sasl.oauth import AbstractTokenProvider

from auditspan.config import KafkaSettings
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import JournalUnavailable

__all__ = ["KafkaRefused", "bootstrap_of", "client_options", "explained", "unreachable"]

_SCHEME: Final = "kafka://"
_RECONNECT_MS: Final = 50
_RECONNECT_MAX_MS: Final = 500
"""A broker that is back must be found at once: senders wait for it with their spans in memory."""
_METADATA_MAX_AGE_MS: Final = 60_000


class KafkaRefused(AuditSpanError):
    """The brokers are there, and do not let us do what we need. No retry helps."""


def bootstrap_of(url: str) -> list[str]:
    """The servers in ``kafka://HOST:PORT,HOST:PORT``."""
    return url.removeprefix(_SCHEME).split(",")


def client_options(url: str, settings: KafkaSettings) -> dict[str, Any]:
    """Options that producer, consumer, administrator and plain client of kafka-python have in common.

    Raises:
        KafkaRefused: a file that the settings name cannot be used, or a setting is missing.
    """
    options: dict[str, Any] = {
        "bootstrap_servers": bootstrap_of(url),
        "client_id": "auditspan",
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": int(settings.request_timeout_seconds * 1000),
        "reconnect_backoff_ms": _RECONNECT_MS,
        "reconnect_backoff_max_ms": _RECONNECT_MAX_MS,
        "metadata_max_age_ms": _METADATA_MAX_AGE_MS,
    }
    if settings.security_protocol in ("SSL", "SASL_SSL"):
        options["ssl_context"] = _ssl_context(settings)
        options["ssl_check_hostname"] = settings.ssl_check_hostname
    if settings.security_protocol.startswith("SASL_"):
        options["sasl_mechanism"] = settings.sasl_mechanism
        if settings.sasl_mechanism == "OAUTHBEARER":
            options["sasl_oauth_token_provider"] = _TokenFile(
                _needed(settings.sasl_token_file, "kafka.sasl_token_file", "OAUTHBEARER")
            )
        else:
            options["sasl_plain_username"] = _needed(
                settings.sasl_username, "kafka.sasl_username", settings.sasl_mechanism
            )
            options["sasl_plain_password"] = _password(settings)
    return options


def unreachable(url: str, settings: KafkaSettings, error: BaseException) -> AuditSpanError:
    """Why the cluster could not be reached at start, as exactly as can be found out, with the setting to look at."""
    if isinstance(error, AuditSpanError):
        return error
    if settings.security_protocol.startswith("SASL_"):
        error = _authentication_error(url, settings) or error
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError | kafka_errors.UnsupportedSaslMechanismError):
        return explained(error, "The connection")
    found = [_reason(server, settings) for server in bootstrap_of(url)]
    return JournalUnavailable(
        f"No Kafka broker of journal.url {url} can be used: {'; '.join(found)}.",
        remedy="Start the brokers, or correct journal.url and kafka.security_protocol.",
    )


def explained(error: BaseException, what: str) -> AuditSpanError:
    """``error`` of the client library in the words of the journal's contract; ``what`` begins the sentence."""
    if isinstance(error, AuditSpanError):
        return error
    if isinstance(error, kafka_errors.SaslAuthenticationFailedError):
        return KafkaRefused(
            f"{what} was refused: the Kafka brokers do not accept the credentials.",
            remedy="Correct kafka.sasl_username, kafka.sasl_password_file and kafka.sasl_mechanism.",
        )
    if isinstance(error, kafka_errors.UnsupportedSaslMechanismError):
        return KafkaRefused(
            f"{what} was refused: the Kafka brokers do not offer this SASL mechanism.",
            remedy="Set kafka.sasl_mechanism to one that their listener has.",
        )
    if isinstance(error, kafka_errors.AuthorizationError):
        return KafkaRefused(
            f"{what} was denied by an ACL of the Kafka cluster ({type(error).__name__}).",
            remedy="Grant the principal of kafka.sasl_username what docs/operating.md lists for its role.",
        )
    if isinstance(error, kafka_errors.UnknownTopicOrPartitionError):
        return JournalUnavailable(
            f"{what} failed: the topic is not there.",
            remedy="Make it with: auditspan kafka init, or correct kafka.topic.",
        )
    return JournalUnavailable(
        f"{what} failed: {_short(error)}.",
        remedy="See that the Kafka brokers of journal.url run; senders keep retrying.",
    )


def _short(error: BaseException) -> str:
    if isinstance(error, kafka_errors.KafkaTimeoutError | kafka_errors.RequestTimedOutError):
        return "the Kafka brokers did not answer in time"
    return str(error).splitlines()[0][:200].rstrip(".") if str(error) else "no reason given"


def _authentication_error(url: str, settings: KafkaSettings) -> BaseException | None:
    """What the first server says to the credentials: the library tries on until its time is up, and forgets why."""
    client = KafkaNetClient(**client_options(url, settings))
    manager = client._manager
    timeout_ms = settings.connect_timeout_seconds * 1000
    connections: list[Any] = []

    async def connect() -> None:
        server = manager.cluster.bootstrap_brokers()[0]
        connections.append(manager.get_connection(server.node_id, timeout_ms=timeout_ms, refresh_metadata_on_err=False))
        await connections[0]

    client._net.start()
    try:
        client._net.run(manager.wait_for, manager.call_soon(connect), timeout_ms)
    except kafka_errors.KafkaConnectionError as error:
        # A broker that told its version and then hung up has refused the credentials: the library drops its last words.
        told = bool(connections) and connections[0].broker_version_data is not None
        refused: BaseException = kafka_errors.SaslAuthenticationFailedError() if told else error
        return refused
    except (kafka_errors.KafkaError, OSError) as error:
        return error
    finally:
        client._net.stop(1000)
        client.close()
    return None


def _reason(server: str, settings: KafkaSettings) -> str:
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), settings.connect_timeout_seconds) as plain:
            if settings.security_protocol not in ("SSL", "SASL_SSL"):
                return f"{server} takes connections, but does not speak {settings.security_protocol}"
            context = _ssl_context(settings)
            with context.wrap_socket(plain, server_hostname=host.strip("[]")):
                return f"{server} takes TLS connections, but gave no metadata"
    except ssl.SSLCertVerificationError as error:
        return f"the certificate of {server} is not trusted ({error.verify_message}; kafka.ssl_ca_file)"
    except ssl.SSLError as error:
        return f"{server} does not speak TLS with us ({error.reason}; kafka.security_protocol)"
    except OSError as error:
        return f"{server}: {error.strerror or error}"


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ssl_ca_file)
    except OSError as error:
        raise _unusable("kafka.ssl_ca_file", settings.ssl_ca_file, error) from error
    context.check_hostname = settings.ssl_check_hostname
    if settings.ssl_certificate_file is not None:
        password = settings.ssl_key_password_file
        try:
            context.load_cert_chain(
                settings.ssl_certificate_file,
                settings.ssl_key_file,
                password=(lambda: _read(password, "kafka.ssl_key_password_file")) if password else "",
            )
        except OSError as error:
            raise _unusable("kafka.ssl_certificate_file", settings.ssl_certificate_file, error) from error
    return context


def _password(settings: KafkaSettings) -> str:
    if settings.sasl_password_file is not None:
        return _read(settings.sasl_password_file, "kafka.sasl_password_file")
    password = _needed(settings.sasl_password, "kafka.sasl_password_file", settings.sasl_mechanism)
    return str(password.get_secret_value())


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise _unusable(setting, path, error) from error


def _needed(value: Any, setting: str, mechanism: str) -> Any:
    if value is None:
        raise KafkaRefused(f"SASL {mechanism} needs the setting {setting}.", remedy=f"Set {setting}.")
    return value


def _unusable(setting: str, path: Path | None, error: Exception) -> KafkaRefused:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return KafkaRefused(f"The file {path} cannot be used: {reason}.", remedy=f"Correct the setting {setting}.")


class _TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """The bearer token in a file that something else keeps fresh, such as a projected service account token."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def token(self) -> str:
        return _read(self._path, "kafka.sasl_token_file")
