"""How a word is reduced until the ways to spell it meet: across scripts, romanisations and keyboards."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache, partial
from typing import Final

import normality
from rigour.text.translit import maybe_ascii, should_ascii

__all__ = ["LONGEST", "folded", "plain_text", "skeleton"]

LONGEST: Final = 1000
"""Characters of the longest name that is compared; no list has one of half of that."""

_REMEMBERED: Final = 1 << 17

# Letters of Cyrillic and Greek that look like Latin ones. They matter only in a word that mixes scripts: there they are
# disguise or slip, while a word all in Cyrillic is transliterated.
_LOOK_ALIKE: Final = str.maketrans(
    "АВЕЗКМНОРСТУХЅІЈԌавезкмнорстухѕіјԁɡ" + "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαινορτυχ",
    "ABE3KMHOPCTYXSIJGabe3kmhopctyxsijdg" + "ABEZHIKMNOPTYXaivoptux",
)
_MIXED: Final = re.compile(r"[^\W\d_]+")
_LATIN: Final = re.compile(r"[A-Za-z]")
_LOOKS_LATIN: Final = re.compile(r"[\u0370-\u03ff\u0400-\u052f]")
_HAN: Final = re.compile(r"[\u3400-\u9fff]+")


def _replaced(letters: str, into: str, word: str) -> str:
    return word.replace(letters, into)


def _substituted(pattern: re.Pattern[str], into: str, word: str) -> str:
    return pattern.sub(into, word)


# In this order. Each unites what different romanisations write for one sound (BGN/PCGN, ISO 9, pinyin and Wade-Giles,
# the many of Arabic and Persian), and none a difference that tells names apart often.
_SOUNDS: Final = tuple(
    # Plain letters are replaced many times faster than by a pattern.
    partial(_replaced, pattern, into) if pattern.isalpha() else partial(_substituted, re.compile(pattern), into)
    for pattern, into in (
        (r"shch|sch", "sh"),
        (r"tch|tsch|tj", "ch"),
        (r"dzh|dj|dsch", "j"),
        (r"ph", "f"),
        (r"kh|gh(?=[aeiouy])", "h"),
        (r"th", "t"),
        (r"dh", "d"),
        (r"zh", "z"),
        (r"ck|q", "k"),
        (r"c(?=[eiy])", "s"),
        (r"c(?!h)", "k"),
        (r"x", "ks"),
        (r"w", "v"),
        (r"ou|oo|u", "u"),
        (r"o", "u"),
        (r"ee|ie|yi|ij|iy|y|j(?=[bcdfghklmnpqrstvz]|$)", "i"),
        (r"(?<=[aeiu])h(?![aeiu])", ""),
        (r"ae|ai(?=[^aeiu]|$)|ei", "e"),
        (r"(.)\1+", r"\1"),
    )
)
_VOWELS: Final = re.compile(r"[aeiouy']")


def plain_text(text: str) -> str:
    """``text`` in one form of Unicode, without invisible or control characters, look-alikes made Latin.

    At most `LONGEST` characters of it.
    """
    composed = unicodedata.normalize("NFKC", text[: 4 * LONGEST])[:LONGEST]
    if composed.isascii() and composed.isprintable():
        return composed
    visible = "".join(
        " " if category in ("Cc", "Zs", "Zl", "Zp") else "" if category in ("Cf", "Cs", "Co", "So") else character
        for character in composed
        for category in (unicodedata.category(character),)
    )
    return _MIXED.sub(_unmixed, visible)


def _unmixed(found: re.Match[str]) -> str:
    word = found.group()
    if _LATIN.search(word) and _LOOKS_LATIN.search(word):
        return word.translate(_LOOK_ALIKE)
    return word


@lru_cache(_REMEMBERED)
def latin(text: str) -> str:
    """``text`` in ASCII, whatever its script; Han syllables of one run are joined."""
    if text.isascii():
        return text
    if should_ascii(text):
        return str(maybe_ascii(text))
    joined = _HAN.sub(lambda run: f" {normality.ascii_text(run.group()).replace(' ', '')} ", text)
    return joined if joined.isascii() else normality.ascii_text(joined)


@lru_cache(_REMEMBERED)
def folded(word: str) -> str:
    """A lower-case ASCII ``word`` as its sounds: what romanisations write differently becomes the same."""
    if any(character.isdigit() for character in word):
        return word
    for sound in _SOUNDS:
        word = sound(word)
    return word


@lru_cache(_REMEMBERED)
def skeleton(word: str) -> str:
    """The consonants of a folded ``word``, with its first letter where that is a vowel: ``mhmd`` of Muhammad."""
    fold = folded(word)
    return re.sub(r"(.)\1+", r"\1", ("" if not fold or fold[0] not in "aeiou" else "a") + _VOWELS.sub("", fold))
