"""The schema as files that the owner of a ClickHouse server or cluster applies, written from the migrations."""

from __future__ import annotations

import re
from typing import Final

from auditspan.store.migrate import CREATE_MIGRATIONS, shipped_migrations

__all__ = ["CLUSTER", "SERVER", "cluster_schema", "server_schema"]

SERVER: Final = "schema.sql"
CLUSTER: Final = "schema-cluster.sql"

_GENERATED: Final = "-- Generated from auditspan/store/migrations by `make docs`; do not edit."


def server_schema() -> str:
    """One server without replicas."""
    head = [
        "-- The schema of AuditSpan on one ClickHouse server, for the role auditspan_owner (roles.sql).",
        _GENERATED,
        "-- Applying it again changes nothing. Processors then find their version and alter nothing.",
    ]
    return _file(head, _statements())


def cluster_schema() -> str:
    """One shard with replicas: a log must be whole on every server that is asked for its next leaf."""
    head = [
        "-- The schema of AuditSpan on replicas of one shard, for the role auditspan_owner (roles.sql).",
        _GENERATED,
        "-- Every server needs the macros `cluster` and `replica`. Keeper makes an insert and its deduplication token",
        "-- one step. What keeps the read-back honest (insert_quorum, select_sequential_consistency) are settings of",
        "-- queries: the client sends them, and the profile in roles.sql has them too.",
    ]
    return _file(head, [_replicated(statement) for statement in _statements()])


def _statements() -> list[str]:
    found = ["CREATE DATABASE IF NOT EXISTS auditspan", CREATE_MIGRATIONS]
    for migration in shipped_migrations():
        found += migration.statements
        found.append(
            f"INSERT INTO auditspan.migrations (version, name) SELECT {migration.version}, '{migration.name}' "  # noqa: S608
            f"WHERE {migration.version} NOT IN (SELECT version FROM auditspan.migrations)"
        )
    return found


def _replicated(statement: str) -> str:
    text = re.sub(
        r"^(CREATE (?:(?:DATABASE|TABLE|VIEW) IF NOT EXISTS|OR REPLACE VIEW) [\w.]+)",
        r"\1 ON CLUSTER '{cluster}'",
        statement,
        count=1,
    )
    text = re.sub(
        r"ENGINE = (\w*MergeTree)\b",
        r"ENGINE = Replicated\1('/clickhouse/tables/{database}/{table}', '{replica}')",
        text,
        count=1,
    )
    return text.replace(
        "non_replicated_deduplication_window = 10000",
        "replicated_deduplication_window = 10000,\n    replicated_deduplication_window_seconds = 604800",
    )


def _file(head: list[str], statements: list[str]) -> str:
    return "\n".join(head) + "\n\n" + "\n\n".join(f"{statement};" for statement in statements) + "\n"
