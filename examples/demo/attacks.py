"""Three attacks on a copy of the evidence package, by an outsider and by somebody who has stolen the signing key."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

__all__ = ["ATTACKS", "Attack", "attacked"]


@dataclass(frozen=True)
class Attack:
    """``alter`` changes a package and says what it did; ``code`` is the fault that must be found.

    ``insider``: the digests in the manifest are repaired, and it is signed again with the deployment's own key.
    """

    name: str
    code: str
    insider: bool
    alter: Callable[[Path], str]


def attacked(attack: Attack, package: Path, signing_key: Path) -> tuple[Path, str]:
    """An attacked copy beside the package, and what was done to it."""
    copy = package.with_name(f"{package.name}-{attack.code}")
    shutil.copytree(package, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    done = attack.alter(copy)
    if attack.insider:
        _sign_again(copy, signing_key)
    return copy, done


def _alter_one_byte(package: Path) -> str:
    """As somebody who forges one value."""
    victim = max((package / "events").glob("*.parquet"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 0x01
    victim.write_bytes(content)
    return f"events/{victim.name}, byte {len(content) // 2}"


def _leave_out(package: Path) -> str:
    """As somebody who never wants a flagged event to have happened."""
    path, table, row = _flagged(package)
    pq.write_table(pa.concat_tables([table.slice(0, row), table.slice(row + 1)]), path, compression="zstd")
    return f"leaf {table['leaf_index'][row]} of {path.stem.rpartition('-')[0]} taken out, the manifest signed again"


def _make_harmless(package: Path) -> str:
    """As somebody who keeps the event and changes what was judged, in the leaf and in every column alike."""
    path, table, row = _flagged(package)
    changed = {"determination": "no_license_required", "flagged": False, "rule_ids": []}
    leaf = json.loads(table["header"][row].as_py()) | changed
    header = json.dumps(leaf, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    for name, value in {**changed, "header": header}.items():
        column = table[name].to_pylist()
        column[row] = value
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(column, table.schema.field(name).type))
    pq.write_table(table, path, compression="zstd")
    return (
        f"leaf {table['leaf_index'][row]} of {path.stem.rpartition('-')[0]} judged harmless, the manifest signed again"
    )


ATTACKS = (
    Attack("one byte is altered", "file.digest", insider=False, alter=_alter_one_byte),
    Attack("a flagged event is left out", "leaf.missing", insider=True, alter=_leave_out),
    Attack("a flagged event is made harmless", "facts.mismatch", insider=True, alter=_make_harmless),
)


def _flagged(package: Path) -> tuple[Path, pa.Table, int]:
    """A file with a flagged event, its rows, and which row it is."""
    for path in sorted((package / "events").glob("*.parquet")):
        table = pq.read_table(path)
        row = pc.index(table["flagged"], True).as_py()
        if row >= 0:
            return path, table, row
    raise ValueError("the package holds no flagged event")


def _sign_again(package: Path, signing_key: Path) -> None:
    """Give the manifest the digests of the files as they are now, and sign it (DSSE, in-toto Statement v1)."""
    manifest = package / "manifest.json"
    old = json.loads(manifest.read_bytes())
    statement = json.loads(base64.b64decode(old["payload"]))
    for subject in statement["subject"]:
        subject["digest"]["sha256"] = hashlib.sha256((package / subject["name"]).read_bytes()).hexdigest()
    key = load_pem_private_key(signing_key.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("the deployment signs with Ed25519")
    envelope = Envelope(json.dumps(statement).encode(), old["payloadType"], {})
    envelope.sign(CryptoSigner(key, _public(key.public_key())))
    manifest.write_text(json.dumps(envelope.to_dict()))


def _public(key: Ed25519PublicKey) -> SSlibKey:
    raw = key.public_bytes_raw()
    return SSlibKey(hashlib.sha256(raw).hexdigest(), "ed25519", "ed25519", {"public": raw.hex()})
