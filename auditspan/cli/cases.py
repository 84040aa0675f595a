"""``auditspan cases``: what unflagged reviews wait for, and whom rescreening found, one case for each question."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from auditspan.cli.listed_cases import events_of, likeness_text, listed_cases
from auditspan.cli.moments import nanoseconds, rfc3339
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.parties import Parties
    from auditspan.store.contract import Store

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="What somebody must find out: reviews by missing fact, and whom rescreening found."
)

_MOST_MEMBERS: Final = 10_000
"""Members of a case that are looked up in the registry; a case with more stays open."""
_MOST_LISTED: Final = 100_000

_CASES: Final = """
SELECT case_id, subject, question, members, grouped, events, toUnixTimestamp64Nano(cases.first_seen) AS first_seen,
       toUnixTimestamp64Nano(assumeNotNull(cases.last_seen)) AS last_seen, last_epoch, missing_facts, faults, rule_ids,
       classes
FROM auditspan.cases
WHERE cases.first_seen >= fromUnixTimestamp64Nano({since:Int64}, 'UTC') AND startsWith(case_id, {id:String})
ORDER BY first_seen DESC, case_id
LIMIT {limit:UInt32}
"""
_ASKED: Final = """
SELECT case_id, subject, question FROM auditspan.case_members WHERE case_id IN {ids:Array(String)}
"""
_MEMBERS: Final = """
SELECT subject, question, own, home AS emitter, events, toUnixTimestamp64Nano(case_members.first_seen) AS first_seen,
       toUnixTimestamp64Nano(assumeNotNull(case_members.last_seen)) AS last_seen, missing_facts
FROM auditspan.case_members WHERE case_id = {id:String} ORDER BY first_seen, subject, question LIMIT {limit:UInt32}
"""
_EVENTS: Final = """
SELECT record_id, class, toUnixTimestamp64Nano(assumeNotNull(events.arrival_time)) AS arrival_time, emitter, actor_id,
       action, target_id, destination_country, missing_facts, faults, rule_ids, why, log_id, leaf_index
FROM auditspan.events
WHERE (case_subject, case_question) IN
      (SELECT subject, question FROM auditspan.case_members WHERE case_id = {id:String})
ORDER BY events.arrival_time DESC, log_id, leaf_index DESC
LIMIT {limit:UInt32}
"""
_EPOCHS: Final = """
SELECT header FROM auditspan.events WHERE class = 'audit.reference.activated' AND payload = '' ORDER BY leaf_index
"""


@app.command("list")
@reports_errors
def list_(
    data: DataOption = None,
    url: UrlOption = None,
    since: Annotated[
        str | None, typer.Option(help="Only cases that are new since this time (ISO 8601; UTC without a zone).")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also cases that the party registry in force has answered.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many, the newest first.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List the open cases: who, what is missing, how many events wait for it, and what to do.

    Flagged events are in no such case: `auditspan events --flagged` shows each of them. A case is answered when the
    party registry in force knows what it asks; no event joins it from then on. Whoever `auditspan rescreen` found on a
    list is a case too, until an officer clears the hit; those with completed transfers are flagged, and come first.

    \b
    auditspan cases list --data ./data
    auditspan cases list --data ./data --since 2026-11-24 --all --json
    """
    parameters = {"since": nanoseconds(since, 0), "id": "", "limit": limit}
    with open_reader(data, url) as reading:
        listed = listed_cases(reading.store, nanoseconds(since, 0), "", _MOST_LISTED)
        waiting = _with_state(reading.store, reading.store.query(_CASES, parameters).to_pylist())
    found = [row for row in (*listed, *waiting) if everything or row["state"] == "open"]
    # Within those that are flagged, and those that are not, the order stays.
    rows = sorted(found, key=lambda row: not row["flagged"])[:limit]
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            "case": "\n".join(
                (
                    f"{one['case']}{one['flag']}",
                    f"{one['events']} event{'' if one['events'] == '1' else 's'}",
                    one["first, last"],
                )
            ),
            "about, missing": f"{one['about']}\n{one['missing']}",
            "what to do": one["what to do"],
        }
        for one in map(_row, rows)
    ]
    title = f"{len(rows)} {'' if everything else 'open '}case{'' if len(rows) == 1 else 's'}"
    print_table(title, ["case", "about, missing", "what to do"], shown, prose="what to do")
    if len(found) > limit or len(waiting) == limit:
        console.print(f"There may be more: at most {limit} are shown.")


