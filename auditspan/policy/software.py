"""Which software determines, and whose determinations it makes again."""

from __future__ import annotations

import importlib.metadata
import re
from typing import Final

__all__ = ["reproduces", "software"]

_VERSION: Final = re.compile(r"auditspan (\d{1,6})\.(\d{1,6})\.(\d{1,6})(?:[.a-z+-][0-9A-Za-z.+-]{0,40})?")


def software() -> str:
    """Name and version of the software that determines."""
    try:
        return f"auditspan {importlib.metadata.version('auditspan')}"
    except importlib.metadata.PackageNotFoundError:
        return "auditspan unknown"


def reproduces(own: str, sealed_by: str) -> bool:
    """Whether ``own`` makes determinations again, byte for byte, that ``sealed_by`` has sealed.

    Both are names with a version, as `audit.batch` has them (evidence format, section 10). Each version does for all
    up to itself: an engine that would judge otherwise writes facts documents of another version. What a later one does
    is not known here, nor what another program does.
    """
    older, newer = (_VERSION.fullmatch(each) for each in (sealed_by, own))
    if older is None or newer is None:
        return False
    return [*map(int, older.groups())] <= [*map(int, newer.groups())]
