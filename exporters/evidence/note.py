"""``VERIFY.md``: what a person who finds a package does with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

__all__ = ["verify_note"]

_TEXT = """\
# How to verify this evidence package

Deployment: `{deployment}`. Arrival times from {start} up to {end} (UTC). Query: {where}.
{leaves} leaves: {selected} shown, {withheld} withheld (their sealed headers are here).

1. Get the deployment's public keys (`trust.json`) by a way that does not pass through whoever gave you this folder.
2. Install a verifier: `pip install 'auditspan[verify]'`, or write one from `docs/evidence-format.md`.
3. Run

       auditspan evidence verify PACKAGE --trust trust.json

   with this folder, or the zip file as it came. With `--html report.html` the report is a page for a browser too.
   It needs no network and no database. Exit code 0 is valid, 1 invalid, 2 incomplete, 3 used wrongly. It names every
   fault, with the leaf where there is one, and says what the package does not prove.

`SUMMARY.html` says on one page what is here. `events/` and `control/` are ordinary Parquet: pandas, DuckDB and polars
read them, and Spark with `spark.sql.legacy.parquet.nanosAsLong=true`. `withheld/` holds the headers of the events that
the query did not select, so that you can check that nothing was left out. You may ask for any of their payloads.
"""


def verify_note(predicate: Mapping[str, Any]) -> str:
    """The text for a package with this predicate."""
    query, counts = predicate["query"], predicate["counts"]
    return _TEXT.format(
        deployment=predicate["deployment"],
        start=_shown(int(query["from"])),
        end=_shown(int(query["to"])),
        where=f"`{query['where']}`" if query["where"] else "none, everything is shown",
        **{name: counts[name] for name in ("leaves", "selected", "withheld")},
    )


def _shown(nanoseconds: int) -> str:
    try:
        return datetime.fromtimestamp(nanoseconds // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return "the end of time"
