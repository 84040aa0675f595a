"""Whether a party is on a list: the candidates of its name, scored with what else is known of it, as hits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pyarrow as pa

from auditspan.policy.forked import renew_in_children

from . import index_columns
from .addresses import address_score
from .csl_fields import identifier
from .entry_names import names_in
from .errors import ScreeningError
from .index import NameIndex
from .lists import KeptList, current_list, load_entries
from .name_form import Kind, NameForm, form_as, name_form
from .name_score import NameScore, name_score
from .policies import policy_of
from .spelling import LONGEST

__all__ = ["Hit", "Party", "Screener", "columns_of", "has_index", "open_screener", "screener_of", "write_index"]

_MOST_CANDIDATES: Final = 12
_REMEMBERED: Final = 10_000
_SAME_COUNTRY: Final = 0.02
_OTHER_COUNTRY: Final = 0.06
_SAME_ADDRESS: Final = 0.04
_AT_ADDRESS: Final = 0.8
"""Score from which on two addresses are one place."""
_LEAST_STRENGTH: Final = 1.0
"""Of a name: about one word of five letters of the party's own. One that has less can be many parties'."""
_EXACT: Final = 0.96
"""Of two words: the same, or the same by sound."""
_NEARLY_ALL: Final = 0.93
_INDEX: Final = "index"


@dataclass(frozen=True, slots=True)
class Party:
    """Whom to screen.

    Args:
        name: as it was given; may be empty where an address or identifier is known.
        country: ISO 3166-1 alpha-2, of the party's address or nationality.
        address: as one line.
        identifiers: registration, passport, IMO numbers.
        kind: what it is, where that is known.
    """

    name: str
    country: str = ""
    address: str = ""
    identifiers: tuple[str, ...] = ()
    kind: Kind = ""


@dataclass(frozen=True, slots=True)
class Hit:
    """A party of a list that may be the one that was asked about.

    Attributes:
        list, list_name, entry_id, listed_as, kind: which entry of which list; ``listed_as`` as the list writes it.
        matched_name, role: the name that produced the score, and what it is of the entry.
        score: 0 to 1, at least ``threshold``.
        parts: ``name``, and where they were known ``country``, ``address``, ``identifier``: what each added or took.
        conflicts: what in the names speaks against it (`auditspan.screening.name_score.NameScore`).
        weak: the matched name is short, an acronym or of common words; it counts only when it is equal or corroborated.
        corroborated_by: which of country, address, identifier agree.
        effect, citation, effect_status: what the list means, where that stands, and whether it was verified.
        entry: the entry's other columns.
    """

    list: str
    list_name: str
    entry_id: str
    listed_as: str
    kind: str
    matched_name: str
    role: str
    score: float
    threshold: float
    parts: Mapping[str, float]
    conflicts: tuple[str, ...]
    weak: bool
    corroborated_by: tuple[str, ...]
    effect: str
    citation: str
    effect_status: str
    entry: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        return {
            name: (dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value)
            for name in self.__slots__
            for value in (getattr(self, name),)
        }


_TOLD: Final = ("list", "list_name", "entry_id", "listed_as", "kind")
_SHOWN: Final = (
    "addresses", "countries", "programs", "license_requirement", "license_policy", "federal_register_notice",
    "remarks", "source_list_url",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Likeness:
    """What a `Hit` is made of, before its entry is read: most candidates never become one."""

    row: int
    number: int | None
    """Of the name in the index; None where an identifier or the address alone was found."""
    names: NameScore | None
    score: float
    parts: Mapping[str, float]
    weak: bool
    corroborated_by: tuple[str, ...]


class Screener:
    """Screens parties against one list. Immutable but for its memory of answers; safe for threads.

    Args:
        kept: the list.
        entries: its entries.
        index: of its names.
        remembered: how many answers are kept; the least recently asked are forgotten.
        judged_as: the country that a code counts as: those of party and entry agree when they count as one.

    Attributes:
        asked, remembered: how many parties were screened, and how many of them from memory.
    """

    def __init__(
        self,
        kept: KeptList,
        entries: pa.Table,
        index: NameIndex,
        remembered: int = _REMEMBERED,
        judged_as: Callable[[str], str] = str.upper,
    ) -> None:
        self.list = kept
        self._judged_as = judged_as
        self.asked = self.answered_from_memory = 0
        self._entries = entries
        self._index = index
        self._most_remembered = remembered
        self._answers: OrderedDict[tuple[str, Party], tuple[Hit, ...]] = OrderedDict()
        self._lock = threading.Lock()
        lists = entries["list"].combine_chunks().dictionary_decode().to_pylist()
        self._kinds = entries["kind"].combine_chunks().dictionary_decode().to_pylist()
        self._thresholds = [policy_of(code).threshold for code in lists]
        self._told = {name: entries[name].combine_chunks() for name in (*_TOLD, *_SHOWN)}
        self._by_identifier = _by_identifier(entries["identifiers"])
        self._listed_addresses = [row for row, kind in enumerate(self._kinds) if kind == "address"]
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Screen without the thread of the parent that held the lock."""
        self._lock = threading.Lock()
        self._answers = OrderedDict()

    @property
    def entries(self) -> pa.Table:
        """The entries of the list."""
        return self._entries

    def screen(self, party: Party) -> tuple[Hit, ...]:
        """The hits on ``party``, best first; none when it is on no list.

        Raises:
            ScreeningError: nothing to screen, or a name above 1,000 characters.
        """
        _check(party)
        key = (self.list.digest, party)
        with self._lock:
            self.asked += 1
            known = self._answers.get(key)
            if known is not None:
                self.answered_from_memory += 1
                self._answers.move_to_end(key)
                return known
        hits = self._screen(party)
        with self._lock:
            self._answers[key] = hits
            while len(self._answers) > self._most_remembered:
                self._answers.popitem(last=False)
        return hits

    def _screen(self, party: Party) -> tuple[Hit, ...]:
        best: dict[int, _Likeness] = {}
        for text, _ in names_in(party.name) or [(party.name, "")]:
            form = name_form(text, party.kind)
            if form.tokens:
                self._by_name(form, party, best)
        for number in map(identifier, party.identifiers):
            for row in self._by_identifier.get(number, ()):
                if row not in best or "identifier" not in best[row].parts:
                    best[row] = self._likeness(row, None, None, party, False)
        if party.address:
            for row in self._listed_addresses:
                score = max((address_score(party.address, each) for each in self._addresses(row)), default=0.0)
                if score >= _AT_ADDRESS:
                    parts = {"name": 0.0, "address": round(score, 4)}
                    best[row] = _Likeness(row, None, None, score, parts, False, ("address",))
        hits = (self._hit(found) for found in best.values())
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.entry_id)))

    def _by_name(self, form: NameForm, party: Party, best: dict[int, _Likeness]) -> None:
        asked: dict[Kind, NameForm] = {}
        for number in self._index.alike(form, _MOST_CANDIDATES):
            row = int(self._index.entries[number])
            other = self._index.form(number)
            # As what the entry is: `Iris Foods` is a company's name beside a company's, two own words beside a ship's.
            kind = party.kind or other.kind
            if kind not in asked:
                asked[kind] = form_as(form, kind)
            names = name_score(asked[kind], other, kind)
            threshold = self._thresholds[row]
            if names.score < threshold - _SAME_COUNTRY - _SAME_ADDRESS:
                continue
            known = best.get(row)
            if known is not None and known.parts["name"] >= round(names.score, 4):
                continue
            weak = self._index.role(number) == "acronym" or is_weak(other) or is_weak(form)
            found = self._likeness(row, number, names, party, weak)
            if round(found.score, 4) < threshold:
                continue
            if weak and not found.corroborated_by and not _is_equal(names):
                continue
            best[row] = found

    def _likeness(self, row: int, number: int | None, names: NameScore | None, party: Party, weak: bool) -> _Likeness:
        """The name's score with what else is known; reads of the entry what the party gives to compare, no more."""
        parts, score = {"name": round(names.score, 4) if names else 0.0}, names.score if names else 0.0
        agreeing: list[str] = []
        if party.country and (countries := self._entries["countries"][row].as_py()):
            same = self._judged_as(party.country) in map(self._judged_as, countries)
            parts["country"] = _SAME_COUNTRY if same else -_OTHER_COUNTRY
            agreeing += ["country"] * same
        addresses = self._addresses(row) if party.address else []
        if any(address_score(party.address, each) >= _AT_ADDRESS for each in addresses):
            parts["address"] = _SAME_ADDRESS
            agreeing.append("address")
        if party.identifiers:
            mine = {identifier(number) for number in party.identifiers}
            if mine & {each["number"] for each in self._entries["identifiers"][row].as_py()}:
                parts["identifier"] = round(1 - parts["name"], 4)
                agreeing.append("identifier")
        score = min(max(score + sum(share for part, share in parts.items() if part != "name"), 0.0), 1.0)
        return _Likeness(row, number, names, score, parts, weak, tuple(agreeing))

    def _hit(self, found: _Likeness) -> Hit:
        entry = {name: column[found.row].as_py() for name, column in self._told.items()}
        policy = policy_of(entry["list"])
        if found.number is not None:
            name, role = self._index.name(found.number), self._index.role(found.number)
        elif "identifier" in found.parts:
            name, role = self._first_name(found.row), "primary"
        else:
            name, role = entry["listed_as"], "address"
        return Hit(
            list=entry["list"],
            list_name=entry["list_name"],
            entry_id=entry["entry_id"],
            listed_as=entry["listed_as"],
            kind=entry["kind"],
            matched_name=name,
            role=role,
            score=round(found.score, 4),
            threshold=policy.threshold if role != "address" else _AT_ADDRESS,
            parts=found.parts,
            conflicts=found.names.conflicts if found.names else (),
            weak=found.weak,
            corroborated_by=found.corroborated_by,
            effect=policy.effect,
            citation=policy.citation,
            effect_status=policy.effect_status,
            entry={name: entry[name] for name in _SHOWN if entry[name]},
        )

    def _first_name(self, row: int) -> str:
        names = self._entries["names"][row].as_py()
        return str(names[0]["name"]) if names else str(self._entries["listed_as"][row].as_py())

    def _addresses(self, row: int) -> list[str]:
        return [each["address"] for each in self._entries["addresses"][row].as_py() if each["address"]]


