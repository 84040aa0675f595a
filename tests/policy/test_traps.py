"""Traps that hand-copied rules fall into."""

from __future__ import annotations

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.accelerators import Accelerators
from auditspan.policy.rule_time import parse_instant

NOW = parse_instant("2026-11-01")

# Model, paragraph, and whether it is close enough to a line that it cannot be told.
CHIPS = {
    "a": """
        A100 SXM 80GB, A800 SXM, H100 SXM, H100 PCIe, H800 SXM, H200 SXM, B100, B200, GB200/gpu, B300, L40S,
        L4, RTX4090, RTX5090, RTX PRO 6000 BSE, H100 NVL, H200 NVL, GH200,
        MI250X, MI300X, MI325X, MI355X, Gaudi2, Gaudi3, TPUv5p,
        TPUv6e, TPU7x, Trn2, Trn3
    """,
    "b": """
        L40, A30, A40, MI210
    """,
    "none": """
        T4, V100 SXM2, L2, RTX4090D, RTX5090D, RTX5090D V2
    """,
    "undetermined": """
        H20, L20, A10, TPUv4, TPUv5e, Trn1
    """,
}
PARAGRAPHS = {name.strip(): paragraph for paragraph, names in CHIPS.items() for name in names.split(",")}


@pytest.mark.parametrize("model", sorted(PARAGRAPHS))
def test_every_accelerator_has_its_paragraph(reference: Reference, model: str) -> None:
    from auditspan.policy.given_facts import facts_from

    facts = facts_from(reference, {"act": "inventory", "accelerator_model": model})
    eccn = reference.engine().determine([facts], NOW).verdict.eccn
    assert {"3A090.a": "a", "3A090.b": "b", "3A991.p": "none", None: "undetermined"}[eccn] == PARAGRAPHS[model]


def test_the_table_holds_no_accelerator_without_a_known_paragraph(reference: Reference) -> None:
    assert {item.model for item in reference.accelerators.models} - {"A100 SXM 40GB"} == PARAGRAPHS.keys()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("nvidia-h100-80gb", "H100 SXM"),
        ("A100-SXM4-40GB-MIG-1g.5gb", "A100 SXM 40GB"),
        ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA GeForce RTX 4090 D", "RTX4090D"),
        ("Tesla V100-SXM2-16GB", "V100 SXM2"),
        ("trainium2", "Trn2"),
        ("NVIDIA L4", "L4"),
        ("L40", "L40"),
    ],
)
def test_names_in_the_wild(reference: Reference, name: str, model: str) -> None:
    found = reference.accelerators.named(name)
    assert found is not None and found.model == model


def test_an_unknown_name_is_no_accelerator_and_an_instance_without_specification_is_said_to_be_one(
    reference: Reference,
) -> None:
    table: Accelerators = reference.accelerators
    assert table.named("H1000") is None and table.named("") is None and table.named(None) is None
    assert table.in_instance("m5.large") is None
    assert table.in_instance("g5.xlarge") == ("a10g", None, 1)
    found = table.in_instance("P5EN.48xlarge")
    assert found is not None and found[0] == "H200 SXM" and found[2] == 8


def test_country_groups(reference: Reference) -> None:
    groups = reference.countries.groups
    macau, israel, emirates = (groups(code, NOW) or () for code in ("MO", "IL", "AE"))
    assert "D:5" not in macau and "D:1" in macau
    assert {"D:4", "A:6"} <= set(israel)
    assert "A:5" in emirates and "D:4" not in emirates
    assert "D:4" in (groups("AE", parse_instant("2026-07-09T23:59")) or ())
    assert "D:5" in (groups("KH", parse_instant("2026-02-02T23:59")) or ())
    assert "D:5" not in (groups("KH", parse_instant("2026-02-03")) or ("D:5",))
    assert "D:5" not in (groups("NI", parse_instant("2024-03-14")) or ())
    assert groups("CN", parse_instant("2023-11-16")) is None
    assert groups("AQ", NOW) == ()


@pytest.mark.parametrize("code", ["XX", "AN", "EU", "", "C", "CHN", "china", "ＣＮ", "CN\x00", "..", "UA-"])
def test_what_is_no_country(reference: Reference, code: str) -> None:
    assert reference.countries.place(code) is None


