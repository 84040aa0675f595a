"""TPP and density from specifications, names in the wild, lines and margins; every chip of the list as it says."""

from __future__ import annotations

import csv
import io
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditspan.policy import Reference
from auditspan.policy.accelerator_names import is_part, normal_name, pci_id
from auditspan.policy.given_facts import facts_from
from auditspan.policy.performance import (
    BIT_LENGTHS,
    Interval,
    Rate,
    SpecificationError,
    Uncertain,
    compute,
    die_area,
    rate,
)
from auditspan.policy.rule_time import parse_instant

NOW = parse_instant("2026-11-01")

# As the list of facts has it: model, best type, TPP, die, density, paragraph. "?" is ours: it cannot be told, since the
# value is within its tolerance of a line, or since the density is unknown.
LIST: Final = """
A100 SXM 80GB,int8,4992,826,6.04,a.1
A800 SXM,int8,4992,826,6.04,a.1
H100 SXM,fp8,15832,814,19.45,a.1
H100 PCIe,fp8,12104,814,14.87,a.1
H800 SXM,fp8,15832,814,19.45,a.1
H200 SXM,fp8,15832,814,19.45,a.1
H20,fp8,2368,814,2.91,?
B100,fp8,28000,,,a.1
B200,fp8,36000,,,a.1
GB200/gpu,fp8,40000,,,a.1
B300,fp4,60000,,,a.1
L40S,fp8,5864,609,9.63,a.1
L40,fp8,2896,609,4.76,b.1
L20,fp8,1912,609,3.14,?
L4,fp8,1940,294,6.6,a.2
L2,fp8,1544,294,5.25,none
RTX4090,fp8,5285,609,8.68,a.1
RTX4090D,fp8,4708,609,7.73,none
RTX5090,fp4,6704,750,8.94,a.1
RTX5090D,fp4,4750,750,6.33,none
RTX5090D V2,fp4,4750,750,6.33,none
RTX PRO 6000 BSE,fp4,8000,750,10.67,a.1
A10,int8,2000,628.4,3.18,?
A30,int4,2644,826,3.2,b.1
A40,int8,2394,628.4,3.81,b.2
T4,int8,1040,545,1.91,none
V100 SXM2,fp16,2000,815,2.45,none
MI210,fp16,2896,724,4.0,b.1
MI250X,fp16,6128,1448,4.23,a.1
MI300X,fp8,20919,,,a.1
MI325X,fp8,20919,,,a.1
MI355X,fp6,60396,,,a.1
Gaudi2,fp8,6920,,,a.1
Gaudi3,bf16,29360,,,a.1
TPUv4,bf16,4400,,,?
TPUv5e,bf16,3152,,,?
TPUv5p,bf16,7344,,,a.1
TPUv6e,int8,14688,,,a.1
TPU7x,fp8,36912,,,a.1
Trn1,bf16,3040,,,?
Trn2,bf16,10672,,,a.1
Trn3,fp8,20136,,,a.1
"""
ROWS = [tuple(row) for row in csv.reader(io.StringIO(LIST.strip()))]
RANKS: Final = {"3A991.p": 0, "3A090.b": 1, "3A090.a": 2}
CLOSE = {"A10", "A30", "A40", "L20", "H20", "MI300X", "MI325X"}


def paragraphs(reference: Reference, **facts: object) -> tuple[str | None, set[str]]:
    given_facts = facts_from(reference, {"act": "inventory", "item_kind": "accelerator", **facts})
    verdict = reference.engine().determine([given_facts], NOW).verdict
    return verdict.eccn, {one.id.split("3A090.")[-1] for one in verdict.definitions if one.eccn == verdict.eccn}


@pytest.mark.parametrize(("model", "best", "tpp", "die", "density", "paragraph"), ROWS, ids=[row[0] for row in ROWS])
def test_every_chip_of_the_list_is_as_it_says(
    reference: Reference, model: str, best: str, tpp: str, die: str, density: str, paragraph: str
) -> None:
    chip = reference.accelerators.named(model)
    assert chip is not None and chip.tpp is not None and chip.best is not None
    assert (chip.model, chip.best.data_type) == (model, best)
    assert abs(chip.tpp.low - int(tpp)) <= 1 and chip.tpp.high >= chip.tpp.low
    assert bool(chip.performance_density) == bool(die)
    if chip.performance_density is not None:
        assert abs(chip.performance_density.low / 1000 - float(density)) < 0.0101
    eccn, held = paragraphs(reference, accelerator_model=model)
    if paragraph in ("?", "none"):
        assert eccn == {"?": None, "none": "3A991.p"}[paragraph]
    else:
        assert eccn == f"3A090.{paragraph[0]}" and paragraph in held


