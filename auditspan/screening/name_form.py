"""A name made comparable: its words in Latin letters, each with what it is and how much it says about whose name it is.

Legal forms, ordinals, places and trades are recognised by `rigour` (OpenSanctions' library of names, MIT).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from rigour.names import Name, NameTypeTag, analyze_names

from .spelling import LONGEST, folded, latin, plain_text, skeleton
from .words import han_words, legal_forms, meaning

__all__ = ["KINDS", "Kind", "NameForm", "Token", "form_as", "name_form"]

Kind = Literal["organization", "person", "vessel", "address", ""]
KINDS: Final[tuple[Kind, ...]] = ("organization", "person", "vessel", "address", "")
"""What a name is the name of; empty when that is not known."""

TokenClass = Literal[
    "own", "form", "generic", "domain", "location", "number", "legal", "stop", "honorific", "particle", "initial"
]

_REMEMBERED: Final = 1 << 14
_MOST_TOKENS: Final = 40

_WEIGHTS: Final[dict[str, float]] = {
    "form": 0.12,
    "generic": 0.25,
    "domain": 0.45,
    "location": 0.6,
    "number": 0.9,
    "legal": 0.1,
    "stop": 0.03,
    "honorific": 0.08,
    "particle": 0.12,
    "initial": 0.3,
}
_NOT_IN_KEY: Final = frozenset({"legal", "form", "stop", "honorific"})
_HINTS: Final = ("stvo", "company", "sirket", "limited", "sahami", "c.v", "c v", "c, v")
_LETTERS_AT_END: Final = re.compile(r"(?:[\s.,]+[a-z](?=[\s.,]|$)){2,4}[\s.,]*$")
_LETTER_FORMS: Final = frozenset(
    [
        "sa",
        "as",
        "ag",
        "ao",
        "ab",
        "ev",
        "bv",
        "nv",
        "kg",
        "oy",
        "spa",
        "srl",
        "sarl",
        "llc",
        "llp",
        "ltd",
        "jsc",
        "ooo",
        "oao",
        "zao",
        "pao",
        "plc",
    ]
)
_ROMAN: Final = {
    roman: number
    for number, roman in enumerate(
        [
            "i",
            "ii",
            "iii",
            "iv",
            "v",
            "vi",
            "vii",
            "viii",
            "ix",
            "x",
            "xi",
            "xii",
            "xiii",
            "xiv",
            "xv",
            "xvi",
            "xvii",
            "xviii",
            "xix",
            "xx",
        ],
        1,
    )
}
_STRENGTH: Final = {
    "domain": 0.7, "generic": 0.4, "initial": 0.3,
    "form": 0.0, "legal": 0.0, "stop": 0.0, "honorific": 0.0, "particle": 0.0,
}  # fmt: skip
_ALSO_LETTERS: Final = frozenset({"i", "v", "x", "xi"})
"""Numbers only in the name of a ship."""
_OWN_WEIGHTS: Final = (0.3, 0.3, 0.6, 0.8, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2)
"""Of a party's own word by its length: a long word is less likely to be another's too."""


@dataclass(frozen=True, slots=True)
class Token:
    """One word: ``text`` in lower-case ASCII, its sounds, its consonants, what it is, what it weighs.

    ``symbols`` name what it means, so that `Ltd` meets `OOO`, and `13th` meets `thirteenth`.
    """

    text: str
    fold: str
    skeleton: str
    word_class: TokenClass
    weight: float
    symbols: frozenset[str]
    digits: bool

    def __hash__(self) -> int:
        # Words of one spelling are seldom two tokens: enough, and much cheaper than of all fields.
        return hash(self.text)


@dataclass(frozen=True, slots=True)
class NameForm:
    """A comparable name: its words in order, what kind of name it looks like, and the sum of their weights."""

    original: str
    tokens: tuple[Token, ...]
    kind: Kind
    weight: float
    key: str
    """The folded words, sorted: equal for names that differ in spelling, order, punctuation or legal form only."""

    @property
    def strength(self) -> float:
        """How much the name tells: the weight of the party's own words and numbers, and a share of the others'."""
        return sum(token.weight * _STRENGTH.get(token.word_class, 1.0) for token in self.tokens)


@lru_cache(_REMEMBERED)
def name_form(text: str, kind: Kind = "") -> NameForm:
    """The comparable form of ``text``, of which at most `LONGEST` characters and 40 words count.

    Any text has one; a text without letters or digits has no tokens.
    """
    plain = plain_text(text)
    if not plain.isascii():
        plain = _with_han_words(plain)
    if kind in ("organization", ""):
        plain = _with_short_forms(plain)
    analysed = _analysed(plain, kind)
    tokens: tuple[Token, ...] = ()
    if analysed is not None:
        symbols = _symbols(analysed)
        tokens = tuple(
            _token(part.comparable, part.tag.value, symbols.get(part.index, frozenset()), kind)
            for part in analysed.parts[:_MOST_TOKENS]
        )
    tokens = tuple(token for token in tokens if token.text)
    if not kind:
        kind = _looks_like(tokens)
        if kind == "person":
            tokens = tuple(_token(token.text, "", token.symbols, kind) for token in tokens)
    kept = sorted(token.fold for token in tokens if token.word_class not in _NOT_IN_KEY)
    return NameForm(text[:LONGEST], tokens, kind, sum(token.weight for token in tokens), " ".join(kept))


def form_as(form: NameForm, kind: Kind) -> NameForm:
    """``form`` read as the name of a ``kind``: what is a trade in a company's name is a person's own word."""
    if kind == form.kind or kind not in ("person", "vessel"):
        return form
    tokens = tuple(_token(token.text, "", frozenset(), kind) for token in form.tokens)
    return NameForm(form.original, tokens, kind, sum(token.weight for token in tokens), form.key)


def _with_han_words(text: str) -> str:
    pattern, english = han_words()
    replaced = pattern.sub(lambda found: f" {english[found.group()]} ", text)
    # rigour reads Cyrillic and Greek legal forms in their own script; what it cannot read is made Latin first.
    return latin(replaced) if replaced != text or _needs_latin(replaced) else replaced


def _with_short_forms(text: str) -> str:
    lowered = text.lower()
    lowered = _LETTERS_AT_END.sub(_joined_letters, lowered)
    if any(hint in lowered for hint in _HINTS):
        for pattern, form in legal_forms():
            lowered = pattern.sub(form, lowered)
    return lowered


def _joined_letters(found: re.Match[str]) -> str:
    """``a, s.`` at the end of a name is the legal form ``as``, where there is one of that name."""
    joined = "".join(character for character in found.group() if character.isalnum())
    return f" {joined}" if joined in _LETTER_FORMS else found.group()


def _needs_latin(text: str) -> bool:
    return any(character >= "\u0590" for character in text)


def _analysed(text: str, kind: Kind) -> Name | None:
    if kind == "person":
        # Without symbols: rigour's table of personal names takes seconds and 400 MB to load.
        names = analyze_names(NameTypeTag.PER, [_in_order(text)], symbols=False, phonetics=False)
    elif kind == "vessel":
        names = analyze_names(NameTypeTag.OBJ, [text], phonetics=False)
    else:
        names = analyze_names(NameTypeTag.ORG, [text], phonetics=False)
    return next(iter(names), None)


def _in_order(text: str) -> str:
    """``FAMILY, Given`` as ``Given FAMILY``, so that a title before the given name is found."""
    family, comma, given = text.partition(",")
    return f"{given} {family}" if comma and given.strip() and "," not in given else text


def _symbols(name: Name) -> dict[int, frozenset[str]]:
    found: dict[int, set[str]] = {}
    for span in name.spans:
        for number, part in enumerate(span.parts):
            place = f"/{number}" if len(span.parts) > 1 else ""
            found.setdefault(part.index, set()).add(f"{span.symbol.category.value}:{span.symbol.id}{place}")
    return {index: frozenset(symbols) for index, symbols in found.items()}


def _looks_like(tokens: Iterable[Token]) -> Kind:
    """``organization`` or ``person`` where the words say so."""
    listed = list(tokens)
    if any(token.word_class in ("legal", "form", "generic", "domain", "number") for token in listed):
        return "organization"
    return "person" if any(token.word_class in ("honorific", "particle", "initial") for token in listed) else ""


@lru_cache(1 << 17)
def _token(comparable: str, tag: str, symbols: frozenset[str], kind: Kind) -> Token:
    text = comparable if comparable.isascii() else latin(comparable)
    text = "".join(character for character in text.lower() if character.isalnum())
    known = meaning(text)
    roman = _ROMAN.get(text) if kind != "person" and (kind == "vessel" or text not in _ALSO_LETTERS) else None
    if roman is not None:
        symbols = frozenset((f"NUM:{roman}",))
    elif text.isdigit():
        symbols |= {f"NUM:{int(text)}"}
    elif known is not None and known.symbol and kind not in ("person", "vessel"):
        symbols |= {known.symbol}
    word_class = _class(text, tag, symbols, kind)
    weight = _WEIGHTS.get(word_class) or _OWN_WEIGHTS[min(len(text), len(_OWN_WEIGHTS) - 1)]
    digits = any(character.isdigit() for character in text) or roman is not None
    return Token(text, folded(text), skeleton(text), word_class, weight, symbols, digits)


def _class(text: str, tag: str, symbols: frozenset[str], kind: Kind) -> TokenClass:
    known = meaning(text)
    listed = known.word_class if known else ""
    categories = {each.partition(":")[0] for each in symbols}
    if kind == "vessel":
        return "number" if "NUM" in categories else "own"
    if kind == "person":
        if listed == "honorific":
            return "honorific"
        return "particle" if listed == "particle" else "initial" if len(text) == 1 else "own"
    if "NUM" in categories:
        return "number"
    if tag == "LEGAL" or "ORGCLS" in categories:
        return "legal"
    if tag == "STOP":
        return "stop"
    if listed == "particle":
        return "particle"
    if "LOC" in categories:
        return "location"
    if listed == "honorific":
        return "honorific"
    if listed == "form":
        return "form"
    if listed == "generic":
        return "generic"
    if listed == "domain" or "DOMAIN" in categories:
        return "domain"
    if "SYMBOL" in categories:
        return "generic"
    return "initial" if len(text) == 1 else "own"
