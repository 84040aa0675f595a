"""The columns that a `NameIndex` looks names up in: made once for a list, kept beside it, read without a copy."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from .errors import ScreeningError
from .name_form import Kind, Token, name_form
from .words import one_letter_out

__all__ = ["SHORTEST_FUZZY", "Columns", "build", "digest_of", "joined_words", "read", "shortened", "words_of", "write"]

VERSION: Final = b"1"
"""Raised whenever names are made comparable in another way: columns of another version are made anew."""

SHORTEST_FUZZY: Final = 4
"""Letters from which on a word is looked up with a typing error too."""

_NAMES: Final = pa.schema(
    [
        ("name", pa.string()),
        ("entry", pa.int32()),
        ("kind", pa.dictionary(pa.int8(), pa.string())),
        ("role", pa.dictionary(pa.int8(), pa.string())),
        ("weight", pa.float32()),
        ("key", pa.string()),
        ("tokens", pa.list_(pa.int32())),
    ]
)
_TOKENS: Final = pa.schema(
    [
        ("text", pa.string()),
        ("fold", pa.string()),
        ("skeleton", pa.string()),
        ("word_class", pa.string()),
        ("weight", pa.float64()),
        ("symbols", pa.list_(pa.string())),
        ("digits", pa.bool_()),
    ]
)
_WORDS: Final = pa.schema([("word", pa.string()), ("skeleton", pa.string()), ("start", pa.int64())])
_POSTINGS: Final = pa.schema([("name", pa.int32())])
_SAME: Final = pa.schema([("key", pa.uint32()), ("name", pa.int32())])
_SPELLINGS: Final = pa.schema([("text", pa.string()), ("word", pa.int32())])
_NEIGHBOURS: Final = pa.schema([("key", pa.uint32()), ("spelling", pa.int32())])
_PARTS: Final = {
    "names": _NAMES,
    "tokens": _TOKENS,
    "words": _WORDS,
    "postings": _POSTINGS,
    "same": _SAME,
    "spellings": _SPELLINGS,
    "neighbours": _NEIGHBOURS,
}

Columns = dict[str, pa.Table]
"""By part: ``names``; ``tokens`` that they are made of; ``words`` as they were met, ``start`` being their first
posting; ``postings``, the names of each word; ``same``, names by the digest of their key; ``spellings`` of words;
``neighbours``, spellings by the digest of what is left of them when a letter is out."""


def build(names: pa.Array, entries: Sequence[int], kinds: Sequence[Kind], roles: pa.Array) -> Columns:
    """The columns of ``names``, each with its entry's row, its kind and its role."""
    vocabulary: dict[str, int] = {}
    skeletons: list[str] = []
    words: list[int] = []
    owners: list[int] = []
    keys: list[str] = []
    tokens: dict[Token, int] = {}
    made_of: list[list[int]] = []
    for number, (name, kind) in enumerate(zip(names.to_pylist(), kinds, strict=True)):
        form = name_form.__wrapped__(name, kind)
        keys.append(form.key)
        made_of.append([tokens.setdefault(token, len(tokens)) for token in form.tokens])
        by_word = {token.fold: token.skeleton for token in form.tokens if token.fold in words_of(form.tokens)}
        for word, bones in (*by_word.items(), *((word, "") for word in joined_words(form.tokens) - by_word.keys())):
            if word not in vocabulary:
                vocabulary[word] = len(vocabulary)
                skeletons.append(bones)
            words.append(vocabulary[word])
            owners.append(number)
    word_ids, owner_ids = np.array(words, np.int32), np.array(owners, np.int32)
    order = np.argsort(word_ids, kind="stable")
    starts = np.searchsorted(word_ids[order], np.arange(len(vocabulary)))
    rarity = rarity_of(np.diff(np.append(starts, len(order))), len(names))
    weights = np.zeros(len(names), np.float32)
    np.add.at(weights, owner_ids, rarity[word_ids])
    spellings = _spellings(vocabulary, tokens)
    near = _sorted(_neighbours(spellings))
    same = _sorted((digest_of(key), number) for number, key in enumerate(keys) if key)
    return {
        "names": _table(_NAMES, names, entries, list(kinds), roles, weights, keys, made_of),
        "tokens": _token_table(tokens),
        "words": _table(_WORDS, list(vocabulary), skeletons, starts),
        "postings": _table(_POSTINGS, owner_ids[order]),
        "same": _table(_SAME, *same),
        "spellings": _table(_SPELLINGS, list(spellings), list(spellings.values())),
        "neighbours": _table(_NEIGHBOURS, *near),
    }


