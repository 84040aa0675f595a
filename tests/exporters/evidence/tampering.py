"""Ways to alter a package. An insider with the signing key repairs the manifest afterwards; others cannot."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from auditspan.exporters.evidence.layout import EVENT_FILE, WITHHELD_FILE
from auditspan.exporters.evidence.statement import PAYLOAD_TYPE, key_id, sign_statement
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

Rows = list[dict[str, Any]]


def statement_of(folder: Path) -> dict[str, Any]:
    envelope = json.loads((folder / "manifest.json").read_bytes())
    return dict(json.loads(base64.b64decode(envelope["payload"])))


def sign(folder: Path, statement: dict[str, Any], key: Ed25519PrivateKey) -> None:
    (folder / "manifest.json").write_bytes(sign_statement(statement, key))


def sign_bytes(folder: Path, payload: bytes, key: Ed25519PrivateKey) -> None:
    """Sign what no exporter writes."""
    public = SSlibKey(
        key_id(key.public_key()), "ed25519", "ed25519", {"public": key.public_key().public_bytes_raw().hex()}
    )
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(CryptoSigner(key, public))
    (folder / "manifest.json").write_text(json.dumps(envelope.to_dict()))


def repair(folder: Path, key: Ed25519PrivateKey, change: Callable[[dict[str, Any]], None] | None = None) -> None:
    """Give the manifest the digests of the files as they are now, and sign it again."""
    statement = statement_of(folder)
    statement["subject"] = [
        {
            "name": path.relative_to(folder).as_posix(),
            "digest": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()},
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "manifest.json"
    ]
    if change is not None:
        change(statement["predicate"])
    sign(folder, statement, key)


def file_of(folder: Path, side: str, log_id: str) -> Path:
    return folder / side / f"{log_id}-00000.parquet"


def rows_of(path: Path) -> Rows:
    return [dict(row) for row in pq.read_table(path).to_pylist()]


def write_rows(path: Path, rows: Rows) -> None:
    schema = WITHHELD_FILE if path.parent.name == "withheld" else EVENT_FILE
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, compression="zstd")


def edit(folder: Path, side: str, log_id: str, change: Callable[[Rows], Rows | None]) -> None:
    """Change the rows of a file; what ``change`` returns replaces them, when it returns anything."""
    path = file_of(folder, side, log_id)
    rows = rows_of(path)
    changed = change(rows)
    write_rows(path, rows if changed is None else changed)


def header(row: dict[str, Any], **values: Any) -> None:
    """Alter fields of a row's header and leave it canonical."""
    value = json.loads(row["header"]) | values
    row["header"] = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def place_of(rows: Rows, leaf: int) -> int:
    return next(place for place, row in enumerate(rows) if row["leaf_index"] == leaf)
