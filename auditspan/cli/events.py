"""``auditspan events``: the sealed stream, newest first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from auditspan.cli.output import JsonOption, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader

__all__ = ["events"]

_WHERE = """
WHERE (NOT {only_flagged:Bool} OR flagged)
  AND ({class:String} = '' OR class = {class:String})
  AND ({determination:String} = '' OR determination = {determination:String})
  AND arrival_time >= {since:DateTime64(9, 'UTC')}
  AND ({everything:Bool} OR class != 'other' AND NOT startsWith(class, 'audit.'))
"""

_EACH = f"""
SELECT record_id, class, event_time, arrival_time, emitter, actor_id, action, outcome, target_id, destination_country,
       determination, flagged, rule_ids, faults, citations, why, trace_id, span_id, log_id, leaf_index
FROM auditspan.events {_WHERE}
ORDER BY arrival_time DESC, leaf_index DESC
LIMIT {{limit:UInt32}}
"""  # noqa: S608 - composed of constants; values are parameters

_DISTINCT = f"""
SELECT count() AS events, max(event_time) AS latest, class, actor_id, action, target_id, destination_country,
       determination, flagged, rule_ids, citations, why
FROM auditspan.events {_WHERE}
GROUP BY class, actor_id, action, target_id, destination_country, determination, flagged, rule_ids, citations, why
ORDER BY latest DESC
LIMIT {{limit:UInt32}}
"""  # noqa: S608


@reports_errors
def events(
    data: DataOption = None,
    url: UrlOption = None,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="Only events that involve a controlled destination.")
    ] = False,
    event_class: Annotated[str, typer.Option("--class", help="Only this class, such as model.access.")] = "",
    determination: Annotated[str, typer.Option(help="Only this determination, such as license_required.")] = "",
    since: Annotated[
        datetime | None,
        typer.Option(help="Only what arrived at or after this time (UTC).", formats=["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"]),
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
    parameters: dict[str, Any] = {
        "only_flagged": flagged,
        "class": event_class,
        "determination": determination,
        "since": (since or datetime(1970, 1, 1)).replace(tzinfo=UTC),
        "everything": everything or event_class.startswith("audit.") or event_class == "other",
        "limit": limit,
    }
    with open_reader(data, url) as store:
        rows = store.query(_DISTINCT if distinct else _EACH, parameters).to_pylist()
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            "event": "\n".join(
                filter(
                    None,
                    (
                        f"{row['events']} ×" if distinct else "",
                        row["class"],
                        f"{row['action'] or ''} {row['target_id'] or ''}".strip(),
                        _time(row["latest" if distinct else "event_time"]),
                    ),
                )
            ),
            "actor": row["actor_id"],
            "destination": row["destination_country"],
            "rule": "\n".join([f"{row['determination'] or ''}{' ⚑' if row['flagged'] else ''}", *row["rule_ids"]]),
            "citation": row["citations"],
            "why": row["why"],
        }
        for row in rows
    ]
    columns = ["event", "actor", "destination", "rule", "citation", "why"]
    kind = "kinds of " if distinct else ""
    print_table(f"{len(rows)} {kind}{'flagged ' if flagged else ''}events", columns, shown, prose="why")


def _time(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""
