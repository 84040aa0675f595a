"""Requests for evidence: who asked, on which legal basis, for what; sealed in the control log before it is exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auditspan.errors import AuditSpanError
from auditspan.semconv import EventClass

from .control import ControlLeaf
from .interval import Reader
from .publishing import ExportFailed
from .query import compile_query

__all__ = ["Request", "exports_of", "find_request", "request_body", "requests_of", "with_request"]

_LONGEST: Final = 256
"""UTF-8 bytes of a text, as everywhere in leaves."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it is sealed; times in nanoseconds. ``where`` is None where all is asked for."""

    id: str
    by: str
    basis: str
    time_from: int
    time_to: int
    where: str | None
    actor: str
    sealed_at: int
    leaf_index: int
    header: bytes

    def named(self) -> dict[str, str]:
        """As the manifest of a package names it."""
        return {"id": self.id, "by": self.by, "basis": self.basis}


def request_body(
    request_id: str, by: str, basis: str, time_from: int, time_to: int, where: str | None
) -> dict[str, Any]:
    """The body of an ``evidence.requested`` control entry (evidence format, section 11).

    Raises:
        QueryInvalid: ``where`` cannot be read.
        AuditSpanError: a text is empty or too long, or no time is asked for.
    """
    for name, text in (("--by", by), ("--basis", basis)):
        if not text.strip() or len(text.encode()) > _LONGEST:
            raise AuditSpanError(f"{name} must have 1 to {_LONGEST} bytes.", remedy="Say it in a few words.")
    if where is not None:
        compile_query(where)
    if not 0 <= time_from < time_to:
        raise AuditSpanError("The request would cover no time.", remedy="Give a --to that is later than --from.")
    times = {"from": str(time_from), "to": str(time_to)}
    return {"id": request_id, "by": by, "basis": basis, **times, "where": where}


def requests_of(store: Reader, control_id: str) -> list[Request]:
    """All sealed requests in their order. Of several with one id the first counts."""
    found: dict[str, Request] = {}
    for row in store.log_leaves(control_id, [EventClass.EVIDENCE_REQUESTED]).to_pylist():
        request = _request(row)
        if request is not None:
            found.setdefault(request.id, request)
    return list(found.values())


def exports_of(store: Reader, control_id: str) -> list[dict[str, Any]]:
    """All sealed exports in their order: the bodies of ``evidence.exported``, with actor, time and leaf."""
    exports = []
    for row in store.log_leaves(control_id, [EventClass.EVIDENCE_EXPORTED]).to_pylist():
        leaf = json.loads(row["header"])
        body = leaf["body"]
        exports.append(
            {
                **{name: body["body"].get(name) for name in ("request", "from", "to", "where", "manifest_sha256")},
                "actor": body["actor"],
                "sealed_at": int(leaf["arrival_time"]),
                "leaf_index": row["leaf_index"],
            }
        )
    return exports


def find_request(store: Reader, control_id: str, request_id: str) -> Request:
    """The sealed request with this id.

    Raises:
        ExportFailed: there is none.
    """
    for request in requests_of(store, control_id):
        if request.id == request_id:
            return request
    raise ExportFailed(
        f"No request {request_id!r} is sealed.",
        remedy="`auditspan evidence list` shows them; a running service seals a new one within seconds.",
    )


def with_request(
    outside: Sequence[ControlLeaf], request: Request, begin: int, end: int, size: int
) -> list[ControlLeaf]:
    """The control leaves that a package includes, with the request's where the interval ``[begin, end)`` has it not.

    Raises:
        ExportFailed: no checkpoint of ``size`` leaves covers it yet.
    """
    if request.leaf_index >= size:
        raise ExportFailed(
            f"The request {request.id} is not covered by a checkpoint of the control log yet.",
            remedy="Wait some seconds and export again.",
        )
    leaves = {leaf.index: leaf for leaf in outside}
    if not begin <= request.leaf_index < end:
        leaves[request.leaf_index] = ControlLeaf(request.leaf_index, request.header, {})
    return [leaves[index] for index in sorted(leaves)]


def _request(row: Mapping[str, Any]) -> Request | None:
    """A request from its leaf; None where the leaf says something else, as nobody's software writes."""
    leaf = json.loads(row["header"])
    try:
        said, actor = leaf["body"]["body"], leaf["body"]["actor"]
        return Request(
            id=str(said["id"]),
            by=str(said["by"]),
            basis=str(said["basis"]),
            time_from=int(said["from"]),
            time_to=int(said["to"]),
            where=None if said["where"] is None else str(said["where"]),
            actor=str(actor),
            sealed_at=int(leaf["arrival_time"]),
            leaf_index=int(row["leaf_index"]),
            header=row["header"],
        )
    except (KeyError, TypeError, ValueError):
        return None