def test_the_list_holds_every_model_but_variants_of_its_own(reference: Reference) -> None:
    variants = {"A100 SXM 40GB", "H100 NVL", "H200 NVL", "GH200"}
    assert {item.model for item in reference.accelerators.models} - variants == {row[0] for row in ROWS}


@pytest.mark.parametrize("model", sorted(CLOSE))
def test_chips_near_a_line_say_so(reference: Reference, model: str) -> None:
    chip, lines = reference.accelerators.named(model), reference.accelerator_lines
    assert chip is not None and lines is not None
    nearest = lines.margins(chip, NOW)[0]
    assert nearest.close and abs(nearest.basis_points) <= 500
    assert (nearest.side == "undetermined") == (nearest.basis_points == 0) or model == "A30"


def test_margins_stand_on_the_right_side_and_only_where_they_matter(reference: Reference) -> None:
    lines = reference.accelerator_lines
    assert lines is not None

    def of(model: str, day: int = NOW) -> dict[str, tuple[str, int]]:
        chip = reference.accelerators.named(model)
        assert chip is not None
        return {one.line.label: (one.side, one.basis_points) for one in lines.margins(chip, day)}

    assert of("A100 SXM 80GB")["TPP 4800"] == ("above", 400)
    assert of("RTX5090D")["TPP 4800"] == ("below", -4)
    assert of("H20")["TPP 2400"] == ("undetermined", 0)
    assert of("MI325X")["TPP 21000"] == ("undetermined", 0)
    assert of("MI325X")["DRAM bandwidth 6500"] == ("below", -769)
    assert of("B200")["DRAM bandwidth 6500"] == ("above", 2307)
    assert "density 5.92" not in of("H100 SXM"), "at this TPP no density changes the paragraph"
    assert "TPP 21000" not in of("H100 SXM", parse_instant("2026-01-14")), "not in force yet"
    assert of("H100 SXM", parse_instant("2023-11-16")) == {}


def test_a_row_says_where_its_rates_come_from(reference: Reference) -> None:
    for chip in reference.accelerators.models:
        assert chip.rates and all(one.source and one.bit_length == BIT_LENGTHS[one.data_type] for one in chip.rates)


def test_a_sparse_rate_is_halved_only_where_it_says_so() -> None:
    dense = compute([rate("fp8", "1979", source="x")], None)
    sparse = compute([rate("fp8", "3958", sparsity="sparse", source="x")], None)
    undeclared = compute([rate("fp8", "3958", source="x")], None)
    assert dense is not None and sparse is not None and undeclared is not None
    assert dense.tpp == sparse.tpp == Interval(15832, 15832)
    assert undeclared.tpp.low == 31664


@pytest.mark.parametrize(
    ("data_type", "tops", "more"),
    [
        ("fp8", "", {}),
        ("fp8", "-1", {}),
        ("fp8", "1e9", {}),
        ("fp8", "nan", {}),
        ("fp8", "0", {}),
        ("fp8", "10000001", {}),
        ("fp8", "9" * 4000, {}),
        ("fp9", "1", {}),
        ("", "1", {}),
        ("fp8", "1", {"bit_length": "4"}),
        ("odd", "1", {"bit_length": "0"}),
        ("fp8", "1", {"sparsity": "half"}),
    ],
)
def test_absurd_rates_are_refused_with_a_remedy(data_type: str, tops: str, more: dict[str, str]) -> None:
    with pytest.raises(SpecificationError) as caught:
        rate(data_type, tops, source="x", **more)  # type: ignore[arg-type]
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("low", "high"), [("0", ""), ("0.5", ""), ("100001", ""), ("800", "700"), ("-1", ""), ("big", "")]
)
def test_absurd_areas_are_refused(low: str, high: str) -> None:
    with pytest.raises(SpecificationError):
        die_area(low, high)


