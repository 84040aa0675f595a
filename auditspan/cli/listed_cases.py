"""Cases of rescreening: who of stored events may stand on a list that came later, until an officer clears the hit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from auditspan.cli.moments import rfc3339
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.clearances import Clearances
    from auditspan.store.contract import Store

__all__ = ["events_of", "likeness_text", "listed_cases"]

_HAS_RESCREENED: Final = "SELECT 1 FROM system.tables WHERE database = 'auditspan' AND name = 'rescreened'"
_CASES: Final = """
SELECT case_id, subject, party, name, whose, list, entry_id, country, listed_as, matched, matched_role, score, parts,
       counts, roles, events, transfers, flagged, toUnixTimestamp64Nano(rescreened.first_seen) AS first_seen,
       first_record_id, toUnixTimestamp64Nano(rescreened.last_seen) AS last_seen, last_record_id, stop, list_version
FROM auditspan.rescreened
WHERE found_at >= fromUnixTimestamp64Nano({since:Int64}, 'UTC') AND startsWith(case_id, {id:String})
ORDER BY flagged DESC, found_at DESC, case_id
LIMIT {limit:UInt32}
"""
_EVENTS: Final = """
SELECT record_id, class, toUnixTimestamp64Nano(assumeNotNull(events.arrival_time)) AS arrival_time, emitter, actor_id,
       action, target_id, destination_country, missing_facts, faults, rule_ids, why, log_id, leaf_index
FROM auditspan.events
WHERE facts != '' AND (record_id IN {records:Array(String)}
      OR ({party:String} != '' AND (simpleJSONExtractString(facts, 'actor_party') = {party:String}
                                    OR simpleJSONExtractString(facts, 'end_user_party') = {party:String})))
ORDER BY events.arrival_time DESC, log_id, leaf_index DESC
LIMIT {limit:UInt32}
"""
_LIKENESS: Final = (
    "whose", "list", "entry_id", "country", "listed_as", "matched", "matched_role", "score", "parts", "counts", "roles",
    "first_record_id", "last_record_id", "list_version",
)  # fmt: skip


def listed_cases(store: Store, since: int, case: str, limit: int) -> list[dict[str, Any]]:
    """Those found since ``since`` (nanoseconds) whose id begins with ``case``, the flagged ones first.

    Each as a case of missing facts is shown, and beside that ``flagged``, ``transfers`` (completed ones), ``stop``
    (what nobody may go on to do), and ``likeness``. It is ``answered`` while an officer's clearance holds.
    """
    # An older service knows nothing of them.
    if not store.query(_HAS_RESCREENED).num_rows:
        return []
    rows = store.query(_CASES, {"since": since, "id": case, "limit": limit}).to_pylist()
    clearances = _clearances(store) if rows else None
    return [_case(row, clearances) for row in rows]


def events_of(store: Store, case: dict[str, Any], limit: int) -> list[dict[str, Any]]:
    """The latest events of such a case: all in which its party acts or is the end user, else the first and the last."""
    likeness = case["likeness"]
    parameters = {
        "records": [likeness["first_record_id"], likeness["last_record_id"]],
        "party": case["subject"].removeprefix("party:") if case["subject"].startswith("party:") else "",
        "limit": limit,
    }
    return [
        row | {"arrival_time": rfc3339(row["arrival_time"])} for row in store.query(_EVENTS, parameters).to_pylist()
    ]


def likeness_text(one: dict[str, Any]) -> str:
    """Who is like which entry, in one sentence; ``one``: the ``likeness`` of a case."""
    who = f"{one['whose']} {one['name']}" if one["whose"] else one["name"] or "several names"
    taken = "taken for it" if one["counts"] else "alike, and no more than that is known"
    return (
        f"By screening list {one['list_version']}: {who}, as {', '.join(one['roles']).replace('_', ' ')}, is like "
        f"{one['matched']} ({one['matched_role']}) of {one['listed_as']}, {one['list']} {one['entry_id']}, "
        f"score {one['score']:.2f} ({one['parts']}): {taken}."
    )


def _case(row: dict[str, Any], clearances: Clearances | None) -> dict[str, Any]:
    from auditspan.policy.cases import listed_step

    likeness = {name: row[name] for name in _LIKENESS} | {"name": row["name"]}
    cleared = clearances is not None and clearances.cleared(
        row["name"], row["list"], row["entry_id"], row["listed_as"], row["country"] or None, time.time_ns()
    )
    return {
        "case_id": row["case_id"],
        "subject": row["subject"],
        "question": f"listed:{row['list']} {row['entry_id']}",
        "members": 1,
        "grouped": 0,
        "events": row["events"],
        "first_seen": rfc3339(row["first_seen"]),
        "last_seen": rfc3339(row["last_seen"]),
        "missing_facts": [],
        "faults": [],
        "rule_ids": [],
        "classes": [],
        "flagged": bool(row["flagged"]),
        "transfers": row["transfers"],
        "stop": row["stop"],
        "likeness": likeness,
        "state": "answered" if cleared else "open",
        "what_to_do": listed_step(likeness, row["transfers"], row["stop"]),
    }


def _clearances(store: Store) -> Clearances | None:
    """None where the store does not keep them: then every case stays open."""
    from auditspan.cli.clearances_in_force import clearances_sealed

    try:
        return clearances_sealed(store, None)
    except AuditSpanError:
        return None
