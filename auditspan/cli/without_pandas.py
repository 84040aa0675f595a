"""A program that starts without pandas, which Arrow would import as soon as an array is made of Python values."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

__all__ = ["without_pandas"]

_PANDAS: Final = "pandas"


class _NotHere(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == _PANDAS:
            raise ModuleNotFoundError(f"{_PANDAS} is not used by this program", name=_PANDAS)
        return None


def without_pandas() -> None:
    """Import no pandas in this process from now on, as if it were not installed.

    Nothing here needs it, and where another package brought it along it takes a fifth of the CPU time of a start, and
    some 40 MB.
    """
    if _PANDAS not in sys.modules and not any(isinstance(finder, _NotHere) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NotHere())