def _neighbours(spellings: Iterable[str]) -> Iterator[tuple[int, int]]:
    for number, spelling in enumerate(spellings):
        for left in shortened(spelling):
            yield digest_of(left), number


def _spellings(vocabulary: dict[str, int], tokens: Iterable[Token]) -> dict[str, int]:
    """Every word by its sounds and, as a typing error comes before sounds are heard, as it is written."""
    written = {token.text: vocabulary[token.fold] for token in tokens if token.fold in vocabulary}
    return {**vocabulary, **{text: word for text, word in written.items() if text not in vocabulary}}


def _token_table(tokens: Iterable[Token]) -> pa.Table:
    listed = list(tokens)
    columns = [
        [sorted(token.symbols) if name == "symbols" else getattr(token, name) for token in listed]
        for name in _TOKENS.names
    ]
    return pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, _TOKENS, strict=True)], schema=_TOKENS)


def rarity_of(frequency: Any, names: int) -> Any:
    """From 1 for a word that one of ``names`` names has, down to nearly 0 for one that all have."""
    return (np.log(1 + names / np.maximum(frequency, 1)) / math.log(1 + max(names, 1))).astype(np.float32)


def words_of(tokens: Iterable[Token]) -> set[str]:
    """The words that a name is found by."""
    return {token.fold for token in tokens if token.word_class not in ("legal", "stop") and token.fold}


def joined_words(tokens: Sequence[Token]) -> set[str]:
    """Neighbouring words written as one, as lists and customers do with Chinese and Arabic names."""
    words = [token for token in tokens if token.word_class not in ("legal", "stop")]
    return {
        left.fold + right.fold
        for left, right in pairwise(words)
        if not left.digits and not right.digits and len(left.text) + len(right.text) < 16
    }


def shortened(word: str) -> Iterator[str]:
    """What a word is found by when it is mistyped; nothing where it is too short for that, or has digits."""
    if len(word) >= SHORTEST_FUZZY and not any(character.isdigit() for character in word):
        yield from one_letter_out(word)


def digest_of(text: str) -> int:
    """The same in every process, unlike `hash`. Where two texts share one, a candidate too many is compared."""
    return zlib.crc32(text.encode())


def write(columns: Columns, folder: Path) -> None:
    """Keeps the columns in ``folder``, private."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for part, table in columns.items():
        handle = os.open(folder / f"{part}.arrow", os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        schema = table.schema.with_metadata({"version": VERSION})
        with os.fdopen(handle, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(table.replace_schema_metadata({"version": VERSION}))


def read(folder: Path) -> Columns | None:
    """The columns kept in ``folder``; None where there are none, or those of another version.

    Raises:
        ScreeningError: they are broken.
    """
    found: Columns = {}
    for part, schema in _PARTS.items():
        path = folder / f"{part}.arrow"
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except FileNotFoundError:
            return None
        except (OSError, pa.ArrowInvalid) as error:
            raise ScreeningError(
                f"{path} cannot be read: {error}", remedy="Import the list again: auditspan lists import."
            ) from error
        if (table.schema.metadata or {}).get(b"version") != VERSION or not table.schema.equals(schema):
            return None
        found[part] = table
    return found


def _sorted(pairs: Iterable[tuple[int, int]]) -> tuple[Any, Any]:
    found = np.fromiter(pairs, np.dtype([("key", np.uint32), ("value", np.int32)]))
    found.sort(order=("key", "value"))
    return np.ascontiguousarray(found["key"]), np.ascontiguousarray(found["value"])


def _table(schema: pa.Schema, *columns: Any) -> pa.Table:
    arrays = []
    for field, column in zip(schema, columns, strict=True):
        made = column if isinstance(column, pa.Array) else pa.array(column)
        arrays.append(
            made.cast(field.type) if not pa.types.is_dictionary(field.type) else _dictionary(made, field.type)
        )
    return pa.Table.from_arrays(arrays, schema=schema)


def _dictionary(values: pa.Array, wanted: pa.DataType) -> pa.Array:
    return values.cast(pa.string()).dictionary_encode().cast(wanted)
