"""One entry of a CSV or JSON inventory: named fields, checked one by one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from auditspan.policy.accelerator_names import is_part, pci_id
from auditspan.policy.accelerators import Accelerator
from auditspan.policy.countries import Countries, Place
from auditspan.policy.performance import Rate, SpecificationError, compute, die_area, rate

from .items import Item, RowError

__all__ = ["FIELDS", "LONGEST", "checked_text", "field_named", "item_from", "place_of"]

LONGEST: Final = 256
"""Characters of a name; longer ones are no names."""
MOST: Final = 10**9
_MOST_SERIALS: Final = 10_000
_MOST_RATES: Final = 32

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("accelerator", "gpu", "gpu_name", "name", "product", "product_name"),
    "count": ("quantity", "qty", "accelerators"),
    "instance_type": ("machine_type", "vm_size", "shape"),
    "instances": ("instance_count",),
    "pci_id": ("pci.device_id", "pci_device_id", "device_id"),
    "provider": ("cloud_provider", "cloud.provider"),
    "region": ("cloud_region", "cloud.region", "zone"),
    "country": ("destination", "destination_country", "country_code"),
    "consignee": (),
    "end_user": ("enduser",),
    "serials": ("serial", "serial_number", "serial_numbers", "gpu_serial"),
    "target": ("host", "hostname", "node", "machine", "asset", "site"),
    "note": ("notes", "comment", "remark"),
    "data_type": (),
    "bit_length": (),
    "tops": ("tflops",),
    "sparsity": (),
    "rates": (),
    "logic_die_mm2": ("die_mm2",),
    "data_centre": ("data_center", "datacenter"),
    "dram_bandwidth": ("memory_bandwidth",),
    "interconnect_bandwidth": (),
    "specification_source": ("source",),
}
"""Fields by name, each with the other names that mean it."""

_NAMES: Final = {other: name for name, others in FIELDS.items() for other in (name, *others)}
_SPECIFICATION: Final = frozenset({"tops", "rates", "data_type", "bit_length", "sparsity", "logic_die_mm2"})
_NO_SERIAL: Final = frozenset({"N/A", "[N/A]", "0"})
"""What nvidia-smi writes where a device has no serial number."""
_INTEGER: Final = re.compile(r"^\d{1,12}$")
_SMI_PCI: Final = re.compile(r"^(?:0x)?([0-9a-f]{4})(10de)$", re.IGNORECASE)


def field_named(header: str) -> str | None:
    """The field that a column or key means; case, spaces and a unit in brackets do not matter."""
    text = re.sub(r"\s*\[[^\]]*\]$", "", header.strip().lower())
    return _NAMES.get(text) or _NAMES.get(re.sub(r"[\s\-]+", "_", text))


def nearest_field(header: str) -> str:
    """A remedy for a name that is no field."""
    close = difflib.get_close_matches(header.strip().lower()[:LONGEST], list(_NAMES), n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    return f"{meant}Fields are {', '.join(FIELDS)}."


def checked_text(value: Any, name: str) -> str | None:
    """``value`` as text without blanks around it; ``None`` when empty.

    Raises:
        RowError: no text or number, longer than 256 characters, or with control characters.
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise RowError(f"{name} is {_shown(value)}", "Give a text.")
    if isinstance(value, int) and value.bit_length() > LONGEST:
        raise RowError(f"{name} has too many digits", "Correct the number.")
    text = str(value).strip()
    if len(text) > LONGEST:
        raise RowError(f"{name} has {len(text)} characters", f"Keep it to {LONGEST}.")
    if not text.isprintable():
        raise RowError(f"{name} has control characters", "Remove them.")
    return text or None


def place_of(countries: Countries, text: str | None, name: str = "country") -> Place | None:
    """The country ``text`` names; ``None`` for no text.

    Raises:
        RowError: it names none.
    """
    if text is None:
        return None
    place = countries.place(text)
    if place is None:
        raise RowError(
            f"{name} {text!r} is no country", "Use an ISO 3166-1 alpha-2 code such as SG; UA-43 for a region."
        )
    return place


