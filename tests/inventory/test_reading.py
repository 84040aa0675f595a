"""Inventories as files: each format is found out, bad rows are told and lose no others, hostile files are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from auditspan.inventory import Inventory, InventoryError, Item, read_inventory
from auditspan.policy import Reference
from auditspan.policy.performance import Interval

COUNTRIES = Reference.packaged().countries
EXAMPLES = Path(__file__).parents[2] / "examples" / "inventory"


def read(content: str | bytes, format: str = "auto", **more: Any) -> Inventory:
    data = content.encode() if isinstance(content, str) else content
    return read_inventory(io.BytesIO(data), "f", COUNTRIES, format, **more)


def one(content: str) -> Item:
    found = read(content)
    assert not found.rejected, found.rejected
    (item,) = found.items
    return item


def refused(content: str | bytes, format: str = "auto", **more: Any) -> InventoryError:
    with pytest.raises(InventoryError) as caught:
        read(content, format, **more)
    assert caught.value.remedy and caught.value.file == "f"
    return caught.value


def rejected(row: str, header: str = "model,count,country,serials,instance_type,pci_id") -> str:
    found = read(f"{header}\nT4,1,,,,\n{row}\nL4,2,SG,,,\n")
    assert [item.model for item in found.items] == ["T4", "L4"], "the other rows are there"
    (bad,) = found.rejected
    assert bad.place == "line 3" and bad.remedy
    return bad.message


# CSV


def test_columns_have_many_names_and_delimiters() -> None:
    item = one("\ufeffGPU Name;Quantity;Destination Country;Serial Numbers\r\nNVIDIA L4;2;hk;a1|a2\r\n")
    assert (item.model, item.quantity, item.unit, item.serials) == ("NVIDIA L4", 2, "accelerator", ("a1", "a2"))
    assert item.country is not None and (item.country.given, item.country.country) == ("HK", "CN")
    assert one("# note\n\nmodel\tregion\nT4\teu-west-1\n").region == "eu-west-1"


def test_a_machine_type_counts_machines_and_a_mig_name_counts_parts() -> None:
    machines = one("instance_type,count\np5.48xlarge,3\n")
    assert (machines.model, machines.quantity, machines.unit) == (None, 3, "instance")
    assert one("model,count\nA100-SXM4-40GB-MIG-1g.5gb,7\n").unit == "part"
    both = one("model,instance_type,instances\nH100,p5.48xlarge,2\n")
    assert (both.quantity, both.unit) == (2, "instance")


def test_serials_count_where_nothing_else_does() -> None:
    assert one("model,serials\nT4,a;b;c\n").quantity == 3
    assert one("model\nT4\n").quantity == 1


def test_the_csv_of_nvidia_smi_has_a_device_in_each_row() -> None:
    found = read(
        "index, name, pci.device_id, serial, memory.total [MiB]\n"
        "0, NVIDIA H100 80GB HBM3, 0x233010DE, 1650000000001, 81559 MiB\n"
        "1, NVIDIA H100 80GB HBM3, 0x233010DE, [N/A], 81559 MiB\n"
    )
    assert [(item.pci, item.quantity, item.serials) for item in found.items] == [
        ("10de:2330", 1, ("1650000000001",)),
        ("10de:2330", 1, ()),
    ]
    assert "would count its machine" in refused("index, name, count\n0, Tesla T4, 8\n").message


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("T4,-2,,,,", "count is '-2'"),
        ("T4,0,,,,", "count is '0'"),
        ("T4,1.5,,,,", "count is '1.5'"),
        ('T4,"1,000",,,,', "count is '1,000'"),
        ("T4,99999999999,,,,", "count is '99999999999'"),
        ("T4,1,AN,,,", "country 'AN' is no country"),
        ("T4,1,EU,,,", "country 'EU' is no country"),
        ("T4,1,XX,,,", "country 'XX' is no country"),
        ("T4,1,Germany,,,", "is no country"),
        ("T4,1,,a;b,,", "2 serials for a quantity of 1"),
        ("T4,2,,a;a,,", "a serial occurs twice"),
        (",1,,,,", "neither model, instance_type nor pci_id"),
        ("T4,1,,,,2330", "pci_id is '2330'"),
        ("T4,1", "2 cells under 6 columns"),
        ('T4,1,,"a', "not CSV"),
        (f"{'x' * 300},1,,,,", "300 characters"),
        ("T\x1b[31m4,1,,,,", "control characters"),
    ],
)
def test_a_bad_row_is_rejected_and_the_others_are_kept(row: str, says: str) -> None:
    assert says in rejected(row)


@pytest.mark.parametrize(
    ("specification", "says"),
    [
        ("x,fp8,dense,800", "tops is 'x'"),
        ("-5,fp8,dense,800", "tops is '-5'"),
        ("99999999,fp8,dense,800", "tops is '99999999'"),
        ("100,tf32,dense,800", "its name does not say"),
        ("100,,dense,800", "its name does not say"),
        (",fp8,dense,800", "tops is ''"),
        ("100,fp8,maybe,800", "sparsity is 'maybe'"),
        ("100,fp8,dense,0", "logic_die_mm2 is '0'"),
        (",,,800", "a die area without a rate"),
    ],
)
def test_an_absurd_specification_is_rejected(specification: str, says: str) -> None:
    found = read(f"model,tops,data_type,sparsity,logic_die_mm2\nChip,{specification}\nT4,,,,\n")
    assert [item.model for item in found.items] == ["T4"]
    assert says in found.rejected[0].message


def test_a_specification_of_ones_own_is_computed() -> None:
    header = "model,tops,data_type,sparsity,logic_die_mm2,data_centre"
    sparse = one(f"{header}\nOrion,1800,fp8,sparse,600,yes\n").specification
    dense = one(f"{header}\nOrion,900,FP8,,600,1\n").specification
    assert sparse is not None and dense is not None
    assert sparse.tpp == dense.tpp == Interval(7200, 7200)
    assert sparse.performance_density == Interval(12000, 12000) and sparse.data_centre is True


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model,quantiy\nT4,8\n", "unknown column 'quantiy'"),
        ("model,count,qty\nT4,8,8\n", "two columns mean count"),
        ("country,count\nSG,8\n", "no column model"),
        ('model,"count\nT4,8\n', "not CSV"),
        ("", "empty"),
        ("\n\n# nothing\n", "empty"),
        (b"model\nT4\xff\n", "byte 8 is not UTF-8"),
        ("model\nT4\n".encode("utf-16"), "not UTF-8"),
        ("model\nT4\0\n", "zero bytes"),
    ],
)
def test_a_file_that_is_no_csv_inventory_is_refused(content: str | bytes, says: str) -> None:
    assert says in refused(content).message


def test_a_wrong_column_says_what_was_meant() -> None:
    assert "Did you mean quantity?" in refused("model,quantiy\nT4,8\n").remedy


def test_a_large_file_is_refused_without_being_read() -> None:
    class Endless(io.RawIOBase):
        def __init__(self) -> None:
            self.given = 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0, "it is not read to its end"
            self.given += size
            return b"x" * size

    source = Endless()
    with pytest.raises(InventoryError, match="larger than 1 MiB"):
        read_inventory(source, "f", COUNTRIES, largest=1024**2)  # type: ignore[arg-type]
    assert source.given == 1024**2 + 1


def test_too_many_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditspan.inventory.reading.MOST_ITEMS", 3)
    assert len(read("model\n" + "T4\n" * 3).items) == 3
    assert refused("model\n" + "T4\n" * 4).line == 5
    refused(json.dumps([{"model": "T4"}] * 4))
    refused(json.dumps({"kind": "List", "items": [{"kind": "Node"}] * 4}))
    refused(smi("<gpu/>" * 4))


# JSON


def test_json_entries_have_the_fields_of_the_csv() -> None:
    item = one('[{"GPU Name": "T4", "count": 2, "country": "JP", "serials": ["a", "b"], "end_user": "acme"}]')
    assert (item.place, item.model, item.quantity, item.serials, item.end_user) == (
        "items[0]",
        "T4",
        2,
        ("a", "b"),
        "acme",
    )
    rates = [{"data_type": "fp8", "tops": 100}, {"data_type": "fp16", "tops": 60.5, "sparsity": "dense"}]
    chip = one(json.dumps({"inventory": [{"model": "Orion", "rates": rates}]})).specification
    assert chip is not None and chip.tpp == Interval(968, 968)
    assert chip.best is not None and chip.best.data_type == "fp16"


@pytest.mark.parametrize(
    "entry",
    [
        3,
        None,
        {"model": "T4", "count": True},
        {"model": "T4", "count": 1.5},
        {"model": ["T4"]},
        {"model": "T4", "quantiy": 1},
        {"model": "T4", "count": 1, "qty": 1},
        {"model": "T4", "rates": {}},
        {"model": "T4", "rates": [{"data_type": "fp8"}]},
        {"model": "T4", "serials": {"a": 1}},
        {"model": "T4", "count": 10**90},
        {"model": "T4", "data_centre": "maybe", "tops": 1, "data_type": "fp8"},
    ],
)
def test_a_bad_entry_is_rejected_and_the_others_are_kept(entry: Any) -> None:
    found = read(json.dumps([{"model": "L4"}, entry, {"model": "T4"}]))
    assert [item.model for item in found.items] == ["L4", "T4"]
    (bad,) = found.rejected
    assert bad.place == "items[1]" and bad.remedy


@pytest.mark.parametrize(
    ("content", "line"),
    [('[{"model": "T4",}]', 1), ('{\n"a": \n}', 3), ("[" * 100_000, 0), ("[" + "1" * 5000 + "]", 0)],
)
def test_what_is_no_json_is_refused_at_its_line(content: str, line: int) -> None:
    assert refused(content).line == line


def test_a_json_document_without_entries_is_refused() -> None:
    assert "no list of entries" in refused('{"model": "T4"}').message
    assert "no list of nodes" in refused('[{"model": "T4"}]', "kubernetes").message


# nvidia-smi


def smi(body: str) -> str:
    return f'<?xml version="1.0" ?>\n<nvidia_smi_log>\n{body}\n</nvidia_smi_log>'


def gpu(name: str = "Tesla T4", more: str = "", pci: str = "1EB810DE") -> str:
    return f"<gpu id='0'><product_name>{name}</product_name>{more}<pci><pci_device_id>{pci}</pci_device_id></pci></gpu>"


def test_the_example_of_nvidia_smi() -> None:
    found = read((EXAMPLES / "nvidia-smi.xml").read_bytes())
    assert found.format == "nvidia-smi" and not found.rejected
    mig, plain, passed = found.items
    assert (mig.model, mig.quantity, mig.unit, mig.pci) == ("NVIDIA A100-SXM4-40GB", 1, "accelerator", "10de:20b0")
    assert mig.serials == ("1560221000101",) and "2 MIG instances" in mig.notes[0]
    assert (plain.quantity, plain.notes) == (1, ())
    assert passed.unit == "accelerator", "passed through, it is a whole device"
    assert passed.serials == ("GPU-11111111-2222-3333-4444-000000000003",), "no serial: the UUID tells it apart"


def test_devices_alike_are_one_item() -> None:
    (item,) = read(smi(gpu() * 3)).items
    assert item.quantity == 3


def test_a_virtual_gpu_is_a_part() -> None:
    mode = "<gpu_virtualization_mode><virtualization_mode>VGPU</virtualization_mode></gpu_virtualization_mode>"
    (item,) = read(smi(gpu(more=mode) * 2)).items
    assert (item.unit, item.quantity) == ("part", 2)


def test_a_device_without_a_name_is_known_by_its_pci_id_or_rejected() -> None:
    found = read(smi(gpu("N/A", pci="233010DE") + gpu("N/A", pci="?") + gpu()))
    assert [(item.model, item.pci) for item in found.items] == [(None, "10de:2330"), ("Tesla T4", "10de:1eb8")]
    assert "gpu[1]" in found.rejected[0].place


def test_only_the_first_name_of_a_device_itself_counts() -> None:
    nested = "<x><product_name>H100</product_name></x><product_name>H100</product_name>"
    (item,) = read(smi(gpu(more=nested))).items
    assert item.model == "Tesla T4"


BOMB = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "ha" * 10}">' for n in range(10))


@pytest.mark.parametrize(
    "content",
    [
        f"<!DOCTYPE nvidia_smi_log [{BOMB}]><nvidia_smi_log><gpu>&a9;</gpu></nvidia_smi_log>",
        '<!DOCTYPE nvidia_smi_log [<!ENTITY f SYSTEM "file:///etc/passwd">]><nvidia_smi_log>&f;</nvidia_smi_log>',
        '<!DOCTYPE nvidia_smi_log [<!ENTITY % p SYSTEM "http://127.0.0.1:1/x"> %p;]><nvidia_smi_log/>',
        "<nvidia_smi_log>&undefined;</nvidia_smi_log>",
        "<nvidia_smi_log><gpu></nvidia_smi_log>",
        "<nvidia_smi_log>",
        "<html></html>",
        "<!-- only -->",
        smi("<a>" * 5000 + "</a>" * 5000),
        '<?xml version="1.0" encoding="nonsense"?><nvidia_smi_log/>',
    ],
)
def test_hostile_or_broken_xml_is_refused(content: str) -> None:
    refused(content)


def test_the_line_of_a_fault_in_xml() -> None:
    assert refused("<nvidia_smi_log>\n<gpu>\n</nope>\n</nvidia_smi_log>").line == 3


# Kubernetes


def node(labels: dict[str, Any] | None = None, capacity: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": "n", "labels": labels or {}},
        "status": {"capacity": capacity or {}},
        **more,
    }


def of_node(labels: dict[str, Any] | None = None, capacity: dict[str, Any] | None = None, **more: Any) -> Item:
    return one(json.dumps(node(labels, capacity, **more)))


def test_the_example_of_nodes() -> None:
    found = read((EXAMPLES / "nodes.json").read_bytes())
    assert found.format == "kubernetes" and not found.rejected
    items = {item.target: item for item in found.items}
    h100, mig, shared, mixed = (items[name] for name in ("h100-a", "a100-mig", "t4-shared", "onprem-mixed"))
    assert (h100.quantity, h100.unit, h100.provider, h100.region) == (8, "accelerator", "aws", "us-east-1")
    for divided in (mig, shared, mixed):
        assert (divided.quantity, divided.unit) == (None, "part"), "labels and capacity count no devices there"
    assert "machine PowerEdge-XE9680" in mixed.notes
    assert (items["gke-l4"].model, items["gke-l4"].where, items["gke-l4"].provider) == ("nvidia-l4", "gke", "gcp")
    assert (items["gke-tpu"].model, items["gke-tpu"].quantity) == ("tpu-v6e-slice", 4)
    assert (items["aks-mi300x"].pci, items["aks-mi300x"].quantity) == ("1002:74a1", 8)
    assert (items["trn2"].quantity, items["trn2"].vague) == (16, True), "devices, not cores"
    assert (items["gaudi-lab"].model, items["gaudi-lab"].vague) == ("Gaudi", True)
    assert items["oke-a10"].provider == "oci"
    assert items["no-plugin"].presumed and items["web-1"].presumed, "only a machine type: looked up later"


@pytest.mark.parametrize(
    ("labels", "capacity"),
    [
        ({"nvidia.com/gpu.replicas": "4"}, {}),
        ({}, {"nvidia.com/mig-1g.5gb": "7"}),
        ({}, {"nvidia.com/gpu.shared": "8"}),
        ({"nvidia.com/mig-1g.5gb.count": "7"}, {}),
        ({"cloud.google.com/gke-gpu-partition-size": "1g.5gb"}, {}),
        ({"cloud.google.com/gke-max-shared-clients-per-gpu": "2"}, {}),
    ],
)
def test_where_mig_or_sharing_is_on_nothing_counts_devices(labels: dict[str, str], capacity: dict[str, str]) -> None:
    whole = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.count": "8"}
    assert of_node(whole, {"nvidia.com/gpu": "8"}).quantity == 8
    divided = of_node({**whole, **labels}, {"nvidia.com/gpu": "8", **capacity})
    assert (divided.quantity, divided.unit) == (None, "part")


def test_mig_that_is_only_configured_divides_nothing() -> None:
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/mig.strategy": "single"}
    assert of_node(labels, {"nvidia.com/gpu": "8", "nvidia.com/mig-1g.10gb": "0"}).quantity == 8


def test_of_two_counts_the_greater_counts_and_is_said() -> None:
    item = of_node({"nvidia.com/gpu.product": "Tesla-T4", "nvidia.com/gpu.count": "4"}, {"nvidia.com/gpu": "3"})
    assert item.quantity == 4 and "says 4, the capacity 3" in item.notes[0]


def test_a_device_that_nothing_names_is_kept() -> None:
    item = of_node({"nvidia.com/gpu.family": "hopper", "nvidia.com/gpu.memory": "81559"}, {"nvidia.com/gpu": "8"})
    assert (item.model, item.vague, item.quantity) == ("hopper GPU of NVIDIA", True, 8)
    assert of_node({}, {"huawei.com/Ascend910": "8"}).model == "Ascend 910"
    assert of_node({}, {"aws.amazon.com/neuroncore": "32"}).unit == "part"


def test_a_node_without_accelerators_is_counted_as_such() -> None:
    found = read(json.dumps({"kind": "NodeList", "items": [node({}, {"cpu": "4"})]}))
    assert (found.items, found.skipped) == ((), 1)


@pytest.mark.parametrize(
    "entry",
    [
        "text",
        {"kind": "Node", "metadata": 3},
        node({"nvidia.com/gpu.count": "many"}, {"nvidia.com/gpu": "1"}),
        node({"nvidia.com/gpu.count": "-1"}, {"nvidia.com/gpu": "1"}),
        node({}, {"nvidia.com/gpu": "-8"}),
        node({}, {"nvidia.com/gpu": "1e3"}),
        node({}, {"nvidia.com/gpu": ["8"]}),
        node({"a": ["b"]}, {}),
        node({"a": "b" * 2000}, {}),
    ],
)
def test_a_bad_node_is_rejected_and_the_others_are_kept(entry: Any) -> None:
    good = node({"nvidia.com/gpu.product": "Tesla-T4"}, {"nvidia.com/gpu": "1"})
    found = read(json.dumps({"kind": "List", "items": [good, entry, good]}))
    assert len(found.items) == 2
    assert found.rejected[0].place == "items[1]" and found.rejected[0].remedy
