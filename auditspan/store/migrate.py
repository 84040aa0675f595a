"""The schema in numbered files, each applied once and in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

from auditspan.store.contract import SchemaTooNew

__all__ = ["Migration", "apply_migrations", "shipped_migrations"]

_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")

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


def apply_migrations(command: Command) -> None:
    """Apply the migrations that this store has not had yet.

    Raises:
        SchemaTooNew: the store has had one that this version does not know.
    """
    migrations = shipped_migrations()
    command("CREATE DATABASE IF NOT EXISTS auditspan", None)
    command(
        "CREATE TABLE IF NOT EXISTS auditspan.migrations "
        "(version UInt32, name String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)) "
        "ENGINE = MergeTree ORDER BY version SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
        None,
    )
    applied = int(command("SELECT max(version) FROM auditspan.migrations", None))
    if applied > len(migrations):
        raise SchemaTooNew(
            f"The store has schema version {applied}, this version of AuditSpan knows {len(migrations)}.",
            remedy="Use the version of AuditSpan that wrote it, or a later one.",
        )
    for migration in migrations[applied:]:
        for statement in migration.statements:
            command(statement, None)
        command(
            "INSERT INTO auditspan.migrations (version, name) SELECT {version:UInt32}, {name:String}",
            {"version": migration.version, "name": migration.name},
        )
