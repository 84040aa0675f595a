"""``auditspan events``: the sealed stream, newest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.moments import nanoseconds, rfc3339
from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader
from auditspan.errors import AuditSpanError
from auditspan.semconv import CLASSES, EventClass

if TYPE_CHECKING:
    from auditspan.store.contract import Store

__all__ = ["events"]

_WIDE_CONSOLE = 140
"""Characters from which on every column of the table has room."""

_WHERE = """
WHERE (NOT {only_flagged:Bool} OR flagged OR found)
  AND ({class:String} = '' OR class = {class:String})
  AND ({determination:String} = '' OR determination = {determination:String})
  AND events.arrival_time >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
  AND ({everything:Bool} OR class NOT IN ('other', 'export.finding') AND NOT startsWith(class, 'audit.')
       AND (class != 'license.allocation' OR emitter != ''))
"""

_EACH = f"""
SELECT record_id, class, toUnixTimestamp64Nano(events.event_time) AS event_time,
       toUnixTimestamp64Nano(events.arrival_time) AS arrival_time, emitter, actor_id, action, outcome, target_id,
       destination_country, determination, flagged, rule_ids, faults, citations, why, FOUND AS found,
       trace_id, span_id, log_id, leaf_index
FROM auditspan.events {_WHERE}
ORDER BY events.arrival_time DESC, leaf_index DESC
LIMIT {{limit:UInt32}}
"""  # noqa: S608 - composed of constants; values are parameters

_ALLOCATED = """
SELECT log_id, leaf_index, license, outcome, why FROM auditspan.license_allocations
WHERE log_id IN {logs:Array(String)} AND leaf_index IN {leaves:Array(UInt64)}
"""

_DISTINCT = f"""
SELECT count() AS events, toUnixTimestamp64Nano(max(event_time)) AS latest, class, actor_id, action, target_id,
       destination_country, determination, flagged, rule_ids, citations, why, FOUND AS found
FROM auditspan.events {_WHERE}
GROUP BY class, actor_id, action, target_id, destination_country, determination, flagged, rule_ids, citations, why,
         found
ORDER BY latest DESC
LIMIT {{limit:UInt32}}
"""  # noqa: S608

_HAS_FINDINGS = "SELECT name FROM system.tables WHERE database = 'auditspan' AND name = 'findings'"
_FOUND = "(events.log_id, events.leaf_index) IN (SELECT log_id, leaf_index FROM auditspan.findings)"
_FINDINGS = """
SELECT log_id, leaf_index, finding, why, authority, citation FROM auditspan.findings
WHERE (log_id, leaf_index) IN {places:Array(Tuple(String, UInt64))} ORDER BY control_leaf
"""


@reports_errors
def events(
    data: DataOption = None,
    url: UrlOption = None,
    flagged: Annotated[
        bool,
        typer.Option(
            "--flagged",
            help="Only events that involve a controlled destination, or do not agree with their export request.",
        ),
    ] = False,
    event_class: Annotated[str, typer.Option("--class", help="Only this class, such as model.access.")] = "",
    determination: Annotated[str, typer.Option(help="Only this determination, such as license_required.")] = "",
    since: Annotated[
        str | None, typer.Option(help="Only what arrived at or after this time (ISO 8601; UTC without a zone).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    distinct: Annotated[
        bool, typer.Option("--distinct", help="One row for all events alike in actor, target, destination and reason.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also spans that are no audit record, and the log's own leaves.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List sealed events: who did what, where to, what the rules say and why.

    \b
    auditspan events --data ./data --flagged
    auditspan events --data ./data --class model.transfer --json
    """
    _check("class", event_class, [*CLASSES])
    if determination:
        from auditspan.policy.packs import OUTCOMES

        _check("determination", determination, OUTCOMES)
    parameters: dict[str, Any] = {
        "only_flagged": flagged,
        "class": event_class,
        "determination": determination,
        "since": nanoseconds(since, 0),
        "everything": everything
        or event_class.startswith("audit.")
        or event_class in ("other", EventClass.EXPORT_FINDING),
        # One more than is shown tells whether there are more.
        "limit": limit + 1,
    }
    with open_reader(data, url) as reading:
        # An older service knows nothing of findings.
        known = bool(reading.store.query(_HAS_FINDINGS).num_rows)
        sql = (_DISTINCT if distinct else _EACH).replace("FOUND", _FOUND if known else "false")
        found = reading.store.query(sql, parameters).to_pylist()
        rows = _with_findings(reading.store, found[:limit])
        if not distinct:
            _add_licenses(reading.store, rows)
    for row in rows:
        row.update({name: rfc3339(row[name]) for name in ("event_time", "arrival_time", "latest") if name in row})
    if as_json:
        print_json(rows)
        return
    kind = "kinds of " if distinct else ""
    columns, shown = _wide(rows) if console.width >= _WIDE_CONSOLE else _narrow(rows)
    what = f"{kind}{'flagged ' if flagged else ''}event{'' if len(rows) == 1 and not distinct else 's'}"
    more = len(found) > limit
    print_table(f"{'The latest ' if more else ''}{len(rows)} {what}", columns, shown, prose="why")
    if more:
        console.print(f"There are more: these are the latest {limit}, and --limit shows more.", soft_wrap=True)


