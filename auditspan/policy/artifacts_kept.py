"""Artifacts of reference epochs as a data directory keeps them: each in a file named by its SHA-256."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

__all__ = ["kept"]

_log = logging.getLogger(__name__)


def kept(folder: Path, digest: str) -> bytes | None:
    """The artifact with this SHA-256 (hexadecimal) from ``folder``; None where there is none to be used.

    What a crash or a disk has damaged is as if it were not there, so that a good copy elsewhere is used.
    """
    path = folder / digest
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("The artifact kept in %s cannot be read: %s", path, error.strerror)
        return None
    if hashlib.sha256(content).hexdigest() != digest:
        _log.warning("The artifact kept in %s is damaged, and a copy from elsewhere is needed.", path)
        return None
    return content
