"""Reading the Parquet files of a package in small pieces, when they may be anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .layout import EVENT_FILE, LARGEST_ROW_GROUP
from .package import Package, PathRefused
from .report import Faults
from .statistics import GroupStatistics

__all__ = ["READ_EVENTS", "LeafFiles"]

_LARGEST_GROUP_BYTES: Final = 2 << 30
_LARGEST_PIECE_BYTES: Final = 20 << 20
_LARGEST_EXPANSION: Final = 512 << 20
_ROWS: Final = 11_000
_ROWS_UNTRUSTED: Final = 1_024
_MOST_GROUPS: Final = 1_000_000
_CODED: Final = 8
"""Bytes for each value, up to which a column is taken for one of codes of a dictionary."""
_LIMITS: Final[dict[str, int]] = {"thrift_string_size_limit": 64 << 20, "thrift_container_size_limit": 8 << 20}
READ_EVENTS: Final = pa.schema(
    [
        field.with_type(pa.dictionary(pa.int32(), pa.binary())) if field.name == "facts" else field
        for field in EVENT_FILE
    ]
)
"""Schema of the pieces of ``events/`` and ``control/``: facts repeat."""


class _Malformed(Exception):
    """The file is not what a package holds."""


# What the Parquet reader raises for files that are none, by experience with altered ones.
_UNREADABLE: Final = (
    _Malformed, pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError,
)  # fmt: skip


@dataclass(slots=True)
class LeafFiles:
    """The files of one side of a log, in order. ``unreadable`` tells whether some of their leaves could not be read."""

    package: Package
    log_id: str
    paths: Sequence[str]
    schema: pa.Schema
    signed: frozenset[str]
    """Paths whose bytes a trusted key signed. Others are read on a slower way that bounds what a page may unfold to."""
    faults: Faults
    dictionaries: bool = False
    """Whether texts that a signed file keeps as dictionaries are left so."""
    unreadable: bool = False

    def pieces(self) -> Iterator[pa.RecordBatch]:
        """The rows in the order of the files, in pieces of bounded size, with ``facts`` dictionary-encoded."""
        for path in self.paths:
            try:
                file = self.package.open(path)
            except (FileNotFoundError, PathRefused):
                # The digests of all files were taken before: the fault is known.
                self.unreadable = True
                continue
            with file:
                try:
                    yield from self._file(path, file)
                except _UNREADABLE as error:
                    self._malformed(path, error)

    def _malformed(self, path: str, error: BaseException, leaf: tuple[str, int] | None = None) -> None:
        self.unreadable = True
        self.faults.add("file.malformed", leaf, "Parquet as section 14 of the evidence format", f"{path}: {error}")

    def _file(self, path: str, source: object) -> Iterator[pa.RecordBatch]:
        trusted = path in self.signed
        names = [field.name for field in self.schema if _is_text(field.type)]
        metadata = pq.ParquetFile(source, **_LIMITS).metadata
        texts: set[str] = set()
        if trusted and self.dictionaries:
            texts = {field.name for field in self.schema if pa.types.is_string(field.type)} & _dictionaries(metadata)
        read = [name for name in names if name in texts or name == "facts" or not trusted]
        file = pq.ParquetFile(source, metadata=metadata, read_dictionary=read, **_LIMITS)
        self._check_shape(file, trusted)
        seen = -1
        for group in range(file.num_row_groups):
            try:
                statistics = GroupStatistics(file.metadata.row_group(group))
                for batch in file.iter_batches(self._rows(file, group, trusted), row_groups=[group], use_threads=False):
                    piece = self._piece(batch, texts)
                    if piece.num_rows:
                        statistics.see(piece)
                        seen = piece["leaf_index"][-1].as_py()
                        yield piece
                    # Or this piece would stay while the next one is read.
                    del piece, batch
                untrue = statistics.untrue()
                if untrue is not None:
                    self.faults.add("file.malformed", None, "statistics that hide nothing", f"{path}: {untrue}")
            except _UNREADABLE as error:
                self._malformed(path, error, (self.log_id, seen + 1) if seen >= 0 else None)

    def _check_shape(self, file: pq.ParquetFile, trusted: bool) -> None:
        actual = file.schema_arrow
        if actual.names != self.schema.names:
            raise _Malformed(f"the columns are {', '.join(actual.names)[:200]}")
        for field, wanted in zip(actual, self.schema, strict=True):
            kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            if kind != wanted.type or field.nullable != wanted.nullable:
                raise _Malformed(f"the column {field.name} is {field.type}, not {wanted.type}")
        if file.num_row_groups > _MOST_GROUPS:
            raise _Malformed(f"it has {file.num_row_groups} row groups")
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            if group.num_rows > LARGEST_ROW_GROUP or not 0 <= group.total_byte_size <= _LARGEST_GROUP_BYTES:
                raise _Malformed(
                    f"row group {number} has {group.num_rows} rows and {group.total_byte_size} bytes; at most "
                    f"{LARGEST_ROW_GROUP} and {_LARGEST_GROUP_BYTES} are allowed"
                )

    @staticmethod
    def _rows(file: pq.ParquetFile, group: int, trusted: bool) -> int:
        """Rows to read at once, so that a piece stays small whatever the size of a payload."""
        metadata = file.metadata.row_group(group)
        fitting = _LARGEST_PIECE_BYTES * max(metadata.num_rows, 1) // max(metadata.total_byte_size, 1)
        most = max(1, min(fitting, _ROWS if trusted else _ROWS_UNTRUSTED))
        # Pieces of like size: a small rest costs nearly as much as a whole one.
        return int(-(-max(metadata.num_rows, 1) // -(-max(metadata.num_rows, 1) // most)))

    def _piece(self, batch: pa.RecordBatch, texts: Collection[str]) -> pa.RecordBatch:
        columns = []
        for field, column in zip(self.schema, batch.columns, strict=True):
            encoded = pa.types.is_dictionary(column.type)
            # A dictionary page lets a small file say a large value many times.
            if encoded and field.name not in texts and _expanded(column) > _LARGEST_EXPANSION:
                raise _Malformed(f"the column {field.name} unfolds to more than {_LARGEST_EXPANSION} bytes")
            if field.name == "facts":
                columns.append(column if encoded else column.dictionary_encode())
            elif field.name in texts:
                columns.append(column)
            else:
                columns.append(column.cast(field.type) if encoded else column)
        return pa.RecordBatch.from_arrays(columns, names=self.schema.names)


def _dictionaries(metadata: pq.FileMetaData) -> set[str]:
    """The columns that the first row group keeps as dictionaries: all that the same exporter wrote are alike.

    A dictionary that became too large says most values outside of it, which the size shows.
    """
    if not metadata.num_row_groups:
        return set()
    columns = [metadata.row_group(0).column(place) for place in range(metadata.num_columns)]
    return {
        column.path_in_schema
        for column in columns
        if column.has_dictionary_page and column.total_uncompressed_size <= _CODED * max(column.num_values, 1)
    }


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_binary(kind))


def _expanded(column: pa.DictionaryArray) -> int:
    lengths = pc.binary_length(column.dictionary).take(column.indices)
    return pc.sum(lengths.cast(pa.int64())).as_py() or 0
