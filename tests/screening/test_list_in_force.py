"""A list as part of a reference: what determinations say of the parties behind an event, and when it is refused."""

from __future__ import annotations

import copy
import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import needs_screening  # noqa: F401 - skips where it is not installed
import pyarrow as pa
import pytest
from auditspan.processors.determine import Determiner
from screening_data import EXTRACT

from auditspan.policy import Reference
from auditspan.policy.argument import argue
from auditspan.policy.errors import PolicyError
from auditspan.policy.recompute import Recomputer
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.screening_list import kept_below
from auditspan.policy.stated_facts import state
from auditspan.screening import activated
from auditspan.screening.activated import artifact_of, keep_for_artifact
from auditspan.screening.lists import current_list, import_list
from auditspan.screening.policies import entry_requirement, list_policies, word_of

REGISTRY = b"""
parties:
  - {id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:a"]}
  - {id: harbour, name: Cambrian Hong Kong, country: HK, ultimate_parent: self, credentials: ["sha256:c"]}
  - {id: lion, name: Cambrian Hong Kong, country: SG, ultimate_parent: self, credentials: ["sha256:l"]}
  - {id: meadow, name: Quiet Meadow Bakery, country: FR, ultimate_parent: self, credentials: ["sha256:m"]}
  - id: below
    name: Quiet Meadow Holding
    country: CN
    ultimate_parent: {name: Cambrian Hong Kong, country: CN}
    credentials: ["sha256:b"]
  - id: owned
    name: Quiet Meadow Mills
    country: RU
    ultimate_parent: self
    credentials: ["sha256:o"]
    owners:
      - {name: "PUTIN, Vladimir", country: RU, share: 10, to: 2026-11-01}
      - {party: meadow, share: 40}
"""
AT = parse_instant("2026-11-20")
Artifact = tuple[str, bytes]


@pytest.fixture(scope="module")
def artifact(kept: Path) -> Artifact:
    current = current_list(kept)
    assert current is not None
    return artifact_of(current, kept)


@pytest.fixture(scope="module")
def folder(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where artifacts are kept, with the index made."""
    made = tmp_path_factory.mktemp("reference")
    with_list(artifact, made).opened()
    return made


def with_list(artifact: Artifact, folder: Path | None, registry: bytes = REGISTRY) -> Reference:
    name, content = artifact
    return Reference.load({**Reference.packaged_artifacts(registry), name: content}, 1, folder=folder)


@pytest.fixture(scope="module")
def reference(artifact: Artifact, folder: Path) -> Reference:
    return with_list(artifact, folder)


def judged(reference: Reference, *events: dict[str, Any], at: int = AT) -> list[dict[str, Any]]:
    """Each event's row, with the facts document as JSON."""
    names = list(dict.fromkeys(name for event in events for name in event))
    table = pa.table({name: pa.array([event.get(name) for event in events]) for name in names})
    for column in ("event_time", "arrival_time"):
        table = table.append_column(column, pa.array([at] * len(events)))
    table = table.append_column("time_basis", pa.array(["event"] * len(events)))
    rows = Determiner(reference).determine(table).to_pylist()
    return [{**row, "document": json.loads(row["facts"])} for row in rows]


def access(actor: str, **more: str) -> dict[str, Any]:
    return {"class": "model.access", "audit.actor.id": actor, **_named(more)}


def shipment(**more: str) -> dict[str, Any]:
    named = {"accelerator.model": "T4", "destination.country": "DE", "end_user": "meadow"} | more
    return {"class": "accelerator.transfer", "audit.actor.id": "sha256:a", **_named(named)}


def _named(more: dict[str, str]) -> dict[str, str]:
    return {f"export_control.{name}": value for name, value in more.items()}


# The artifact


def test_equal_content_is_the_same_artifact_and_is_called_as_the_list_is(tmp_path: Path, artifact: Artifact) -> None:
    packed = tmp_path / "other name.json.gz"
    packed.write_bytes(gzip.compress(EXTRACT.read_bytes(), 1))
    kept = import_list(packed, tmp_path / "screening")
    assert artifact_of(kept, tmp_path / "screening") == artifact
    assert gzip.decompress(artifact[1]) == EXTRACT.read_bytes()
    (one,) = (one for one in with_list(artifact, None).artifacts if one.kind == "screening_list")
    assert (one.name, one.version) == ("screening_list.json.gz", f"2026-07-31/{one.sha256[:12]}")


def test_the_policy_package_loads_no_matcher() -> None:
    code = (
        "import sys, auditspan.policy, auditspan.policy.reference as r; r.Reference.packaged();"
        "print([m for m in ('icu', 'rigour', 'rapidfuzz', 'auditspan.screening') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_what_is_read_from_a_list_is_made_once_and_made_anew_when_it_is_broken(
    tmp_path: Path, artifact: Artifact, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    read = activated.import_list

    def counted(path: Path, *given: Any, **options: Any) -> Any:
        made.append(path.name)
        return read(path, *given, **options)

    monkeypatch.setattr(activated, "import_list", counted)
    with_list(artifact, tmp_path).opened()
    with_list(artifact, tmp_path).opened()
    assert made == ["screening_list.json.gz"]
    (names,) = kept_below(tmp_path).glob("*/index/names.arrow")
    names.write_bytes(b"damaged")
    assert judged(with_list(artifact, tmp_path), access("sha256:c"))[0]["flagged"]
    assert len(made) == 2
    # Who activates a list that was imported here has read it already.
    current = current_list(kept)
    assert current is not None
    other = tmp_path / "other"
    digest = with_list(artifact, None).screening.digest  # type: ignore[union-attr]
    keep_for_artifact(current, kept, kept_below(other), digest, artifact[0])
    with_list(artifact, other).opened()
    assert len(made) == 2


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda content: content[:-200], "cannot be unpacked"),
        (lambda content: content[:500] + b"\0\0\0" + content[503:], "screening_list.json.gz"),
        (lambda _: b"parties: []", "not packed by gzip"),
        (lambda _: gzip.compress(b"parties: []"), "neither JSON nor a table"),
        (lambda _: gzip.compress(b'{"results": []}'), "no entry"),
    ],
)
def test_what_is_no_list_is_refused_with_a_remedy(
    artifact: Artifact, tmp_path: Path, spoilt: Callable[[bytes], bytes], said: str
) -> None:
    with pytest.raises(PolicyError, match=said) as raised:
        with_list((artifact[0], spoilt(artifact[1])), tmp_path).opened()
    assert raised.value.remedy


