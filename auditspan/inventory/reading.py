"""From a file to an inventory: its size, its encoding, its format."""

from __future__ import annotations

from typing import BinaryIO, Final

from auditspan.policy.countries import Countries

from .csv_file import read_csv
from .items import Inventory, InventoryError
from .json_file import read_json
from .nvidia_smi import read_nvidia_smi

__all__ = ["FORMATS", "LARGEST", "MOST_ITEMS", "read_inventory"]

FORMATS: Final = ("auto", "csv", "json", "kubernetes", "nvidia-smi")
LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file; parsed JSON takes some ten times as much memory."""
MOST_ITEMS: Final = 50_000
"""Rows, entries, nodes or devices of a file."""


def read_inventory(
    source: BinaryIO, file: str, countries: Countries, format: str = "auto", *, largest: int = LARGEST
) -> Inventory:
    """Reads ``source``; what is not told by ``format`` is detected from its first character.

    Raises:
        InventoryError: too large, empty, not UTF-8, not of that format, or without anything that could be an item.
    """
    content = source.read(largest + 1)
    if len(content) > largest:
        raise InventoryError(
            f"larger than {largest // 1024**2} MiB",
            file=file,
            remedy="Split it: `kubectl get nodes -o json -l KEY=VALUE`, or fewer rows a file.",
        )
    body = content.removeprefix(b"\xef\xbb\xbf")
    start = body.lstrip()
    if not start:
        raise InventoryError("the file is empty", file=file, remedy="Give an inventory.")
    if format == "auto":
        format = "nvidia-smi" if start.startswith(b"<") else "json" if start[:1] in (b"{", b"[") else "csv"
    if format == "nvidia-smi":
        return read_nvidia_smi(start, file, MOST_ITEMS)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InventoryError(
            f"byte {error.start} is not UTF-8",
            file=file,
            line=body.count(b"\n", 0, error.start) + 1,
            remedy="Save it as UTF-8; PowerShell writes UTF-16 unless told otherwise.",
        ) from error
    if "\0" in text:
        raise InventoryError("it holds zero bytes", file=file, remedy="Save it as UTF-8 text.")
    if format == "csv":
        return read_csv(text, file, countries, MOST_ITEMS)
    found = read_json(text, file, countries, MOST_ITEMS)
    if format == "kubernetes" and found.format != format:
        raise InventoryError("no list of nodes", file=file, remedy="Give the output of `kubectl get nodes -o json`.")
    return found
