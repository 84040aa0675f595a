"""Rotation of a signing key that lies in a file: the new file beside the old one, and the step from one to the other.

The statement is durable here before anybody sees it, and the files change only after it was journaled. So an
interrupted rotation is taken up where it ended, with the same key and the same statement.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditspan.canonical import JsonValue
from auditspan.durable import sync
from auditspan.ledger.keys import (
    KeyFileError,
    init_signing_key,
    load_signing_key,
    write_secret_file,
)
from auditspan.ledger.retirement import rfc3339_seconds
from auditspan.ledger.rotation import Rotation, RotationInvalid, open_rotation, sign_rotation
from auditspan.ledger.signing_key import key_id, public_bytes, public_text

__all__ = ["SHORTEST_OVERLAP", "KeyFiles", "begin_rotation", "finish_rotation", "pending_rotation"]

SHORTEST_OVERLAP: Final = 60
"""Seconds that the old key stays valid at least: who signs takes the new one up within a few."""
_SECOND: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where a deployment's signing key lies, and the files of a rotation beside it."""

    signing_key: Path
    trust: Path

    @property
    def next_key(self) -> Path:
        """The new key, until it takes the place of the old one."""
        return self.signing_key.with_name("signing.next.pem")

    @property
    def statement(self) -> Path:
        """The signed statement of a rotation that is not finished."""
        return self.signing_key.with_name("rotation.json")

    def retired(self, rotation: Rotation) -> Path:
        """Where the old key goes: to be destroyed after the overlap."""
        return self.signing_key.with_name(f"retired-{key_id(rotation.old)[:16]}.pem")


def pending_rotation(files: KeyFiles) -> Mapping[str, Any] | None:
    """The body of a rotation that was begun and not finished; None when there is none.

    Raises:
        KeyFileError: what is there is no statement.
    """
    try:
        body: Mapping[str, Any] = json.loads(files.statement.read_bytes())
        open_rotation(body)
    except FileNotFoundError:
        return None
    except (OSError, RotationInvalid, ValueError) as error:
        raise KeyFileError(
            f"{files.statement} is no statement of a rotation: {error}.",
            remedy="Put it back as it was. Only when nothing of it was journaled may it be removed.",
        ) from error
    return body


def begin_rotation(files: KeyFiles, deployment: str, now: int, overlap_seconds: float) -> Mapping[str, Any]:
    """The body of ``audit.key.rotated``: of a new key, or of the rotation that was begun before.

    The old key is said to retire ``overlap_seconds`` after ``now`` (ns), in whole seconds, as ``trust.json`` has them.
    A statement that has lain here for half of its overlap is made anew, of the same keys: were it only sealed now, it
    would retire the old key before others know. Of two in the log the first counts.

    Raises:
        KeyFileError: the old key cannot be read, a file is in the way, or the overlap is too short.
    """
    pending = pending_rotation(files)
    old = load_signing_key(files.signing_key)
    if pending is not None:
        rotation = open_rotation(pending)
        is_in_place = public_bytes(old.public_key()) == public_bytes(rotation.new)
        if is_in_place or now <= (rotation.at + rotation.retired_at) // 2:
            return pending
        files.statement.unlink()
    if overlap_seconds < SHORTEST_OVERLAP:
        raise KeyFileError(
            f"An overlap of {overlap_seconds:g} seconds is too short for those who sign to take the new key.",
            remedy=f"Give {SHORTEST_OVERLAP} seconds or more: --overlap-hours 0.02.",
        )
    # One that is there already was made by a rotation that got no further.
    new = load_signing_key(files.next_key) if files.next_key.exists() else init_signing_key(files.next_key)
    retired_at = (now + round(overlap_seconds * _SECOND)) // _SECOND * _SECOND
    body: dict[str, JsonValue] = sign_rotation(deployment, old, new, now, retired_at)
    write_secret_file(files.statement, json.dumps(body, indent=1) + "\n")
    return body


def finish_rotation(files: KeyFiles, body: Mapping[str, Any]) -> Rotation:
    """After it was journaled: ``trust.json`` names both keys, and the new one is the signing key.

    At every moment the signing key's file is one of the two. Safe to call again after any interruption.

    Raises:
        KeyFileError: the files are not those of this rotation.
    """
    rotation = open_rotation(body)
    _trust(files.trust, rotation)
    current = public_bytes(load_signing_key(files.signing_key).public_key())
    if current == public_bytes(rotation.old):
        following = load_signing_key(files.next_key).public_key()
        if public_bytes(following) != public_bytes(rotation.new):
            raise KeyFileError(
                f"{files.next_key} is not the key to which {files.statement} leads.",
                remedy="Put the right one back: the statement is journaled, and no other key follows.",
            )
        if not files.retired(rotation).exists():
            os.link(files.signing_key, files.retired(rotation))
        files.next_key.replace(files.signing_key)
    elif current != public_bytes(rotation.new):
        raise KeyFileError(
            f"{files.signing_key} is neither of the keys of {files.statement}.",
            remedy="Put the keys of this deployment back.",
        )
    files.statement.unlink(missing_ok=True)
    sync(files.signing_key.parent)
    return rotation


def _trust(path: Path, rotation: Rotation) -> None:
    """Add the new key, and say when the old one retires; whatever else the file says stays."""
    try:
        document: Any = json.loads(path.read_bytes())
        entries = {entry["public_key"]: entry for entry in document["keys"]}
        old, new = public_text(rotation.old), public_text(rotation.new)
        entries[old]["retired_at"] = rfc3339_seconds(rotation.retired_at)
        if new not in entries:
            added = {"algorithm": "Ed25519", "public_key": new, "added_at": rfc3339_seconds(rotation.at)}
            document["keys"].append(added)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise KeyFileError(
            f"{path} does not name the key that is to be rotated.",
            remedy="Restore it from the backup of the deployment's keys, then run the command again.",
        ) from error
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(json.dumps(document, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)
