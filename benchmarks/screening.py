"""Screening against a real list: what is found, what is missed, what is a false alarm, how fast.

    python -m benchmarks.screening [--sample 2000] [--ordinary 5000]
                                                [--events 1000000] [--growth] [--quick] [--json]

Every figure is at the thresholds that ship (`auditspan/screening/data/lists.csv`), each query by its name alone,
without kind, country or address. *First* means that no hit scores above one on the query's own entry: two lists have
the same company, and two persons the same name. The list is imported into a temporary directory.

The review load is how many ordinary names in 1,000 have a hit that a person must look at. Missed at a load is the share
of the changed names whose own entry scores below the least score that keeps the load.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditspan.screening.entry_names import names_in
from auditspan.screening.lists import import_list
from auditspan.screening.name_form import name_form
from auditspan.screening.screener import Party, Screener, open_screener, write_index
from benchmarks.ordinary_names import ordinary_names
from benchmarks.pace import Pace
from benchmarks.real_list import real_list
from benchmarks.report import SKIPPED
from benchmarks.screening_growth import grow

_PARTIES: Final = 5000
_REVIEW_LOADS: Final = (2, 5, 8)
"""Ordinary names in 1,000 that have a hit."""
_SUFFIXES: Final = ("Co., Ltd.", "LLC", "Inc.", "GmbH", "Limited", "JSC")
_ROMANISED: Final = (("iy", "y"), ("ya", "ia"), ("kh", "h"), ("zh", "j"), ("ks", "x"), ("ou", "u"),
                     ("ee", "i"), ("yu", "iu"), ("ev", "yev"), ("ph", "f"), ("q", "k"), ("w", "v"),
                     ("oo", "u"), ("aa", "a"))  # fmt: skip
_CYRILLIC: Final = {
    "shch": "щ", "zh": "ж", "kh": "х", "ts": "ц", "ch": "ч", "sh": "ш", "yu": "ю", "ya": "я", "a": "а", "b": "б",
    "v": "в", "g": "г", "d": "д", "e": "е", "z": "з", "i": "и", "y": "й", "k": "к", "l": "л", "m": "м", "n": "н",
    "o": "о", "p": "п", "r": "р", "s": "с", "t": "т", "u": "у", "f": "ф",
}  # fmt: skip


@dataclass(frozen=True)
class Query:
    """A name of the list with the entry that it is of."""

    name: str
    entry_id: str
    kind: str
    alias: bool


def queries(screener: Screener) -> list[Query]:
    """Every name of the list as the list writes it, that is a name."""
    table = screener.entries.select(["entry_id", "kind", "listed_as", "names"])
    found = []
    for row in table.to_pylist():
        listed = row["listed_as"]
        for name in dict.fromkeys((listed, *(each["name"] for each in row["names"]))):
            if names_in(name):
                found.append(Query(name, row["entry_id"], row["kind"], name != listed))
    return found


def case(query: Query, choose: random.Random) -> str | None:
    """Upper case, or lower."""
    return query.name.lower() if query.name.isupper() or choose.random() < 0.5 else query.name.upper()


def punctuation(query: Query, choose: random.Random) -> str | None:
    """Without any, and a stop somewhere else."""
    words = "".join(c if c.isalnum() or c.isspace() else choose.choice(" ") for c in query.name).split()
    return ", ".join((" ".join(words[:-1]), words[-1])) + "." if len(words) > 1 else None


def word_order(query: Query, choose: random.Random) -> str | None:
    """The last word first."""
    words = query.name.replace(",", " ").split()
    return " ".join([words[-1], *words[:-1]]) if len(words) > 1 else None


def corporate_suffix(query: Query, choose: random.Random) -> str | None:
    """Another legal form at the end, or one where there was none; companies only."""
    if query.kind != "organization":
        return None
    words = query.name.split()
    while len(words) > 1 and _is_legal_form(words[-1]):
        words.pop()
    return " ".join([*(word.rstrip(",") for word in words), choose.choice(_SUFFIXES)])


def _is_legal_form(word: str) -> bool:
    return all(
        token.word_class == "legal" or token.text in ("co", "pvt") for token in name_form(word, "organization").tokens
    )


def one_typo(query: Query, choose: random.Random) -> str | None:
    """A letter more, less, other or swapped in a word of at least five letters, not its first."""
    words = query.name.split()
    places = [place for place, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not places:
        return None
    at = choose.choice(places)
    word = words[at]
    i = choose.randrange(1, len(word) - 1)
    letter = choose.choice("abcdefghijklmnopqrstuvwxyz")
    letter = letter.upper() if word.isupper() else letter
    words[at] = choose.choice(
        (word[:i] + word[i + 1 :], word[:i] + letter + word[i:], word[:i] + letter + word[i + 1 :],
         word[:i] + word[i + 1] + word[i] + word[i + 2 :])
    )  # fmt: skip
    return " ".join(words)


def transliteration(query: Query, choose: random.Random) -> str | None:
    """Another romanisation of one sound in a word of the party's own, or for a person all of it in Cyrillic."""
    lower = query.name.lower()
    if query.kind == "person" and choose.random() < 0.3 and lower.replace(",", "").replace(" ", "").isalpha():
        return _in_cyrillic(lower)
    own = [token.text for token in name_form(query.name, "organization").tokens if token.word_class == "own"]
    choices = [
        (word, word.replace(a, b, 1))
        for word in own
        for pair in _ROMANISED
        for a, b in (pair, pair[::-1])
        if len(a) > 1 and a in word and word in lower
    ]
    if not choices:
        return None
    word, other = choose.choice(choices)
    return lower.replace(word, other, 1)


