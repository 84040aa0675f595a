"""Pages for persons: one file each, without script and without anything fetched. Whatever they show is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from .report import shown

__all__ = ["page", "utc"]

_PACKAGE: Final = "auditspan.exporters.evidence"


def page(template: str, values: Mapping[str, Any]) -> str:
    """A page of ``templates/``, with these values."""
    # Here: a verifier that writes no page needs no templates.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(_PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.filters |= {"utc": utc, "number": _number, "words": _words, "columns": _columns}
    return environment.get_template(template).render(values)


def utc(nanoseconds: int | str | None) -> str:
    """A time for a person; beyond the calendar it stays a number."""
    if nanoseconds is None:
        return ""
    try:
        return datetime.fromtimestamp(int(nanoseconds) // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError, OSError):
        return shown(nanoseconds)


def _finalize(value: Any) -> Any:
    """Text without control and direction characters, which change what a reader sees around them; escaping follows."""
    if value is None:
        return ""
    if hasattr(value, "__html__"):
        return value
    return "".join(one if one.isprintable() or one == "\n" else "\ufffd" for one in str(value))


def _number(value: int) -> str:
    return f"{value:,}"


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names that the rows have, in the order in which they come."""
    return list(dict.fromkeys(name for row in rows for name in row))


def _words(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)
