"""Results in ClickHouse's own formats, for the endpoint that answers its HTTP protocol."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import clickhouse_connect
from clickhouse_connect.driver.exceptions import Error

from auditspan.store.pipe import query_pipe
from auditspan.store.schema import DATABASE

__all__ = ["EscapedText", "RawReader", "StatementFailed", "statement_failed"]

_TOO_LARGE: Final = 396
"""ClickHouse's TOO_MANY_ROWS_OR_BYTES."""
_CHUNK: Final = 2**20


class StatementFailed(Exception):
    """ClickHouse refused or failed a statement. ``code`` is its error code, ``message`` its own text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class EscapedText:
    """A parameter's value as ClickHouse's HTTP protocol sends it, escapes and all; it is passed on untouched."""

    text: str

    def __str__(self) -> str:
        return self.text


class RawReader:
    """A client in ``readonly = 1``: its settings hold for its whole life, and nothing that it runs can change them."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path = path
        try:
            self._client = clickhouse_connect.get_client(
                interface="chdb", path=str(path), database=DATABASE, settings=dict(settings)
            )
            # The last setting: from here on the engine refuses every other one.
            self._client.set_client_setting("readonly", "1")
        except Error as error:
            raise statement_failed(error) from error

    def run(self, statement: str, parameters: Mapping[str, str | EscapedText] | None = None) -> bytes:
        """The small result of one statement that names its own FORMAT.

        Raises:
            StatementFailed: the engine says no.
        """
        used = {name: value for name, value in (parameters or {}).items() if f"{{{name}:" in statement}
        try:
            return bytes(self._client.raw_query(statement, parameters=used or None))
        except Error as error:
            raise statement_failed(error) from error

    def result(
        self, statement: str, format_name: str, parameters: Mapping[str, str | EscapedText], largest: int
    ) -> bytes:
        """The result of one statement without FORMAT clause, of at most ``largest`` bytes in its format.

        The engine's own limit counts columns, and a constant column is counted once, so the bytes are counted here.

        Raises:
            StatementFailed: the engine says no, or the result is larger.
        """
        body = bytearray()
        with closing(self.chunks(statement, format_name, parameters)) as chunks:
            for chunk in chunks:
                body += chunk
                if len(body) > largest:
                    raise StatementFailed(
                        _TOO_LARGE,
                        f"Code: {_TOO_LARGE}. DB::Exception: Limit for result exceeded, max bytes: {largest}. "
                        "(TOO_MANY_ROWS_OR_BYTES)",
                    )
        return bytes(body)

    def chunks(self, statement: str, format_name: str, parameters: Mapping[str, str | EscapedText]) -> Generator[bytes]:
        """The result of one statement without FORMAT clause, while the engine writes it. Closing it stops the query.

        Raises:
            StatementFailed: the engine says no, perhaps after it wrote a part.
        """
        with query_pipe(
            lambda into: self.run(f"{statement}\n{into}\nFORMAT {format_name}", parameters), self._cancel
        ) as pipe:
            while chunk := pipe.source.read1(_CHUNK):
                yield chunk
            failure = pipe.failure()
            if failure:
                raise failure

    def _cancel(self, name: str) -> None:
        with clickhouse_connect.get_client(interface="chdb", path=str(self._path)) as other:
            other.command("KILL QUERY WHERE position(query, {name:String}) > 0", parameters={"name": name})

    def close(self) -> None:
        """Let go of the client."""
        self._client.close()


def statement_failed(error: Error) -> StatementFailed:
    """What the engine said, with its code."""
    # 1002 is ClickHouse's UNKNOWN_EXCEPTION.
    return StatementFailed(int(getattr(error, "code", None) or 1002), str(error))
