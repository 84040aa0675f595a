"""What officers may change in the clearances: each clears in the own name, seconds another's, and may end any."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import yaml

from .clearances import CLEARANCES, LISTS, NO_CLEARANCES, Clearance, Clearances
from .errors import PolicyError
from .parties import validate
from .yaml_text import Document, load

__all__ = ["ACTS", "Act", "Clearing", "check_clearers", "is_meant", "with_clearing"]

Act = Literal["clear", "second", "end"]
ACTS: Final[tuple[Act, ...]] = get_args(Act)

_WIDEST: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Clearing:
    """What an officer wants of one clearance.

    Args:
        act: ``clear`` the hit, agree as the ``second`` person, or ``end`` it before its time.
        name, country, list, entry: which hit: of the party as it was screened, on an entry of a list.
        listed_name: of the entry; empty, where it is to be seconded or ended: whichever it is.
        start, until: YYYY-MM-DD; to be seconded or ended, ``until`` may be empty: whichever it is.
    """

    act: Act
    name: str
    list: str
    entry: str
    country: str | None = None
    listed_name: str = ""
    start: str = ""
    until: str = ""


def with_clearing(
    text: bytes | None, clearing: Clearing, officer: str, reason: str, *, second_person: bool, today: datetime.date
) -> bytes:
    """The artifact ``text`` (None: there is none) with what ``officer`` wants.

    Args:
        text: the clearances in force.
        clearing: what is wanted.
        officer: whose credential it is.
        reason: the officer's; it stands in a new entry.
        second_person: whether a new clearance needs a second person.
        today: UTC. Nothing that has expired is ended.

    Raises:
        PolicyError: ``text`` is not as its schema says; there is no such clearance, or several; it does not wait; who
            cleared the hit would be the own second person.
    """
    document = _loaded(text)
    entries = list(document.data["clearances"])
    if clearing.act == "clear":
        entries.append(_entry(clearing, officer, reason, second_person))
        return _written(entries)
    known = list(Clearances.of(text, second_person=second_person))
    found = [index for index, one in enumerate(known) if is_meant(clearing, one) and one.until > today]
    if not found:
        raise _none(clearing)
    if clearing.act == "end":
        return _written([entry for index, entry in enumerate(entries) if index not in found])
    waiting = [index for index in found if known[index].waits]
    if not waiting:
        raise _refused(
            f"the clearance of {_said(clearing)} waits for nobody",
            "`auditspan screen clearances` shows who gave it, and who agreed.",
        )
    if len(waiting) > 1:
        raise _refused(
            f"{len(waiting)} clearances of it wait",
            f"Say which, with --until: {', '.join(str(known[index].until) for index in waiting)}.",
        )
    (index,) = waiting
    if known[index].by == officer:
        raise _refused(
            f"{officer!r} cleared the hit, and cannot be its second person as well",
            "Another officer agrees, with the own credential.",
        )
    entries[index] = {**entries[index], "second": officer}
    return _written(entries)


def check_clearers(
    text: bytes, before: bytes | None, officer: str, *, second_person: bool, today: datetime.date
) -> None:
    """Refuse what ``officer`` may not write: in another's name, for the past, or without the second person needed.

    Entries of ``before`` may stay as they are, whoever wrote them, and may go.

    Raises:
        PolicyError: at its line, or not as ``data/clearances.schema.json`` says.
    """
    document = _loaded(text)
    known = {_key(entry): entry for entry in _loaded(before).data["clearances"]}
    # Those that were waiting, as they read once this officer has agreed.
    seconded = {
        _key({**entry, "second": officer})
        for entry in known.values()
        if entry.get("second") is None and entry["by"] != officer
    }
    for index, (entry, one) in enumerate(
        zip(document.data["clearances"], Clearances.of(text, second_person=second_person), strict=True)
    ):
        if _key(entry) in known or _key(entry) in seconded:
            continue
        fault = _fault_of(entry, one, officer, second_person, today)
        if fault is not None:
            field, message, remedy = fault
            line = document.line(("clearances", index, field))
            raise PolicyError(message, file=CLEARANCES, line=line, remedy=remedy)


def _fault_of(
    entry: Mapping[str, Any], one: Clearance, officer: str, second_person: bool, today: datetime.date
) -> tuple[str, str, str] | None:
    """Field, message and remedy of what is wrong with a new entry of ``officer``."""
    if one.by != officer:
        return (
            "by",
            f"{one.name!r} is cleared by {one.by!r}, and the credential is that of {officer!r}",
            "Each officer clears with the own credential, changes no other's clearance, and may end it.",
        )
    if one.second is not None:
        return (
            "second",
            f"{one.second!r} is named as second person, and the credential is that of {officer!r}",
            "Write `second: null`; the second officer agrees with: auditspan screen second",
        )
    if second_person and "second" not in entry:
        return (
            "name",
            "this deployment asks for a second person",
            "Write `second: null`; the second officer agrees with: auditspan screen second",
        )
    if one.list not in LISTS:
        return "list", f"there is no list {one.list!r}", f"Write one of {', '.join(LISTS)}."
    if one.start < today:
        return (
            "from",
            f"`from` ({one.start}) is before today ({today}, UTC)",
            "A clearance holds from the day on which it is given, at the earliest.",
        )
    return None


def _entry(clearing: Clearing, officer: str, reason: str, second_person: bool) -> dict[str, Any]:
    return {
        "name": clearing.name,
        **({"country": clearing.country.upper()} if clearing.country else {}),
        "list": clearing.list,
        "entry": clearing.entry,
        "listed_name": clearing.listed_name,
        "by": officer,
        "reason": reason,
        "from": clearing.start,
        "until": clearing.until,
        **({"second": None} if second_person else {}),
    }


def is_meant(clearing: Clearing, one: Clearance) -> bool:
    """Whether ``one`` is of the hit that an officer names."""
    wanted = Clearance(
        clearing.name, clearing.country, clearing.list, clearing.entry, clearing.listed_name or one.listed_name,
        "", "", None, False, one.start, one.until,
    )  # fmt: skip
    return wanted.pair == one.pair and clearing.until in ("", one.until.isoformat())


def _none(clearing: Clearing) -> PolicyError:
    return _refused(
        f"there is no clearance of {_said(clearing)} that has not expired",
        "`auditspan screen clearances` lists them; give name and --country as they stand there.",
    )


def _said(clearing: Clearing) -> str:
    place = f" in {clearing.country.upper()}" if clearing.country else ""
    until = f" until {clearing.until}" if clearing.until else ""
    return f"{clearing.name!r}{place} on {clearing.list} {clearing.entry}{until}"


def _refused(message: str, remedy: str) -> PolicyError:
    return PolicyError(message, file=CLEARANCES, remedy=remedy)


def _loaded(text: bytes | None) -> Document:
    document = load(NO_CLEARANCES if text is None else text, CLEARANCES)
    validate(document, "clearances.schema.json")
    return document


def _written(entries: Sequence[Mapping[str, Any]]) -> bytes:
    # A long reason stays on its line, as a person would write it.
    return yaml.safe_dump(
        {"clearances": [dict(entry) for entry in entries]}, sort_keys=False, allow_unicode=True, width=_WIDEST
    ).encode()


def _key(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True)
