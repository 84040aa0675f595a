"""``auditspan policy recheck``: every determination of an interval made again."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from auditspan.cli.moments import interval
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors_with
from auditspan.cli.progress_bar import progress_of_one
from auditspan.cli.reading import DataOption, UrlOption, existing, open_reader
from auditspan.cli.verdict import EXIT_USAGE, Verdict

if TYPE_CHECKING:
    from auditspan.policy.recheck import RecheckReport

__all__ = ["recheck"]

_MOST_SHOWN = 50
_FOR_EVER = 2**63 - 1


@reports_errors_with(EXIT_USAGE)
def recheck(
    data: DataOption = None,
    url: UrlOption = None,
    since: Annotated[
        str | None, typer.Option("--since", help="First arrival time (ISO 8601; UTC without a zone); default: all.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="First arrival time no longer looked at; default: all.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make every determination of an interval again from its stored facts, and compare it byte for byte.

    Each is judged at its own time under the reference epoch that its batch names: Country Groups, terms, rules and
    outcomes must come out as they are stored, and the header must say what its facts document says. Nothing is
    written. Whether the facts themselves are what was sealed is checked by `auditspan evidence verify`.

    Exit status: 0 all are identical; 1 some differ, and the events are named; 2 nothing differs, but some could not be
    made again (the packs of an epoch are gone); 3 it could not be done.

    \b
    auditspan policy recheck --data ./data
    auditspan policy recheck --data ./data --since 2026-11-24 --until 2026-11-25 --json
    """
    from auditspan.policy.recheck import recheck as make_again
    from auditspan.policy.stored_determinations import Interval
    from auditspan.policy.stored_epochs import StoredEpochs

    looked_at = Interval(*interval(("--since", since), ("--until", until), _FOR_EVER))
    with ExitStack() as stack:
        reading = stack.enter_context(open_reader(data, url))
        epochs = StoredEpochs(reading.store, existing(data).reference if data is not None else None)
        progress = stack.enter_context(progress_of_one("judging again", as_json))
        report = make_again(reading.store, epochs, looked_at, progress)
    if as_json:
        print_json(report.to_json())
    else:
        _show(report)
    raise Verdict(report.exit_code)


def _show(report: RecheckReport) -> None:
    if report.differing:
        rows = [
            {
                "event": f"{each.record_id}\nlog {each.log_id}\nleaf {each.leaf:,}, epoch {each.epoch}",
                "alike": f"{each.events:,}",
                "stored → made again": "\n".join(f"{name}: {a} → {b}" for name, a, b in each.fields),
            }
            for each in report.differing[:_MOST_SHOWN]
        ]
        columns = ["event", "alike", "stored → made again"]
        print_table("Determinations that differ", columns, rows, prose="stored → made again")
        if len(report.differing) > _MOST_SHOWN:
            console.print("There are more; --json lists them.")
    for gone in report.not_recomputed:
        console.print(
            plain(f"Epoch {gone['epoch']}, {gone['events']:,} events: {gone['reason']}. {gone['remedy']}"),
            soft_wrap=True,
        )
    said = {
        0: "every one comes out as it is stored.",
        1: f"{report.differing_events:,} events differ.",
        2: "none differs; not all could be made again, as said above.",
    }
    console.print(
        f"{report.verdict}: {report.events:,} determinations ({report.documents:,} distinct) made again, "
        f"{said[report.exit_code]}",
        soft_wrap=True,
    )
