"""Countries of parties, as the commands that screen are given them: a code of the table, or an error."""

from __future__ import annotations

from auditspan.errors import AuditSpanError
from auditspan.policy.countries import Countries, countries_of
from auditspan.policy.reference import Reference

__all__ = ["PartyCountries"]


class PartyCountries:
    """The countries that the software ships with, for `auditspan.screening`."""

    def __init__(self) -> None:
        self._known: Countries = countries_of(Reference.packaged_artifacts())

    def judged_as(self, code: str) -> str:
        """The country that a code counts as, as where events are judged: Hong Kong is China."""
        place = self._known.place(code)
        return code.upper() if place is None else place.country

    def knows(self, code: str) -> bool:
        """Whether it is a country of the table."""
        return self._known.place(code) is not None

    def checked(self, code: str) -> str:
        """The code of ``--country``, in capitals; empty where none is given.

        Raises:
            AuditSpanError: it is no country of the table. What is no country would be another one than that of every
                entry, and lower each score.
        """
        if code and not self.knows(code):
            raise AuditSpanError(
                f"--country {code!r} is no country.", remedy="Use an ISO 3166-1 alpha-2 code, such as DE."
            )
        return code.strip().upper()