def _in_cyrillic(text: str) -> str | None:
    for latin, letter in _CYRILLIC.items():
        text = text.replace(latin, letter)
    return None if any("a" <= character <= "z" for character in text) else text


CHANGES: Final[tuple[Callable[[Query, random.Random], str | None], ...]] = (
    case, punctuation, word_order, corporate_suffix, one_typo, transliteration,
)  # fmt: skip


def ranks(screener: Screener, asked: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """How often a query's own entry comes first, is among the hits, and how many others there are."""
    first = hit = others = 0
    missed = []
    scores = []
    for name, entry_id in asked:
        hits = screener.screen(Party(name))
        own = next((each for each in hits if each.entry_id == entry_id), None)
        hit += own is not None
        first += own is not None and own.score >= hits[0].score
        others += len(hits) - (own is not None)
        scores.append(own.score if own else 0.0)
        if own is None or own.score < hits[0].score:
            missed.append({"query": name, "entry": entry_id, "best": hits[0].matched_name if hits else None})
    count = max(len(asked), 1)
    return {
        "queries": len(asked),
        "first": first / count,
        "found": hit / count,
        "other_hits_a_query": others / count,
        "scores": scores,
        "missed": missed[:40],
    }


def _sampled(found: list[Query], sample: int, choose: random.Random) -> list[Query]:
    return found if sample >= len(found) else choose.sample(found, sample)


def changed(found: Sequence[Query], choose: random.Random) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each change by its name, with the queries that it makes."""
    for change in CHANGES:
        made = [(text, query.entry_id) for query in found if (text := change(query, choose)) and names_in(text)]
        yield change.__name__, made


def false_alarms(screener: Screener, count: int) -> dict[str, Any]:
    """How many ordinary names have a hit, and how fast they are screened: all of them are first seen."""
    names = list(ordinary_names(count))
    began = time.process_time()
    alarms = [(name, hits[0].matched_name, hits[0].score) for name in names if (hits := screener.screen(Party(name)))]
    seconds = time.process_time() - began
    return {
        "names": count,
        "share": len(alarms) / count,
        "names_per_cpu_second": count / seconds,
        "scores": sorted((score for _, _, score in alarms), reverse=True),
        "alarms": alarms[:40],
    }


def missed_at(load: int, alarms: dict[str, Any], own_scores: Sequence[float]) -> dict[str, float] | None:
    """What is missed where ``load`` in 1,000 ordinary names may have a hit; None where fewer have one anyway."""
    allowed = load * alarms["names"] // 1000
    if len(alarms["scores"]) <= allowed:
        return None
    # Above the score of the first alarm that is one too many.
    least = alarms["scores"][allowed]
    missed = sum(1 for score in own_scores if score <= least)
    return {"load": load, "least_score": least, "missed": missed / max(len(own_scores), 1)}


def repeated(screener: Screener, events: int, parties: int) -> dict[str, Any]:
    """``events`` by a few ``parties``, the first sight of each counted: how many were answered from memory."""
    names = [Party(f"{name} {number % 7}", country="DE") for number, name in enumerate(ordinary_names(parties))]
    asked, remembered = screener.asked, screener.answered_from_memory
    choose = random.Random(23)
    order = choose.choices(names, k=max(events - len(names), 0))
    began = time.process_time()
    for party in names:
        screener.screen(party)
    first = time.process_time() - began
    began = time.process_time()
    for party in order:
        screener.screen(party)
    seconds = time.process_time() - began
    return {
        "events": screener.asked - asked,
        "parties": parties,
        "from_memory": (screener.answered_from_memory - remembered) / max(screener.asked - asked, 1),
        "first_seen_cpu_seconds": first,
        "repeated_a_cpu_second": len(order) / max(seconds, 1e-9),
    }


def measure(path: Path, sample: int, ordinary: int, events: int, seed: int = 5) -> dict[str, Any]:
    """All figures but those of the growth."""
    choose = random.Random(seed)
    pace = Pace()
    with tempfile.TemporaryDirectory() as folder:
        began, wall = time.process_time(), time.monotonic()
        kept = import_list(path, Path(folder), prepare=write_index)
        imported = {"cpu_seconds": time.process_time() - began, "seconds": time.monotonic() - wall}
        began = time.process_time()
        screener = open_screener(Path(folder))
        imported["open_cpu_seconds"] = time.process_time() - began
        found = queries(screener)
        chosen = _sampled(found, sample, choose)
        pace.look()
        alarms = false_alarms(screener, ordinary)
        began = time.process_time()
        primary = ranks(screener, [(query.name, query.entry_id) for query in chosen if not query.alias])
        aliases = ranks(screener, [(query.name, query.entry_id) for query in chosen if query.alias])
        seconds = time.process_time() - began
        pace.look()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        changes = {name: ranks(screener, made) for name, made in changed(chosen, choose)}
        again = repeated(screener, events, _PARTIES if events >= _PARTIES else events)
        pace.look()
    scores = [score for each in changes.values() for score in each.pop("scores")]
    loads = [at for load in _REVIEW_LOADS if (at := missed_at(load, alarms, scores))]
    now = sum(1 for score in scores if not score) / max(len(scores), 1)
    for each in (primary, aliases, alarms):
        each.pop("scores")
    return {
        "list": {"version": kept.version, "entries": kept.entries, "names": kept.names, "queries": len(found)},
        "import": imported,
        "primary": primary,
        "alias": aliases,
        "changes": changes,
        "listed_names_per_cpu_second": len(chosen) / seconds,
        "ordinary": alarms,
        "missed": [*loads, {"load": 1000 * alarms["share"], "least_score": None, "missed": now}],
        "repeated": again,
        "peak_memory_mb": peak,
        "pace": pace.value,
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, default=2000, help="of the names of the list; 0 for all")
    parser.add_argument("--ordinary", type=int, default=5000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--growth", action="store_true", help="also with 4 and 16 times the list: some minutes")
    parser.add_argument("--quick", action="store_true", help="a short run: small samples, and twice the list")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = parser.parse_args()
    path = real_list()
    if path is None:
        return SKIPPED
    if arguments.quick:
        arguments.sample, arguments.ordinary, arguments.events = 300, 1500, 100_000
    found = measure(path, arguments.sample or 10**9, arguments.ordinary, arguments.events)
    if arguments.growth:
        found["screening_growth"] = grow(path, arguments.quick)
    if arguments.json:
        print(json.dumps(found, indent=2))
        return 0
    print(f"{found['list']}\nimport {found['import']}\npeak memory {found['peak_memory_mb']:.0f} MB")
    print(f"pace of the machine {found['pace']:.0%}")
    for name in ("primary", "alias"):
        print(_line(name, found[name]))
    for name, each in found["changes"].items():
        print(_line(name, each))
    print(f"listed names per CPU-second {found['listed_names_per_cpu_second']:,.0f}")
    alarms = found["ordinary"]
    print(
        f"ordinary names {alarms['names']:,}: {alarms['share']:.2%} false alarms, "
        f"{alarms['names_per_cpu_second']:,.0f} names per CPU-second"
    )
    for each in found["missed"]:
        least = f" (score above {each['least_score']:.4f})" if each["least_score"] else " (the thresholds that ship)"
        print(f"{each['load']:.1f} hits in 1,000 ordinary names{least}: {each['missed']:.2%} of changed names missed")
    again = found["repeated"]
    print(
        f"{again['events']:,} events by {again['parties']:,} parties: {again['from_memory']:.2%} from memory, "
        f"{again['repeated_a_cpu_second']:,.0f} repeated ones a CPU-second"
    )
    for each in found.get("screening_growth", ()):
        print(each)
    return 0


def _line(name: str, each: dict[str, Any]) -> str:
    return (
        f"{name:18}{each['queries']:8,} queries: own entry first {each['first']:.2%}, among the hits "
        f"{each['found']:.2%}, {each['other_hits_a_query']:.2f} other hits"
    )


if __name__ == "__main__":
    sys.exit(main())
