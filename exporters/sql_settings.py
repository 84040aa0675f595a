"""The settings of a query: what the endpoint forces, what a client may lower or choose, and what it may say in vain."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from .sql_guard import Refused

__all__ = ["SqlLimits", "client_settings"]


@dataclass(frozen=True, slots=True)
class SqlLimits:
    """What one query may cost, and how many may run. Bytes, seconds, rows."""

    memory_bytes: int = 512 * 2**20
    seconds: int = 30
    result_rows: int = 1_000_000
    result_bytes: int = 256 * 2**20
    temporary_bytes: int = 2**30
    threads: int = 1
    concurrent: int = 8
    waiting: int = 32
    statement_bytes: int = 256 * 1024

    def settings(self) -> dict[str, str]:
        """The ClickHouse settings of every query."""
        return {
            "max_memory_usage": str(self.memory_bytes),
            "max_execution_time": str(self.seconds),
            "timeout_overflow_mode": "throw",
            "max_result_rows": str(self.result_rows),
            "max_result_bytes": str(self.result_bytes),
            "result_overflow_mode": "throw",
            "max_temporary_data_on_disk_size_for_query": str(self.temporary_bytes),
            "max_threads": str(self.threads),
            "max_query_size": str(4 * self.statement_bytes),
            "session_timezone": "UTC",
            # Clients read from system.settings whether they may ask for a compressed answer.
            "enable_http_compression": "1",
        }


_LOWERED: Final = {
    "max_memory_usage": "memory_bytes",
    "max_execution_time": "seconds",
    "max_result_rows": "result_rows",
    "max_result_bytes": "result_bytes",
    "max_threads": "threads",
}
_CHOSEN: Final = frozenset(
    {
        "date_time_output_format",
        "extremes",
        "format_csv_delimiter",
        "format_csv_null_representation",
        "format_tsv_null_representation",
        "group_by_use_nulls",
        "join_use_nulls",
        "limit",
        "max_block_size",
        "max_bytes_to_read",
        "max_rows_to_read",
        "offset",
        "preferred_block_size_bytes",
    }
)
_CHOSEN_PREFIX: Final = "output_format_"
_NOT_HEARD: Final = frozenset(
    {
        "add_http_cors_header",
        "buffer_size",
        "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version",
        "enable_http_compression",
        "http_headers_progress_interval_ms",
        "http_zlib_compression_level",
        "log_comment",
        "log_queries",
        "query_id",
        "quota_key",
        "result_overflow_mode",
        "send_progress_in_http_headers",
        "session_check",
        "session_id",
        "session_timeout",
        "timeout_overflow_mode",
        "wait_end_of_query",
    }
)
"""They steer a transport or a session that this endpoint does not have, or ask for what it does anyway."""


def client_settings(asked: Iterable[tuple[str, str]], limits: SqlLimits) -> dict[str, str]:
    """The settings that a query gets beside the forced ones, of those that a client asked for.

    Raises:
        Refused: a setting that a client may not choose.
    """
    chosen: dict[str, str] = {}
    for name, value in asked:
        if name in _LOWERED:
            cap = int(getattr(limits, _LOWERED[name]))
            if not (value.isascii() and value.isdigit()):
                raise Refused(f"The setting {name} must be a whole number.", 36, "BAD_ARGUMENTS")
            if 0 < int(value) < cap:
                chosen[name] = value
        elif name in _CHOSEN or name.startswith(_CHOSEN_PREFIX):
            chosen[name] = value
        elif name in {"compress", "decompress"} and value not in {"", "0", "false"}:
            raise Refused(f"{name}=1 is not supported here: use Accept-Encoding.", 48, "NOT_IMPLEMENTED")
        elif name == "readonly" and value in {"1", "2"}:
            continue
        elif name not in _NOT_HEARD and name not in {"compress", "decompress"}:
            raise Refused(f"Cannot modify '{name}' setting in readonly mode.")
    return chosen