def is_weak(form: NameForm) -> bool:
    """Whether a name can be many parties': too short, or only of words that are no party's own."""
    return form.strength < _LEAST_STRENGTH


def _is_equal(names: NameScore) -> bool:
    """Whether two names are the same but for legal form, or a typing error in a word that is no party's own."""
    if min(names.left_covered, names.right_covered) < _NEARLY_ALL:
        return False
    own = [pair.score for pair in names.pairs if any(token.word_class in ("own", "number") for token in pair.right)]
    alone = [token for token in (*names.only_left, *names.only_right) if token.word_class in ("own", "number")]
    return not alone and min(own, default=1.0) >= _EXACT


def columns_of(entries: pa.Table) -> index_columns.Columns:
    """The columns of an index of ``entries``."""
    names = entries["names"].combine_chunks()
    rows = np.repeat(np.arange(len(entries), dtype=np.int32), np.diff(names.offsets.to_numpy()))
    kinds = entries["kind"].combine_chunks().dictionary_decode().to_pylist()
    vessels = {"aircraft": "vessel"}
    of_names: Sequence[Kind] = [cast(Kind, vessels.get(kinds[row], kinds[row])) for row in rows.tolist()]
    flat = names.flatten()
    return index_columns.build(flat.field("name"), rows.tolist(), of_names, flat.field("role"))