def item_from(fields: Mapping[str, Any], place: str, countries: Countries) -> Item:
    """The item that ``fields`` (by their names in `FIELDS`) describe.

    Raises:
        RowError: a value is missing, unreadable or absurd.
    """
    text: Callable[[str], str | None] = lambda name: checked_text(fields.get(name), name)  # noqa: E731
    model, instance_type, given_pci = text("model"), text("instance_type"), text("pci_id")
    if model is None and instance_type is None and given_pci is None:
        raise RowError(
            "neither model, instance_type nor pci_id is given", "Name the accelerator, or the machine that holds it."
        )
    pci = _pci(given_pci)
    serials = _serials(fields.get("serials"))
    count = _count(fields, "count")
    instances = _count(fields, "instances")
    only_instance = model is None and pci is None
    if only_instance and count is not None and instances is not None and count != instances:
        raise RowError(
            f"count is {count} and instances is {instances}",
            "Give instances alone, or name the model that count counts.",
        )
    quantity = (instances if instances is not None else count) if only_instance else count
    if quantity is None and not only_instance and instances is not None:
        # So many machines, whose accelerators are named and not counted: the instance type counts them.
        only_instance, quantity = instance_type is not None, instances
    if quantity is None:
        quantity = len(serials) or 1
    part = model is not None and not only_instance and is_part(model)
    if len(serials) > quantity:
        raise RowError(f"there are {len(serials)} serials for a quantity of {quantity}", "Correct one of them.")
    return Item(
        place=place,
        target=text("target") or "",
        model=model,
        pci=pci,
        instance_type=instance_type,
        provider=(text("provider") or "").lower() or None,
        region=text("region"),
        quantity=quantity,
        unit="instance" if only_instance else "part" if part else "accelerator",
        country=place_of(countries, text("country")),
        consignee=text("consignee"),
        end_user=text("end_user"),
        serials=serials,
        specification=_specification(fields, model or given_pci or instance_type or ""),
    )


def _shown(value: Any) -> str:
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else repr(value)[:80]


def _pci(text: str | None) -> str | None:
    if text is None:
        return None
    smi = _SMI_PCI.match(text)
    found = f"{smi.group(2)}:{smi.group(1)}".lower() if smi else pci_id(text)
    if found is None:
        raise RowError(f"pci_id is {text!r}", "Write vendor:device, such as 10de:2330.")
    return found


def _count(fields: Mapping[str, Any], name: str) -> int | None:
    text = checked_text(fields.get(name), name)
    if text is None:
        return None
    if not _INTEGER.match(text) or not 1 <= int(text) <= MOST:
        raise RowError(f"{name} is {text!r}", f"Give a whole number from 1 to {MOST}, without signs and separators.")
    return int(text)


def _serials(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict | bool):
        raise RowError(f"serials is {_shown(value)}", "Give a list, or a text with ; between.")
    parts: Sequence[Any] = value if isinstance(value, list) else re.split(r"[;|\s]+", str(value or ""))
    if len(parts) > _MOST_SERIALS:
        raise RowError(f"there are {len(parts)} serials", f"Give at most {_MOST_SERIALS} in one row.")
    found = [text for part in parts if (text := checked_text(part, "serials")) and text not in _NO_SERIAL]
    if len(set(found)) != len(found):
        raise RowError("a serial occurs twice", "Give each device once.")
    return tuple(found)


def _specification(fields: Mapping[str, Any], model: str) -> Accelerator | None:
    """The specification that a row gives of its own; ``None`` where it gives none."""
    if not any(fields.get(name) not in (None, "") for name in _SPECIFICATION):
        return None
    source = checked_text(fields.get("specification_source"), "specification_source") or "given in the inventory"
    try:
        rates = _rates(fields, source)
        area = die_area(checked_text(fields.get("logic_die_mm2"), "logic_die_mm2") or "")
    except SpecificationError as error:
        raise RowError(str(error), error.remedy) from error
    performance = compute(rates, area)
    if performance is None:
        raise RowError("a die area without a rate", "Give tops and data_type as well.")
    return Accelerator(
        model,
        performance.tpp,
        performance.performance_density,
        _yes_or_no(fields.get("data_centre")),
        _count(fields, "dram_bandwidth"),
        _count(fields, "interconnect_bandwidth"),
        performance.best,
        rates,
    )


def _rates(fields: Mapping[str, Any], source: str) -> tuple[Rate, ...]:
    given = fields.get("rates")
    if given in (None, ""):
        if all(fields.get(name) in (None, "") for name in ("tops", "data_type", "bit_length", "sparsity")):
            return ()
        given = [fields]
    if not isinstance(given, list) or len(given) > _MOST_RATES or not all(isinstance(one, Mapping) for one in given):
        raise RowError("rates is no list of rates", 'Write [{"data_type": "fp8", "tops": 1979, "sparsity": "dense"}].')
    return tuple(
        rate(
            checked_text(one.get("data_type"), "data_type") or "",
            checked_text(one.get("tops"), "tops") or "",
            bit_length=checked_text(one.get("bit_length"), "bit_length") or "",
            sparsity=(checked_text(one.get("sparsity"), "sparsity") or "").lower(),
            source=source,
        )
        for one in given
    )


def _yes_or_no(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    text = (checked_text(value, "data_centre") or "").lower()
    if text in ("true", "yes", "1"):
        return True
    if text in ("false", "no", "0"):
        return False
    if text:
        raise RowError(f"data_centre is {text!r}", "Write true or false.")
    return None