def test_two_lists_are_refused(artifact: Artifact) -> None:
    artifacts = {**Reference.packaged_artifacts(), artifact[0]: artifact[1], "screening_list.csv.gz": artifact[1]}
    with pytest.raises(PolicyError, match="is there as well"):
        Reference.load(artifacts, 1)


def test_without_the_extra_it_is_refused_with_how_to_install_it(
    artifact: Artifact, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "auditspan.screening.activated", None)
    with pytest.raises(PolicyError) as raised:
        with_list(artifact, folder).opened()
    assert "auditspan[screening]" in raised.value.remedy
    # Whoever only reads what was judged needs none of it.
    assert with_list(artifact, folder).explainer()


# Facts


def test_who_is_like_nobody_is_judged_as_without_a_list_byte_for_byte(reference: Reference) -> None:
    events = [
        access("sha256:m"),
        access("nobody knows"),
        shipment(),
        shipment(consignee="Quiet Meadow Freight", end_user="Quiet Meadow Shop"),
    ]
    with_one, without = judged(reference, *events), judged(Reference.packaged(REGISTRY), *events)
    assert [row["facts"] for row in with_one] == [row["facts"] for row in without]
    assert [row["why"] for row in with_one] == [row["why"] for row in without]


def test_an_equal_name_of_the_same_country_counts_as_the_listing(reference: Reference) -> None:
    """Hong Kong is judged as China, as the list has it."""
    (row,) = judged(reference, access("sha256:c"))
    facts, known_by = row["document"]["facts"], row["document"]["known_by"]
    assert facts["actor_listings"] == facts["end_user_listings"] == ["entity-list"]
    assert facts["actor_entry_requirements"] == ["all_items"]
    assert "actor_possible_listings" not in facts
    assert (row["governing"], row["flagged"]) == ("review", True)
    assert "us-ear/listed-access" in row["rule_ids"]
    for text in (row["why"], known_by["actor_listings"]):
        assert "“Cambrian Hong Kong”, an alias of “Cambricon (Hong Kong) Co., Ltd.”, EL 005407, score 1.00" in text
        assert "name 1.00, country +0.02; country agrees" in text
        assert "screening list 2026-07-31/" in text
    (shipped,) = judged(reference, shipment(end_user="harbour"))
    assert (shipped["governing"], shipped["flagged"]) == ("license_required", True)
    assert "us-ear/entity-list" in shipped["rule_ids"]


