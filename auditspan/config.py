"""Settings of the pipeline: one TOML file, ``AUDITSPAN_…`` environment over it, options of the command over both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from auditspan.errors import AuditSpanError
from auditspan.journal.contract import MOST_PARTITIONS

__all__ = ["EMBEDDED", "Address", "AnchorSettings", "KafkaSettings", "Settings", "SettingsInvalid", "load_settings"]


EMBEDDED: Final = "embedded"
"""As `store.url`: ClickHouse in this process."""

_LAST_PORT: Final = 65_535
_JOURNAL_URL: Final = re.compile(r"sqlite|kafka://[^/\s,]+:[0-9]{1,5}(,[^/\s,]+:[0-9]{1,5})*")
_REMEDY: Final = "`auditspan config show` lists what there is, and the variable that sets each."


class SettingsInvalid(AuditSpanError):
    """A setting is unknown, of the wrong type or out of range."""


class Address(BaseModel):
    """A TCP address to listen on. Port 0 takes a free one."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int = Field(ge=0, le=_LAST_PORT)

    @classmethod
    def parse(cls, text: str) -> Address:
        """``HOST:PORT``, with brackets around an IPv6 host.

        Raises:
            ValueError: it is something else.
        """
        host, separator, port = text.rpartition(":")
        if not (separator and host and port.isascii() and port.isdigit()):
            raise ValueError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:4318")
        if int(port) > _LAST_PORT:
            raise ValueError(f"{port} is no port: they end at {_LAST_PORT}")
        return cls(host=host.removeprefix("[").removesuffix("]"), port=int(port))

    def __str__(self) -> str:
        """``HOST:PORT``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Section):
    """Where the service listens. Loopback by default: anything else is a decision of the operator."""

    otlp_http: str = Field(default="127.0.0.1:4318", description="HOST:PORT of OTLP/HTTP, health and metrics")
    otlp_grpc: str = Field(default="127.0.0.1:4317", description="HOST:PORT of OTLP/gRPC")
    sql: str = Field(default="127.0.0.1:8123", description="HOST:PORT of the read-only ClickHouse HTTP endpoint")

    @field_validator("otlp_http", "otlp_grpc", "sql")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return str(Address.parse(value))


class Collector(_Section):
    """Limits of what is accepted."""

    max_request_bytes: int = Field(default=16 << 20, ge=1024, description="bytes of a request as sent")
    max_decompressed_bytes: int = Field(default=64 << 20, ge=1024, description="bytes of a request after decompression")
    max_concurrent_requests: int = Field(default=64, ge=1, description="more are answered 503 with Retry-After")
    min_free_disk_bytes: int = Field(
        default=512 << 20, ge=0, description="below it nothing is accepted, so that what is stays safe"
    )
    min_free_disk_fraction: float = Field(
        default=0.02, ge=0, lt=1, description="the same, as a share of the file system"
    )
    allow_anonymous: bool = Field(default=False, description="accept requests without a token as emitter 'anonymous'")


class JournalSettings(_Section):
    """The journal."""

    url: str = Field(
        default="sqlite",
        description="sqlite (DIR/journal), or kafka://HOST:PORT[,HOST:PORT...]: the bootstrap servers of a cluster",
    )
    partitions: int = Field(
        default=1,
        ge=1,
        le=MOST_PARTITIONS,
        description="data partitions, and so logs; fixed for the life of a log generation",
    )
    keep_days: float = Field(
        default=30.0, ge=0, description="entries older than this are forgotten once signed; 0 keeps them for ever"
    )

    @field_validator("url")
    @classmethod
    def _is_journal(cls, value: str) -> str:
        if not _JOURNAL_URL.fullmatch(value):
            # The value itself is not repeated: a password may stand in it.
            raise ValueError("it is neither `sqlite` nor kafka://HOST:PORT[,HOST:PORT...]")
        return value


class KafkaSettings(_Section):
    """How Apache Kafka is used as the journal, where ``journal.url`` names a cluster."""

    topic: str = Field(
        default="auditspan.events",
        pattern=r"^[a-zA-Z0-9._-]{1,240}$",
        description="topic of the events; the control topic is TOPIC.control",
    )
    foreign_topics: tuple[str, ...] = Field(
        default=(), description="topics that others write as otlp_proto, such as an OpenTelemetry Collector"
    )
    group: str = Field(default="auditspan", min_length=1, description="consumer group that assigns the partitions")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="how the brokers are spoken to"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="SCRAM-SHA-512", description="with a SASL_… security protocol"
    )
    sasl_username: str | None = Field(default=None, description="for PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(default=None, description="for PLAIN and SCRAM; better in a file")
    sasl_password_file: Path | None = Field(default=None, description="file with the password")
    sasl_token_file: Path | None = Field(
        default=None, description="file with the OAUTHBEARER token, read at every connection"
    )
    ssl_ca_file: Path | None = Field(default=None, description="PEM of who signed the brokers; default: the system's")
    ssl_certificate_file: Path | None = Field(default=None, description="PEM of the client's own certificate")
    ssl_key_file: Path | None = Field(default=None, description="PEM of its key")
    ssl_key_password_file: Path | None = Field(default=None, description="file with the password of the key")
    ssl_check_hostname: bool = Field(default=True, description="the certificate must name the broker")
    replication_factor: int = Field(
        default=3, ge=1, le=32, description="copies of every record, made by init and demanded by check"
    )
    min_insync_replicas: int = Field(
        default=2, ge=1, le=32, description="copies that an acknowledged record has at least"
    )
    retention_days: float = Field(default=30.0, ge=0, description="what init sets; 0 keeps events for ever")
    min_retention_days: float = Field(
        default=7.0, gt=0, description="a topic that forgets earlier is refused: the store must have confirmed by then"
    )
    max_message_bytes: int = Field(
        default=10 << 20, ge=256 << 10, le=256 << 20, description="largest record, set by init"
    )
    compression: Literal["none", "lz4", "zstd", "gzip"] = Field(default="lz4", description="of what is written")
    linger_ms: int = Field(default=5, ge=0, le=1000, description="time that requests wait for each other's company")
    batch_bytes: int = Field(default=900_000, ge=16 << 10, le=16 << 20, description="bytes sent to a partition at once")
    queue_bytes: int = Field(
        default=64 << 20, ge=1 << 20, description="bytes under way to the brokers; more is answered 503"
    )
    delivery_timeout_seconds: float = Field(
        default=6.0, ge=1, le=600, description="what is not acknowledged by then has failed"
    )
    request_timeout_seconds: float = Field(default=5.0, ge=0.5, le=600, description="for one answer of a broker")
    connect_timeout_seconds: float = Field(default=10.0, ge=0.5, le=600, description="to reach the cluster at start")
    fetch_bytes: int = Field(default=8 << 20, ge=64 << 10, le=256 << 20, description="read from a partition at once")
    session_timeout_seconds: float = Field(
        default=15.0, ge=6, le=1800, description="a processor that is silent this long loses its partitions"
    )

    def topic_of(self, generation: int) -> str:
        """Topic of a generation of the journal's own data partitions."""
        return self.topic if generation == 1 else f"{self.topic}.{generation}"

    def generation_of(self, topic: str) -> int | None:
        """The generation that ``topic`` is of; None for any other topic."""
        if topic == self.topic:
            return 1
        number = topic.removeprefix(f"{self.topic}.")
        is_number = number != topic and number.isascii() and number.isdecimal() and not number.startswith("0")
        return int(number) if is_number and int(number) > 1 else None

    @property
    def control_topic(self) -> str:
        """Topic of what processors and officers originate."""
        return f"{self.topic}.control"

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.request_timeout_seconds + self.linger_ms / 1000 > self.delivery_timeout_seconds:
            raise ValueError("delivery_timeout_seconds must be at least request_timeout_seconds and linger_ms together")
        if self.min_insync_replicas > self.replication_factor:
            raise ValueError("min_insync_replicas cannot be more than replication_factor")
        taken = [self.topic, self.control_topic, "events", "control"]
        for topic in self.foreign_topics:
            if topic in taken or self.generation_of(topic) or re.fullmatch(r"events\.[0-9]+", topic):
                raise ValueError(f"foreign_topics cannot name {topic!r}: it is another topic, or named twice")
            taken.append(topic)
        return self


