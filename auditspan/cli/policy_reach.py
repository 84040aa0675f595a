"""``auditspan policy reach``: who accessed what a directive names, and whose nationality is not known."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.moments import nanoseconds, rfc3339
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.reach import Actor

__all__ = ["reach"]

_MOST_ACTORS = 1_000_000


@reports_errors
def reach(
    data: DataOption = None,
    url: UrlOption = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model or other target by its name; may be given again.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", help="A rule that was, or could be, met; may be given again.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="Arrival time from which on (ISO 8601; UTC without a zone).")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=_MOST_ACTORS, help="At most so many actors shown.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Answer a directive: who touched the named models, or was met by a rule, and whose nationality is not known.

    One row for each actor: the party of the registry, or the credential where the registry knew none. Those whose
    nationality was not known when their events were sealed come first. The counts are of all, whatever --limit shows.
    A name that no event of any time has is said to be so: it may be mistyped.

    Exit status: 0 done, whoever was reached; 1 it could not be done; 2 the command line is wrong.

    \b
    auditspan policy reach --model frontier-7 --since 2026-06-12T21:21:00Z --data ./data
    auditspan policy reach --rule directives/letter-7 --data ./data --json
    """
    from auditspan.policy.reach import reach as reached

    if not model and not rule:
        raise AuditSpanError("It must be clear whom to look for.", remedy="Give --model NAME or --rule ID.")
    with open_reader(data, url) as reading:
        found = reached(reading.store, model or [], rule or [], nanoseconds(since, 0))
        shown: list[Actor] = list(islice(found, limit))
        events = sum(actor.events for actor in shown)
        unknown = sum(not actor.nationality_known for actor in shown)
        actors = len(shown)
        for actor in found:
            actors, events = actors + 1, events + actor.events
            unknown += not actor.nationality_known
        # Nobody reached reads like good news, and is none where a name was mistyped.
        unseen = [name for name in model or [] if next(reached(reading.store, [name], [], 0), None) is None]
        unseen += [name for name in rule or [] if next(reached(reading.store, [], [name], 0), None) is None]
    if as_json:
        print_json(
            {
                "actors": actors,
                "events": events,
                "nationality_unknown": unknown,
                "shown": len(shown),
                "named_by_no_event": unseen,
                "by_actor": [_json(actor) for actor in shown],
            }
        )
        return
    columns = ["actor", "nationality", "places", "events", "between"]
    print_table("Who was reached", columns, [_row(actor) for actor in shown])
    more = f" {actors - len(shown):,} more; --limit shows them." if actors > len(shown) else ""
    console.print(
        f"{actors:,} actors in {events:,} events; of {unknown:,} the nationality is not known.{more}", soft_wrap=True
    )
    for name in unseen:
        console.print(plain(f"No event of any time names {name!r}: is it written as events write it?"), soft_wrap=True)


def _json(actor: Actor) -> dict[str, Any]:
    return {
        "actor": actor.actor,
        "actor_id": actor.actor_id,
        "party": actor.party or None,
        "country": actor.country or None,
        "parent_country": actor.parent_country or None,
        "nationality": actor.nationality or None,
        "nationality_known": actor.nationality_known,
        "events": actor.events,
        "flagged": actor.flagged,
        "first": rfc3339(actor.first),
        "last": rfc3339(actor.last),
        "worst": actor.worst,
        "assets": list(actor.assets),
    }


def _row(actor: Actor) -> dict[str, Any]:
    known = (actor.nationality or "no person") if actor.nationality_known else "not known"
    return {
        "actor": actor.actor if actor.party else f"{actor.actor}\n(not in the registry)",
        "nationality": known,
        "places": f"{actor.country or 'not known'}\nparent {actor.parent_country or 'not known'}",
        "events": f"{actor.events:,}, {actor.flagged:,} flagged\n{actor.worst}",
        "between": "\n".join(str(rfc3339(moment))[:19].replace("T", " ") for moment in (actor.first, actor.last)),
    }
