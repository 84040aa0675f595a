"""AuditSpan: an audit trail for export-controlled AI that proves what it says.

Importing this package is cheap on purpose: serving processes import it, so it loads the standard library and
OpenTelemetry only. What judges, seals and stores lives behind the ``pipeline`` extra.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auditspan.policy.decision import Decision
    from auditspan.policy.snapshot import Snapshot

__all__ = ["__version__", "decide"]

__version__ = "0.1.0"

_snapshots: dict[Path, Snapshot] = {}


def decide(
    facts: Mapping[str, Any], *, at: int | str | datetime | None = None, data: str | os.PathLike[str] | None = None
) -> Decision:
    """Decide before the act, in this process and without network, under the reference epoch in force.

    ::

        decision = auditspan.decide({"act": "transfer", "accelerator_model": "H200", "destination_country": "SG"})
        if decision.governing in ("license_required", "prohibited"): ...

    Args:
        facts: declared facts by name, or the attributes of a record that is about to be written, by their
            OpenTelemetry names (with ``audit.event.class``): see `auditspan.policy.decision.Decider.decide`.
        at: the rule time: nanoseconds since 1970, a ``datetime`` with a zone, or ``YYYY-MM-DD[Thh:mm]`` in Washington;
            now when None.
        data: data directory of the service whose epoch is in force; the environment's
            ``AUDITSPAN_DATA_DIRECTORY`` when None.

    The first call loads the snapshot, which takes about a second; a later one takes well under 20 ms.

    Raises:
        AuditSpanError: the ``pipeline`` extra is not installed, or no data directory is named.
        auditspan.policy.snapshot.SnapshotUnavailable: no epoch is in force there, or it cannot be read.
        auditspan.policy.decision.FactsInvalid: unknown facts, or values of another type.
    """
    from auditspan.errors import AuditSpanError

    try:
        from auditspan.policy.snapshot import Snapshot
    except ModuleNotFoundError as error:
        raise AuditSpanError(
            f"Deciding in this process needs {error.name or 'a package'}, which is not installed.",
            remedy="Install the extra: pip install 'auditspan[pipeline]'; or ask a running service: POST /v1/decide.",
        ) from error
    named = data if data is not None else os.environ.get("AUDITSPAN_DATA_DIRECTORY", "").strip()
    if not named:
        raise AuditSpanError(
            "No data directory is named, so it is not known which rules are in force.",
            remedy="Set AUDITSPAN_DATA_DIRECTORY to the directory of `auditspan up --data`, or pass `data`.",
        )
    folder = Path(named).absolute()
    snapshot = _snapshots.get(folder)
    if snapshot is None:
        snapshot = _snapshots.setdefault(folder, Snapshot(folder / "reference"))
    return snapshot.decide(facts, at)