@app.command("show")
@reports_errors
def show(
    case: Annotated[str, typer.Argument(help="Id of the case, or how it begins.")],
    data: DataOption = None,
    url: UrlOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many members, and so many events.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show one case: its members, and its latest events with the reason of each.

    \b
    auditspan cases show 885d60767349745b --data ./data
    """
    with open_reader(data, url) as reading:
        parameters = {"since": 0, "id": case.lower(), "limit": 2}
        found = listed_cases(reading.store, 0, case.lower(), 2)
        found += _with_state(reading.store, reading.store.query(_CASES, parameters).to_pylist())
        if len(found) != 1:
            raise AuditSpanError(
                f"{'Several cases begin' if found else 'No case begins'} with {case!r}.",
                remedy="`auditspan cases list --all` shows the ids.",
            )
        document = found[0]
        chosen = {"id": document["case_id"], "limit": limit}
        document["shown_members"] = _readable(reading.store.query(_MEMBERS, chosen).to_pylist())
        document["latest_events"] = (
            events_of(reading.store, document, limit)
            if "likeness" in document
            else _readable(reading.store.query(_EVENTS, chosen).to_pylist())
        )
    if as_json:
        print_json(document)
        return
    row = _row(document)
    console.print(f"Case {document['case_id']}, {document['state']}: {plain(row['about'])}", soft_wrap=True)
    console.print(f"Not known: {plain(row['missing'])}", soft_wrap=True)
    console.print(f"What to do: {plain(row['what to do'])}", soft_wrap=True)
    if document["grouped"]:
        console.print(
            f"{document['grouped']:,} of its {document['members']:,} members came when the day's budget of new cases "
            "was used up. They are kept together here, each with its own count.",
            soft_wrap=True,
        )
    if "likeness" in document:
        console.print(plain(likeness_text(document["likeness"])), soft_wrap=True)
    members = [
        {"member": m["subject"], "emitter": m["emitter"], "missing": ", ".join(m["missing_facts"]), **_when(m)}
        for m in document["shown_members"]
    ]
    title = f"{len(members)} of {document['members']:,} members"
    if members:
        print_table(title, ["member", "emitter", "missing", "events", "first, last"], members, lines=False)
    events = [
        {
            "event": "\n".join(filter(None, (e["class"], e["record_id"], _minute(e["arrival_time"])))),
            "actor": e["actor_id"],
            "why": e["why"] or ", ".join(e["faults"]),
        }
        for e in document["latest_events"]
    ]
    print_table(f"{len(events)} of {document['events']:,} events", ["event", "actor", "why"], events, prose="why")


def _with_state(store: Store, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cases with what to do, and ``state``: ``answered`` where the registry in force knows everything asked."""
    from auditspan.policy.cases import answered, next_step

    parties = _registry(store)
    small = [row["case_id"] for row in rows if row["members"] <= _MOST_MEMBERS]
    waiting = {row["case_id"] for row in rows if row["members"] > _MOST_MEMBERS or parties is None}
    if parties is not None and small:
        for member in store.query(_ASKED, {"ids": small}).to_pylist():
            if not answered(parties, member["subject"], member["question"]):
                waiting.add(member["case_id"])
    return [
        {
            **row,
            "flagged": False,
            "state": "open" if row["case_id"] in waiting else "answered",
            "what_to_do": next_step(row["subject"], row["question"], row["grouped"]),
        }
        for row in _readable(rows)
    ]


def _registry(store: Store) -> Parties | None:
    """The party registry of the epoch in force; None where the store does not keep it."""
    from auditspan.policy.cases import REGISTRY_ARTIFACTS, registry
    from auditspan.processors.epochs import effective

    # Not the last leaf: of several epochs with one number the first came into force, and no other.
    said = effective(json.loads(leaf)["body"]["body"] for leaf in store.query(_EPOCHS)["header"].to_pylist())
    if not said:
        return None
    digests = {one["name"]: one["sha256"] for one in said[-1]["artifacts"] if one["name"] in REGISTRY_ARTIFACTS}
    kept = {name: store.artifact(digest) for name, digest in digests.items()}
    artifacts = {
        name: content
        for name, content in kept.items()
        if content is not None and hashlib.sha256(content).hexdigest() == digests[name]
    }
    return registry(artifacts) if len(artifacts) == len(REGISTRY_ARTIFACTS) else None


def _row(row: dict[str, Any]) -> dict[str, Any]:
    from auditspan.policy.cases import question_text, subject_text

    others = [name.replace("_", " ") for name in (*row["missing_facts"], *row["faults"])]
    question = question_text(row["question"])
    return {
        "case": f"{row['case_id']}{'' if row['state'] == 'open' else ' (answered)'}",
        "about": subject_text(row["subject"], row["grouped"]),
        "flag": " ⚑" if row["flagged"] else "",
        "missing": f"{question} ({', '.join(others)})" if len(others) > 1 else question,
        "what to do": row["what_to_do"],
        **_when(row),
    }


def _when(row: dict[str, Any]) -> dict[str, str]:
    return {"events": f"{row['events']:,}", "first, last": f"{_minute(row['first_seen'])}\n{_minute(row['last_seen'])}"}


def _readable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    times = ("first_seen", "last_seen", "arrival_time")
    return [row | {name: rfc3339(row[name]) for name in times if name in row} for row in rows]


def _minute(moment: str | None) -> str:
    return moment[:16].replace("T", " ") if moment is not None else ""
