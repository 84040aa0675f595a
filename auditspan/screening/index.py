"""The few names of a list that are worth comparing with a name: found by their words, sounds and typing errors.

Words are looked up, not names compared: a name of the list is a candidate when it has words of the query, each as it
is, by its consonants, or with one letter more, less, other or swapped, and rare words count more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from rapidfuzz import fuzz
from rapidfuzz.distance import OSA

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

_LEAST_ESTIMATE: Final = 0.25
_LEAST_LETTERS: Final = 48.0
"""Percent of letters that two names share in order; measured: of those that score as hits, 1 in 100 shares fewer."""
_MOST_POSTINGS: Final = 1500
"""Names that are looked at for the words of one query; the commonest words are left out beyond that."""
_MOST_COMMON: Final = 8
"""Common words of a query that names found by its rare ones are looked up in."""
_BY_TYPING_ERROR: Final = 0.8
_BY_CONSONANTS: Final = 0.75
_JOINED: Final = 0.9
_TELLING_CONSONANTS: Final = 4
_REMEMBERED_FORMS: Final = 1 << 16
_REMEMBERED_WORDS: Final = 1 << 16

Ids = npt.NDArray[np.int32]
_Spelt = tuple[str, str]
"""A word by its sounds and as it was written."""


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
        self._token_columns = [column.to_pylist() for column in columns["tokens"].columns]
        self._tokens: list[Token | None] = [None] * len(columns["tokens"])
        self._forms: dict[int, NameForm] = {}
        self._keys = names["key"].to_pylist()
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
        self._near_keys, self._near = column("neighbours", "key"), column("neighbours", "spelling")
        self._spellings = columns["spellings"]["text"].to_pylist()
        self._spelt = columns["spellings"]["word"].to_pylist()
        self._alike: dict[_Spelt, Mapping[int, float]] = {}

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
            known = NameForm(self.name(number), tokens, self._kind_of[self._kinds[number]], weight, self._keys[number])
            if len(self._forms) < _REMEMBERED_FORMS:
                self._forms[number] = known
        return known

    def _token(self, place: int) -> Token:
        known = self._tokens[place]
        if known is None:
            text, fold, bones, word_class, weight, symbols, digits = (column[place] for column in self._token_columns)
            known = Token(text, fold, bones, word_class, weight, frozenset(symbols), digits)
            self._tokens[place] = known
        return known

    def same(self, form: NameForm) -> Ids:
        """Names with the same words by sound, in any order and legal form."""
        if not form.key:
            return _NONE
        key = np.uint32(digest_of(form.key))
        begin, end = self._same_keys.searchsorted(key, "left"), self._same_keys.searchsorted(key, "right")
        return self._same_names[begin:end]  # type: ignore[return-value]

    def candidates(self, form: NameForm, most: int) -> tuple[Ids, npt.NDArray[np.float32]]:
        """At most ``most`` names that share most with ``form``, best first, each with an estimate from 0 to 1."""
        matching = self._matching_words(form.tokens)
        if not matching:
            return _NONE, _NO_SCORES
        words = np.fromiter(matching, np.int64, len(matching))
        shares = np.fromiter(matching.values(), np.float32, len(matching))
        begins = self._starts[words]
        sizes = self._starts[words + 1] - begins
        order = sizes.argsort(kind="stable")
        # Rare words first; at least the rarest one, however many names have it.
        few = max(int(sizes[order].cumsum().searchsorted(_MOST_POSTINGS, "right")), 1)
        order, common = order[:few], order[few:]
        worth = (shares * self._rarity[words])[order].repeat(sizes[order])
        places = [self._postings[b : b + n] for b, n in zip(begins[order].tolist(), sizes[order].tolist(), strict=True)]
        owners, shared = _summed(np.concatenate(places), worth)
        for at in common[:_MOST_COMMON].tolist():
            posting = self._postings[begins[at] : begins[at] + sizes[at]]
            found = posting.searchsorted(owners)
            found[found == len(posting)] = 0
            shared += (posting[found] == owners) * (shares[at] * self._rarity[words[at]])
        total = sum(self._rarity_of(word) for word in words_of(form.tokens))
        weights = self._weights[owners]
        # Half of it by the shorter name, which may be wholly in the longer one, half by the longer.
        estimates = np.minimum(shared / np.minimum(weights, total), 1) * np.sqrt(
            np.minimum(shared / np.maximum(weights, total), 1)
        )
        if len(owners) > most:
            best = estimates.argpartition(-most)[-most:]
            owners, estimates = owners[best], estimates[best]
        order = (-estimates).argsort(kind="stable")
        return owners[order], estimates[order]

    def alike(self, form: NameForm, most: int) -> list[int]:
        """The names worth a careful comparison with ``form``: the same words, or candidates of similar letters."""
        found = dict.fromkeys(self.same(form).tolist())
        numbers, estimates = self.candidates(form, most)
        for number, estimate in zip(numbers.tolist(), estimates.tolist(), strict=True):
            if estimate < _LEAST_ESTIMATE:
                break
            if fuzz.ratio(form.key, self._keys[number], score_cutoff=_LEAST_LETTERS):
                found[number] = None
        return list(found)

    def _rarity_of(self, word: str) -> float:
        known = self._vocabulary.get(word)
        return 1.0 if known is None else float(self._rarity[known])

    def _matching_words(self, tokens: Sequence[Token]) -> dict[int, float]:
        best: dict[int, float] = {}
        for alike in self._alike_of([token for token in tokens if token.word_class not in ("legal", "stop")]):
            for word, share in alike.items():
                if share > best.get(word, 0.0):
                    best[word] = share
        for joined in joined_words(tokens):
            known = self._vocabulary.get(joined)
            if known is not None:
                best[known] = max(best.get(known, 0.0), _JOINED)
        return best

    def _alike_of(self, tokens: Sequence[Token]) -> Iterator[Mapping[int, float]]:
        """For each of ``tokens`` the words of the list that it may be, with a share; new ones looked up together."""
        found = {(token.fold, token.text): self._alike.get((token.fold, token.text)) for token in tokens}
        new = [token for token in tokens if found[token.fold, token.text] is None]
        if new:
            spellings = [
                ((token.fold, token.text), written)
                for token in new
                if len(token.fold) >= SHORTEST_FUZZY
                for written in dict.fromkeys((token.fold, token.text))
            ]
            mistyped: dict[_Spelt, list[int]] = {}
            for spelt, word in self._mistyped(spellings):
                mistyped.setdefault(spelt, []).append(word)
            for token in new:
                words: dict[int, float] = {}
                if len(token.fold) >= SHORTEST_FUZZY:
                    words |= dict.fromkeys(self._consonants.get(token.skeleton, ()), _BY_CONSONANTS)
                    words |= dict.fromkeys(mistyped.get((token.fold, token.text), ()), _BY_TYPING_ERROR)
                known = self._vocabulary.get(token.fold)
                if known is not None:
                    words[known] = 1.0
                found[token.fold, token.text] = words
                if len(self._alike) >= _REMEMBERED_WORDS:
                    self._alike.clear()
                self._alike[token.fold, token.text] = words
        return (words for words in found.values() if words)

    def _mistyped(self, spellings: Sequence[tuple[_Spelt, str]]) -> Iterator[tuple[_Spelt, int]]:
        """Words of the list that are one typing error from a spelling, each with the word that is spelt so.

        What is left of two words can be equal where they are further apart: so each is compared.
        """
        lefts = [(spelt, written, left) for spelt, written in spellings for left in shortened(written)]
        asked = np.array([digest_of(left) for _, _, left in lefts], np.uint32)
        begins = self._near_keys.searchsorted(asked, "left")
        ends = self._near_keys.searchsorted(asked, "right")
        seen: set[tuple[str, int]] = set()
        for at in (begins < ends).nonzero()[0].tolist():
            spelt, written, _ = lefts[at]
            for spelling in self._near[begins[at] : ends[at]].tolist():
                if (written, spelling) in seen:
                    continue
                seen.add((written, spelling))
                if OSA.distance(written, self._spellings[spelling], score_cutoff=1) < 2:
                    yield spelt, self._spelt[spelling]


def _summed(owners: npt.NDArray[np.generic], worth: npt.NDArray[np.float32]) -> tuple[Ids, npt.NDArray[np.float32]]:
    """The sum of ``worth`` for each of ``owners``, each once."""
    order = owners.argsort(kind="stable")
    owners, worth = owners[order], worth[order]
    new = np.empty(len(owners), np.bool_)
    new[0] = True
    np.not_equal(owners[1:], owners[:-1], out=new[1:])
    first = new.nonzero()[0]
    return owners[first], np.add.reduceat(worth, first)  # type: ignore[return-value]


_NONE: Final[Ids] = np.empty(0, np.int32)
_NO_SCORES: Final[npt.NDArray[np.float32]] = np.empty(0, np.float32)
