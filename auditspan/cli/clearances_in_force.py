"""Which hits officers cleared, as commands see it: in the epoch that a data directory has in force, or a store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.policy.artifacts_kept import kept
from auditspan.policy.clearances import CLEARANCES, Clearance, Clearances
from auditspan.policy.countries import COUNTRIES, GROUPS, countries_of
from auditspan.policy.deployment import DEPLOYMENT, needs_second_person
from auditspan.policy.snapshot import IN_FORCE

if TYPE_CHECKING:
    from auditspan.screening.screener import Hit, Party
    from auditspan.store.contract import Store

__all__ = ["Screened", "clearances_in_force", "clearances_sealed", "with_clearances"]


@dataclass(frozen=True, slots=True)
class Screened:
    """A hit, and the clearance that suppresses it now; None where it stands."""

    hit: Hit
    cleared: Clearance | None

    def document(self) -> dict[str, Any]:
        """As JSON shows it."""
        one = self.cleared
        said = None if one is None else {
            "by": one.by, "second": one.second, "reason": one.reason,
            "from": one.start.isoformat(), "until": one.until.isoformat(),
        }  # fmt: skip
        return {**self.hit.document(), "cleared": said}


def clearances_in_force(directory: DataDirectory) -> Clearances:
    """Those of the epoch that is announced on this machine; none where no service ever ran on the directory.

    Raises:
        AuditSpanError: what is announced cannot be read.
    """
    path = directory.reference / IN_FORCE
    try:
        artifacts = {one["name"]: str(one["sha256"]) for one in json.loads(path.read_bytes())["artifacts"]}
    except FileNotFoundError:
        return Clearances()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AuditSpanError(
            f"{path} cannot be read: {error}", remedy="Restart the service that owns this data directory."
        ) from error
    found: dict[str, bytes] = {}
    for name in {CLEARANCES, DEPLOYMENT, COUNTRIES, GROUPS} & artifacts.keys():
        content = kept(directory.reference, artifacts[name])
        if content is None:
            raise AuditSpanError(
                f"{name} of the epoch in force is not in {directory.reference}, or damaged there.",
                remedy="Restart the service that owns this data directory.",
            )
        found[name] = content
    return _of(found)


def clearances_sealed(store: Store, directory: DataDirectory | None) -> Clearances:
    """Those of the epoch that was sealed last.

    Raises:
        AuditSpanError: nothing is sealed, or an artifact is nowhere to be had.
    """
    from auditspan.policy.stored_epochs import StoredEpochs

    epochs = StoredEpochs(store, directory.reference if directory is not None else None)
    return _of(epochs.artifacts(epochs.newest)) if epochs.newest else Clearances()


def with_clearances(hits: Iterable[Hit], party: Party, clearances: Clearances) -> list[Screened]:
    """The hits on a party, each with the clearance that suppresses it now."""
    now = time.time_ns()
    return [
        Screened(
            hit,
            clearances.cleared(party.name, hit.list, hit.entry_id, hit.listed_as, party.country or None, now),
        )
        for hit in hits
    ]


def _of(artifacts: dict[str, bytes]) -> Clearances:
    return Clearances.of(
        artifacts.get(CLEARANCES),
        second_person=needs_second_person(artifacts.get(DEPLOYMENT)),
        countries=countries_of(artifacts),
    )
