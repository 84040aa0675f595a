"""The grouping of migration 0005 once more, slowly and in Python: what the views of the store are compared with."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

DAY = 86_400 * 10**9
AT_ONE_EMITTER, OF_STRANGERS, OF_OTHERS, TOGETHER = 5, 20, 20, 9


@dataclass
class Pair:
    subject: str
    question: str
    first: tuple[int, str, int]
    home: str
    events: int = 0
    own: bool = True
    case: tuple[str, str] = ("", "")
    missing: set[str] = field(default_factory=set)


def pairs_of(rows: list[dict[str, Any]]) -> list[Pair]:
    """Every subject and question of the unflagged reviews among ``rows``, each with the case that it is in."""
    found: dict[tuple[str, str], Pair] = {}
    for row in sorted(rows, key=place_of):
        if row["determination"] != "review" or row["flagged"]:
            continue
        key = asked(row)
        pair = found.setdefault(key, Pair(*key, place_of(row), row["emitter"]))
        pair.events += 1
        pair.missing |= set(row["missing_facts"])
    pairs = sorted(found.values(), key=lambda pair: pair.first)
    _spend(pairs)
    return pairs


def case_id(subject: str, question: str) -> str:
    return hashlib.sha256(f"{question} {subject}".encode()).hexdigest()[:16]


def place_of(row: dict[str, Any]) -> tuple[int, str, int]:
    return row["arrival_time"], row["log_id"], row["leaf_index"]


def asked(row: dict[str, Any]) -> tuple[str, str]:
    facts = row["said"]
    stranger = f"actor:{row['actor_id']}" if row["actor_id"] else f"emitter:{row['emitter']}"
    actor = f"party:{facts['actor_party']}" if facts.get("actor_party") else stranger
    if not row["missing_facts"]:
        if facts.get("rule"):
            return actor, f"rule:{facts['rule']}"
        strict = [code for code in row["faults"] if code != "time.end_before_start"]
        return (f"emitter:{row['emitter']}", f"fault:{strict[0]}") if strict else (actor, "review")
    first = row["missing_facts"][0]
    if first in ("actor_party", "end_user_party"):
        return actor, first
    subject = f"party:{facts['end_user_party']}" if first.startswith("end_user_") else actor
    plain = first.removeprefix("end_user_").removeprefix("actor_")
    return subject, "country_groups" if first.endswith("_groups") else plain


def _spend(pairs: list[Pair]) -> None:
    """The day's budget, in order of arrival."""
    at_home: dict[tuple[int, str], int] = defaultdict(int)
    strangers: dict[int, int] = defaultdict(int)
    others: dict[int, int] = defaultdict(int)
    for pair in pairs:
        day = pair.first[0] // DAY
        if not pair.subject.startswith("actor:"):
            others[day] += 1
            pair.own = others[day] <= OF_OTHERS
            continue
        at_home[day, pair.home] += 1
        pair.own = at_home[day, pair.home] <= AT_ONE_EMITTER
        if pair.own:
            strangers[day] += 1
            pair.own = strangers[day] <= OF_STRANGERS
    opened: dict[tuple[str, str], int] = {}
    of_day: dict[int, int] = defaultdict(int)
    for pair in pairs:
        pair.case = pair.subject, pair.question
        if pair.own:
            continue
        together = f"emitter:{pair.home}" if pair.subject.startswith("actor:") else "everyone"
        pair.case = together, pair.question
        if pair.case not in opened:
            day = pair.first[0] // DAY
            of_day[day] += 1
            opened[pair.case] = of_day[day]
        if opened[pair.case] > TOGETHER:
            pair.case = "everyone", "more"