class Processor(_Section):
    """The processor."""

    heartbeat_seconds: float = Field(default=15.0, gt=0, description="a log that is idle this long seals a heartbeat")
    checkpoint_seconds: float = Field(
        default=1.0, gt=0, le=1.0, description="a checkpoint is signed at least this often"
    )
    listen: str = Field(
        default="127.0.0.1:9464",
        description="HOST:PORT of health and metrics of `process`; port 0: a free one",
    )
    batch_rows: int = Field(default=28_000, ge=1, le=50_000, description="spans of a batch")
    batch_bytes: int = Field(
        default=64 << 20, ge=1 << 20, le=256 << 20, description="bytes of journal entries of a batch"
    )
    batch_seconds: float = Field(
        default=0.2, ge=0, le=60, description="time between two batches of a log that are not full"
    )
    drain_seconds: float = Field(
        default=30.0, ge=0, description="how long `auditspan process` may take to end when it is told to"
    )
    flagged_topic: str = Field(
        default="auditspan.flagged",
        pattern=r"^[a-zA-Z0-9._-]{0,249}$",
        description="Kafka topic that gets flagged events as JSON, for a SIEM; empty: none",
    )

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        return str(Address.parse(value))


class WitnessSettings(_Section):
    """A witness that is asked to cosign (C2SP tlog-witness)."""

    url: str = Field(description="its submission prefix: http(s)://HOST[:PORT][/PATH]")
    vkey: str = Field(description="its verifier key, NAME+KEY-ID+KEY, of type 0x04")

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return _outer_url(value)

    @field_validator("vkey")
    @classmethod
    def _is_vkey(cls, value: str) -> str:
        from auditspan.ledger.witnesses import Witness, WitnessKeyInvalid

        try:
            return Witness.parse(value).vkey
        except WitnessKeyInvalid as error:
            raise ValueError(error.message) from error


