"""Reference epochs as the control leaves of a verified package have them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from .citations import Citations
from .layout import EVENT_FILE
from .leaf_files import LeafFiles
from .package import Package, PathRefused
from .report import Faults
from .statement import Manifest

__all__ = ["control_leaves_of", "enclosed_citations", "epoch_bodies"]

_ACTIVATED: Final = "audit.reference.activated"
_LARGEST_PACK: Final = 8 << 20


def control_leaves_of(package: Package, manifest: Manifest) -> Iterator[tuple[int, dict[str, Any]]]:
    """Index and content of the control log's leaves, those of its interval and those that are included."""
    for included in manifest.included:
        yield included.leaf_index, json.loads(included.leaf)
    control = manifest.control
    files = LeafFiles(
        package, control.log_id, control.files["control"], EVENT_FILE, frozenset(manifest.subjects), Faults()
    )
    for piece in files.pieces():
        for index, header in zip(piece["leaf_index"].to_pylist(), piece["header"].to_pylist(), strict=True):
            yield index, json.loads(header)


def epoch_bodies(package: Package, manifest: Manifest) -> dict[int, dict[str, Any]]:
    """The body of each epoch by number; of several with one number the first in the log counts."""
    first: dict[int, tuple[int, dict[str, Any]]] = {}
    for index, leaf in control_leaves_of(package, manifest):
        if leaf["class"] == _ACTIVATED:
            body = leaf["body"]["body"]
            if body["number"] not in first or index < first[body["number"]][0]:
                first[body["number"]] = (index, body)
    return {number: body for number, (_, body) in sorted(first.items())}


def enclosed_citations(package: Package, manifest: Manifest) -> Citations:
    """What the rule packs in the package say of their rules."""

    def artifact(digest: str) -> bytes | None:
        path = f"reference/{digest}"
        try:
            with package.open(path) as file:
                content = file.read(_LARGEST_PACK + 1)
        except (FileNotFoundError, PathRefused, OSError):
            return None
        return content if len(content) <= _LARGEST_PACK else None

    return Citations(epoch_bodies(package, manifest), artifact)