def test_a_likeness_that_nothing_else_settles_is_possible_and_flagged(reference: Reference) -> None:
    other_country, only_named, consignee = judged(
        reference,
        access("sha256:l"),
        shipment(end_user="Cambrian Hong Kong Ltd"),
        shipment(consignee="Cambricon Hong Kong"),
    )
    assert other_country["document"]["facts"]["actor_possible_listings"] == ["entity-list"]
    assert other_country["document"]["facts"]["actor_listings"] == []
    assert "country -0.06" in other_country["why"]
    assert only_named["document"]["facts"]["end_user_possible_listings"] == ["entity-list"]
    assert consignee["document"]["facts"]["consignee_possible_listings"] == ["entity-list"]
    for row in (other_country, only_named, consignee):
        assert (row["governing"], row["flagged"]) == ("review", True)
        assert "us-ear/possible-listing" in row["rule_ids"]
        assert "EL 005407, score" in row["why"]


def test_parents_and_owners_are_screened_and_their_listing_is_not_the_partys(reference: Reference) -> None:
    (below,) = judged(reference, access("sha256:b"))
    assert below["document"]["facts"]["actor_listings"] == []
    assert below["document"]["facts"]["actor_possible_listings"] == ["entity-list"]
    assert "ultimate parent “Cambrian Hong Kong” is like" in below["why"]
    before = judged(reference, access("sha256:o"), at=parse_instant("2026-10-31"))[0]
    after = judged(reference, access("sha256:o"), at=AT)[0]
    assert before["document"]["facts"]["actor_possible_listings"] == ["sdn"]
    assert "owner “PUTIN, Vladimir” is like" in before["why"]
    assert "us-ear/possible-blocked" in before["rule_ids"]
    assert "actor_possible_listings" not in after["document"]["facts"]


def test_clearing_one_owner_does_not_hide_another_that_is_like_the_same_entry(artifact: Artifact, folder: Path) -> None:
    names = ["Cambrian Hong Kong Co", "Cambrian Hong Kong Ltd"]
    owners = [{"name": name, "country": "HK", "share": 30} for name in names]
    mills = {"id": "mills", "name": "Quiet Mills", "country": "FR", "ultimate_parent": "self", "owners": owners}
    registry = json.dumps({"parties": [{**mills, "credentials": ["sha256:o"]}]}).encode()
    reference = with_list(artifact, folder, registry)
    cleared: set[str] = set()

    class Clearances:
        boundaries = ()

        def cleared(self, name: str, *_: object) -> object | None:
            return name if name in cleared else None

    def said() -> dict[str, Any]:
        with_clearances = copy.copy(reference)
        with_clearances.clearances = Clearances()
        return judged(with_clearances, access("sha256:o"))[0]

    assert all(f"owner “{name}” is like" in said()["why"] for name in names)
    for name in names:
        cleared = {name}
        facts = said()["document"]["facts"]
        assert facts["actor_possible_listings"] == ["entity-list"], name
        assert name not in said()["why"]
    cleared = set(names)
    assert "actor_possible_listings" not in said()["document"]["facts"]


def test_who_stands_in_the_supply_chain_is_screened_by_name(artifact: Artifact, folder: Path) -> None:
    mills = {
        "id": "mills",
        "name": "Quiet Mills",
        "country": "FR",
        "ultimate_parent": "self",
        "credentials": ["sha256:o"],
    }

    def said(**relation: str) -> dict[str, Any]:
        party = {**mills, "relations": [{"kind": "forwarder", "country": "HK", **relation}]}
        registry = json.dumps({"parties": [party]}).encode()
        return judged(with_list(artifact, folder, registry), access("sha256:o"))[0]

    found = said(name="Cambrian Hong Kong")
    assert found["document"]["facts"]["actor_possible_listings"] == ["entity-list"]
    assert found["document"]["facts"]["actor_listings"] == [], "a forwarder is not the party"
    assert "forwarder “Cambrian Hong Kong” is like" in found["why"]
    assert (found["governing"], found["flagged"]) == ("review", True)
    for nobody in (said(), said(name="Quiet Meadow Carriers")):
        assert "actor_possible_listings" not in nobody["document"]["facts"]


def test_a_name_that_cannot_be_screened_clears_nothing(reference: Reference) -> None:
    silent, known = judged(reference, shipment(consignee="!!!"), shipment())
    assert silent["document"]["facts"]["consignee_possible_listings"] is None
    assert (silent["governing"], known["governing"]) == ("review", "no_license_required")
    assert judged(reference, shipment(consignee="x" * 1001))[0]["governing"] == "review"


