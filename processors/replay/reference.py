"""How a batch was judged: by the packs and tables of its epoch where they are kept, else by the stored facts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan.policy.artifacts_kept import kept
from auditspan.policy.errors import PolicyError
from auditspan.policy.stored_epochs import EpochNotKept, reference_of
from auditspan.semconv import EventClass
from auditspan.store.contract import Store

from ..batch import Determine, Epoch
from ..determine import DETERMINATIONS, Determiner
from ..epochs import effective
from ..leaves import OUTCOMES
from ..references import epoch_of

__all__ = ["Epochs", "StoredFacts"]

_REVIEW: Final = OUTCOMES.index("review")
_POSITION: Final = rb'"position":\[(?P<offset>[0-9]+),(?P<ordinal>[0-9]+)\]'


class Epochs:
    """Determiners of the epochs that the control log activated.

    Args:
        bodies: the bodies of the ``audit.reference.activated`` leaves.
        artifact: gives an artifact by its SHA-256 in hexadecimal, None when it is not kept.
        folder: where they are kept, and what is read from a screening list.
    """

    def __init__(
        self, bodies: list[Mapping[str, Any]], artifact: Callable[[str], bytes | None], folder: Path | None = None
    ) -> None:
        self._bodies = {epoch_of(body): body for body in bodies}
        self._artifact = artifact
        self._folder = folder
        self._made: dict[Epoch, Determine | str] = {}

    @classmethod
    def of(cls, store: Store, control_log: str, folder: Path) -> Epochs:
        """The epochs that a control log has sealed, with the artifacts kept in ``folder``, or else in the store."""
        leaves = store.log_leaves(control_log, [EventClass.REFERENCE_ACTIVATED])["header"].to_pylist()
        bodies = [body for leaf in leaves if (body := _activated(leaf)) is not None]

        def artifact(digest: str) -> bytes | None:
            content = kept(folder, digest)
            return store.artifact(digest) if content is None else content

        return cls(effective(bodies), artifact, folder)

    @property
    def newest(self) -> Epoch:
        """The last epoch that was activated; epoch 0 when none was."""
        return max(self._bodies, key=lambda epoch: epoch.number, default=Epoch())

    def known(self, epoch: Epoch) -> bool:
        """Whether the control log activated it; epoch 0 is none."""
        return epoch == Epoch() or epoch in self._bodies

    def determine(self, epoch: Epoch) -> Determine | str | None:
        """How ``epoch`` judges; why that is not known; None for epoch 0, which judges nothing."""
        if epoch == Epoch():
            return None
        if epoch not in self._made:
            # A reference holds an address database: the last two are remembered, and logs follow one another in epochs.
            self._made = dict([*self._made.items()][-1:])
            self._made[epoch] = self._load(epoch)
        return self._made[epoch]

    def _load(self, epoch: Epoch) -> Determine | str:
        body = self._bodies.get(epoch)
        if body is None:
            return f"the control log has no epoch {epoch.number} with the digest {epoch.digest[:16]}…"
        try:
            return Determiner(reference_of(body, self._artifact, self._folder)).determine
        except (EpochNotKept, PolicyError) as error:
            return error.message


class StoredFacts:
    """In place of a determiner: what the stored facts documents say (evidence format, section 6).

    Args:
        offsets: of the entries of the batch, in order.
        headers: of the stored leaves of the batch.
        facts: their facts documents.
    """

    def __init__(self, offsets: range, headers: pa.Array, facts: pa.Array) -> None:
        self._offsets = np.array(offsets, np.int64)
        there = pc.greater(pc.binary_length(facts), 0)
        found = pc.extract_regex(headers.cast(pa.binary()).filter(there), pattern=_POSITION)
        documents = facts.filter(there).dictionary_encode()
        self._documents = documents.dictionary.to_pylist()
        self._by_position: dict[tuple[int, int], int] = {}
        for place, code in zip(found.to_pylist(), documents.indices.to_pylist(), strict=True):
            if place is not None:
                self._by_position[int(place["offset"]), int(place["ordinal"])] = code

    def determine(self, spans: pa.Table) -> pa.Table:
        """As `Determiner.determine`, without citations and reasons; null where no facts are stored."""
        offsets = self._offsets[spans["entry"].to_numpy()].tolist()
        codes = [
            self._by_position.get(position, -1) for position in zip(offsets, spans["ordinal"].to_pylist(), strict=True)
        ]
        rows = [_judged(document) for document in self._documents]
        chosen = np.array(codes, np.int64)
        return _spread(rows, chosen)


def _spread(rows: list[dict[str, Any]], codes: npt.NDArray[np.int64]) -> pa.Table:
    nothing: dict[str, Any] = {
        "facts": None,
        "governing": None,
        "flagged": False,
        "destination": None,
        "eccn": None,
        "rule_ids": [],
        "citations": [],
        "why": None,
        "missing_facts": [],
    }
    table = pa.Table.from_pylist([*rows, nothing], schema=_PLAIN)
    taken = table.take(pa.array(np.where(codes < 0, len(rows), codes)))
    return pa.table(
        [
            column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
            for field, column in zip(DETERMINATIONS, taken.columns, strict=True)
        ],
        names=DETERMINATIONS.names,
    )


_PLAIN: Final = pa.schema(
    [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in DETERMINATIONS
    ]
)


def _judged(document: bytes) -> dict[str, Any]:
    """What a header takes from a facts document; from one that cannot be read, nothing but the document itself."""
    row: dict[str, Any] = {"facts": document, "governing": None, "flagged": False, "destination": None, "eccn": None}
    row |= {"rule_ids": [], "citations": [], "why": None, "missing_facts": []}
    try:
        said = json.loads(document)
        both = said.get("both", [said])
        ranks = [OUTCOMES.index(one["governing"]) for one in both] + ([_REVIEW] if "both" in said else [])
        row["governing"] = OUTCOMES[max(ranks)]
        row["flagged"] = any(bool(one["flagged"]) for one in both)
        row["destination"], row["eccn"] = both[-1]["destination"], both[-1]["eccn"]
        row["rule_ids"] = sorted({rule["id"] for one in both for rule in one["rules"] if rule["governs"]})
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    return row


def _activated(leaf: bytes) -> Mapping[str, Any] | None:
    try:
        body = json.loads(leaf)["body"]["body"]
        epoch_of(body)
        return body if isinstance(body["artifacts"], list) else None
    except (ValueError, KeyError, TypeError):
        return None
