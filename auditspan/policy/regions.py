"""Cloud regions: in which country they stand."""

from __future__ import annotations

from typing import Final

from .countries import Countries
from .tables import Table

__all__ = ["REGION_COLUMNS", "Regions"]

REGION_COLUMNS: Final = ("provider", "region", "country")


class Regions:
    """The regions table."""

    def __init__(self, table: Table, countries: Countries) -> None:
        self._countries: dict[tuple[str, str], str] = {}
        self._anywhere: dict[str, str | None] = {}
        for row in table.rows:
            if countries.place(row["country"]) is None:
                raise table.fault(row, f"{row['country']!r} is no country", "Use an ISO 3166-1 alpha-2 code.")
            region = row["region"].lower()
            self._countries[row["provider"], region] = row["country"]
            # A name that providers use for different countries says nothing without the provider.
            self._anywhere[region] = (
                row["country"] if self._anywhere.get(region, row["country"]) == row["country"] else None
            )

    def country(self, provider: str | None, region: str) -> str | None:
        """ISO code of the country of ``region``; a zone such as ``us-east-1a`` counts as its region."""
        name = region.strip().lower()
        for candidate in (name, name[:-1], name[:-2] if name[-2:-1] == "-" else name):
            if provider:
                found = self._countries.get((provider.strip().lower(), candidate))
            else:
                found = self._anywhere.get(candidate)
            if found:
                return found
        return None