class AuthoritySettings(_Section):
    """A timestamp authority that is asked for tokens (RFC 3161)."""

    name: str = Field(
        pattern=r"^[^\x00-\x1f\x7f]{1,255}$", description="what trust.json calls it, which has its root certificates"
    )
    url: str = Field(description="where it takes application/timestamp-query: http(s)://HOST[:PORT][/PATH]")

    @field_validator("url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        return _outer_url(value)


class AnchorSettings(_Section):
    """Who outside of this deployment vouches for the control log, and with it for all logs. Nobody by default."""

    witnesses: tuple[WitnessSettings, ...] = Field(
        default=(), max_length=16, description="witnesses that cosign, each with url and vkey"
    )
    timestamp_authorities: tuple[AuthoritySettings, ...] = Field(
        default=(), max_length=16, description="timestamp authorities, each with name and url"
    )
    interval_seconds: float = Field(default=300.0, ge=1, le=86_400, description="time between two rounds of anchors")
    timeout_seconds: float = Field(default=10.0, ge=0.1, le=120, description="how long one of them may take to answer")

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [one.name for one in self.timestamp_authorities]
        keys = [one.vkey for one in self.witnesses]
        if len(set(names)) != len(names) or len({key.partition("+")[0] for key in keys}) != len(keys):
            raise ValueError("two witnesses, or two timestamp authorities, have one name")
        return self


class Sql(_Section):
    """Bounds of one query of the read-only endpoint."""

    max_memory_bytes: int = Field(default=512 << 20, ge=16 << 20)
    max_seconds: int = Field(default=30, ge=1)
    max_result_bytes: int = Field(default=256 << 20, ge=1 << 20)
    max_concurrent: int = Field(default=8, ge=1, description="queries that run at once; more wait, then are refused")


class PolicySettings(_Section):
    """What the rules need to know of this deployment. It enters the sealed reference epoch at the start."""

    exporter: str | None = Field(
        default=None,
        pattern=r"^[^\x00-\x1f\x7f]{1,128}$",
        description="party id, in the registry, of the company that runs this deployment",
    )
    clearance_second_person: bool = Field(
        default=False, description="whether clearing a hit of a screening takes a second officer"
    )


class RequestSettings(_Section):
    """What this deployment demands of export requests. It enters the sealed reference epoch at the start."""

    approving_emitters: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] = Field(
        default=(),
        max_length=100,
        description="emitters, as `auditspan token create EMITTER` names them, whose export.decision counts",
    )
    required_for: tuple[Literal["model.transfer", "accelerator.transfer", "accelerator.provision"], ...] = Field(
        default=(), description="classes of transfers that must name an export request; others may"
    )


