"""What `auditspan doctor` and `auditspan status` say of anchors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from auditspan.cli.findings import Finding
from auditspan.cli.moments import rfc3339
from auditspan.config import AnchorSettings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.ledger.trust import Trust
    from auditspan.store.contract import Store, StoredAnchor

__all__ = ["anchor_findings", "anchors_of", "anchors_shown"]

_LATE: Final = 3
"""Intervals after which somebody who did not vouch is away."""
_LATE_SECONDS: Final = 30
"""Seconds until which nobody is: a request may take that long, however short the interval."""


def anchor_findings(
    directory: DataDirectory, settings: AnchorSettings, store: Store, control_log: str, running: bool
) -> Iterator[Finding]:
    """For each whom the settings name: whether verifiers know it, and when it vouched last."""
    from auditspan.ledger.trust import load_trust

    try:
        trust = load_trust(directory.trust)
    except AuditSpanError:
        return  # The keys' own check says so.
    kept = {(anchor.kind, anchor.name): anchor for anchor in store.newest_anchors(control_log)}
    for kind, name, known in _asked(settings, trust):
        said = "witness" if kind == "cosignature" else "timestamp authority"
        if not known:
            command = "add-witness" if kind == "cosignature" else "add-timestamp-authority"
            yield Finding(
                f"{said} {name}",
                "wrong",
                f"{directory.trust} does not name it as the settings do: nobody can verify what it says",
                f"Add it with `auditspan keys trust {command}`, and give verifiers the new trust.json.",
            )
            continue
        yield _age(f"{said} {name}", kept.get((kind, name)), settings.interval_seconds, running)


def anchors_of(store: Store, control_log: str) -> list[dict[str, Any]]:
    """Who vouched last for the control log, as JSON values."""
    return [
        {
            "kind": anchor.kind,
            "name": anchor.name,
            "control_leaves": anchor.size,
            "anchored_at": rfc3339(anchor.anchored_at),
            "age_seconds": max(time.time() - anchor.anchored_at / 1e9, 0.0),
        }
        for anchor in store.newest_anchors(control_log)
    ]


def anchors_shown(anchors: Sequence[dict[str, Any]]) -> str:
    """The same as one line for a person."""
    each = [f"{one['name']} {one['age_seconds']:,.0f} s ago ({one['control_leaves']:,} leaves)" for one in anchors]
    return f"Control log anchored by {', '.join(each)}."


def _asked(settings: AnchorSettings, trust: Trust) -> Iterator[tuple[str, str, bool]]:
    from auditspan.ledger.witnesses import Witness

    names = {authority.name for authority in trust.timestamp_authorities}
    vkeys = {witness.vkey for witness in trust.witnesses}
    for authority in settings.timestamp_authorities:
        yield "timestamp", authority.name, authority.name in names
    for one in settings.witnesses:
        yield "cosignature", Witness.parse(one.vkey).name, one.vkey in vkeys


def _age(name: str, anchor: StoredAnchor | None, interval: float, running: bool) -> Finding:
    remedy = "See the log of the service for what it answers, and look at the URL in `anchors`."
    if anchor is None:
        return Finding(name, "waiting", "it has not vouched yet", remedy)
    age = max(time.time() - anchor.anchored_at / 1e9, 0.0)
    found = f"vouched {age:,.0f} s ago for {anchor.size:,} leaves of the control log"
    if running and age > max(_LATE * interval, _LATE_SECONDS):
        return Finding(name, "wrong", found, remedy)
    return Finding(name, "ok", found)
