"""What a recorded event says of who, what and where, and how conflicting evidence is kept."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from auditspan.policy import FactSet, Reference
from auditspan.policy.resolve import Aspect, Resolver

REGISTRY = b"""
parties:
  - {id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:a"]}
  - id: lion
    name: Lion Cloud
    country: SG
    ultimate_parent: {name: Shanghai Compute, country: CN}
    credentials: ["sha256:c"]
  - {id: shc, name: Shanghai Compute, country: CN, ultimate_parent: self}
  - {id: vague, name: Vague Ltd, country: JP, credentials: ["sha256:v"]}
"""
REFERENCE = Reference.packaged(REGISTRY)
ACCESS = {"class": "model.access", "audit.actor.id": "sha256:a"}
PROVISION = {"class": "accelerator.provision", "audit.actor.id": "sha256:a"}
TRANSFER = {"class": "model.transfer", "audit.actor.id": "sha256:a"}


def resolve(event: dict[str, Any], **more: Any) -> list[FactSet]:
    """Candidates for one event; ``more`` are attributes below ``export_control.``."""
    columns = {**event, **{f"export_control.{name}": value for name, value in more.items()}}
    resolver = Resolver(REFERENCE)
    spans = pa.table({name: pa.array([value]) for name, value in columns.items()})
    return resolver.facts([int(codes[0]) for codes in resolver.codes(spans)])


def one(event: dict[str, Any], **more: Any) -> dict[str, Any]:
    (facts,) = resolve(event, **more)
    return facts.values


def destinations(event: dict[str, Any], **more: Any) -> set[str | None]:
    return {facts.values.get("destination_country") for facts in resolve(event, **more)}  # type: ignore[misc]


def test_an_access_by_a_known_credential() -> None:
    (facts,) = resolve({**ACCESS, "audit.actor.id": "sha256:c", "client.address": "8.8.8.8"})
    values = facts.values
    assert (values["act"], values["item_kind"], values["actor_known"]) == ("access", "model", True)
    assert (values["actor_party"], values["actor_country"], values["actor_parent_country"]) == ("lion", "SG", "CN")
    assert (values["end_user_party"], values["end_user_parent_country"]) == ("lion", "CN")
    assert values["destination_country"] == "US"
    assert facts.known_by["destination_country"] == "client.address"
    assert facts.known_by["end_user_party"] == "audit.actor.id"


def test_every_known_value_says_how_it_is_known() -> None:
    event = {**PROVISION, "cloud.region": "us-east-1", "host.type": "p5.48xlarge"}
    for facts in resolve(event, quantity=2, eccn="3A090.a"):
        assert facts.values.keys() == facts.known_by.keys()


def test_an_unknown_credential_is_nobody() -> None:
    values = one({**ACCESS, "audit.actor.id": "sha256:nobody"})
    assert values["actor_known"] is False
    assert not {"actor_party", "actor_country", "end_user_party", "end_user_country"} & values.keys()


def test_a_named_end_user_stands_before_the_actor_and_an_unknown_one_is_not_replaced() -> None:
    assert one(PROVISION, end_user="lion")["end_user_country"] == "SG"
    assert one(PROVISION, end_user="lion  CLOUD")["end_user_party"] == "lion"
    assert one(PROVISION)["end_user_party"] == "acme"
    assert "end_user_country" not in one(PROVISION, end_user="somebody else")


def test_a_parent_left_out_of_the_registry_is_unknown() -> None:
    assert "end_user_parent_country" not in one({**ACCESS, "audit.actor.id": "sha256:v"})
    assert one(ACCESS)["end_user_parent_country"] == "US"


def test_a_declared_parent_that_differs_is_kept_beside_the_registered_one() -> None:
    def parents(**more: Any) -> list[Any]:
        return [facts.values.get("end_user_parent_country") for facts in resolve(ACCESS, **more)]

    assert parents(ultimate_parent="shc") == ["US", "CN"]
    assert parents(ultimate_parent="HK") == ["US", "CN"]
    assert parents(ultimate_parent="Acme Inc") == ["US"]
    assert parents(ultimate_parent="who knows") == ["US", None]


def test_conflicting_destinations_are_all_candidates() -> None:
    event = {**TRANSFER, "cloud.region": "us-east-1"}
    assert destinations(event, **{"destination.country": "CN"}) == {"US", "CN"}
    assert destinations(event, **{"destination.country": "US"}) == {"US"}
    assert destinations(event, **{"destination.country": "XX"}) == {"US", None}
    (first, *_) = resolve(event, **{"destination.country": "CN"})
    assert first.values["destination_candidates"] == ("CN", "US")


def test_a_consignee_of_the_registry_is_evidence_and_an_unknown_one_is_not() -> None:
    event = {**TRANSFER, "cloud.region": "us-east-1"}
    assert destinations(event, consignee="Shanghai Compute") == {"US", "CN"}
    assert destinations(event, consignee="a name nobody knows") == {"US"}


def test_hong_kong_is_china_and_the_evidence_says_so() -> None:
    (facts,) = resolve({**TRANSFER, "cloud.region": "ap-east-1"})
    assert facts.values["destination_country"] == "CN"
    assert facts.known_by["destination_country"] == "cloud.region (HK)"


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.9", "::1", None])
def test_an_address_that_says_nothing_leaves_it_to_the_registry(address: str | None) -> None:
    assert destinations({**ACCESS, "client.address": address}) == {"US"}


@pytest.mark.parametrize("address", ["not an address", "8.8.8.8:80", "\x00"])
def test_an_address_that_cannot_be_read_could_be_anywhere(address: str) -> None:
    assert destinations({**ACCESS, "client.address": address}) == {None}


def test_a_region_is_where_the_bytes_end_up_and_without_one_it_is_not_known() -> None:
    event = {**TRANSFER, "cloud.region": "cn-north-1"}
    for direction in ("upload", "download", "copy"):
        assert destinations(event, **{"transfer.direction": direction}) == {"CN"}
        assert destinations(TRANSFER, **{"transfer.direction": direction}) == {None}
    assert destinations({**TRANSFER, "cloud.region": "nowhere-1"}) == {None}
    assert destinations(TRANSFER) == {None}


def test_a_grant_goes_to_the_end_user_that_is_named_and_to_nobody_known_otherwise() -> None:
    assert destinations(TRANSFER, **{"transfer.direction": "grant"}) == {None}
    assert destinations(TRANSFER, **{"transfer.direction": "grant", "end_user": "shc"}) == {"CN"}
    assert destinations(TRANSFER, **{"transfer.direction": "upload", "end_user": "shc"}) == {None}


def test_several_instance_types_are_all_candidates() -> None:
    def models(types: str) -> list[Any]:
        return [facts.values.get("accelerator_model") for facts in resolve({**PROVISION, "host.type": types})]

    assert models("g4dn.xlarge,p5.48xlarge") == ["T4", "H100 SXM"]
    assert models("p5.48xlarge, p5.48xlarge") == ["H100 SXM"]
    assert models("p5.48xlarge,m5.large") == ["H100 SXM", None]
    assert len(models(",".join(f"x{n}.large" for n in range(10_000)))) == 1


def test_an_instance_type_brings_its_accelerators() -> None:
    values = one({**PROVISION, "host.type": "p5en.48xlarge"}, quantity=3)
    assert (values["accelerator_model"], values["accelerators_per_unit"], values["quantity"]) == ("H200 SXM", 8, 3)
    assert (values["tpp_low"], values["data_centre"]) == (15832, True)
    unknown = one({**PROVISION, "host.type": "g5.xlarge"})
    assert unknown["accelerator_model"] == "a10g" and "tpp_low" not in unknown
    assert "accelerator_model" not in one({**PROVISION, "host.type": "m5.large"})


def test_a_model_and_an_instance_type_that_disagree_are_both_candidates() -> None:
    event = {**PROVISION, "host.type": "p5.48xlarge"}

    def models(name: str) -> list[Any]:
        return [facts.values.get("accelerator_model") for facts in resolve(event, **{"accelerator.model": name})]

    assert models("T4") == ["T4", "H100 SXM"]
    assert models("NVIDIA H100 80GB HBM3") == ["H100 SXM"]
    assert models("Mystery 9000") == [None, "H100 SXM"]


@pytest.mark.parametrize(
    ("text", "exaoperations"),
    [
        ("1e26", 100_000_000),
        ("9.9999999e25", 99_999_999),
        ("1.2e26", 120_000_000),
        ("100000000000000000000000000", 100_000_000),
        ("1e17", 0),
        ("-1e26", None),
        ("1e999", None),
        ("lots", None),
        ("nan", None),
        ("9" * 500, None),
        (None, None),
    ],
)
def test_training_operations(text: str | None, exaoperations: int | None) -> None:
    assert one(TRANSFER, training_operations=text).get("training_exaoperations") == exaoperations


@pytest.mark.parametrize(
    ("text", "eccn"),
    [
        ("3a090.A", "3A090.a"),
        ("4E091", "4E091"),
        ("ear99", "EAR99"),
        (None, "undeclared"),
        ("XI(b)", None),
        ("x" * 9_999, None),
    ],
)
def test_declared_eccn(text: str | None, eccn: str | None) -> None:
    assert one(PROVISION, eccn=text).get("declared_eccn") == eccn


def test_a_class_that_is_not_judged_gives_no_act_and_so_never_clears() -> None:
    values = one({"class": "something.else"})
    assert "act" not in values and "item_kind" not in values
    assert one({"class": None}).keys() >= {"actor_known"}


@pytest.mark.parametrize("published", [True, False, None])
def test_weights_published(published: bool | None) -> None:
    assert one(TRANSFER, weights_published=published).get("weights_published") is published


@pytest.mark.parametrize(("given", "known"), [(0, 0), (8, 8), (-1, None), (2**62, None), (None, None)])
def test_quantity(given: int | None, known: int | None) -> None:
    columns = {**PROVISION, "export_control.quantity": given}
    resolver = Resolver(REFERENCE)
    arrays = {
        name: pa.array([value], pa.int64() if name.endswith("quantity") else None) for name, value in columns.items()
    }
    (facts,) = resolver.facts([int(codes[0]) for codes in resolver.codes(pa.table(arrays))])
    assert facts.values.get("quantity") == known


def test_an_aspect_asks_for_each_distinct_value_once_whatever_the_encoding() -> None:
    asked: list[Any] = []
    aspect = Aspect("x", lambda value: asked.append(value) or (value or "").upper())
    chunks = pa.chunked_array(
        [pa.array(["a", "b", None]).dictionary_encode(), pa.array(["B", "a"]).dictionary_encode()]
    )
    codes = aspect.codes(pa.table({"x": chunks})).tolist()
    assert [aspect.meanings[code] for code in codes] == ["A", "B", "", "B", "A"]
    assert aspect.codes(pa.table({"x": pa.array(["b", "a"])})).tolist() == [codes[1], codes[0]]
    assert sorted(asked, key=str) == ["B", None, "a", "b"]
    assert [aspect.meanings[code] for code in aspect.codes(pa.table({"y": pa.array([1, 2])}))] == ["", ""]