class StoreSettings(_Section):
    """Where sealed events are kept: in this process, or in a ClickHouse server."""

    url: str = Field(
        default=EMBEDDED,
        description="embedded (ClickHouse in this process, in DIR/store), or http(s)://HOST:PORT of a ClickHouse "
        "server or of `auditspan store serve`",
    )
    user: str = Field(default="writer", min_length=1, description="who seals; may INSERT and SELECT")
    password_file: Path | None = Field(
        default=None, description="file with the password of store.user; default DIR/write.token"
    )
    read_user: str = Field(default="reader", min_length=1, description="who the commands read as")
    read_password_file: Path | None = Field(
        default=None, description="file with the password of store.read_user; default DIR/read.token"
    )
    ca_file: Path | None = Field(
        default=None, description="PEM file of the authority that an https server's certificate is checked against"
    )
    client_certificate: Path | None = Field(default=None, description="PEM file, where the server asks for one")
    client_key: Path | None = Field(default=None, description="PEM file of the certificate's private key")
    connect_seconds: int = Field(default=10, ge=1, le=300, description="to reach the server")
    insert_seconds: int = Field(
        default=30, ge=5, le=600, description="bound of one insert on the server; then the batch is tried again"
    )
    query_seconds: int = Field(
        default=300, ge=5, le=3600, description="without a byte of a result, a query is given up"
    )
    compression: Literal["auto", "none", "lz4", "zstd"] = Field(
        default="auto", description="of inserted rows; auto: none to this machine, lz4 to another"
    )

    @field_validator("url")
    @classmethod
    def _is_store(cls, value: str) -> str:
        if value == EMBEDDED:
            return value
        try:
            parts = urlsplit(value)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.username is not None or parts.password is not None:
            # The value itself is not repeated: it holds a password.
            raise ValueError("no user or password may stand in it: use store.user and store.password_file")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
            raise ValueError(f"{value!r} is neither `embedded` nor http://HOST:PORT or https://HOST:PORT")
        default = 8443 if parts.scheme == "https" else 8123
        return f"{parts.scheme}://{Address(host=parts.hostname, port=port or default)}"


def _said(message: str) -> str:
    """What a validator of ours says, without what pydantic puts before it."""
    return message.removeprefix("Value error, ")


def _outer_url(value: str) -> str:
    """A URL of somebody else's HTTP service.

    Raises:
        ValueError: it is none, or holds a user or password, which would stand in logs.
    """
    try:
        parts = urlsplit(value)
        port_is_one = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_one = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_one or parts.fragment:
        raise ValueError("it is not http://HOST[:PORT][/PATH] or https://HOST[:PORT][/PATH]")
    if parts.username is not None or parts.password is not None:
        raise ValueError("no user or password may stand in it")
    return value


class Settings(BaseSettings):
    """All settings of ``auditspan up``."""

    model_config = SettingsConfigDict(env_prefix="AUDITSPAN_", env_nested_delimiter="__", extra="forbid", frozen=True)

    deployment: str = Field(
        default="auditspan.local",
        pattern=r"^[a-z0-9][a-z0-9.-]{0,127}$",
        description="name in every checkpoint's origin line",
    )
    parties: Path | None = Field(
        default=None, description="party registry (YAML); default DIR/parties.yaml when it is there"
    )
    listen: Listen = Listen()
    collector: Collector = Collector()
    journal: JournalSettings = JournalSettings()
    kafka: KafkaSettings = KafkaSettings()
    processor: Processor = Processor()
    sql: Sql = Sql()
    policy: PolicySettings = PolicySettings()
    requests: RequestSettings = RequestSettings()
    store: StoreSettings = StoreSettings()
    anchors: AnchorSettings = AnchorSettings()


def load_settings(file: Path | None, overrides: dict[str, Any] | None = None) -> Settings:
    """Settings from ``file`` (TOML, may be absent when None), the environment over it, ``overrides`` over both.

    Raises:
        SettingsInvalid: the file cannot be read, or a value is not allowed.
    """
    said: dict[str, Any] = {}
    if file is not None:
        try:
            said = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsInvalid(
                f"{file} cannot be read as TOML: {error}.", remedy="Correct it, or name another --config."
            ) from error

    class Loaded(Settings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, said)

    try:
        return Loaded(**(overrides or {}))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {_said(fault['msg'])}" for fault in error.errors())
        raise SettingsInvalid(f"The settings are not valid: {faults}.", remedy=_REMEDY) from error
    except SettingsError as error:
        raise SettingsInvalid(f"The environment is not valid: {error}.", remedy=_REMEDY) from error
