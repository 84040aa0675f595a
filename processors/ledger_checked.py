"""What the last good check of the ledger found whole: a file in the data directory, outside of the store.

The file is believed only where a checkpoint over the tree that it names was signed. Whoever may write it could name a
later tree than was checked, never one that was not signed.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from auditspan.ledger.checkpoint import CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.merkle import CompactRange
from auditspan.store.contract import Store

from .ledger_check import CheckReport

__all__ = ["confirmed", "read_checked", "write_checked"]

_VERSION: Final = 1
_NOTES: Final = "SELECT note FROM auditspan.checkpoints WHERE log_id = {log_id:String} AND size = {size:UInt64}"


def read_checked(path: Path) -> dict[str, CompactRange]:
    """By log, the tree that was found whole; empty where there is no such file, or it cannot be read."""
    try:
        document: Any = json.loads(path.read_bytes())
        if document["version"] != _VERSION:
            return {}
        return {
            str(log_id): CompactRange.of(0, int(one["size"]), [base64.b64decode(root) for root in one["roots"]])
            for log_id, one in document["logs"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        return {}


def confirmed(
    store: Store, deployment: str, keys: Sequence[Ed25519PublicKey], checked: Mapping[str, CompactRange]
) -> dict[str, CompactRange]:
    """Those of ``checked`` over which the store keeps a checkpoint that one of ``keys`` signed."""
    return {
        log_id: tree
        for log_id, tree in checked.items()
        if any(
            _says(note, log_origin(deployment, log_id), keys, tree)
            for note in store.query(_NOTES, {"log_id": log_id, "size": tree.end})["note"].to_pylist()
        )
    }


def write_checked(path: Path, report: CheckReport) -> None:
    """Keep what a run without faults found whole, readable by its owner alone (0600), in one step."""
    logs = {
        log.log_id: {
            "size": log.good.end,
            "roots": [base64.b64encode(root).decode() for root in log.good.roots],
        }
        for log in report.logs
        if log.good.end
    }
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump({"version": _VERSION, "logs": logs}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _says(note: str, origin: str, keys: Sequence[Ed25519PublicKey], tree: CompactRange) -> bool:
    try:
        said = open_checkpoint(note, origin, keys)
    except CheckpointInvalid:
        return False
    return (said.size, said.root) == (tree.end, tree.root())