def _add_licenses(store: Store, rows: list[dict[str, Any]]) -> None:
    """What holds of each event now, as in the view ``auditspan.current``: it may be licensed since it was sealed."""
    asking = [row for row in rows if row["determination"] == "license_required"]
    where = {"logs": sorted({row["log_id"] for row in asking}), "leaves": sorted({row["leaf_index"] for row in asking})}
    found = store.query(_ALLOCATED, where).to_pylist() if asking else []
    allocated = {(one["log_id"], one["leaf_index"]): one for one in found}
    for row in rows:
        one = allocated.get((row["log_id"], row["leaf_index"]))
        covered = one is not None and one["outcome"] == "covered" and row["determination"] == "license_required"
        row["current"] = "licensed" if covered else row["determination"]
        for name, column in (("license", "license"), ("license_outcome", "outcome"), ("license_why", "why")):
            row[name] = (one[column] or None) if one is not None else None


def _with_findings(store: Store, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ``findings`` in place of whether there are any; where there are, they are flagged."""
    found = [row.pop("found") for row in rows]
    places = [
        (row["log_id"], row["leaf_index"]) for row, some in zip(rows, found, strict=True) if some and "log_id" in row
    ]
    said: dict[tuple[str, int], list[dict[str, Any]]] = {}
    if places:
        for one in store.query(_FINDINGS, {"places": places}).to_pylist():
            said.setdefault((one.pop("log_id"), one.pop("leaf_index")), []).append(one)
    for row, some in zip(rows, found, strict=True):
        findings = said.get((row["log_id"], row["leaf_index"]), []) if "log_id" in row else []
        reasons = [one["why"] for one in findings]
        if some and not findings:
            reasons = ["Something is wrong with its export request: `auditspan requests list --flagged`."]
        row["flagged"] = bool(row["flagged"] or some)
        row["why"] = " ".join(filter(None, [row["why"], *reasons]))
        row["citations"] = "; ".join(
            dict.fromkeys(filter(None, [row["citations"], *(f["citation"] for f in findings)]))
        )
        if "log_id" in row:
            row["findings"] = findings
    return rows


def _wide(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    shown = [
        {
            "event": _event(row),
            "actor": row["actor_id"],
            "destination": row["destination_country"],
            "rule": _rule(row),
            "citation": row["citations"],
            "why": _why(row),
        }
        for row in rows
    ]
    return ["event", "actor", "destination", "rule", "citation", "why"], shown


def _narrow(rows: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """The same in three columns, so that the reason has room on a terminal of 100 characters."""
    shown = [
        {
            "event, actor, to": _lines(_event(row), row["actor_id"], f"to {row['destination_country'] or 'unknown'}"),
            "rule, citation": _lines(_rule(row), row["citations"]),
            "why": _why(row),
        }
        for row in rows
    ]
    return ["event, actor, to", "rule, citation", "why"], shown


def _event(row: dict[str, Any]) -> str:
    return _lines(
        f"{row['events']:,} ×" if "events" in row else "",
        row["class"],
        f"{row['action'] or ''} {row['target_id'] or ''}".strip(),
        _time(row["latest" if "latest" in row else "event_time"]),
        # What `policy explain` asks for, and what an officer is told.
        row.get("record_id") or "",
    )


def _rule(row: dict[str, Any]) -> str:
    licensed = f"licensed: {row['license']}" if row.get("current") == "licensed" else ""
    return _lines(
        f"{row['determination'] or ''}{' ⚑' if row['flagged'] else ''}",
        licensed,
        *row["rule_ids"],
        *(one["finding"].replace("_", " ") for one in row.get("findings", ())),
    )


def _why(row: dict[str, Any]) -> str:
    return _lines(row["why"] or "", row.get("license_why") or "")


def _lines(*parts: str) -> str:
    return "\n".join(filter(None, parts))


def _check(name: str, value: str, known: Sequence[str]) -> None:
    """A word that no event has would find nothing, which reads like good news."""
    if value and value not in known:
        raise AuditSpanError(f"There is no {name} {value!r}.", remedy=f"There are: {', '.join(known)}.")


def _time(moment: str | None) -> str:
    """To the second, for a person."""
    return moment[:19].replace("T", " ") if moment is not None else ""
