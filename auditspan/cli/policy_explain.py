"""``auditspan policy explain``: a decision as a person would argue it."""

from __future__ import annotations

import json
import re
import sys
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.policy_files import PackOption, packaged_with, read_files
from auditspan.cli.reading import DataOption, UrlOption, existing, open_reader
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.policy.argument import Argument
    from auditspan.policy.exceptions import Considered
    from auditspan.policy.reference import Reference
    from auditspan.policy.stored_event import StoredEvent
    from auditspan.store.contract import Store

__all__ = ["explain", "instant_of", "reference_with", "show"]

_LARGEST = 4 * 1024 * 1024
_WIDEST = 110
"""Characters of a line that a person reads with ease."""


@reports_errors
def explain(
    event: Annotated[
        str | None, typer.Argument(help="Record id of a stored event, or LOG_ID/LEAF; with --data or --url.")
    ] = None,
    facts: Annotated[
        str | None, typer.Option("--facts", help="Facts as JSON: a file, - for standard input, or the object itself.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", help="Rule time: a date, or a minute such as 2026-06-12T17:21, in Washington."),
    ] = None,
    data: DataOption = None,
    url: UrlOption = None,
    pack: PackOption = None,
    list_facts: Annotated[
        bool, typer.Option("--list-facts", help="Print every fact with its type and meaning, and end.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Argue a determination: is the item subject to the EAR, what is it, where does it go, to whom, what follows.

    Facts are a JSON object of names and values, such as {"act": "transfer", "accelerator_model": "H100 SXM",
    "destination_country": "SG", "end_user_parent_country": "CN"}. What is left out, or null, is not known, and what is
    not known never clears. A country is its code or name; `tpp` and `performance_density` are a number or [least,
    greatest]; attributes such as export_control.eccn stand for facts; "at" may stand in the object, which may also be
    {"at": …, "facts": {…}}. Without a date it is today.

    A stored event is judged by its sealed facts at its own time, under the epoch of its batch, unless --at or --pack
    say otherwise. Facts are judged under the packs that ship, or with --data or --url those in force there; --pack
    puts yours beside them.

    Exit status: 0 it is explained, whatever the outcome; 1 it could not be; 2 the command line is wrong.

    \b
    auditspan policy explain --facts ./facts.json --at 2026-11-01
    auditspan policy explain --facts '{"act": "transfer", "accelerator_model": "H20", "destination_country": "CN"}'
    auditspan policy explain 5f0c2e --data ./data --json
    auditspan policy explain --list-facts
    """
    if list_facts:
        _list_facts(as_json)
        return
    if (event is None) == (facts is None):
        raise AuditSpanError(
            "It must be clear what to explain.",
            remedy="Give either an event with --data DIR, or --facts FILE; --list-facts says which facts there are.",
        )
    if event is not None:
        with open_reader(data, url) as reading:
            folder = existing(data).reference if data is not None else None
            _explain_event(reading.store, folder, event, at, pack or [], as_json)
        return
    given, stated_at = _read(str(facts))
    instant = instant_of(at or stated_at)
    reference = _reference(data, url, pack or [])
    from auditspan.policy.argument import argue
    from auditspan.policy.stated_facts import state

    stated = state(reference, given, instant)
    notes = list(stated.notes)
    argument = argue(reference, reference.engine().determine([stated.facts], instant))
    if as_json:
        print_json({**argument.to_json(), "notes": notes})
    else:
        show(argument, notes)


def _reference(data: Path | None, url: str | None, packs: list[Path]) -> Reference:
    """The packs in force in a deployment, or those that ship; with an officer's own."""
    if data is None and url is None:
        return packaged_with(packs)
    from auditspan.policy.stored_epochs import StoredEpochs

    with open_reader(data, url) as reading:
        epochs = StoredEpochs(reading.store, existing(data).reference if data is not None else None)
        return reference_with(epochs, packs)


def reference_with(epochs: Any, packs: list[Path]) -> Reference:
    """The newest epoch, with ``packs`` put beside it or in the place of what they replace."""
    from auditspan.policy.artifact_files import with_files
    from auditspan.policy.reference import Reference

    number = epochs.newest
    if not packs:
        found: Reference = epochs.reference(number)
        return found
    return Reference.load(with_files(epochs.artifacts(number), read_files(packs)), number)


def _explain_event(
    store: Store, folder: Path | None, name: str, at: str | None, packs: list[Path], as_json: bool
) -> None:
    from auditspan.policy.argument import argue
    from auditspan.policy.recompute import Recomputer
    from auditspan.policy.stored_epochs import StoredEpochs
    from auditspan.policy.stored_event import find_event

    event = find_event(store, name)
    epochs = StoredEpochs(store, folder)
    reference = reference_with(epochs, packs) if packs else epochs.reference(event.epoch)
    times = event.times if at is None else (instant_of(at),)
    determinations = Recomputer(reference).determinations(event.facts, times)
    arguments = [argue(reference, determination) for determination in determinations]
    notes = []
    if len(arguments) > 1:
        notes.append(
            "The event's own time is outside the window around its arrival, so both times are judged, the most "
            "restrictive wins, and the result is at least review."
        )
    if at is None and not packs and event.determination != arguments[-1].determination.verdict.governing:
        notes.append(
            f"The sealed determination is {event.determination}"
            + (f": raised for {', '.join(event.faults)}." if event.faults else ".")
        )
    chosen = max(arguments, key=lambda argument: argument.determination.verdict.rank)
    if as_json:
        others = [argument.to_json() for argument in arguments if argument is not chosen]
        print_json({**chosen.to_json(), "notes": notes, "event": event.to_json(), "other_times": others})
        return
    _show_event(event)
    for argument in arguments:
        show(argument, notes if argument is arguments[-1] else [])


def _show_event(event: StoredEvent) -> None:
    console.print(
        plain(
            f"Event {event.record_id} ({event.event_class}), leaf {event.leaf:,} of log {event.log_id}, "
            f"judged under epoch {event.epoch}."
        ),
        soft_wrap=False,
    )


def _read(source: str) -> tuple[Mapping[str, Any], str | None]:
    if source.lstrip().startswith("{"):
        text = source
    elif source == "-":
        text = sys.stdin.read(_LARGEST + 1)
    else:
        ((_, content),) = read_files([Path(source)])
        text = content.decode("utf-8", errors="replace")
    if len(text) > _LARGEST:
        raise AuditSpanError("The facts are too large.", remedy=f"Keep them below {_LARGEST:,} characters.")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AuditSpanError(
            f"The facts are no JSON: {error}.", remedy='Write an object such as {"act": "transfer"}.'
        ) from error
    if not isinstance(given, dict):
        raise AuditSpanError("The facts are no JSON object.", remedy='Write an object such as {"act": "transfer"}.')
    stated_at = given.get("at")
    if not (stated_at is None or isinstance(stated_at, str)):
        raise AuditSpanError(f"The date {stated_at!r} is no text.", remedy='Write "at": "2026-11-01".')
    given = {name: value for name, value in given.items() if name != "at"}
    inner = given.get("facts")
    if isinstance(inner, dict) and "v" not in given:
        if strange := sorted(given.keys() - {"facts"}):
            raise AuditSpanError(
                f"Beside `facts` stands {strange[0]!r}.", remedy="Put every fact into `facts`, or leave `facts` out."
            )
        given = inner
    return given, stated_at


def instant_of(at: str | None) -> int:
    """The rule time that a person writes; now when none is.

    Raises:
        AuditSpanError: it is none.
    """
    if at is None:
        return time.time_ns()
    from auditspan.policy.rule_time import parse_instant

    # As other programs write a time: a space before it, and a fraction of the second.
    text = re.sub(r"^(\d{4}-\d{2}-\d{2}) (?=\d)", r"\1T", at.strip())
    text = re.sub(r"(:\d{2}:\d{2})\.\d{1,9}", r"\1", text)
    try:
        return parse_instant(text)
    except ValueError as error:
        raise AuditSpanError(
            f"{error}.", remedy="Write a date such as 2026-11-01, or a minute such as 2026-06-12T17:21, in Washington."
        ) from error


def show(argument: Argument, notes: list[str]) -> None:
    """The argument on paper: outcomes first, then question by question, then where it all comes from."""
    verdict = argument.determination.verdict
    flag = "flagged" if verdict.flagged else "not flagged"
    console.print()
    console.print(
        Text(f"As of {argument.at} in Washington: {_words(verdict.governing)}, {flag}.", style="bold"), soft_wrap=False
    )
    console.print(
        f"  by text    {_words(verdict.text)}\n"
        f"  enforced   {_words(verdict.enforced)}\n"
        f"  governing  {_words(verdict.governing)}\n"
        f"  ECCN       {verdict.eccn or ('undetermined' if argument.possible_eccns else 'none')}"
    )
    for number, step in enumerate(argument.steps, 1):
        console.print()
        console.print(Text(f"{number}. {step.question}", style="bold"))
        for answer in step.answers:
            _bullet(answer)
    for title, lines in (
        ("Exceptions considered", [_considered(one) for one in argument.exceptions]),
        ("Not known, and it matters", [name.replace("_", " ") for name in argument.missing_facts]),
        ("Sources that are not verified", argument.statuses),
        ("Taken to be meant", notes),
        ("Citations", argument.citations),
    ):
        if lines:
            console.print()
            console.print(Text(title, style="bold"))
            for line in lines:
                _bullet(line)


def _considered(one: Considered) -> str:
    status = "" if one.rule.status == "verified" else f"; {one.rule.status}"
    return f"{one.why} [{one.rule.id}: {'; '.join(one.rule.citations)}{status}]"


def _bullet(text: str) -> None:
    width = min(console.width, _WIDEST)
    wrapped = textwrap.fill(
        plain(text), width, initial_indent="   - ", subsequent_indent="     ", break_on_hyphens=False
    )
    console.print(wrapped, soft_wrap=True)


def _words(outcome: str) -> str:
    return outcome.replace("_", " ").replace("license", "licence")


def _list_facts(as_json: bool) -> None:
    from auditspan.policy.facts import BASE_FACTS, GROUP_FACTS, INTERVALS
    from auditspan.policy.stated_facts import ALIASES, ATTRIBUTES

    also: dict[str, list[str]] = {}
    for other, name in (*ALIASES.items(), *ATTRIBUTES.items()):
        also.setdefault(name, []).append(other)
    bounds = {bound: name for name, pair in INTERVALS.items() for bound in pair}
    rows = [
        {
            "name": fact.name,
            "type": fact.type,
            "meaning": fact.meaning
            + (f"; both ends at once: {bounds[fact.name]}" if fact.name in bounds else "")
            + ("; follows from the country and the date, not to be given" if fact.name in GROUP_FACTS else ""),
            "also": also.get(bounds.get(fact.name, fact.name), []),
        }
        for fact in BASE_FACTS.values()
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            **row,
            "meaning": "\n".join([str(row["meaning"]), *([f"also: {', '.join(row['also'])}"] if row["also"] else [])]),
        }
        for row in rows
    ]
    print_table("Facts", ["name", "type", "meaning"], shown, prose="meaning")
