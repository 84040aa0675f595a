"""Labelled pairs of names, made from the aliases of a screening list: for `auditspan screen evaluate`.

    python -m benchmarks.screening_pairs LIST.json.gz OUT.csv [--pairs 600] [--seed 7]

Positive pairs are the name of an entry and one of its aliases that shares a word with it, by sound: an alias that is
another name altogether (a bank's name of ten years ago) can be found in a list, not compared. Negative pairs are near
misses: names of different entries that share their rarest words, and are no aliases of each other.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import random
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from auditspan.screening.name_form import Kind, name_form

_KINDS: dict[str, Kind] = {"Individual": "person", "Entity": "organization", "Vessel": "vessel"}


def _names(entry: dict[str, Any]) -> list[str]:
    return [entry["name"], *(entry.get("alt_names") or [])]


def _words(name: str, kind: Kind) -> set[str]:
    return {
        token.skeleton
        for token in name_form(name, kind).tokens
        if token.word_class in ("own", "number", "domain", "generic") and len(token.text) > 1
    }


def labelled(entries: list[dict[str, Any]], pairs: int, seed: int) -> list[tuple[str, str, int, Kind]]:
    """Half positive, half negative pairs of each kind, in the order of a shuffle."""
    choose = random.Random(seed)
    chosen = choose.sample(entries, min(len(entries), 40 * pairs))
    by_word: defaultdict[tuple[Kind, str], list[int]] = defaultdict(list)
    wanted = dict.fromkeys(_KINDS.values(), pairs // 6 + 1)
    found: list[tuple[str, str, int, Kind]] = []
    positives: Counter[Kind] = Counter()
    for number, entry in enumerate(chosen):
        kind = _KINDS.get(entry.get("type") or "")
        if kind is None:
            continue
        for word in _words(entry["name"], kind):
            by_word[kind, word].append(number)
        aliases = [alias for alias in entry.get("alt_names") or [] if _akin(entry["name"], alias, kind)]
        if aliases and positives[kind] < wanted[kind]:
            positives[kind] += 1
            found.append((entry["name"], choose.choice(aliases), 1, kind))
    negatives: Counter[Kind] = Counter()
    for number, entry in enumerate(chosen):
        kind = _KINDS.get(entry.get("type") or "")
        if kind is None or negatives[kind] >= wanted[kind]:
            continue
        others = Counter(
            other for word in _words(entry["name"], kind) for other in by_word[kind, word][:400] if other != number
        )
        if not others:
            continue
        other = chosen[others.most_common(1)[0][0]]
        mine, theirs = {_plain(each) for each in _names(entry)}, {_plain(each) for each in _names(other)}
        if mine & theirs or _same_family(entry, other):
            continue
        negatives[kind] += 1
        found.append((choose.choice(_names(entry)[:1]), other["name"], 0, kind))
    choose.shuffle(found)
    return found


def _akin(name: str, alias: str, kind: Kind) -> bool:
    mine, theirs = _words(name, kind), _words(alias, kind)
    return _plain(name) != _plain(alias) and len(mine & theirs) >= min(2, len(mine), len(theirs)) > 0


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


def _same_family(entry: dict[str, Any], other: dict[str, Any]) -> bool:
    """One party that two lists have: no negative pair."""
    return _plain(entry["name"]) == _plain(other["name"])


def main() -> int:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with gzip.open(arguments.list) as file:
        entries = json.load(file)["results"]
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["query", "candidate", "is_match", "kind"])
        writer.writerows(labelled(entries, arguments.pairs, arguments.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
