"""Opening the store that the settings name."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from auditspan.config import EMBEDDED, Settings, StoreSettings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore
from auditspan.store.contract import StoreUnavailable
from auditspan.store.migrate import schema_version

__all__ = ["OtherDeployment", "StoreRefused", "check_deployment", "open_store", "server_options"]

_REFUSED: Final = frozenset({192, 193, 194, 516})
"""ClickHouse's UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD and AUTHENTICATION_FAILED."""


class StoreRefused(AuditSpanError):
    """The server is there and does not let this user in: trying again does not help."""


class OtherDeployment(AuditSpanError):
    """The store holds the logs of another deployment."""


def open_store(directory: DataDirectory, settings: Settings, *, reading: bool = False) -> ClickHouseStore:
    """The store of ``settings.store``; its `ClickHouseStore.reader` gives further clients.

    Args:
        directory: where the embedded store is, and the password files that are not named.
        settings: what ``store.url`` and the others say.
        reading: as the user of ``store.read_user``; an embedded store is the same.

    Raises:
        StoreUnavailable: it cannot be opened or reached now.
        StoreRefused: wrong user or password.
        OtherDeployment: it holds the logs of another deployment than ``settings.deployment``.
        AuditSpanError: a file of the settings cannot be read.
    """
    if settings.store.url == EMBEDDED:
        store = ClickHouseStore.embedded(directory.store)
    else:
        store = _served(directory, settings.store, reading)
    if not reading:
        try:
            check_deployment(store, settings.deployment)
        except BaseException:  # nobody else has it yet, and it holds its directory or connections
            store.close()
            raise
    return store


def check_deployment(store: ClickHouseStore, deployment: str) -> None:
    """Refuse a store with logs or checkpoints of another deployment: each has a store of its own.

    Raises:
        OtherDeployment: it has.
        StoreUnavailable: it cannot be read now.
    """
    if schema_version(store.command) == 0:
        return
    opened = store.query(
        "SELECT log_id, header FROM auditspan.events WHERE leaf_index = 0 AND class = 'audit.log.opened' "
        "AND payload = ''"
    )
    said = {
        log_id: json.loads(header)["body"]["deployment"]
        for log_id, header in zip(opened["log_id"].to_pylist(), opened["header"].to_pylist(), strict=True)
    }
    # A log without leaves may still have a checkpoint, whose first line names the deployment: auditspan/NAME/LOG.
    signed = store.query("SELECT DISTINCT log_id FROM auditspan.checkpoints")["log_id"].to_pylist()
    for log_id in sorted(set(signed) - set(said)):
        checkpoint = store.last_checkpoint(log_id)
        if checkpoint is not None and checkpoint.note.count("/") >= 2:
            said[log_id] = checkpoint.note.split("/")[1]
    others = sorted({name for name in said.values() if name != deployment})
    if others:
        raise OtherDeployment(
            f"The store holds logs of the deployment {others[0]!r}, and this one is {deployment!r}.",
            remedy="Set `store.url` to this deployment's own store, or `deployment` to the name that it began with.",
        )


def server_options(directory: DataDirectory, settings: StoreSettings, *, reading: bool = False) -> dict[str, Any]:
    """What `ClickHouseStore.http` takes. It holds the password: print it nowhere.

    Raises:
        AuditSpanError: the password file cannot be read, or is empty.
    """
    parts = urlsplit(settings.url)
    host = parts.hostname or ""
    if reading:
        user, setting = settings.read_user, "store.read_password_file"
        password_file = settings.read_password_file or directory.read_token
    else:
        user, setting = settings.user, "store.password_file"
        password_file = settings.password_file or directory.write_token
    compression = settings.compression
    if compression == "auto":
        compression = "none" if _this_machine(host) else "lz4"
    options: dict[str, Any] = {
        "host": host,
        "port": parts.port,
        "secure": parts.scheme == "https",
        "username": user,
        "password": _password(password_file, setting),
        "connect_timeout": settings.connect_seconds,
        "send_receive_timeout": settings.query_seconds,
        "insert_seconds": settings.insert_seconds,
        "compression": compression,
    }
    files = {
        "ca_cert": settings.ca_file,
        "client_cert": settings.client_certificate,
        "client_cert_key": settings.client_key,
    }
    if files["client_cert"] is not None:
        # The certificate secures the transport; who it is says the password.
        options["tls_mode"] = "strict"
    return options | {name: str(path) for name, path in files.items() if path is not None}


def _served(directory: DataDirectory, settings: StoreSettings, reading: bool) -> ClickHouseStore:
    options = server_options(directory, settings, reading=reading)
    try:
        return ClickHouseStore.http(**options)
    except StoreUnavailable as error:
        user, file = (
            ("store.read_user", "store.read_password_file") if reading else ("store.user", "store.password_file")
        )
        if getattr(error.__cause__, "code", None) in _REFUSED:
            raise StoreRefused(
                f"The store at {settings.url} does not let in the user {options['username']!r}.",
                remedy=f"Correct `{user}` and what stands in the file of `{file}`. Those of `auditspan store serve` "
                f"are {'reader and its DIR/read.token' if reading else 'writer and its DIR/write.token'}.",
            ) from error
        raise StoreUnavailable(
            f"The store at {settings.url} (`store.url`) cannot be used: {error.message}",
            remedy="Start it, or correct `store.url`; with https also `store.ca_file`.",
        ) from error


def _password(path: Path, setting: str) -> str:
    try:
        password = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AuditSpanError(
            f"The password of the store cannot be read from {path} (`{setting}`).",
            remedy="Copy the token file of the store there, readable by this user alone, or name another file.",
        ) from error
    if not password:
        raise AuditSpanError(
            f"{path} (`{setting}`) is empty.", remedy="Copy the token file of the store there: it has a password."
        )
    return password


def _this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
