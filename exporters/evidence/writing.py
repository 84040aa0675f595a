"""Writing the Parquet files of a package in constant memory."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from auditspan.durable import sync

from .descriptions import described
from .layout import LARGEST_ROW_GROUP, file_name

__all__ = ["LeafWriter", "file_digest", "sync_folders", "write_file"]

_GROUP_BYTES: Final = 48 << 20
_GROUP_FACTS_BYTES: Final = 128 << 20
"""Of facts documents, which repeat: a row group holds each of them once."""
_FILE_ROWS: Final = 4_000_000
# Facts documents have kilobytes and repeat: with the usual limit of a dictionary they are written row for row.
_DICTIONARY_BYTES: Final = 32 << 20
# Values that never repeat cost time in a dictionary and gain nothing.
_UNIQUE: Final = frozenset(
    {"leaf_index", "header", "payload", "salt", "record_id", "span_id", "event_time", "arrival_time"}
)


class LeafWriter:
    """Writes leaves of one side of a log into files of bounded size, in row groups of bounded size.

    Args:
        folder: the package.
        side: ``events``, ``withheld`` or ``control``.
        log_id: the log.
        schema: of the files.
    """

    def __init__(self, folder: Path, side: str, log_id: str, schema: pa.Schema) -> None:
        self._folder, self._side, self._log_id, self._schema = folder, side, log_id, schema
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = self._waiting_bytes = self._waiting_facts = self._file_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self.paths: list[str] = []
        self.rows = 0

    def write(self, leaves: pa.RecordBatch) -> None:
        """Append leaves, in order."""
        start = 0
        while start < leaves.num_rows:
            part = leaves.slice(start, LARGEST_ROW_GROUP - self._waiting_rows)
            self._waiting.append(part)
            self._waiting_rows += part.num_rows
            facts = part["facts"].nbytes if "facts" in part.schema.names else 0
            self._waiting_facts += facts
            self._waiting_bytes += part.nbytes - facts
            start += part.num_rows
            if (
                self._waiting_rows >= LARGEST_ROW_GROUP
                or self._waiting_bytes >= _GROUP_BYTES
                or self._waiting_facts >= _GROUP_FACTS_BYTES
            ):
                self._flush()
        self.rows += leaves.num_rows

    def _flush(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            path = file_name(self._side, self._log_id, len(self.paths))
            (self._folder / path).parent.mkdir(exist_ok=True)
            names = [name for name in self._schema.names if name not in _UNIQUE]
            self._writer = pq.ParquetWriter(
                self._folder / path,
                described(self._schema),
                compression="zstd",
                compression_level=1,
                use_dictionary=[f"{name}.list.element" if name in ("rule_ids", "faults") else name for name in names],
                dictionary_pagesize_limit=_DICTIONARY_BYTES,
                write_statistics=["leaf_index", "event_time", "arrival_time", "flagged", "class"],
            )
            self.paths.append(path)
        table = pa.Table.from_batches(self._waiting, self._schema)
        self._wait()
        # Encoding runs beside the reading of the next row group; one waits, no more, so memory stays bounded.
        self._writing = self._thread.submit(self._writer.write_table, table, row_group_size=LARGEST_ROW_GROUP)
        self._file_rows += self._waiting_rows
        self._waiting, self._waiting_rows, self._waiting_bytes, self._waiting_facts = [], 0, 0, 0
        if self._file_rows >= _FILE_ROWS:
            self._finish_file()

    def _wait(self) -> None:
        if self._writing is not None:
            self._writing.result()
            self._writing = None

    def _finish_file(self) -> None:
        self._wait()
        if self._writer is not None:
            self._writer.close()
            self._writer, self._file_rows = None, 0
            sync(self._folder / self.paths[-1])

    def close(self) -> None:
        """Write what waits, and make the files durable."""
        try:
            self._flush()
            self._finish_file()
        finally:
            self._thread.shutdown()


def write_file(path: Path, content: bytes) -> None:
    """Write a file durably."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    sync(path)


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folders(folder: Path) -> None:
    """Make the names in a folder, in the folders right below it and of the folder itself durable."""
    for each in (*(child for child in folder.iterdir() if child.is_dir()), folder, folder.parent):
        sync(each)
