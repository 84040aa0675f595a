"""Attribute lists as columns: equal attributes are parsed once, then known keys are picked for all rows together."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.otlp.projection import KEY_VALUE, projection
from auditspan.otlp.values import run_of

__all__ = ["AttributeLists", "AttributeTable", "Selected"]

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int32]

_MEMBER: Final = {"int": "int_value", "boolean": "bool_value"}
_ARROW: Final = {"int": pa.int64(), "boolean": pa.bool_()}


@dataclass(frozen=True, slots=True, eq=False)
class AttributeLists:
    """Serialized attributes of a run of rows: those of row ``i`` are ``values[offsets[i]:offsets[i + 1]]``."""

    values: pa.Array
    offsets: Codes

    @classmethod
    def of(cls, lists: pa.ListArray, outer: pa.Array | None = None) -> AttributeLists:
        """Of a list column; with ``outer``, of one whose rows are elements of lists with these offsets."""
        offsets = lists.offsets.to_numpy()
        return cls(lists.values, offsets if outer is None else offsets[outer.to_numpy()])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def owners(self) -> Codes:
        """For each attribute the row it belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.offsets))


@dataclass(frozen=True, slots=True)
class Selected:
    """Known attributes as columns, and the two faults that attributes can have."""

    columns: dict[str, pa.Array]
    duplicate_key: Mask
    wrong_type: Mask

    def take(self, rows: npt.NDArray[np.integer]) -> Selected:
        """The same for other rows."""
        indices = pa.array(rows)
        return Selected(
            {name: column.take(indices) for name, column in self.columns.items()},
            self.duplicate_key[rows],
            self.wrong_type[rows],
        )


