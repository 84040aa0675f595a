"""What an item is, where it is, how many there are, and what holding it there means."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from auditspan.inventory import ClassifiedItem, Classifier, Count, Item, read_inventory, totals
from auditspan.policy import Reference
from auditspan.policy.rule_time import parse_instant

EXAMPLES = Path(__file__).parents[2] / "examples"
REFERENCE = Reference.packaged((EXAMPLES / "parties.yaml").read_bytes())
NOW = parse_instant("2026-11-27")


def place(code: str) -> Any:
    found = REFERENCE.countries.place(code)
    assert found is not None
    return found


def classify(destination: str | None = None, at: int = NOW, **item: Any) -> ClassifiedItem:
    country = item.pop("country", None)
    given = Item(place="line 2", country=place(country) if country else None, **{"quantity": 1, **item})
    found = Classifier(REFERENCE, at, place(destination) if destination else None).classify(given)
    assert found is not None
    return found


def names(item: ClassifiedItem) -> list[str]:
    return [one.name for one in item.candidates]


def test_a_known_model_has_its_paragraph_margin_and_computer() -> None:
    item = classify(model="NVIDIA L4", quantity=4)
    assert (item.eccn, item.paragraphs, item.computer_eccn) == ("3A090.a", ("3A090.a.2",), "4A090.a")
    assert item.margins[0].line.label == "density 5.92" and item.margins[0].basis_points == 1145
    assert item.total_tpp == Count(4 * 1940, 4 * 1960)
    assert item.judgement is None and item.unknown == ("no country",)
    assert item.statuses == ("secondary",)


def test_the_rules_are_those_of_the_day() -> None:
    assert classify(model="L4", at=parse_instant("2023-11-16")).eccn is None
    assert classify(model="L4", at=parse_instant("2023-11-17")).eccn == "3A090.a"


@pytest.mark.parametrize("model", ["A10", "H20", "L20"])
def test_within_the_tolerance_of_a_line_it_cannot_be_told(model: str) -> None:
    item = classify(model=model)
    assert item.eccn is None and item.computer_eccn is None
    assert any("may lie on either side of" in text for text in item.unknown)


def test_what_is_not_in_the_tables_is_undetermined_and_never_clear() -> None:
    item = classify(model="Mystery 9000", country="CN")
    assert item.eccn is None and item.tpp is None and item.total_tpp == Count(0, None)
    assert "no specification of Mystery 9000 (name)" in item.unknown
    assert item.judgement is not None and item.judgement.governing == "review"


def test_the_undetermined_is_not_shown_as_clear_where_no_rule_asks_what_it_is() -> None:
    known, unknown = (classify(model=name, country="DE", end_user="harbour-models") for name in ("T4", "Tesla K80"))
    assert known.outcome == "no_license_required"
    assert unknown.judgement is not None and unknown.judgement.governing == "no_license_required"
    assert unknown.outcome == "review"
    assert classify(model="T4").outcome is None


def test_a_density_that_is_not_known_is_said() -> None:
    assert "no die area of TPUv4: its performance density is unknown" in classify(model="tpu-v4-podslice").unknown


def test_evidence_that_disagrees_is_kept_and_only_agreement_classifies() -> None:
    same = classify(model="NVIDIA H100 PCIe", pci="10de:2330")
    assert names(same) == ["H100 PCIe", "H100 SXM"] and same.eccn == "3A090.a"
    assert same.tpp is not None and (same.tpp.low, same.tpp.high) == (12104, 15991)
    other = classify(model="Tesla T4", instance_type="p5.48xlarge", country="CN")
    assert names(other) == ["T4", "H100 SXM"] and other.eccn is None
    assert any(text.startswith("evidence disagrees: T4 by name") for text in other.unknown)
    assert other.judgement is not None and other.judgement.flagged, "the most restrictive drives the outcome"


def test_a_pci_id_names_what_the_name_does_not() -> None:
    assert names(classify(model="Graphics Device", pci="10de:2330")) == ["H100 SXM"]
    assert names(classify(model=None, pci="10de:ffff")) == ["PCI 10de:ffff"]


def test_a_machine_type_names_what_a_device_plugin_only_counts() -> None:
    assert names(classify(model="Neuron device", vague=True, instance_type="trn2.48xlarge")) == ["Trn2"]
    assert names(classify(model="NVIDIA-A10G", instance_type="g5.xlarge")) == ["NVIDIA-A10G"]
    assert names(classify(model="Gaudi", vague=True)) == ["Gaudi"]


def test_only_a_presumed_machine_without_accelerators_is_none() -> None:
    classifier = Classifier(REFERENCE, NOW)
    asked = {"place": "x", "instance_type": "m7i.large", "quantity": 1, "unit": "instance"}
    assert classifier.classify(Item(**asked, presumed=True)) is None  # type: ignore[arg-type]
    stated = classifier.classify(Item(**asked))  # type: ignore[arg-type]
    assert stated is not None and stated.eccn is None and stated.accelerators == Count(1, None)


@pytest.mark.parametrize(
    ("item", "count"),
    [
        ({"model": "H100", "quantity": 3}, Count(3, 3)),
        ({"model": "H100", "quantity": 3, "instance_type": "p5.48xlarge"}, Count(3, 3)),
        ({"instance_type": "p5.48xlarge", "quantity": 3, "unit": "instance"}, Count(24, 24)),
        ({"instance_type": "g6f.large", "quantity": 3, "unit": "instance"}, Count(0, 3)),
        ({"model": "A100-MIG-1g.5gb", "quantity": 7, "unit": "part"}, Count(1, 7)),
        ({"model": "A100-MIG-1g.5gb", "quantity": None, "unit": "part"}, Count(1, None)),
        ({"model": "A100", "quantity": None, "unit": "part", "instance_type": "p4de.24xlarge"}, Count(8, 8)),
        ({"model": "L4", "quantity": None, "unit": "part", "instance_type": "g6f.large"}, Count(0, 1)),
    ],
)
def test_how_many_accelerators_there_are(item: dict[str, Any], count: Count) -> None:
    found = classify(**item)
    assert found.accelerators == count
    assert bool(found.unknown[:-1]) == (count.low != count.high), "what is not exact is said"


def test_a_specification_of_the_file_counts_where_the_tables_have_none() -> None:
    reading = read_inventory(
        io.BytesIO(b"model,tops,data_type,logic_die_mm2,data_centre\nOrion,900,fp8,600,yes\nT4,9000,fp8,600,yes\n"),
        "f",
        REFERENCE.countries,
    )
    classifier = Classifier(REFERENCE, NOW)
    orion, t4 = (classifier.classify(item) for item in reading.items)
    assert orion is not None and (orion.eccn, orion.statuses) == ("3A090.a", ("secondary",))
    assert t4 is not None and t4.eccn is None, "it may not be argued away, nor made up"
    assert [one.known_by for one in t4.candidates] == ["specification in the inventory", "name"]


# Where


def test_the_country_comes_from_the_row_then_the_region_then_the_command() -> None:
    def where(**item: Any) -> list[tuple[str, str]]:
        return [(one.place.given, one.known_by) for one in classify("JP", model="T4", **item).destinations]

    assert where() == [("JP", "--destination")]
    assert where(region="eu-west-1", provider="aws") == [("IE", "cloud region eu-west-1")]
    assert where(country="HK") == [("HK", "declared in the inventory")]
    assert where(country="IE", region="eu-west-1") == [("IE", "declared in the inventory")]
    assert where(region="nowhere-1") == [("JP", "--destination")]
    unknown = classify(model="T4", region="nowhere-1")
    assert unknown.destination is None and unknown.unknown == ("region nowhere-1 is in no table",)


def test_countries_that_disagree_are_kept_and_the_most_restrictive_drives() -> None:
    item = classify(model="H100", country="US", region="cn-north-1", provider="aws", end_user="harbour-models")
    assert item.destination == "US/CN" and any("evidence disagrees: US" in text for text in item.unknown)
    assert item.judgement is not None and item.judgement.flagged
    assert "China" in item.judgement.why


def test_who_uses_it_matters_as_much_as_where() -> None:
    own = classify(model="H100", country="US", end_user="harbour-models").judgement
    subsidiary = classify(model="H100", country="SG", end_user="meridian-cloud").judgement
    nobody = classify(model="H100", country="SG").judgement
    assert own is not None and (own.governing, own.flagged) == ("no_license_required", False)
    assert subsidiary is not None and (subsidiary.governing, subsidiary.flagged) == ("review", True)
    assert any("us-ear/" in rule for rule in subsidiary.rules) and subsidiary.citations
    assert nobody is not None and (nobody.governing, nobody.flagged) == ("review", False)


# Sums


def test_totals_by_eccn_and_destination() -> None:
    items = [
        classify(model="H100", quantity=8, country="SG"),
        classify(model="L4", quantity=2, country="SG"),
        classify(model="T4", quantity=4, country="SG"),
        classify(model="Mystery", quantity=1, country="SG"),
        classify(model="H100", quantity=1, country="VN"),
    ]
    found = {(one.eccn, one.destination): one for one in totals(items)}
    a = found["3A090.a", "SG"]
    assert (a.items, a.accelerators, a.computer_eccn) == (2, Count(10, 10), "4A090.a")
    assert a.tpp == Count(8 * 15832 + 2 * 1940, 8 * 15991 + 2 * 1960)
    assert found["3A991.p", "SG"].computer_eccn == "4A994"
    assert found[None, "SG"].tpp == Count(0, None)
    assert found["3A090.a", "VN"].flagged == 1
    assert [one.eccn for one in totals(items)][-1] is None, "what is undetermined stands last"


def test_the_example_of_nodes_counts_devices_by_their_machines() -> None:
    with (EXAMPLES / "inventory" / "nodes.json").open("rb") as source:
        inventory = read_inventory(source, "f", REFERENCE.countries)
    classifier = Classifier(REFERENCE, NOW)
    found = {item.target: classifier.classify(item) for item in inventory.items}
    assert found.pop("web-1") is None
    counts = {name: item.accelerators for name, item in found.items() if item is not None}
    assert counts == {
        "h100-a": Count(8, 8),
        "a100-mig": Count(8, 8),
        "t4-shared": Count(1, 1),
        "onprem-mixed": Count(1, None),
        "gke-l4": Count(2, 2),
        "gke-tpu": Count(4, 4),
        "aks-mi300x": Count(8, 8),
        "trn2": Count(16, 16),
        "gaudi-lab": Count(8, 8),
        "oke-a10": Count(4, 4),
        "no-plugin": Count(4, 4),
    }
    a10 = found["oke-a10"]
    assert a10 is not None and a10.statuses == ("secondary", "unverified")
