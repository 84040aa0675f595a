"""The few names of a list that are worth comparing with a name: found by their words, sounds and typing errors.

Words are looked up, not names compared: a name of the list is a candidate when it has words of the query, each as it
is, by its consonants, or with one letter more, less, other or swapped, and rare words count more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from .index_columns import (
    SHORTEST_FUZZY,
    Columns,
    digest_of,
    joined_words,
    rarity_of,
    shortened,
    words_of,
)
from .name_form import NameForm, Token

__all__ = ["NameIndex"]

_MOST_POSTINGS: Final = 1500
"""Names that are looked at for the words of one query; the commonest words are left out beyond that."""
_BY_TYPING_ERROR: Final = 0.8
_BY_CONSONANTS: Final = 0.75
_JOINED: Final = 0.9
_TELLING_CONSONANTS: Final = 4
_REMEMBERED_FORMS: Final = 1 << 16
_REMEMBERED_WORDS: Final = 1 << 16

Ids = npt.NDArray[np.int32]


class NameIndex:
    """Names of a list, to be found by their words. Immutable; safe for threads."""

    def __init__(self, columns: Columns) -> None:
        def column(part: str, name: str) -> npt.NDArray[np.generic]:
            found: npt.NDArray[np.generic] = columns[part][name].combine_chunks().to_numpy(zero_copy_only=False)
            return found

        names = columns["names"]
        self._names = names["name"].combine_chunks()
        kinds = names["kind"].combine_chunks()
        self._kinds, self._kind_of = kinds.indices.to_pylist(), kinds.dictionary.to_pylist()
        made_of = names["tokens"].combine_chunks()
        self._form_starts, self._form_tokens = made_of.offsets.to_numpy(), made_of.values.to_numpy()
        self._token_rows = columns["tokens"].combine_chunks()
        self._tokens: list[Token | None] = [None] * len(self._token_rows)
        self._forms: dict[int, NameForm] = {}
        self._roles = names["role"].combine_chunks()
        self.entries = column("names", "entry")
        """The row of its entry, by number of the name."""
        self._weights = column("names", "weight")
        self._postings = column("postings", "name")
        self._starts = np.append(column("words", "start"), len(self._postings)).astype(np.int64)
        self._rarity = rarity_of(np.diff(self._starts), len(names))
        words = columns["words"]
        self._vocabulary = {word: number for number, word in enumerate(words["word"].to_pylist())}
        self._consonants: dict[str, list[int]] = {}
        for number, bones in enumerate(words["skeleton"].to_pylist()):
            if len(bones) >= _TELLING_CONSONANTS:
                self._consonants.setdefault(bones, []).append(number)
        self._same_keys, self._same_names = column("same", "key"), column("same", "name")
        self._near_keys, self._near_words = column("neighbours", "key"), column("neighbours", "word")
        self._alike = lru_cache(_REMEMBERED_WORDS)(self._words_alike)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, number: int) -> str:
        """As the list writes it."""
        return str(self._names[number].as_py())

    def role(self, number: int) -> str:
        """One of `auditspan.screening.entry_names.ROLES`."""
        return str(self._roles[number].as_py())

    def form(self, number: int) -> NameForm:
        """Its comparable form."""
        known = self._forms.get(number)
        if known is None:
            begin, end = self._form_starts[number], self._form_starts[number + 1]
            tokens = tuple(self._token(place) for place in self._form_tokens[begin:end].tolist())
            weight = sum(token.weight for token in tokens)
            known = NameForm(self.name(number), tokens, self._kind_of[self._kinds[number]], weight, "")
            if len(self._forms) < _REMEMBERED_FORMS:
                self._forms[number] = known
        return known

    def _token(self, place: int) -> Token:
        known = self._tokens[place]
        if known is None:
            row = self._token_rows.slice(place, 1).to_pylist()[0]
            known = self._tokens[place] = Token(**{**row, "symbols": frozenset(row["symbols"])})
        return known

    def same(self, form: NameForm) -> Ids:
        """Names with the same words by sound, in any order and legal form."""
        if not form.key:
            return _NONE
        key = np.uint32(digest_of(form.key))
        begin, end = np.searchsorted(self._same_keys, key, "left"), np.searchsorted(self._same_keys, key, "right")
        return self._same_names[begin:end]  # type: ignore[return-value]

    def candidates(self, form: NameForm, most: int) -> tuple[Ids, npt.NDArray[np.float32]]:
        """At most ``most`` names that share most with ``form``, best first, each with an estimate from 0 to 1."""
        parts: list[npt.NDArray[np.generic]] = []
        shares: list[float] = []
        looked = 0
        for word, share, begin, end in sorted(self._matching_words(form.tokens), key=lambda match: match[3] - match[2]):
            if looked and looked + end - begin > _MOST_POSTINGS:
                break
            looked += end - begin
            parts.append(self._postings[begin:end])
            shares.append(share * float(self._rarity[word]))
        if not parts:
            return _NONE, _NO_SCORES
        total = sum(self._rarity_of(word) for word in words_of(form.tokens))
        owners = np.concatenate(parts)
        worth = np.repeat(np.array(shares, np.float32), [len(part) for part in parts])
        owners, shared = _summed(owners, worth)
        weights = self._weights[owners]
        # Half of it by the shorter name, which may be wholly in the longer one, half by the longer.
        estimates = np.minimum(shared / np.minimum(weights, total), 1) * np.sqrt(
            np.minimum(shared / np.maximum(weights, total), 1)
        )
        if len(owners) > most:
            best = np.argpartition(estimates, -most)[-most:]
            owners, estimates = owners[best], estimates[best]
        order = np.argsort(-estimates, kind="stable")
        return owners[order], estimates[order]

    def _rarity_of(self, word: str) -> float:
        known = self._vocabulary.get(word)
        return 1.0 if known is None else float(self._rarity[known])

    def _matching_words(self, tokens: Sequence[Token]) -> Iterator[tuple[int, float, int, int]]:
        best: dict[int, float] = {}
        for token in tokens:
            if token.word_class not in ("legal", "stop"):
                for word, share in self._alike(token.fold, token.text, token.skeleton):
                    best[word] = max(best.get(word, 0.0), share)
        for joined in joined_words(tokens):
            known = self._vocabulary.get(joined)
            if known is not None:
                best[known] = max(best.get(known, 0.0), _JOINED)
        for word, share in best.items():
            yield word, share, int(self._starts[word]), int(self._starts[word + 1])

    def _words_alike(self, fold: str, text: str, bones: str) -> tuple[tuple[int, float], ...]:
        found: dict[int, float] = {}
        if len(fold) >= SHORTEST_FUZZY:
            found |= dict.fromkeys(self._consonants.get(bones, ()), _BY_CONSONANTS)
            asked = np.fromiter((digest_of(left) for word in {fold, text} for left in shortened(word)), np.uint32)
            begins = np.searchsorted(self._near_keys, asked, "left")
            ends = np.searchsorted(self._near_keys, asked, "right")
            for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
                if begin != end:
                    found |= dict.fromkeys(self._near_words[begin:end].tolist(), _BY_TYPING_ERROR)
        known = self._vocabulary.get(fold)
        if known is not None:
            found[known] = 1.0
        return tuple(found.items())


def _summed(
    owners: npt.NDArray[np.generic], worth: npt.NDArray[np.float32]
) -> tuple[Ids, npt.NDArray[np.float32]]:
    """The sum of ``worth`` for each of ``owners``, each once."""
    order = np.argsort(owners, kind="stable")
    owners, worth = owners[order], worth[order]
    first = np.flatnonzero(np.append(True, owners[1:] != owners[:-1]))
    return owners[first], np.add.reduceat(worth, first)  # type: ignore[return-value]


_NONE: Final[Ids] = np.empty(0, np.int32)
_NO_SCORES: Final[npt.NDArray[np.float32]] = np.empty(0, np.float32)