def test_a_table_from_before_rates_is_read_as_it_was(reference: Reference) -> None:
    """What was sealed under it is judged by it again."""
    head = b"# table: accelerators\n# version: 1\n# source: x\n# status: secondary\n"
    columns = b"model,aliases,best_type,tpp,tolerance_permille,logic_die_mm2,data_centre,dram_bandwidth,"
    rows = b"interconnect_bandwidth\nH20,hopper 20|h-20,fp8,2368,50,814,true,4000,900\n"
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    for name in ("accelerator_performance.csv", "accelerator_names.csv", "accelerator_lines.csv", "computer_eccns.csv"):
        del artifacts[name]
    artifacts["accelerators.csv"] = head + columns + rows
    old = Reference.load(artifacts, 1)
    chip = old.accelerators.named("NVIDIA Hopper-20")
    assert chip is not None
    assert (chip.tpp, chip.performance_density) == (Interval(2368, 2487), Interval(2909, 3055))
    assert chip.best is None and old.accelerator_lines is None
    assert old.computer_eccns.containing("3A090.a") is None


# Names in the wild


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA H100 PCIe", "H100 PCIe"),
        ("NVIDIA H100 NVL", "H100 NVL"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA GH200 480GB", "GH200"),
        ("NVIDIA A100-PCIE-40GB", "A100 SXM 40GB"),
        ("NVIDIA A100 80GB PCIe", "A100 SXM 80GB"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100 SXM 40GB"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb-SHARED", "A100 SXM 40GB"),
        ("A100-SXM4-40GB MIG 1c.3g.20gb", "A100 SXM 40GB"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", "A100 SXM 40GB"),
        ("Tesla-T4-SHARED", "T4"),
        ("AMD_Instinct_MI300X_OAM", "MI300X"),
        ("AMD Instinct™ MI355X", "MI355X"),
        ("tpu-v5-lite-podslice", "TPUv5e"),
        ("nvidia-h100-mega-80gb", "H100 SXM"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000 BSE"),
        ("10de:2330", "H100 SXM"),
        ("0x10DE:0x2329", "H20"),
        ("1002:74a1", "MI300X"),
        ("1da3:1020", "Gaudi2"),
    ],
)
def test_names_in_the_wild_mean_their_model(reference: Reference, name: str, model: str) -> None:
    found = reference.accelerators.named(name)
    assert found is not None and found.model == model


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA A100X",
        "NVIDIA H20-3e",
        "GRID A100-10C",
        "NVIDIA A100-40C",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "AMD Instinct MI250X/MI250",
        "NVIDIA",
        "MIG 1g.5gb",
        "",
        "H100 SXM" * 1000,
        "10de:ffff",
        "ｈ100",
    ],
)
def test_a_name_that_is_not_in_the_table_is_no_model(reference: Reference, name: str) -> None:
    assert reference.accelerators.named(name) is None


def test_google_means_another_a100_by_the_bare_name(reference: Reference) -> None:
    named = reference.accelerators.named
    generic, gke = named("nvidia-tesla-a100"), named("nvidia-tesla-a100", "gke")
    assert generic is not None and gke is not None
    assert (generic.model, gke.model) == ("A100 SXM 80GB", "A100 SXM 40GB")
    elsewhere = named("nvidia-l4", "gke")
    assert elsewhere is not None and elsewhere.model == "L4"


@given(st.text(max_size=80) | st.from_regex(r"(nvidia |tesla[-_ ])*[a-z0-9]+( mig 1g\.5gb)?(-SHARED)*", fullmatch=True))
def test_normalising_a_name_twice_changes_nothing_more(name: str) -> None:
    once = normal_name(name)
    assert normal_name(once) == once


@given(st.sampled_from([row[0] for row in ROWS]), st.sampled_from(["", "-MIG-1g.5gb", " MIG 3g.20gb", "-SHARED"]))
def test_a_part_has_the_name_of_its_whole(model: str, suffix: str) -> None:
    assert normal_name(f"NVIDIA {model}{suffix}") == normal_name(model)
    assert is_part(f"{model}{suffix}") == bool(suffix)


