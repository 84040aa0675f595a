"""Settings of the pipeline: one TOML file, ``AUDITSPAN_…`` environment over it, options of the command over both."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from auditspan.errors import AuditSpanError

__all__ = ["EMBEDDED", "Address", "Settings", "SettingsInvalid", "load_settings"]


EMBEDDED: Final = "embedded"
"""As `store.url`: ClickHouse in this process."""

_LAST_PORT: Final = 65_535
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

    partitions: int = Field(
        default=1, ge=1, le=1024, description="data partitions, and so logs; fixed for the life of a journal"
    )
    keep_days: float = Field(
        default=30.0, ge=0, description="entries older than this are forgotten once signed; 0 keeps them for ever"
    )


class Processor(_Section):
    """The processor."""

    heartbeat_seconds: float = Field(default=15.0, gt=0, description="a log that is idle this long seals a heartbeat")
    checkpoint_seconds: float = Field(
        default=1.0, gt=0, le=1.0, description="a checkpoint is signed at least this often"
    )


class Sql(_Section):
    """Bounds of one query of the read-only endpoint."""

    max_memory_bytes: int = Field(default=512 << 20, ge=16 << 20)
    max_seconds: int = Field(default=30, ge=1)
    max_result_bytes: int = Field(default=256 << 20, ge=1 << 20)
    max_concurrent: int = Field(default=8, ge=1, description="queries that run at once; more wait, then are refused")


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
    processor: Processor = Processor()
    sql: Sql = Sql()
    store: StoreSettings = StoreSettings()


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
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors())
        raise SettingsInvalid(f"The settings are not valid: {faults}.", remedy=_REMEDY) from error
    except SettingsError as error:
        raise SettingsInvalid(f"The environment is not valid: {error}.", remedy=_REMEDY) from error
