"""``auditspan screen clear``, ``second``, ``unclear``, ``clearances``: hits that officers found to be somebody else."""

from __future__ import annotations

import datetime
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from auditspan.cli.officer import TokenFileOption, identify, officer_token
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.policy_activate import ConfigOption, DataOption, DryRunOption, ReasonOption, said_of, state_of
from auditspan.cli.reading import DataOption as ReadOption
from auditspan.cli.reading import UrlOption, existing, open_reader
from auditspan.cli.screening_extra import require_screening
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from auditspan.policy.clearances import Clearance
    from auditspan.policy.clearing import Clearing

__all__ = ["clear", "clearances", "second", "unclear"]

_COUNTRY: Final = re.compile(r"[A-Z]{2}")

_NameArgument = Annotated[str, typer.Argument(help="Name of the party, as it was screened.")]
_ListOption = Annotated[str, typer.Option("--list", help="Code of the list, such as EL.", metavar="LIST")]
_EntryOption = Annotated[str, typer.Option("--entry", help="Id of the entry, as the hit shows it.", metavar="ID")]
_CountryOption = Annotated[
    str,
    typer.Option(
        "--country",
        help="Country of the party, ISO 3166-1 alpha-2: the clearance holds for it alone. Left out: for any country.",
        metavar="CC",
    ),
]
_WhichOption = Annotated[
    str, typer.Option("--until", help="Day on which it ends, where several are meant.", metavar="DAY")
]


