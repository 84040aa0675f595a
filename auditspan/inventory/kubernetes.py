"""What ``kubectl get nodes -o json`` prints: which accelerators each node has, by its labels and its capacity.

``nvidia.com/gpu.count`` and the capacity ``nvidia.com/gpu`` count devices only where neither MIG nor sharing is on:
then they count instances or shares, and how many devices there are is known from the instance type or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from auditspan.policy.accelerator_names import is_part

from .fields import LONGEST, MOST
from .items import Inventory, InventoryError, Item, Rejected, RowError, Unit

__all__ = ["is_nodes", "read_nodes"]

_REGIONS: Final = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
_INSTANCE_TYPES: Final = ("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type")
_GKE: Final = "cloud.google.com/gke-accelerator"
_GKE_TPU: Final = "cloud.google.com/gke-tpu-accelerator"
_PRODUCT: Final = "nvidia.com/gpu.product"
_COUNT: Final = "nvidia.com/gpu.count"
_REPLICAS: Final = "nvidia.com/gpu.replicas"
_SHARING_LABELS: Final = (
    "cloud.google.com/gke-gpu-partition-size",
    "cloud.google.com/gke-gpu-sharing-strategy",
    "cloud.google.com/gke-max-shared-clients-per-gpu",
)
_AMD_NAMES: Final = ("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name")
_AMD_DEVICE: Final = re.compile(r"^(?:beta\.)?amd\.com/gpu\.device-id(?:\.([0-9a-f]{4}))?$")
_MIG: Final = re.compile(r"^nvidia\.com/mig-[\w.]+$")
_MIG_COUNT: Final = re.compile(r"^nvidia\.com/mig-[\w.]+\.count$")
_QUANTITY: Final = re.compile(r"^(\d{1,12})(k?)$")
_PROVIDERS: Final = {"aws": "aws", "gce": "gcp", "azure": "azure", "oci": "oci"}
_NODE_LISTS: Final = frozenset({"List", "NodeList"})
_MOST_ENTRIES: Final = 2_000
"""Labels, or resources, of one node that are looked at."""

_NEURON: Final = ("aws.amazon.com/neuron", "aws.amazon.com/neurondevice", "aws.amazon.com/neuroncore")
"""The same devices, counted three ways; the first that is there counts."""

_RESOURCES: Final[Mapping[str, tuple[str, Unit]]] = {
    "amd.com/gpu": ("AMD GPU", "accelerator"),
    "habana.ai/gaudi": ("Gaudi", "accelerator"),
    "google.com/tpu": ("TPU", "accelerator"),
    "aws.amazon.com/neuron": ("Neuron device", "accelerator"),
    "aws.amazon.com/neurondevice": ("Neuron device", "accelerator"),
    "aws.amazon.com/neuroncore": ("Neuron device", "part"),
    "gpu.intel.com/i915": ("Intel GPU", "accelerator"),
    "gpu.intel.com/xe": ("Intel GPU", "accelerator"),
    "qualcomm.com/qaic": ("Qualcomm AI 100", "accelerator"),
    "huawei.com/Ascend910": ("Ascend 910", "accelerator"),
    "huawei.com/Ascend310": ("Ascend 310", "accelerator"),
    "cambricon.com/mlunum": ("Cambricon MLU", "accelerator"),
}
"""What device plugins of other vendors count, with the words for a model that nothing else names."""


@dataclass(frozen=True, slots=True)
class _Node:
    """What is read of a node; ``capacity`` only where it is above 0."""

    place: str
    name: str
    labels: Mapping[str, str]
    capacity: Mapping[str, int]
    provider: str | None
    instance_type: str | None
    region: str | None

    def item(self, model: str | None, quantity: int | None, unit: Unit = "accelerator", **more: Any) -> Item:
        return Item(
            place=self.place,
            target=self.name,
            model=model,
            quantity=quantity,
            unit=unit,
            provider=self.provider,
            instance_type=self.instance_type,
            region=self.region,
            **more,
        )


def is_nodes(document: Any) -> bool:
    """Whether a JSON document is a node of Kubernetes, or a list of some."""
    if not isinstance(document, dict):
        return False
    if document.get("kind") == "Node":
        return True
    items = document.get("items")
    return (
        document.get("kind") in _NODE_LISTS
        and isinstance(items, list)
        and all(not isinstance(item, dict) or item.get("kind", "Node") == "Node" for item in items)
    )


def read_nodes(document: dict[str, Any], file: str, most: int) -> Inventory:
    """Reads nodes; one that cannot be read is rejected, and those without accelerators are counted as skipped.

    Raises:
        InventoryError: more than ``most`` nodes.
    """
    nodes = [document] if document.get("kind") == "Node" else document["items"]
    if len(nodes) > most:
        raise InventoryError(f"{len(nodes)} nodes", file=file, remedy=f"Keep it to {most}: select by label.")
    items: list[Item] = []
    rejected: list[Rejected] = []
    skipped = 0
    for number, entry in enumerate(nodes):
        place = f"items[{number}]"
        try:
            node = _node(entry, place)
            found = [*_nvidia(node), *_others(node)]
        except RowError as error:
            rejected.append(Rejected(place, str(error), error.remedy))
            continue
        if not found and node.instance_type is not None:
            # No device plugin says anything: the machine type may, and it is looked up later.
            found = [node.item(None, 1, "instance", presumed=True, notes=("no device plugin reports accelerators",))]
        skipped += not found
        items += found
    return Inventory("kubernetes", tuple(items), tuple(rejected), skipped)


def _node(entry: Any, place: str) -> _Node:
    if not isinstance(entry, dict):
        raise RowError(f"a {type(entry).__name__} is no node", "Give the output of `kubectl get nodes -o json`.")
    metadata, status, spec = (_object(entry, name) for name in ("metadata", "status", "spec"))
    name = _text(metadata.get("name"), "metadata.name")
    labels = {
        key: _text(value, f"label {key[:80]}")
        for key, value in list(_object(metadata, "labels").items())[:_MOST_ENTRIES]
    }
    provider_id = _text(spec.get("providerID"), "spec.providerID").lower()
    scheme = provider_id.split(":", 1)[0]
    return _Node(
        f"{place} {name}".strip(),
        name,
        labels,
        _capacity(_object(status, "capacity") or _object(status, "allocatable")),
        "oci" if scheme.startswith("ocid1") else _PROVIDERS.get(scheme),
        _first(labels, _INSTANCE_TYPES),
        _first(labels, _REGIONS),
    )


def _nvidia(node: _Node) -> list[Item]:
    labels = node.labels
    product, gke = labels.get(_PRODUCT), labels.get(_GKE)
    parts = sum(count for name, count in node.capacity.items() if _MIG.match(name))
    shares = node.capacity.get("nvidia.com/gpu.shared", 0)
    whole = node.capacity.get("nvidia.com/gpu", 0)
    counted = _integer(labels.get(_COUNT), _COUNT)
    family = labels.get("nvidia.com/gpu.family")
    if not (product or gke or parts or shares or whole or counted or family):
        return []
    replicas = _integer(labels.get(_REPLICAS), _REPLICAS) or 1
    divided = bool(
        parts
        or shares
        or replicas > 1
        or (product and is_part(product))
        or any(labels.get(name) for name in _SHARING_LABELS)
        or any(_MIG_COUNT.match(name) and _integer(value, name) for name, value in labels.items())
    )
    notes = []
    if divided:
        strategy = labels.get("nvidia.com/mig.strategy", "none")
        notes.append(f"MIG or sharing is on (strategy {strategy}): labels and capacity do not count devices")
    elif counted and whole and counted != whole:
        notes.append(f"{_COUNT} says {counted}, the capacity {whole}: the greater counts")
    if machine := labels.get("nvidia.com/gpu.machine"):
        notes.append(f"machine {machine}")
    if not (product or gke):
        memory = labels.get("nvidia.com/gpu.memory", "unknown")
        notes.append(f"no product label; memory {memory} MiB")
    name = product or gke or (f"{family} GPU of NVIDIA" if family else "NVIDIA GPU")
    # Divided devices are counted by nothing that a node says; the instance type may.
    quantity = None if divided else max(whole, counted or 0) or None
    where = "product" if product else "gke"
    return [
        node.item(
            name,
            quantity,
            "part" if divided else "accelerator",
            where=where,
            vague=not (product or gke),
            notes=tuple(notes),
        )
    ]


def _others(node: _Node) -> list[Item]:
    found: list[Item] = []
    neuron = next((name for name in _NEURON if name in node.capacity), None)
    for name, count in node.capacity.items():
        if name not in _RESOURCES or (name in _NEURON and name != neuron):
            continue
        words, unit = _RESOURCES[name]
        model, pci = None, None
        if name == "amd.com/gpu":
            model, pci = _first(node.labels, _AMD_NAMES), _amd_device(node.labels)
        elif name == "google.com/tpu":
            model = node.labels.get(_GKE_TPU)
        vague = not (model or pci)
        quantity = None if unit == "part" else count
        found.append(node.item(words if vague else model, quantity, unit, pci=pci, vague=vague))
    return found


def _amd_device(labels: Mapping[str, str]) -> str | None:
    for name, value in labels.items():
        match = _AMD_DEVICE.match(name)
        if match:
            device = (match.group(1) or value).lower().removeprefix("0x")
            if re.fullmatch(r"[0-9a-f]{4}", device):
                return f"1002:{device}"
    return None


def _capacity(given: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for name, value in list(given.items())[:_MOST_ENTRIES]:
        if name not in _RESOURCES and not name.startswith("nvidia.com/"):
            continue
        match = _QUANTITY.match(_text(value, f"capacity {name}"))
        count = int(match.group(1)) * (1000 if match.group(2) else 1) if match else -1
        if not 0 <= count <= MOST:
            raise RowError(f"capacity {name[:80]} is {value!r:.80}", "It takes a whole number.")
        if count:
            found[name] = count
    return found


def _integer(text: str | None, name: str) -> int | None:
    if not text:
        return None
    if not re.fullmatch(r"\d{1,10}", text) or int(text) > MOST:
        raise RowError(f"label {name} is {text!r}", "It takes a whole number.")
    return int(text)


def _object(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = entry.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowError(f"{name} is a {type(value).__name__}", "Give the output of `kubectl get nodes -o json`.")
    return value


def _text(value: Any, name: str) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST:
        value = str(value)
    if not isinstance(value, str) or len(value) > 4 * LONGEST:
        raise RowError(f"{name} is no text of up to {4 * LONGEST} characters", "Correct the node.")
    return value.strip()


def _first(labels: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((labels[name] for name in names if labels.get(name)), None)
