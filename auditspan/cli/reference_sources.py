"""What comes into force with a start of this deployment: the packaged packs and tables, its registry, its exporter."""

from __future__ import annotations

from auditspan.config import Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.policy.deployment import RequestDemands
from auditspan.policy.reference import Reference

__all__ = ["own_artifacts", "parties_of"]


def own_artifacts(directory: DataDirectory, settings: Settings) -> dict[str, bytes]:
    """The artifacts of this software and these settings, content by name.

    Raises:
        AuditSpanError: the party registry cannot be read.
    """
    policy, asked = settings.policy, settings.requests
    return Reference.packaged_artifacts(
        parties_of(directory, settings),
        policy.exporter,
        RequestDemands(frozenset(asked.approving_emitters), frozenset(asked.required_for)),
        clearance_second_person=policy.clearance_second_person,
    )


def parties_of(directory: DataDirectory, settings: Settings) -> bytes | None:
    """The party registry that the settings or the data directory name; None for none.

    Raises:
        AuditSpanError: it cannot be read.
    """
    path = settings.parties or (directory.parties if directory.parties.is_file() else None)
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise AuditSpanError(
            f"The party registry {path} cannot be read: {error.strerror}.", remedy="Correct the setting `parties`."
        ) from error
