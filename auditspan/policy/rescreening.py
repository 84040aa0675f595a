"""Who of the past stands on the list in force now: distinct parties of stored events, screened again.

The store groups events by their facts document and counts them; only the distinct parties are screened, and beside them
the distinct names of those whom payloads name. A likeness that the events' own documents say already is nothing new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from auditspan.canonical import JsonValue
from auditspan.store.contract import Store

from .errors import PolicyError
from .parties import Party
from .reference import Reference
from .screened_facts import is_cleared
from .screening_list import Likeness, Screened, ScreeningList
from .stored_names import COMPLETED, named_in

__all__ = ["MOST_NAMES", "TO_STOP", "rescreened", "unsaid"]

MOST_NAMES: Final = 10_000
"""Likenesses from which on names that no party of the registry has are counted together, by entry, under no name."""

TO_STOP: Final = (
    "sell", "transfer", "finance", "order", "buy", "remove", "conceal", "store", "use", "loan", "dispose", "transport",
    "forward", "service",
)  # fmt: skip
"""What nobody may go on to do with an item of a violation that is known (General Prohibition 10, 736.2(b)(10))."""

_WINDOW: Final = 250_000
"""Leaves that are looked at together: an endpoint bounds the time and the memory of every query."""
_MOST_NOBODY: Final = 1_000_000
"""Names that are like no entry and are not asked again; a digest of 16 bytes each."""

_LOGS: Final = """
SELECT log_id, min(leaf_index) AS begin, max(leaf_index) + 1 AS end FROM auditspan.events
WHERE facts != '' AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
GROUP BY log_id ORDER BY log_id
"""
_PARTIES: Final = """
SELECT one.1 AS role, one.2 AS party, one.3 AS listings, one.4 AS possible, sum(n) AS events, sum(done) AS transfers,
       min(first) AS since, argMin(first_record, first) AS first_record,
       max(last) AS until, argMax(last_record, last) AS last_record
