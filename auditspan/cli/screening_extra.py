"""What screening needs beyond the pipeline."""

from __future__ import annotations

import importlib.util

from auditspan.errors import AuditSpanError

__all__ = ["require_screening"]


def require_screening() -> None:
    """Check that the extra ``screening`` is installed.

    Raises:
        AuditSpanError: it is not; says how to install it.
    """
    if importlib.util.find_spec("rigour") is None or importlib.util.find_spec("rapidfuzz") is None:
        raise AuditSpanError(
            "Screening is not installed here.",
            remedy="Run: pip install 'auditspan[screening]'. It builds PyICU, which needs g++, pkg-config and the "
            "headers of ICU (libicu-dev).",
        )
