"""The schema in numbered files, each applied once and in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

from auditspan.store.contract import SchemaTooNew, SchemaTooOld, StoreUnavailable

__all__ = ["CREATE_MIGRATIONS", "Migration", "apply_migrations", "schema_version", "shipped_migrations"]

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

_NOT_ALLOWED: Final = frozenset({164, 497})
"""ClickHouse's READONLY and ACCESS_DENIED."""

CREATE_MIGRATIONS: Final = (
    "CREATE TABLE IF NOT EXISTS auditspan.migrations "
    "(version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "
    "ENGINE = MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1"
)
"""Which migrations a store has had."""

Command = Callable[[str, dict[str, Any] | None], Any]
"""Runs one statement with parameters and returns its only value."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file. Its statements may run again after a crash between them, so each is idempotent."""

    version: int
    name: str
    statements: tuple[str, ...]


def shipped_migrations() -> list[Migration]:
    """The migrations of this version, in order; their numbers are 1, 2, 3 … without holes."""
    found = []
    for file in resources.files("auditspan.store.migrations").iterdir():
        match = _NAME.fullmatch(file.name)
        if match:
            text = re.sub(r"^\s*--.*$", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
            statements = tuple(part.strip() for part in text.split(";") if part.strip())
            found.append(Migration(int(match[1]), file.name.removesuffix(".sql"), statements))
    found.sort(key=lambda migration: migration.version)
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise AssertionError("migration files must be numbered 0001, 0002 … without holes")
    return found


def schema_version(command: Command) -> int:
    """The version of the store's schema; 0 for a store that is empty."""
    there = int(
        command("SELECT count() FROM system.tables WHERE database = 'auditspan' AND name = 'migrations'", None) or 0
    )
    return int(command("SELECT max(version) FROM auditspan.migrations", None) or 0) if there else 0


def apply_migrations(command: Command) -> None:
    """Apply the migrations that this store has not had yet. A store that has had them all is only read.

    Raises:
        SchemaTooNew: the store has had one that this version does not know.
        SchemaTooOld: this user may not apply them.
    """
    migrations = shipped_migrations()
    applied = schema_version(command)
    if applied > len(migrations):
        raise SchemaTooNew(
            f"The store has schema version {applied}, this version of AuditSpan knows {len(migrations)}.",
            remedy="Use the version of AuditSpan that wrote it, or a later one.",
        )
    if applied == len(migrations):
        return
    try:
        _apply(command, migrations[applied:])
    except StoreUnavailable as error:
        if getattr(error.__cause__, "code", None) not in _NOT_ALLOWED:
            raise
        raise SchemaTooOld(
            f"The store has schema version {applied}, this version of AuditSpan needs {len(migrations)}, and the user "
            "of `store.user` may not change it.",
            remedy="Start `auditspan store serve` of this version; on a server of your own, apply deploy/clickhouse as "
            "the owner of the schema.",
        ) from error


def _apply(command: Command, migrations: Sequence[Migration]) -> None:
    command("CREATE DATABASE IF NOT EXISTS auditspan", None)
    command(CREATE_MIGRATIONS, None)
    for migration in migrations:
        for statement in migration.statements:
            command(statement, None)
        command(
            "INSERT INTO auditspan.migrations (version, name) SELECT {version:UInt32}, {name:String}",
            {"version": migration.version, "name": migration.name},
        )
