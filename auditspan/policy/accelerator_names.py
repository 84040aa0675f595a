"""Names in the wild: what NVML, rocm-smi, Kubernetes labels and the PCI bus call an accelerator.

A name may also say that it is only a part of one: a MIG instance (``A100-SXM4-40GB-MIG-1g.5gb``) or a time-sliced
share (``-SHARED``). The circuit is the same, and so is its classification; how many such parts there are says nothing
about how many circuits there are.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_part", "normal_name", "pci_id"]

_VENDOR: Final = re.compile(r"^(?:nvidia|amd|instinct|aws|google|intel|tesla|geforce)\s+")
_PART: Final = re.compile(r"\s*(?:mig \d+[cg]\..*| shared)$")
_SEPARATORS: Final = re.compile(r"[\s_\-]+")
_MARKS: Final = re.compile(r"[®™]")
_PCI: Final = re.compile(r"^(?:0x)?([0-9a-f]{4}):(?:0x)?([0-9a-f]{4})$")


def normal_name(name: str) -> str:
    """``name`` in lower case, without vendor, trade marks, MIG profile, ``-SHARED`` and separators. Idempotent."""
    text = _without_part(_words(name))
    while match := _VENDOR.match(text):
        text = text[match.end() :]
    return text.replace(" ", "")


def is_part(name: str) -> bool:
    """Whether ``name`` is that of a part of an accelerator: a MIG instance or a time-sliced share."""
    return bool(_PART.search(_words(name)))


def pci_id(text: str) -> str | None:
    """``vendor:device`` in lower case from ``10de:2330`` or ``0x10DE:0x2330``; ``None`` for anything else."""
    match = _PCI.match(text.strip().lower())
    return f"{match.group(1)}:{match.group(2)}" if match else None


def _words(name: str) -> str:
    return _SEPARATORS.sub(" ", _MARKS.sub("", name.lower())).strip()


def _without_part(text: str) -> str:
    while match := _PART.search(text):
        text = text[: match.start()]
    return text