def test_places(reference: Reference) -> None:
    place = reference.countries.place
    hong_kong, kosovo, crimea, ukraine = place("hk"), place("XK"), place("ua-43"), place("UA")
    assert hong_kong is not None and (hong_kong.country, hong_kong.given) == ("CN", "HK")
    assert kosovo is not None and kosovo.country == "XK"
    assert crimea is not None and (crimea.country, crimea.subdivision) == ("UA", "UA-43")
    assert ukraine is not None and ukraine.subdivision is None


@pytest.mark.parametrize(
    ("address", "kind", "code"),
    [
        ("8.8.8.8", "country", "US"),
        ("::ffff:8.8.8.8", "country", "US"),
        ("2001:4860:4860::8888", "country", "US"),
        ("114.114.114.114", "country", "CN"),
        ("127.0.0.1", "none", None),
        ("10.1.2.3", "none", None),
        ("0.0.0.0", "none", None),
        ("203.0.113.7", "none", None),
        ("::1", "none", None),
        ("fe80::1%eth0", "none", None),
        ("224.0.0.1", "none", None),
        ("100.64.0.1", "none", None),
        ("8.8.8.8:443", "unknown", None),
        ("[::1]", "unknown", None),
        ("08.8.8.8", "unknown", None),
        ("unknown", "unknown", None),
        ("8" * 10_000, "unknown", None),
        (None, "none", None),
    ],
)
def test_addresses(reference: Reference, address: str | None, kind: str, code: str | None) -> None:
    found = reference.addresses.country(address)
    assert (found.kind, found.code) == (kind, code)


@pytest.mark.parametrize(
    ("provider", "region", "country"),
    [
        ("aws", "us-east-1", "US"),
        ("aws", "us-east-1a", "US"),
        ("aws", "ap-east-1", "HK"),
        ("gcp", "us-central1-a", "US"),
        ("azure", "uaenorth", "AE"),
        (None, "CN-North-1", "CN"),
        ("gcp", "us-east-1", None),
        ("aws", "xx-nowhere-1", None),
        (None, "", None),
    ],
)
def test_regions(reference: Reference, provider: str | None, region: str, country: str | None) -> None:
    assert reference.regions.country(provider, region) == country


REGISTRY = "parties:\n  - {id: a, name: Alpha, country: US, ultimate_parent: self, credentials: [c1]}\n"


def test_parties() -> None:
    beta_entry = "{id: b, name: Beta  Ltd, country: HK, ultimate_parent: {name: G, country: CN}, credentials: [c2, c3]}"
    text = f"{REGISTRY}  - {beta_entry}\n"
    parties = Reference.packaged(text.encode()).parties
    beta = parties.of_actor("c3")
    assert beta is not None and (beta.id, beta.country) == ("b", "CN")
    assert beta.parent is not None and beta.parent.country == "CN"
    assert parties.named("beta LTD") is beta and parties.named("b") is beta
    assert parties.of_actor("c9") is None and parties.of_actor(None) is None


def test_norway_is_no_boolean() -> None:
    text = b"parties:\n  - {id: n, name: N, country: NO, ultimate_parent: self}\n"
    party = Reference.packaged(text).parties.by_id("n")
    assert party is not None and party.country == "NO"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("  - {id: a, name: Other, country: US}\n", "occurs twice"),
        ("  - {id: b, name: Other, credentials: [c1]}\n", "belongs to two parties"),
        ("  - {id: b, name: Other, country: XX}\n", "is no country"),
        ("  - {id: b, name: Other, secret: x}\n", "secret"),
        ("  - {id: b}\n", "name"),
    ],
)
def test_a_broken_registry_is_refused_at_its_line(more: str, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        Reference.packaged((REGISTRY + more).encode())
    assert caught.value.line == 3


def test_a_name_that_two_parties_share_identifies_neither() -> None:
    parties = Reference.packaged((REGISTRY + "  - {id: b, name: ALPHA, country: CN}\n").encode()).parties
    assert parties.named("Alpha") is None
    assert parties.by_id("b") is not None
