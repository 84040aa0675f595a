"""``auditspan requests``: export requests with what was decided on them, what was transferred, and what is wrong."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from auditspan.cli.moments import nanoseconds, rfc3339
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader
from auditspan.errors import AuditSpanError

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Export requests: who asked, who decided, what went to whom.")

_LIST: Final = """
SELECT request_id,
       argMinIf(actor_id, arrival_time, class = 'export.request') AS asked_by,
       argMinIf(final_recipient, arrival_time, class = 'export.request') AS asked_for,
       groupUniqArrayIf(toString(approval), class = 'export.decision') AS decisions,
       uniqExactIf((emitter, if(intent_id = '', record_id, intent_id)),
                   class NOT IN ('export.request', 'export.decision')) AS transfers,
       toUnixTimestamp64Nano(min(r.arrival_time)) AS first, toUnixTimestamp64Nano(max(r.arrival_time)) AS last
FROM auditspan.request_records AS r
WHERE NOT {flagged:Bool} OR request_id IN (SELECT request_id FROM auditspan.findings)
GROUP BY request_id
HAVING max(r.arrival_time) >= fromUnixTimestamp64Nano({since:Int64}, 'UTC')
ORDER BY last DESC, request_id LIMIT {limit:UInt32}
"""
_KINDS: Final = """
SELECT request_id, arraySort(groupUniqArray(finding)) AS findings FROM auditspan.findings
WHERE request_id IN {ids:Array(String)} GROUP BY request_id
"""
_RECORDS: Final = """
SELECT DISTINCT toString(r.log_id) AS log_id, leaf_index, record_id, toString(class) AS class,
       toString(emitter) AS emitter, actor_id, toUnixTimestamp64Nano(r.arrival_time) AS arrival_time,
       toUnixTimestamp64Nano(r.began) AS began,
       toString(outcome) AS outcome, intent_id, target_id, artifact_digest, model, accelerator_model, quantity,
       toString(destination) AS destination, consignee, end_user, final_recipient, license,
       toString(approval) AS approval, authority, valid_until, conditions
FROM auditspan.request_records AS r WHERE request_id = {id:String}
ORDER BY arrival_time, log_id, leaf_index LIMIT {limit:UInt32}
"""
_FINDINGS: Final = """
SELECT finding, log_id, leaf_index, record_id, decided, decision_record_id, why, authority, citation,
       toUnixTimestamp64Nano(assumeNotNull(findings.found_at)) AS found_at
FROM auditspan.findings WHERE request_id = {id:String} ORDER BY control_leaf
"""
_TIMES: Final = ("first", "last", "arrival_time", "began", "found_at")


@app.command("list")
@reports_errors
def list_(
    data: DataOption = None,
    url: UrlOption = None,
    flagged: Annotated[bool, typer.Option("--flagged", help="Only requests with something wrong.")] = False,
    since: Annotated[
        str | None, typer.Option(help="Only those of which something arrived at or after this time (ISO 8601).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List export requests, those in which something happened last first.

    \b
    auditspan requests list --data ./data
    auditspan requests list --data ./data --flagged --json
    """
    with open_reader(data, url) as reading:
        parameters = {"flagged": flagged, "since": nanoseconds(since, 0), "limit": limit}
        rows = _readable(reading.store.query(_LIST, parameters).to_pylist())
        ids = [row["request_id"] for row in rows]
        kinds = {row["request_id"]: row["findings"] for row in reading.store.query(_KINDS, {"ids": ids}).to_pylist()}
    rows = [row | {"findings": kinds.get(row["request_id"], [])} for row in rows]
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            "request": row["request_id"] or "(none named)",
            "asked by, for": _lines(row["asked_by"] or "nobody", row["asked_for"]),
            "decided": _lines(*(sorted(filter(None, row["decisions"])) or ["nothing"])),
            "transfers": f"{row['transfers']:,}",
            "last": _minute(row["last"]),
            "findings": _lines(*(_words(kind) for kind in row["findings"])),
        }
        for row in rows
    ]
    print_table(
        f"{len(rows)} {'flagged ' if flagged else ''}request{'' if len(rows) == 1 else 's'}",
        ["request", "asked by, for", "decided", "transfers", "last", "findings"],
        shown,
    )


@app.command("show")
@reports_errors
def show(
    request_id: Annotated[str, typer.Argument(help="Id of the request; '' for transfers that name none.")],
    data: DataOption = None,
    url: UrlOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many records, the earliest.")] = 200,
    as_json: JsonOption = False,
) -> None:
    """Show the trail of one request: who asked, who decided, what was transferred to whom, and what is wrong with it.

    \b
    auditspan requests show EXP-2026-0017 --data ./data
    """
    from auditspan.requests.reading import bounded

    chosen = {"id": bounded(request_id), "limit": limit}
    with open_reader(data, url) as reading:
        records = _readable(reading.store.query(_RECORDS, chosen).to_pylist())
        found = _readable(reading.store.query(_FINDINGS, {"id": chosen["id"]}).to_pylist())
    if not records:
        raise AuditSpanError(
            f"Nothing names the request {request_id!r}.",
            remedy="`auditspan requests list` shows the ids; what arrived seconds ago may not be read yet.",
        )
    for record in records:
        place = record["log_id"], record["leaf_index"]
        record["findings"] = [one for one in found if (one["log_id"], one["leaf_index"]) == place]
    if as_json:
        print_json({"request_id": chosen["id"], "records": records, "findings": len(found)})
        return
    shown = [
        {
            "when": _second(record["arrival_time"]),
            "what": _lines(_what(record), record["record_id"]),
            "who": _lines(record["actor_id"], record["authority"], f"by {record['emitter']}"),
            "item, to": _lines(_item(record), _to(record), _until(record)),
            "findings": _lines(
                *(
                    f"{_words(one['finding'])} ({one['authority'].replace('_', ' ')}): {one['why']}"
                    for one in record["findings"]
                )
            ),
        }
        for record in records
    ]
    title = f"Request {chosen['id'] or '(none named)'}: {len(records)} records, {len(found)} findings"
    print_table(plain(title), ["when", "what", "who", "item, to", "findings"], shown, prose="findings")
    if len(records) == limit:
        console.print(f"There may be more: these are the earliest {limit}.")


def _what(record: dict[str, Any]) -> str:
    if record["class"] == "export.decision":
        return f"decision: {record['approval'] or 'none'}"
    if record["class"] == "export.request":
        return "request"
    return f"{record['class']} {record['outcome']}".strip()


def _item(record: dict[str, Any]) -> str:
    names = [record[name] for name in ("model", "accelerator_model", "artifact_digest") if record[name]]
    named = ", ".join(names) or record["target_id"]
    return f"{record['quantity']:,} × {named}" if record["quantity"] is not None else named


def _to(record: dict[str, Any]) -> str:
    names = ("consignee", "end_user", "final_recipient")
    said = [f"{_words(name)} {record[name]}" for name in names if record[name]]
    said += [record["destination"]] if record["destination"] else []
    return f"to {', '.join(said)}" if said else ""


def _until(record: dict[str, Any]) -> str:
    terms = [record["license"], f"until {record['valid_until']}" if record["valid_until"] else "", record["conditions"]]
    return ", ".join(filter(None, terms))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _lines(*parts: str) -> str:
    return "\n".join(filter(None, parts))


def _readable(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row | {name: rfc3339(row[name]) for name in _TIMES if name in row} for row in rows]


def _minute(moment: str | None) -> str:
    return moment[:16].replace("T", " ") if moment is not None else ""


def _second(moment: str | None) -> str:
    return moment[:19].replace("T", " ") if moment is not None else ""