class AttributeTable:
    """The distinct attributes of several lists, parsed."""

    def __init__(self, distinct: pa.Array, codes: dict[AttributeLists, Codes]) -> None:
        pairs, self._bad = projection(KEY_VALUE).read(distinct)
        self._distinct = distinct
        self._codes = codes
        keys = pairs.column("key").fill_null("").dictionary_encode()
        self._keys = {key: code for code, key in enumerate(keys.dictionary.to_pylist())}
        # numpy sorts narrow integers by radix, an order of magnitude faster than wide ones.
        self._key_of = keys.indices.to_numpy().astype(np.min_scalar_type(len(self._keys)))
        self._value = pairs.column("value")
        # Two distinct attributes may say the same (fields in another order): a text has one code all the same.
        texts = self._value.field("string_value").dictionary_encode()
        self._texts = texts.dictionary
        self._text_of = texts.indices.fill_null(-1).to_numpy()

    @classmethod
    def of(cls, *lists: AttributeLists) -> AttributeTable:
        """Parse the attributes of ``lists``."""
        filled = [part for part in lists if len(part.values)]
        if not filled:
            return cls(pa.array([], pa.binary()), {})
        chunks = pa.chunked_array([part.values for part in filled]).dictionary_encode().chunks
        codes = {part: chunk.indices.to_numpy() for part, chunk in zip(filled, chunks, strict=True)}
        return cls(chunks[-1].dictionary, codes)

    def rows_with_bad(self, lists: AttributeLists) -> Mask:
        """Rows of ``lists`` that have an attribute which does not parse."""
        rows = np.zeros(len(lists), dtype=bool)
        if len(lists.values) and self._bad.any():
            rows[lists.owners()[self._bad[self._codes[lists]]]] = True
        return rows

    def select(self, lists: AttributeLists, known: Mapping[str, str]) -> Selected:
        """Columns for the attributes ``known`` (name → type) of ``lists``, read from their first occurrence."""
        rows = len(lists)
        duplicate_key, wrong_type = np.zeros(rows, dtype=bool), np.zeros(rows, dtype=bool)
        codes = self._codes.get(lists, np.zeros(0, dtype=np.int32))
        firsts = self._first_of_alike(lists, codes)
        if firsts is None:
            firsts = self._first_of_any(lists, codes, duplicate_key)
        columns = {}
        for name, type_ in known.items():
            which = None if (key := self._keys.get(name)) is None else firsts(key)
            if which is None:
                columns[name] = _nothing(rows, type_)
                continue
            columns[name], wrong = self._read(which, type_)
            wrong_type |= wrong
        return Selected(columns, duplicate_key, wrong_type)

    def _first_of_alike(self, lists: AttributeLists, codes: Codes) -> Callable[[int], Codes | None] | None:
        """For a key the code of each row's attribute, where all rows have the same keys, each once, in one order."""
        rows = len(lists)
        if not len(codes) or len(codes) % rows or (np.diff(lists.offsets) != len(codes) // rows).any():
            return None
        keys = self._key_of[codes].reshape(rows, -1)
        order = keys[0].tolist()
        if len(set(order)) < len(order) or (keys != keys[0]).any():
            return None
        by_row = codes.reshape(rows, -1)
        place = {key: number for number, key in enumerate(order)}
        return lambda key: np.ascontiguousarray(by_row[:, place[key]]) if key in place else None

    def _first_of_any(self, lists: AttributeLists, codes: Codes, duplicate_key: Mask) -> Callable[[int], Codes | None]:
        """For a key the code of each row's first attribute, -1 for none; notes rows that have a key twice."""
        key_codes = self._key_of[codes]
        order = np.argsort(key_codes, kind="stable")
        sorted_keys, sorted_rows = key_codes[order], lists.owners()[order]
        # A stable sort leaves the attributes of one key in the order of rows, and in the order of the wire within one.
        again = np.zeros(len(order), dtype=bool)
        np.logical_and(sorted_keys[1:] == sorted_keys[:-1], sorted_rows[1:] == sorted_rows[:-1], out=again[1:])
        duplicate_key[sorted_rows[again]] = True
        bounds = np.searchsorted(sorted_keys, np.arange(len(self._keys) + 1))

        def first(key: int) -> Codes | None:
            place = slice(bounds[key], bounds[key + 1])
            if place.start == place.stop:
                return None
            which = np.full(len(lists), -1, dtype=np.int32)
            is_first = ~again[place]
            which[sorted_rows[place][is_first]] = codes[order[place][is_first]]
            return which

        return first

    def gathered(self, lists: AttributeLists, names: Collection[str]) -> pa.DictionaryArray:
        """For each row its attributes with one of ``names`` as a run (`auditspan.otlp.values`), in the order of the
        wire, as a dictionary of distinct values; null where a row has none.
        """
        rows = len(lists)
        keys = [code for name in names if (code := self._keys.get(name)) is not None]
        codes = self._codes.get(lists, np.zeros(0, dtype=np.int32))
        wanted = np.flatnonzero(np.isin(self._key_of[codes], keys)) if keys else np.zeros(0, dtype=np.int64)
        none = pa.nulls(rows, pa.int32())
        if not len(wanted):
            return pa.DictionaryArray.from_arrays(none, pa.array([], pa.binary()))
        of_row = lists.owners()[wanted]
        starts = np.flatnonzero(np.diff(of_row, prepend=-1))
        distinct, of_attribute = np.unique(codes[wanted], return_inverse=True)
        runs = pa.array([run_of(each) for each in self._distinct.take(pa.array(distinct)).to_pylist()], pa.binary())
        combinations = pa.ListArray.from_arrays(
            pa.array(np.append(starts, len(wanted)).astype(np.int32)), runs.take(pa.array(of_attribute))
        )
        joined = pc.binary_join(combinations, pa.scalar(b"")).dictionary_encode()
        indices = np.full(rows, -1, dtype=np.int32)
        indices[of_row[starts]] = joined.indices.to_numpy()
        return pa.DictionaryArray.from_arrays(pa.array(indices, mask=indices < 0), joined.dictionary)

    def _read(self, which: Codes, type_: str) -> tuple[pa.Array, Mask]:
        """Column of the values of the distinct attributes ``which`` (-1: none), and where they have another type."""
        absent = which < 0
        if type_ != "string":
            column = self._value.field(_MEMBER[type_]).take(pa.array(which, mask=absent))
            return column, ~absent & pc.is_null(column).to_numpy(zero_copy_only=False)
        codes = which if absent.all() else np.where(absent, -1, self._text_of[which])
        none = codes < 0
        encoded = pa.array(codes, mask=none).dictionary_encode()
        return pa.DictionaryArray.from_arrays(encoded.indices, self._texts.take(encoded.dictionary)), none & ~absent


def _nothing(rows: int, type_: str) -> pa.Array:
    """The column of an attribute that no row has."""
    if type_ == "string":
        return pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()), pa.array([], pa.string()))
    return pa.nulls(rows, _ARROW[type_])