@reports_errors
def clear(
    name: _NameArgument,
    list_code: _ListOption,
    entry: _EntryOption,
    until: Annotated[
        str,
        typer.Option(
            help="YYYY-MM-DD, UTC: the first day on which the hit counts again, at most 366 days after it begins.",
            metavar="DAY",
        ),
    ],
    data: DataOption,
    reason: ReasonOption,
    country: _CountryOption = "",
    begin: Annotated[
        str, typer.Option("--from", help="YYYY-MM-DD, UTC: the first day; default today.", metavar="DAY")
    ] = "",
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clear a hit: this party is not that entry of the list. It suppresses this pair alone, and ends by itself.

    The party must be a hit on the entry of the current list. Officer, reason and days are sealed with the activation of
    clearances.yaml (audit.reference.activated). Where `policy.clearance_second_person` is set, it suppresses nothing
    before another officer has agreed, with `auditspan screen second`.

    \b
    auditspan screen clear "Acme" --list EL --entry 005407 --until 2027-06-30 --reason "other owner" --data ./data
    """
    from auditspan.policy.clearing import Clearing

    require_screening()
    token = officer_token(token_file)
    directory = existing(data)
    identify(directory, token)
    list_code, country = list_code.upper(), _country(country)
    start = _day("--from", begin) if begin else _today()
    _check_days(start, _day("--until", until))
    listed = _listed_name(directory, name, country, list_code, entry)
    wanted = Clearing("clear", name, list_code, entry, country or None, listed, start.isoformat(), until)
    _change(data, config, token, reason, wanted, dry_run, as_json)


@reports_errors
def second(
    name: _NameArgument,
    list_code: _ListOption,
    entry: _EntryOption,
    data: DataOption,
    reason: ReasonOption,
    country: _CountryOption = "",
    until: _WhichOption = "",
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Agree to a clearance as the second person: from then on it suppresses the hit. Who gave it cannot do that.

    \b
    auditspan screen second "Acme" --list EL --entry 005407 --reason "register seen" --data ./data
    """
    from auditspan.policy.clearing import Clearing

    wanted = Clearing("second", name, list_code.upper(), entry, _country(country) or None, until=_which(until))
    _change(data, config, officer_token(token_file), reason, wanted, dry_run, as_json)


@reports_errors
def unclear(
    name: _NameArgument,
    list_code: _ListOption,
    entry: _EntryOption,
    data: DataOption,
    reason: ReasonOption,
    country: _CountryOption = "",
    until: _WhichOption = "",
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """End a clearance before its time, whoever gave it: the hit counts for everything that is judged from then on.

    \b
    auditspan screen unclear "Acme" --list EL --entry 005407 --reason "new owner" --data ./data
    """
    from auditspan.policy.clearing import Clearing

    wanted = Clearing("end", name, list_code.upper(), entry, _country(country) or None, until=_which(until))
    _change(data, config, officer_token(token_file), reason, wanted, dry_run, as_json)


@reports_errors
def clearances(data: ReadOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """List the clearances of the epoch sealed last: in force, waiting for a second person, to begin, expired.

    \b
    auditspan screen clearances --data ./data
    auditspan screen clearances --data ./data --json
    """
    from auditspan.cli.clearances_in_force import clearances_sealed

    with open_reader(data, url) as reading:
        found = list(clearances_sealed(reading.store, DataDirectory(data) if data is not None else None))
    now = time.time_ns()
    if as_json:
        print_json([{**one.document(), "state": one.state(now)} for one in found])
        return
    rows = [
        {
            "party": f"{one.name}{_in(one.country)}",
            "list, entry": f"{one.list} {one.entry}\n{one.listed_name}",
            "state": one.state(now),
            "from, until": f"{one.start}\n{one.until}",
            "by, second": f"{one.by}\n{one.second or ('(waits)' if one.waits else '(none needed)')}",
            "reason": one.reason,
        }
        for one in found
    ]
    if rows:
        print_table("Clearances", [*rows[0]], rows)
    in_force = sum(one.state(now) == "in force" for one in found)
    console.print(f"{len(found)} clearance{'' if len(found) == 1 else 's'}, {in_force} in force.")


# What an officer wants


def _change(
    data: Path, config: Path | None, token: str, reason: str, wanted: Clearing, dry_run: bool, as_json: bool
) -> None:
    # Here, so that the program and its help stay quick.
    from auditspan.cli.activating import carry_out
    from auditspan.processors.activation import Change

    done = carry_out(data, config, token, lambda officer: Change(officer, reason, cleared=wanted), dry_run=dry_run)
    said = said_of(done, dry_run)
    now = None if dry_run or wanted.act == "end" else _entry_in(DataDirectory(data), done.body, wanted)
    if as_json:
        print_json({**said, "clearance": now and now.document()})
        return
    party = f"{wanted.name}{_in(wanted.country)}"
    if wanted.act == "end":
        text = f"{party} is a hit on {wanted.list} {wanted.entry} again."
    elif now is None:
        text = f"{party}: {wanted.list} {wanted.entry} can be {'cleared' if wanted.act == 'clear' else 'seconded'}."
    else:
        agreed = f", with {now.second}" if now.second else ""
        text = (
            f"{party} is not {now.list} {now.entry}, {now.listed_name}: from {now.start} until {now.until}, "
            f"by {now.by}{agreed}."
        )
        if now.waits:
            text += " It waits for a second officer, and suppresses nothing before: auditspan screen second"
    console.print(plain(text), soft_wrap=True)
    console.print(plain(state_of(said)), soft_wrap=True)


def _entry_in(directory: DataDirectory, body: Mapping[str, Any], wanted: Clearing) -> Clearance | None:
    """The clearance as the new epoch has it: its artifacts were kept here before it was journaled."""
    from auditspan.policy.artifacts_kept import kept
    from auditspan.policy.clearances import CLEARANCES, Clearances
    from auditspan.policy.clearing import is_meant
    from auditspan.policy.deployment import DEPLOYMENT, needs_second_person

    digests = {one["name"]: str(one["sha256"]) for one in body["artifacts"]}
    content = {name: kept(directory.reference, digests[name]) for name in (CLEARANCES, DEPLOYMENT) if name in digests}
    second_person = needs_second_person(content.get(DEPLOYMENT))
    known = Clearances.of(content.get(CLEARANCES), second_person=second_person)
    found = [one for one in known if is_meant(wanted, one)]
    return max(found, key=lambda one: one.until, default=None)


def _listed_name(directory: DataDirectory, name: str, country: str, list_code: str, entry: str) -> str:
    """The name that the list gives to the entry that ``name`` is a hit on.

    Raises:
        AuditSpanError: there is no such entry on the current list, or the party is no hit on it.
    """
    import pyarrow.compute as pc

    from auditspan.cli.party_countries import PartyCountries
    from auditspan.screening.screener import Party, open_screener

    screener = open_screener(directory.screening, PartyCountries().judged_as)
    version = screener.list.version
    if list_code not in screener.list.lists:
        raise AuditSpanError(
            f"The list {version} has no list {list_code!r}.", remedy=f"It has {', '.join(sorted(screener.list.lists))}."
        )
    hits = screener.screen(Party(name, country))
    for hit in hits:
        if (hit.list, hit.entry_id) == (list_code, entry):
            return hit.listed_as
    entries = screener.entries
    of_list = pc.equal(entries["list"].cast("string"), list_code)
    there = entries.filter(pc.and_(of_list, pc.equal(entries["entry_id"], entry)))
    if not len(there):
        raise AuditSpanError(
            f"{list_code} has no entry {entry!r} on the list {version}.",
            remedy="`auditspan screen NAME` shows the id of each hit's entry.",
        )
    others = ", ".join(f"{hit.list} {hit.entry_id}" for hit in hits)
    raise AuditSpanError(
        f"{name!r}{_in(country)} is no hit on {list_code} {entry}, {there['listed_as'][0].as_py()}: there is nothing "
        "to clear.",
        remedy=f"Its hits: {others or 'none'}. Give name and --country as they were screened.",
    )


# Arguments


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()


def _day(option: str, text: str) -> datetime.date:
    from auditspan.policy.clearances import day_of

    try:
        return day_of(text)
    except ValueError as error:
        raise AuditSpanError(f"{option}: {error}.", remedy="Write the day as YYYY-MM-DD, in UTC.") from error


def _which(until: str) -> str:
    return _day("--until", until).isoformat() if until else ""


def _check_days(start: datetime.date, until: datetime.date) -> None:
    from auditspan.policy.clearances import LONGEST_DAYS

    if start < _today():
        raise AuditSpanError(
            f"--from {start} is before today ({_today()}, UTC).", remedy="Leave it out: a clearance begins today."
        )
    if until <= start:
        raise AuditSpanError(
            f"--until {until} is not after {start}, when the clearance begins.",
            remedy="Name the first day on which the hit counts again.",
        )
    if (until - start).days > LONGEST_DAYS:
        raise AuditSpanError(
            f"The clearance would hold {(until - start).days} days.",
            remedy=f"Let it end by {start + datetime.timedelta(LONGEST_DAYS)}, and clear the hit anew then.",
        )


def _country(text: str) -> str:
    country = text.upper()
    if country and not _COUNTRY.fullmatch(country):
        raise AuditSpanError(f"--country {text!r} is no country.", remedy="Use an ISO 3166-1 alpha-2 code, such as DE.")
    return country


def _in(country: str | None) -> str:
    return f" ({country})" if country else ""
