"""``auditspan policy diff``: which stored events would change under other packs, or at another date."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from auditspan.cli.moments import interval, rfc3339
from auditspan.cli.output import JsonOption, console, print_json, print_table, reports_errors
from auditspan.cli.policy_explain import instant_of, reference_with
from auditspan.cli.policy_files import PackOption
from auditspan.cli.progress_bar import progress_of_one
from auditspan.cli.reading import DataOption, UrlOption, existing, open_reader
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.impact import Change, ImpactReport

__all__ = ["diff"]

_MOST_SHOWN = 50
_FOR_EVER = 2**63 - 1


@reports_errors
def diff(
    data: DataOption = None,
    url: UrlOption = None,
    pack: PackOption = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="Judge every event at this date or minute (Washington) instead of its own time."),
    ] = None,
    time_from: Annotated[
        str | None, typer.Option("--from", help="First arrival time looked at (UTC); default: the beginning.")
    ] = None,
    time_to: Annotated[
        str | None, typer.Option("--to", help="First arrival time no longer looked at (UTC); default: now.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Simulate the impact of a pack or date: which stored events would be judged otherwise than they were sealed.

    Each event is judged again from its sealed facts under the epoch in force now, with --pack in place of what it
    replaces (a list of adoptions may be given as well), at its own time or at --at. What was resolved when it was
    sealed, such as the specification of an accelerator, is taken as it was. Nothing is written.

    Exit status: 0 done, whether anything changes or not; 1 it could not be done; 2 the command line is wrong.

    \b
    auditspan policy diff --pack ./our-rules.yaml --data ./data
    auditspan policy diff --at 2027-01-01 --from 2026-11-01 --to 2026-12-01 --data ./data --json
    """
    from auditspan.policy.impact import impact
    from auditspan.policy.stored_determinations import Interval
    from auditspan.policy.stored_epochs import StoredEpochs

    if not pack and at is None:
        raise AuditSpanError("It must be clear what to compare with.", remedy="Give --pack FILE, --at DATE, or both.")
    looked_at = Interval(*interval(("--from", time_from), ("--to", time_to), _FOR_EVER))
    instant = None if at is None else instant_of(at)
    with ExitStack() as stack:
        reading = stack.enter_context(open_reader(data, url))
        epochs = StoredEpochs(reading.store, existing(data).reference if data is not None else None)
        reference = reference_with(epochs, pack or [])
        progress = stack.enter_context(progress_of_one("judging", as_json))
        report = impact(reading.store, reference, looked_at, instant, progress)
    if as_json:
        print_json(
            {
                "events": report.events,
                "documents": report.documents,
                "changed": report.changed,
                "unreadable": report.unreadable,
                "not_told_apart": report.not_told_apart,
                "changes": [change.to_json(rfc3339) for change in report.changes],
                "in_shadow": _shadow(report),
            }
        )
        return
    _show(report)


def _shadow(report: ImpactReport) -> list[dict[str, object]]:
    named = sorted(report.in_shadow.items(), key=lambda item: (-item[1], item[0]))
    return [{"rule": rule, "outcome": outcome, "events": events} for (rule, outcome), events in named]


def _show(report: ImpactReport) -> None:
    if report.changes:
        columns = ["events", "outcome", "rules"]
        rows = [_row(change) for change in report.changes[:_MOST_SHOWN]]
        print_table("What would change", columns, rows, prose="rules")
        if len(report.changes) > _MOST_SHOWN:
            console.print(f"{len(report.changes) - _MOST_SHOWN:,} more kinds of change; --json lists them.")
    if report.in_shadow:
        print_table("New in shadow", ["rule", "outcome", "events"], _shadow(report), lines=False)
    if report.unreadable:
        console.print(f"{report.unreadable:,} events have a facts document that cannot be read.")
    console.print(
        f"{report.changed:,} of {report.events:,} events ({report.documents:,} distinct) would be judged otherwise.",
        soft_wrap=True,
    )


def _row(change: Change) -> dict[str, object]:
    return {
        "events": f"{change.events:,}",
        "outcome": f"{change.before}{' ⚑' if change.flagged_before else ''}\n→ {change.after}"
        f"{' ⚑' if change.flagged_after else ''}",
        "rules": "\n".join(
            [f"+ {name}" for name in change.rules_added]
            + [f"- {name}" for name in change.rules_removed]
            + ([f"changes also: {', '.join(change.also)}"] if change.also else [])
            + [f"for example {change.record_id}"]
        ),
    }