@pytest.mark.parametrize("text", ["10de:233", "10de2330", "zzzz:2330", "10de:2330:1", " ", "0x:0x"])
def test_what_is_no_pci_id(text: str) -> None:
    assert pci_id(text) is None


@pytest.mark.parametrize(
    ("instance_type", "accelerator", "count"),
    [
        ("g6f.large", "L4", 0),
        ("gr6f.4xlarge", "L4", 0),
        ("p3.16xlarge", "V100 SXM2", 8),
        ("Standard_NV6ads_A10_v5", "A10", 0),
        ("standard_nc40adis_h100_v5", "H100 NVL", 1),
        ("a3-ultragpu-8g", "H200 SXM", 8),
        ("ct6e-standard-4t", "TPUv6e", 4),
        ("VM.GPU.A10.2", "A10", 2),
    ],
)
def test_instance_types(reference: Reference, instance_type: str, accelerator: str, count: int) -> None:
    found = reference.accelerators.instance(instance_type)
    assert found is not None and found.model is not None
    assert (found.model.model, found.count) == (accelerator, count)
    assert (found.status == "unverified") == (found.provider == "oci")


# Properties

decimals = st.decimals(min_value="0.1", max_value="9000", places=1)
rates = st.builds(
    lambda name, low, wide: Rate(
        name, BIT_LENGTHS[name], Uncertain(Fraction(low), Fraction(low) * (1000 + wide) / 1000), "x"
    ),
    st.sampled_from(sorted(BIT_LENGTHS)),
    decimals,
    st.integers(0, 100),
)
areas = st.integers(100, 2000).map(lambda mm2: Uncertain(Fraction(mm2), Fraction(mm2)))


@pytest.fixture(scope="module")
def judge(reference: Reference):  # type: ignore[no-untyped-def]
    engine = reference.engine()

    def eccn(tpp: Interval, density: Interval | None, data_centre: bool | None = True) -> str | None:
        facts = {"act": "inventory", "item_kind": "accelerator", "tpp_low": tpp.low, "tpp_high": tpp.high}
        if density is not None:
            facts |= {"performance_density_low": density.low, "performance_density_high": density.high}
        if data_centre is not None:
            facts["data_centre"] = data_centre
        return engine.determine([facts_from(reference, facts)], NOW).verdict.eccn

    return eccn


@given(st.lists(rates, min_size=1, max_size=5), rates, areas)
def test_another_or_a_faster_rate_never_lowers_tpp(known: list[Rate], more: Rate, area: Uncertain) -> None:
    before, after = compute(known, area), compute([*known, more], area)
    assert before is not None and after is not None
    assert after.tpp.low >= before.tpp.low and after.tpp.high >= before.tpp.high
    assert before.performance_density is not None and after.performance_density is not None
    assert after.performance_density.low >= before.performance_density.low


@given(st.integers(1, 9000), st.integers(0, 9000), areas, st.booleans())
def test_a_faster_chip_is_never_less_restricted(judge, tops, more, area, data_centre) -> None:  # type: ignore[no-untyped-def]
    def of(value: int) -> str | None:
        found = compute([Rate("fp8", 8, Uncertain(Fraction(value), Fraction(value)), "x")], area)
        assert found is not None
        return judge(found.tpp, found.performance_density, data_centre)  # type: ignore[no-any-return]

    slow, fast = of(tops), of(tops + more)
    if slow is not None and fast is not None:
        assert RANKS[fast] >= RANKS[slow]


@given(st.integers(1, 30_000), st.integers(0, 3_000), st.integers(0, 3_000), st.integers(0, 3_000), areas)
def test_a_wider_interval_never_turns_undetermined_into_an_answer(judge, low, width, down, up, area) -> None:  # type: ignore[no-untyped-def]
    def of(start: int, end: int) -> str | None:
        density = Uncertain(start * 1000 / area.low, end * 1000 / area.low).outwards()
        return judge(Interval(start, end), density)  # type: ignore[no-any-return]

    narrow, wide = of(low, low + width), of(max(low - down, 1), low + width + up)
    assert wide in (None, narrow)
    assert judge(Interval(low, low + width), None) in (None, narrow), "an unknown density is the widest"
