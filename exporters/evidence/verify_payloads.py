"""Whether headers say what their payloads do (evidence format, sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.ledger.typed_columns import shortened
from auditspan.otlp.classify import Classified, classify, fault, fault_lists, fault_masks
from auditspan.semconv import EventClass

from .columns import differing_rows, one_array
from .report import Faults

__all__ = ["PayloadCheck"]

_IDENTITY: Final = fault("duplicate_suspect") | fault("identity.conflict")
"""What depends on other leaves than this one."""
_OF_REQUESTS: Final = ("request.undecodable", "request.non_canonical")
"""What depends on the request that a payload was cut from, and comes before what the payload itself tells."""
_NO_MESSAGES: Final = bytes(8)
"""How a payload begins that has neither a resource nor a scope."""

Masks = npt.NDArray[np.uint32]


class PayloadCheck:
    """Derives from each revealed payload what its header must say."""

    def __init__(self, log_id: str, faults: Faults) -> None:
        self._log_id, self._faults = log_id, faults

    def rows(
        self, index: pa.Array, parsed: pa.Table, payloads: pa.Array, spans: pa.Table, skip: Collection[int]
    ) -> None:
        """Compare event leaves.

        Args:
            index: of each leaf.
            parsed: their headers (`auditspan.exporters.evidence.headers.HEADER_TABLE`).
            payloads: and payloads.
            spans: what `auditspan.ledger.typed_columns.read_payloads` read of these.
            skip: rows whose payload is not the one that the header commits to, which is a fault already.
        """
        stated = fault_masks(one_array(parsed["faults"]))
        asked = spans.append_column("ordinal", parsed["ordinal"])
        asked = self._of_requests(index, stated, payloads, asked, skip)
        arrival, offset = (parsed[name].to_numpy() for name in ("arrival_time", "offset"))
        found = classify(asked, arrival, self._log_id, offset)
        # Whether a record repeats or contradicts another, its payload does not tell; one without identity does neither.
        of_identity = np.where(found.quarantined, np.uint32(0), stated & _IDENTITY)
        for name, wanted in _texts(found, of_identity).items():
            self._differ(name, index, one_array(parsed[name]), wanted, skip)
        self._differ("sequence", index, one_array(parsed["sequence"]), _sequence(found), skip)
        self._differ("event_time", index, one_array(parsed["event_time"]), pa.array(found.event_time), skip)
        self._compare_faults(index, stated, found.faults | of_identity, skip)

    def _of_requests(
        self, index: pa.Array, stated: Masks, payloads: pa.Array, spans: pa.Table, skip: Collection[int]
    ) -> pa.Table:
        """The rows with what headers say of the requests that they came in, as far as it can be so."""
        for code in reversed(_OF_REQUESTS):
            said = (stated & fault(code)) != 0
            if not said.any():
                continue
            quarantine = pc.if_else(pa.array(said), code, one_array(spans["quarantine"]).cast(pa.string()))
            place = spans.column_names.index("quarantine")
            spans = spans.set_column(place, "quarantine", quarantine.dictionary_encode())
        for row in np.flatnonzero((stated & fault(_OF_REQUESTS[0])) != 0).tolist():
            start = payloads[row].as_py()
            if row not in skip and start[: len(_NO_MESSAGES)] != _NO_MESSAGES:
                self._fault(index[row], f"no resource and no scope with {_OF_REQUESTS[0]}", "there is one")
        return spans

    def _differ(self, name: str, index: pa.Array, actual: pa.Array, wanted: pa.Array, skip: Collection[int]) -> None:
        for row in differing_rows(actual, wanted):
            if row not in skip:
                self._fault(index[row], f"{name} {wanted[row]}", f"{name} {actual[row]}")

    def _compare_faults(self, index: pa.Array, stated: Masks, wanted: Masks, skip: Collection[int]) -> None:
        if np.array_equal(stated, wanted):
            return
        lists = [fault_lists(masks & ~np.uint32(1 << 31)) for masks in (wanted, stated)]
        for row in np.flatnonzero(stated != wanted).tolist():
            if row not in skip:
                self._fault(index[row], f"faults {lists[0][row]}", f"faults {lists[1][row]}")

    def _fault(self, leaf: pa.Scalar, expected: object, actual: object) -> None:
        self._faults.add("header.mismatch", (self._log_id, leaf.as_py()), expected, actual)


def _texts(found: Classified, of_identity: Masks) -> dict[str, pa.Array]:
    """Header fields as text, by name."""
    claimed: pa.Array = found.claimed
    conflict = (of_identity & fault("identity.conflict")) != 0
    if conflict.any():
        claimed = pc.if_else(pa.array(conflict), str(EventClass.CONFLICT), claimed.dictionary_decode())
    fields: dict[str, Any] = {name: getattr(found, name) for name in _NAMED_ALIKE}
    return {name: _shortened(values) for name, values in {"class": claimed, **fields}.items()}


_NAMED_ALIKE: Final = ("record_id", "stream", "time_basis", "action", "outcome", "asset")
"""Header fields whose name is that of `Classified`."""


def _shortened(values: pa.Array) -> pa.Array:
    """`shortened`, of a dictionary as a dictionary."""
    if isinstance(values, pa.DictionaryArray):
        return pa.DictionaryArray.from_arrays(values.indices, shortened(values.dictionary))
    return shortened(values)


def _sequence(found: Classified) -> pa.Array:
    return pa.array(found.sequence, mask=~found.in_stream)