def test_the_entity_list_follows_its_entry(artifact: Artifact, folder: Path) -> None:
    records = json.loads(EXTRACT.read_text())["results"]
    limited = next(one for one in records if "when used in projects" in one.get("license_requirement", ""))
    country = limited["addresses"][0]["country"]
    party = {"id": "driller", "name": limited["name"], "country": country, "ultimate_parent": "self"}
    acme = {"id": "acme", "name": "Acme Inc", "country": "US", "ultimate_parent": "self", "credentials": ["sha256:a"]}
    reference = with_list(artifact, folder, json.dumps({"parties": [party, acme]}).encode())
    (row,) = judged(reference, shipment(end_user="driller"))
    assert row["document"]["facts"]["end_user_listings"] == ["entity-list"]
    assert row["document"]["facts"]["end_user_entry_requirements"] == ["other"]
    assert "us-ear/entity-list-entry" in row["rule_ids"]
    assert "us-ear/entity-list" not in row["rule_ids"]
    assert "projects specified in § 746.8(a)(4)" in row["why"]


def test_each_distinct_party_is_screened_once(reference: Reference) -> None:
    screener = reference.screening.open()  # type: ignore[union-attr]
    before = screener.asked - screener.answered_from_memory
    judged(reference, *[shipment(consignee=f"Shop {number % 3} of Provence") for number in range(300)])
    assert screener.asked - screener.answered_from_memory - before <= 5


def test_what_is_cleared_is_not_said_until_it_ends(reference: Reference) -> None:
    end = parse_instant("2026-12-01")

    class Clearances:
        boundaries = (end,)

        def cleared(
            self, name: str, list_code: str, entry_id: str, listed_name: str, country: str | None, at: int | None
        ) -> object | None:
            pair = (name, list_code, entry_id, listed_name, country)
            right = pair == ("Cambrian Hong Kong", "EL", "005407", "Cambricon (Hong Kong) Co., Ltd.", "SG")
            return "cleared" if right and at is not None and at < end else None

    with_clearances = copy.copy(reference)
    with_clearances.clearances = Clearances()
    assert "actor_possible_listings" not in judged(with_clearances, access("sha256:l"))[0]["document"]["facts"]
    (later,) = judged(with_clearances, access("sha256:l"), at=end)
    assert later["document"]["facts"]["actor_possible_listings"] == ["entity-list"]


def test_a_stored_document_is_explained_with_alias_and_score(artifact: Artifact, reference: Reference) -> None:
    (row,) = judged(reference, access("sha256:c"))
    without_folder = with_list(artifact, None)
    (again,) = Recomputer(without_folder).determinations(row["facts"], [AT])
    assert again.document_bytes() == row["facts"]
    assert without_folder.explainer().why(again) == row["why"]
    assert "EL 005407, score 1.00" in json.dumps(argue(without_folder, again).to_json(), ensure_ascii=False)


def test_stated_parties_are_screened_unless_their_lists_are_stated(reference: Reference) -> None:
    def facts(**given: Any) -> dict[str, Any]:
        return state(reference, {"act": "access", **given}, AT).facts.values

    assert facts(actor_party="harbour")["actor_listings"] == ("entity-list",)
    assert facts(end_user_party="Cambrian Hong Kong Ltd")["end_user_possible_listings"] == ("entity-list",)
    assert facts(actor_party="harbour", actor_listings=[])["actor_listings"] == ()


# Tables


def test_every_list_has_a_word_and_a_list_without_a_row_its_code() -> None:
    assert {code: word_of(code) for code in ("DPL", "EL", "UVL", "MEU", "SDN", "CMIC", "SSI", "CAP")} == {
        "DPL": "denied-persons",
        "EL": "entity-list",
        "UVL": "unverified-list",
        "MEU": "military-end-user",
        "SDN": "sdn",
        "CMIC": "cmic",
        "SSI": "ssi",
        "CAP": "cap",
    }
    assert word_of("NEW") == "new"
    assert all(policy.word for code, policy in list_policies().items() if code != "*")


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        ("For All Items Subject to the EAR (See §734.9(e)(2), and §744.11 of the EAR)4.", "all_items"),
        ("For all items subject to the EAR, see §§ 734.9(e)1 and 744.11 of the EAR2", "all_items"),
        (
            "For all items subject to the EAR. (See § 744.11 of the EAR). This license requirement may be overcome by "
            "License Exception GOV under § 740.11(b)(2) and (e).",
            "all_items",
        ),
        ("For all items subject to the EAR when used in projects specified in § 746.8(a)(4) of the EAR", "other"),
        ("All items subject to the EAR except for: crude oil, condensates", "other"),
        ("For all items (See §744.11 of the EAR), except for EAR99-designated technology for UAVs", "other"),
        ("For items on the CCL and EAR99 items listed in supplement no. 7 to part 746 of the EAR", "other"),
        ("All items subject to the EAR, except EAR99 items", "not_ear99"),
        ("For all items on the Commerce Control List", "not_ear99"),
        ("", "other"),
    ],
)
def test_which_items_an_entry_is_for(text: str, requirement: str) -> None:
    assert entry_requirement(text) == requirement
