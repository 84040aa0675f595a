"""The list that screening is measured on: the real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from auditspan.cli.screening_extra import require_screening
from auditspan.errors import AuditSpanError
from benchmarks.report import PAGE

__all__ = ["LIST", "real_list"]

LIST: Final = "AUDITSPAN_TEST_SCREENING_LIST"
"""Environment variable that names another Consolidated Screening List, such as today's."""

_KEPT: Final = PAGE.parent.parent / "tests" / "screening" / "data" / "consolidated_screening_list.json.gz"


def real_list() -> Path | None:
    """The list of 2026-07-31 that the tests have, or the one that `LIST` names; None, said, without ``screening``."""
    try:
        require_screening()
    except AuditSpanError as error:
        print(f"screening was not measured: {error}", file=sys.stderr)
        return None
    return Path(os.environ.get(LIST) or _KEPT)
