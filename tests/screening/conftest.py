from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from auditspan.screening.screener import Screener


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the extract as its current list."""
    # Here, so that this file is there also where screening is not installed.
    from screening_data import EXTRACT

    from auditspan.screening.lists import import_list
    from auditspan.screening.screener import write_index

    folder = tmp_path_factory.mktemp("screening")
    import_list(EXTRACT, folder, prepare=write_index)
    return folder


@pytest.fixture
def screener(kept: Path) -> Screener:
    from auditspan.screening.screener import open_screener

    return open_screener(kept)


@pytest.fixture
def list_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a list of ``records``, each with an id, a source and what is given."""

    def write(*records: dict[str, Any], name: str = "list.json", **head: Any) -> Path:
        entries = [
            {"id": f"{number:04}", "source": "Entity List (EL) - Bureau of Industry and Security", **record}
            for number, record in enumerate(records)
        ]
        path = tmp_path / name
        path.write_text(json.dumps({**head, "results": entries}, indent=1), encoding="utf-8")
        return path

    return write
