"""Whether the request that a package says it answers was sealed, with its times and query (format, section 14)."""

from __future__ import annotations

from .report import Faults
from .statement import Manifest
from .verify_control import ControlState

__all__ = ["check_request"]


def check_request(manifest: Manifest, state: ControlState, faults: Faults) -> None:
    """The request that the manifest names stands in the control log, with the manifest's times and query."""
    wanted = manifest.request
    if wanted is None:
        return
    found = state.request
    if found is None:
        faults.add("control.inclusion", None, f"the evidence.requested leaf of {wanted['id']}", "none")
        return
    index, body = found
    asked = {**wanted, "from": str(manifest.time_from), "to": str(manifest.time_to), "where": manifest.where}
    sealed = {name: body.get(name) for name in asked}
    if asked != sealed:
        faults.add("control.inclusion", (state.log_id, index), f"a request as the manifest has it: {asked}", sealed)
