"""The public keys that a person verifies with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from auditspan.ledger.trust import Trust

__all__ = ["trusted"]


def trusted(path: Path) -> Trust:
    """The keys in a ``trust.json``.

    Raises:
        KeyFileError: there are none; says where to get them.
    """
    from auditspan.ledger.keys import KeyFileError
    from auditspan.ledger.trust import load_trust

    try:
        return load_trust(path)
    except KeyFileError as error:
        # Whoever verifies has no keys to make and no backup to restore.
        raise KeyFileError(
            error.message, remedy="Ask the operator for trust.json, by another way than the package came."
        ) from error
