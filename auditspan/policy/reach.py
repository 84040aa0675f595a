"""Who was reached by a directive: who accessed the models that it names, and of whom the nationality is not known.

One row for each actor: the party of the registry, or the credential where the registry knew none. Nationality and
countries are as they were known when the events were sealed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auditspan.store.contract import Store

from .packs import OUTCOMES

__all__ = ["Actor", "Reach", "reach"]

_PAGE: Final = 10_000


def _fact(name: str) -> str:
    """A fact of the document as raw JSON, empty or ``null`` where unknown; of both times, that of the arrival."""
    paths = f"'facts', '{name}'"
    return f"if(JSONHas(facts, 'both'), JSONExtractRaw(facts, 'both', 2, {paths}), JSONExtractRaw(facts, {paths}))"


def _text(name: str) -> str:
    return f"JSONExtractString(concat('[', if({name} = '', 'null', {name}), ']'), 1)"


_REACHED: Final = f"""
SELECT actor, actor_id, party, country, parent_country, nationality, nationality_known,
       count() AS events, countIf(flagged) AS flagged_events,
       toUnixTimestamp64Nano(min(arrival)) AS first, toUnixTimestamp64Nano(max(arrival)) AS last,
       max(outcome_rank) AS worst, arraySort(groupUniqArray(20)(asset)) AS assets
FROM
(
    SELECT flagged, asset, actor_id, assumeNotNull(events.arrival_time) AS arrival,
           indexOf({{outcomes:Array(String)}}, toString(determination)) AS outcome_rank,
           {_fact("actor_party")} AS raw_party, {_fact("actor_country")} AS raw_country,
           {_fact("actor_parent_country")} AS raw_parent, {_fact("actor_nationality")} AS raw_nationality,
           {_fact("model")} AS raw_model,
           {_text("raw_party")} AS party, {_text("raw_country")} AS country, {_text("raw_parent")} AS parent_country,
           {_text("raw_nationality")} AS nationality, raw_nationality NOT IN ('', 'null') AS nationality_known,
           if(party != '', party, toString(actor_id)) AS actor
    FROM auditspan.events
    WHERE facts != ''
      AND events.arrival_time >= fromUnixTimestamp64Nano({{since:Int64}}, 'UTC')
      AND (empty({{models:Array(String)}}) OR asset IN {{models:Array(String)}}
           OR target_id IN {{models:Array(String)}} OR {_text("raw_model")} IN {{models:Array(String)}})
      AND (empty({{rules:Array(String)}}) OR arrayExists(
           rule -> position(facts, concat('"id":"', rule, '"')) > 0, {{rules:Array(String)}}))
)
GROUP BY actor, actor_id, party, country, parent_country, nationality, nationality_known
ORDER BY nationality_known, events DESC, actor, actor_id, nationality, country, parent_country
LIMIT {{page:UInt32}} OFFSET {{skip:UInt64}}
"""  # noqa: S608 - composed of constants; values are parameters


@dataclass(frozen=True, slots=True)
class Actor:
    """What one actor did with what is named. Times of arrival in nanoseconds; a country is empty where unknown.

    Attributes:
        actor: party id, or the credential where no party is known.
        nationality: empty with ``nationality_known`` where no person is meant.
        worst: the most restrictive determination of the events.
        assets: at most 20 of what was touched.
    """

    actor: str
    actor_id: str
    party: str
    country: str
    parent_country: str
    nationality: str
    nationality_known: bool
    events: int
    flagged: int
    first: int
    last: int
    worst: str
    assets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reach:
    """How many were reached."""

    actors: int
    events: int
    unknown_nationality: int


def reach(store: Store, models: Sequence[str], rules: Sequence[str], since: int) -> Iterator[Actor]:
    """Everybody who touched one of ``models``, or whom one of ``rules`` was about, since an arrival time.

    With both, events must be of both. Of whom the nationality is not known comes first. Pages of bounded size.

    Raises:
        StoreUnavailable: the store cannot be read.
    """
    parameters: dict[str, Any] = {
        "models": list(models),
        "rules": list(rules),
        "since": since,
        "outcomes": list(OUTCOMES),
        "page": _PAGE,
    }
    skip = 0
    while True:
        rows = store.query(_REACHED, {**parameters, "skip": skip}).to_pylist()
        for row in rows:
            yield Actor(
                row["actor"] or "",
                row["actor_id"] or "",
                row["party"],
                row["country"],
                row["parent_country"],
                row["nationality"],
                bool(row["nationality_known"]),
                row["events"],
                row["flagged_events"],
                row["first"],
                row["last"],
                OUTCOMES[row["worst"] - 1] if row["worst"] else "",
                tuple(row["assets"]),
            )
        if len(rows) < _PAGE:
            return
        skip += len(rows)
