"""What ``nvidia-smi -q -x`` prints: one ``<gpu>`` for each device of a machine.

Read as a stream of events in constant memory. Entities are refused, so that nothing can expand; the document type that
nvidia-smi names is not fetched. A device that is cut into MIG instances is one device here and counts once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final
from xml.etree.ElementTree import ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import XMLParser

from auditspan.policy.accelerator_names import is_part

from .fields import LONGEST
from .items import Inventory, InventoryError, Item, Rejected

__all__ = ["read_nvidia_smi"]

_ROOT: Final = "nvidia_smi_log"
_DEEPEST: Final = 64
_CHUNK: Final = 64 * 1024
_PCI: Final = re.compile(r"^(?:0x)?([0-9A-Fa-f]{4})([0-9A-Fa-f]{4})$")
_NOTHING: Final = frozenset({"", "N/A", "[N/A]", "None", "0", "Unknown Error"})
_READ: Final = {
    "product_name": "name",
    "serial": "serial",
    "uuid": "uuid",
    "mig_mode/current_mig": "mig",
    "gpu_virtualization_mode/virtualization_mode": "virtualization",
    "pci/pci_device_id": "pci",
}


@dataclass(slots=True)
class _Device:
    line: int
    identifier: str
    values: dict[str, str] = field(default_factory=dict)
    instances: int = 0


def read_nvidia_smi(content: bytes, file: str, most: int) -> Inventory:
    """Reads the XML of nvidia-smi; devices alike in model and kind become one item with their serials.

    Raises:
        InventoryError: not well-formed, with entities, not of nvidia-smi, or more than ``most`` devices.
    """
    target = _Target(file, most)
    parser: Any = XMLParser(target=target)
    target.line = lambda: int(parser.parser.CurrentLineNumber)
    try:
        for start in range(0, len(content), _CHUNK):
            parser.feed(content[start : start + _CHUNK])
        parser.close()
    except DefusedXmlException as error:
        raise InventoryError(
            f"refused XML ({type(error).__name__})",
            file=file,
            line=target.line(),
            remedy="Entities have no place in it: give what nvidia-smi printed.",
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise InventoryError(
            f"not XML: {str(error)[:200]}",
            file=file,
            line=getattr(error, "position", (0, 0))[0],
            remedy="Run `nvidia-smi -q -x` again and give what it prints.",
        ) from error
    return _inventory(target.devices)


class _Target:
    """Receives the events of the parser, and keeps what is read of each device."""

    def __init__(self, file: str, most: int) -> None:
        self.devices: list[_Device] = []
        self.line: Any = lambda: 0
        self._file = file
        self._most = most
        self._path: list[str] = []
        self._text: list[str] = []
        self._room = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self._path and tag != _ROOT:
            raise self._fault(f"the root is <{tag[:80]}>", "Give what `nvidia-smi -q -x` prints.")
        if len(self._path) >= _DEEPEST:
            raise self._fault("nested too deeply", "This is no output of nvidia-smi.")
        self._path.append(tag)
        self._text, self._room = [], LONGEST
        if len(self._path) == 2 and tag == "gpu":
            if len(self.devices) >= self._most:
                raise self._fault(f"more than {self._most} devices", "Give one machine a file.")
            self.devices.append(_Device(self.line(), attributes.get("id", "")[:LONGEST]))
        elif self._in_device and tag == "mig_device":
            self.devices[-1].instances += 1

    def data(self, text: str) -> None:
        if self._room > 0:
            self._text.append(text[: self._room])
            self._room -= len(text)

    def end(self, _tag: str) -> None:
        name = _READ.get("/".join(self._path[2:])) if self._in_device else None
        if name is not None:
            self.devices[-1].values.setdefault(name, "".join(self._text).strip())
        self._path.pop()
        self._text, self._room = [], 0

    def close(self) -> None:
        """Nothing is built."""

    @property
    def _in_device(self) -> bool:
        return len(self._path) > 2 and self._path[1] == "gpu"

    def _fault(self, message: str, remedy: str) -> InventoryError:
        return InventoryError(message, file=self._file, line=self.line(), remedy=remedy)


def _inventory(devices: list[_Device]) -> Inventory:
    kinds: dict[tuple[str, str | None, bool, bool], list[_Device]] = {}
    rejected: list[Rejected] = []
    for number, device in enumerate(devices):
        name, pci = device.values.get("name", ""), _pci(device.values.get("pci", ""))
        if name in _NOTHING and pci is None:
            rejected.append(
                Rejected(
                    f"line {device.line}, gpu[{number}] {device.identifier}".strip(),
                    "neither a product name nor a PCI id",
                    "Run nvidia-smi where the driver sees the device.",
                )
            )
            continue
        virtual = device.values.get("virtualization", "").upper() == "VGPU" or is_part(name)
        mig = device.values.get("mig") == "Enabled" or device.instances > 0
        kinds.setdefault((name, pci, virtual, mig), []).append(device)
    items = tuple(_item(*kind, found) for kind, found in kinds.items())
    return Inventory("nvidia-smi", items, tuple(rejected))


def _item(name: str, pci: str | None, virtual: bool, mig: bool, devices: list[_Device]) -> Item:
    serials = [
        device.values.get("serial", "")
        if device.values.get("serial", "") not in _NOTHING
        else device.values.get("uuid", "")
        for device in devices
    ]
    notes = []
    if mig:
        instances = sum(device.instances for device in devices)
        notes.append(f"cut into {instances} MIG instances; each device counts once")
    if virtual:
        notes.append("virtual GPUs: how many devices carry them cannot be told here")
    return Item(
        place=f"line {devices[0].line}",
        model=None if name in _NOTHING else name,
        pci=pci,
        quantity=len(devices),
        unit="part" if virtual else "accelerator",
        serials=tuple(dict.fromkeys(text for text in serials if text not in _NOTHING)),
        notes=tuple(notes),
    )


def _pci(text: str) -> str | None:
    """``vendor:device`` from ``233010DE``, which names the device first."""
    match = _PCI.match(text.strip())
    return f"{match.group(2)}:{match.group(1)}".lower() if match else None