FROM
(
    SELECT facts, count() AS n, countIf(class IN {transfers:Array(String)} AND outcome = {success:String}) AS done,
           toUnixTimestamp64Nano(min(assumeNotNull(events.arrival_time))) AS first,
           toUnixTimestamp64Nano(max(assumeNotNull(events.arrival_time))) AS last,
           argMin(record_id, events.arrival_time) AS first_record, argMax(record_id, events.arrival_time) AS last_record
    FROM auditspan.events
    WHERE log_id = {log_id:String} AND leaf_index >= {begin:UInt64} AND leaf_index < {end:UInt64} AND facts != ''
      AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
    GROUP BY facts
)
ARRAY JOIN [
    ('actor', simpleJSONExtractString(facts, 'actor_party'), simpleJSONExtractRaw(facts, 'actor_listings'),
     simpleJSONExtractRaw(facts, 'actor_possible_listings')),
    ('end_user', simpleJSONExtractString(facts, 'end_user_party'), simpleJSONExtractRaw(facts, 'end_user_listings'),
     simpleJSONExtractRaw(facts, 'end_user_possible_listings'))
] AS one
WHERE party != ''
GROUP BY role, party, listings, possible
ORDER BY party, role, listings, possible
"""


def rescreened(store: Store, reference: Reference, since: int, now: int) -> list[dict[str, JsonValue]]:
    """What the list of ``reference`` says of those who stand behind events that arrived from ``since`` on.

    These are the actor and the end user where the registry knew them, and whoever a payload names as end user,
    consignee or final recipient. Memory grows with the parties and with what is found, not with the events.

    Returns:
        Bodies of ``screening.rescreened`` (evidence format, section 11), one for each party or name and entry, sorted.

    Raises:
        PolicyError: no list is in force, or it cannot be read here.
        StoreUnavailable: the store cannot be read now.
    """
    screening = reference.screening
    if screening is None:
        raise PolicyError(
            "no screening list is in force", file="screening_list", remedy="Bring one into force: lists activate."
        )
    found: dict[_Key, dict[str, Any]] = {}
    names = 0
    for party, screened, row in _screened(store, reference, screening, since):
        counted: set[_Key] = set()
        for one in screened or ():
            if not one.holds_at(row["until"]) or _is_said(one, row) or is_cleared(one, reference.clearances, now):
                continue
            key = party, _named(party, one.whose, one.name), one.whose, one.list, one.entry_id
            if not party and key not in found:
                if names < MOST_NAMES:
                    names += 1
                else:
                    key = "", "", *key[2:]
            # An owner that comes and goes is one owner.
            if key not in counted:
                counted.add(key)
                _count(found.setdefault(key, _body(party, key[1] or (party and one.name), one, screening)), row)
    return [_finished(found[key]) for key in sorted(found)]


_ALONE: Final = ("", "ultimate parent")
"""Who is one to a party: itself, and its parent."""

_Key = tuple[str, str, str, str, str]
"""Party, name where the party has several or none, whose, list and id of the entry."""


def _named(party: str, whose: str, name: str) -> str:
    """What tells likenesses of one entry apart: of a party only which owner it is, or which forwarder."""
    return "" if party and whose in _ALONE else name


def _screened(
    store: Store, reference: Reference, screening: ScreeningList, since: int
) -> Iterator[tuple[str, Screened, Mapping[str, Any]]]:
    """Id of the party, empty for one that the registry does not have; its likenesses; and the events it is in.

    Each party is screened once, and each name that is like no entry.
    """
    parties = reference.parties
    known: dict[str, Screened] = {}
    nobody: set[bytes] = set()

    def of_party(party: Party | None) -> Screened:
        name = party.id if party is not None else ""
        if name not in known:
            known[name] = screening.of_party(party, parties)
        return known[name]

    for log_id, begin, end in _windows(store, since):
        where = {"log_id": log_id, "begin": begin, "end": end, "since": since}
        for row in store.query(_PARTIES, {**where, **COMPLETED}).to_pylist():
            yield row["party"], of_party(parties.by_id(row["party"])), row
        for row in named_in(store, log_id, begin, end, since):
            party = parties.named(row["name"])
            if party is not None:
                yield party.id, of_party(party), row
                continue
            digest = hashlib.sha256(row["name"].encode()).digest()[:16]
            if digest in nobody:
                continue
            screened = screening.of_name(row["name"])
            if not screened:
                if len(nobody) >= _MOST_NOBODY:
                    nobody.clear()
                nobody.add(digest)
            yield "", screened, row


def _windows(store: Store, since: int) -> Iterator[tuple[str, int, int]]:
    for row in store.query(_LOGS, {"since": since}).to_pylist():
        for begin in range(row["begin"], row["end"], _WINDOW):
            yield row["log_id"], begin, min(begin + _WINDOW, row["end"])


def unsaid(bodies: Iterable[dict[str, JsonValue]], sealed: Iterable[Mapping[str, Any]]) -> list[dict[str, JsonValue]]:
    """Those of ``bodies`` that no body sealed before says: of the same party, entry and list, about as many events."""
    said: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for body in sealed:
        said.setdefault(_key(body), []).append(body)
    return [
        body
        for body in bodies
        if not any(
            int(before["events"]) >= int(str(body["events"])) and before["last"] == body["last"]
            for before in said.get(_key(body), ())
        )
    ]


def _key(body: Mapping[str, Any]) -> tuple[str, ...]:
    entry, party, whose = body["entry"], str(body["party"]), str(body["whose"])
    # What a clearance goes by is part of it: an entry may get another name, and a party another country.
    by = str(entry["listed_as"]), str(body.get("country", ""))
    name = _named(party, whose, str(body["name"]))
    return str(body["list"]["sha256"]), party, name, whose, str(entry["list"]), str(entry["id"]), *by


def _is_said(one: Likeness, row: Mapping[str, Any]) -> bool:
    known = _texts(row["listings"]) | (set() if one.counts else _texts(row["possible"]))
    return one.word in known


def _texts(raw: str) -> set[str]:
    try:
        value = json.loads(raw) if raw else None
    except ValueError:
        return set()
    return set(value) if isinstance(value, list) else set()


def _body(party: str, name: str, one: Likeness, screening: ScreeningList) -> dict[str, Any]:
    return {
        "list": {"name": screening.name, "version": screening.version, "sha256": screening.digest},
        "party": party,
        "whose": one.whose,
        "name": name,
        "country": one.country,
        "word": one.word,
        "counts": one.counts,
        "entry": {
            "list": one.list,
            "id": one.entry_id,
            "listed_as": one.listed_as,
            "matched": one.matched,
            "role": one.role,
            "score": f"{one.score:.4f}",
            "parts": one.parts,
        },
        "roles": set(),
        "events": 0,
        "transfers": 0,
        "first": None,
        "last": None,
    }


def _count(body: dict[str, Any], row: Mapping[str, Any]) -> None:
    body["roles"].add(row["role"])
    # An event in which somebody acts for itself is one event, in two roles.
    counted = body.setdefault("_counts", {})
    counted.setdefault(row["role"], [0, 0])
    counted[row["role"]][0] += row["events"]
    counted[row["role"]][1] += row["transfers"]
    first, last = (row["since"], row["first_record"]), (row["until"], row["last_record"])
    body["first"] = first if body["first"] is None else min(body["first"], first)
    body["last"] = last if body["last"] is None else max(body["last"], last)


def _finished(body: dict[str, Any]) -> dict[str, JsonValue]:
    counts = body.pop("_counts").values()
    body["roles"] = sorted(body["roles"])
    body["events"] = max(events for events, _ in counts)
    body["transfers"] = max(transfers for _, transfers in counts)
    for name in ("first", "last"):
        instant, record = body[name]
        body[name] = {"record_id": record, "arrival_time": str(instant)}
    if body["transfers"]:
        body["stop"] = list(TO_STOP)
    return body