def write_index(entries: pa.Table, folder: Path) -> None:
    """Makes the index of ``entries`` and keeps it in the folder of their list (``prepare`` of `import_list`)."""
    index_columns.write(columns_of(entries), folder / _INDEX)


def open_screener(folder: Path, judged_as: Callable[[str], str] = str.upper) -> Screener:
    """Screens against the current list of ``folder`` (`auditspan.data_directory.DataDirectory.screening`).

    ``judged_as`` is that of `Screener`.

    Raises:
        ScreeningError: no list has been imported, or it cannot be read.
    """
    kept = current_list(folder)
    if kept is None:
        raise ScreeningError(
            f"There is no list in {folder}.",
            remedy="Download the Consolidated Screening List and import it: auditspan lists import FILE --data DIR.",
        )
    return screener_of(kept, folder, judged_as)


def screener_of(kept: KeptList, folder: Path, judged_as: Callable[[str], str] = str.upper) -> Screener:
    """Screens against one of the lists of ``folder``.

    Raises:
        ScreeningError: it cannot be read.
    """
    entries = load_entries(folder, kept.digest)
    # One that another version of the software made is not used; making it anew takes some seconds.
    columns = index_columns.read(folder / kept.digest / _INDEX) or columns_of(entries)
    return Screener(kept, entries, NameIndex(columns), judged_as=judged_as)


def has_index(folder: Path, digest: str) -> bool:
    """Whether the list of this digest is kept in ``folder`` with an index that this version reads.

    Raises:
        ScreeningError: the index is broken.
    """
    return index_columns.read(folder / digest / _INDEX) is not None


def _check(party: Party) -> None:
    if len(party.name) > LONGEST:
        raise ScreeningError(
            f"The name has {len(party.name)} characters, and {LONGEST} at most are screened.",
            remedy="Give the name alone; an address or a description goes elsewhere.",
        )
    if not any(character.isalnum() for character in party.name) and not party.address and not party.identifiers:
        raise ScreeningError(
            f"There is nothing to screen in {party.name[:40]!r}.", remedy="Give a name with a letter or a digit in it."
        )


def _by_identifier(column: pa.ChunkedArray) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for row, identifiers in enumerate(column.to_pylist()):
        for each in identifiers:
            found.setdefault(each["number"], []).append(row)
    return found
