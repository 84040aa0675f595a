"""Go's checksum database as a second judge of checkpoints and proofs: a small program that asks its packages."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

__all__ = ["Asked", "GoTlog", "Said", "verifier_key"]

_SOURCE = Path(__file__).parent
_ED25519 = b"\x01"


def verifier_key(name: str, key: Ed25519PublicKey) -> str:
    """The key as ``note.NewVerifier`` takes it: name, key id in hexadecimal, and algorithm with key in Base64."""
    raw = _ED25519 + key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    key_id = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    return f"{name}+{key_id.hex()}+{_text(raw)}"


@dataclass(frozen=True)
class Said:
    """What Go says: the signed text of each note or an error; of each root and proof what is wrong, or nothing."""

    texts: list[str]
    roots: list[str]
    inclusion: list[str]
    consistency: list[str]


@dataclass
class Asked:
    """Questions about one log: notes, and roots and proofs over its leaves."""

    leaves: Sequence[bytes] = ()
    notes: list[dict[str, str]] = field(default_factory=list)
    roots: list[dict[str, Any]] = field(default_factory=list)
    inclusion: list[dict[str, Any]] = field(default_factory=list)
    consistency: list[dict[str, Any]] = field(default_factory=list)

    def note(self, text: str, key: str) -> None:
        self.notes.append({"note": text, "key": key})

    def root(self, size: int, root: bytes) -> None:
        self.roots.append(_proven(0, size, root, ()))

    def included(self, leaf: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
        self.inclusion.append(_proven(leaf, size, root, proof))

    def grown(self, earlier: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
        self.consistency.append(_proven(earlier, size, root, proof))


def _proven(of: int, size: int, root: bytes, proof: Sequence[bytes]) -> dict[str, Any]:
    return {"of": of, "size": size, "root": _text(root), "proof": [_text(each) for each in proof]}


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()


class GoTlog:
    """The program, built once.

    Raises:
        RuntimeError: there is no Go here, or it cannot get its packages.
    """

    def __init__(self, folder: Path) -> None:
        go = shutil.which("go")
        if go is None:
            raise RuntimeError("Go is not installed")
        self._program = folder / "tlog"
        done = subprocess.run(
            [go, "build", "-buildvcs=false", "-o", str(self._program), "."],
            cwd=_SOURCE,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if done.returncode:
            raise RuntimeError(f"the program in tests/tlog cannot be built: {done.stderr.strip()[-300:]}")

    def ask(self, asked: Asked) -> Said:
        """Its answers, in the order of the questions."""
        question = {**vars(asked), "leaves": [_text(leaf) for leaf in asked.leaves]}
        done = subprocess.run(
            [self._program], input=json.dumps(question), capture_output=True, text=True, check=True, timeout=120
        )
        return Said(**json.loads(done.stdout))
