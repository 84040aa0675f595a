"""The determination of batches: row for row, both times where they must be judged, bounded, and as fast as promised."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from auditspan.processors import determine
from auditspan.processors.determine import DETERMINATIONS, Determiner
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from auditspan import semconv
from auditspan.canonical import canonical_json
from auditspan.otlp.columns import DECLARED
from auditspan.otlp.values import run_of
from auditspan.policy import BASE_FACTS, Reference
from auditspan.policy.facts import SELDOM_FACTS
from auditspan.policy.rule_time import parse_instant

REGISTRY = b"""
parties:
  - {id: acme, name: Acme Inc, country: US, ultimate_parent: self, credentials: ["sha256:a"]}
  - {id: shc, name: Shanghai Compute, country: CN, ultimate_parent: self, credentials: ["sha256:b"]}
  - id: lion
    name: Lion Cloud
    country: SG
    ultimate_parent: {name: Shanghai Compute, country: CN}
    credentials: ["sha256:c"]
"""
REFERENCE = Reference.packaged(REGISTRY)
NOW = parse_instant("2026-11-01")
TYPES = {
    "export_control.quantity": pa.int64(),
    "export_control.weights_published": pa.bool_(),
    DECLARED: pa.binary(),
}


def spans(*events: dict[str, Any], encoded: bool = True) -> pa.Table:
    """A table as the processor hands it over, from attributes of each event."""
    rows = [{"event_time": NOW, "arrival_time": NOW, "time_basis": "event", "faults": [], **event} for event in events]
    columns: dict[str, pa.Array] = {}
    for name in sorted({name for row in rows for name in row} - {"faults"}):
        array = pa.array([row.get(name) for row in rows], TYPES.get(name))
        columns[name] = array.dictionary_encode() if encoded and pa.types.is_string(array.type) else array
    columns["faults"] = pa.array([row["faults"] for row in rows], pa.list_(pa.string()))
    return pa.table(columns)


def judge(event: dict[str, Any], reference: Reference = REFERENCE) -> dict[str, Any]:
    (row,) = Determiner(reference).determine(spans(event)).to_pylist()
    return row


def access(actor: str, **more: Any) -> dict[str, Any]:
    return {"class": "model.access", "audit.actor.id": actor, "client.address": "127.0.0.1", **more}


def provision(**more: Any) -> dict[str, Any]:
    return {"class": "accelerator.provision", "audit.actor.id": "sha256:a", "cloud.provider": "aws", **more}


def test_a_customer_at_home_is_clear_and_a_controlled_one_is_flagged() -> None:
    clear, flagged, subsidiary, nobody = (judge(access(f"sha256:{key}")) for key in ("a", "b", "c", "?"))
    assert (clear["governing"], clear["flagged"], clear["rule_ids"]) == ("no_license_required", False, [])
    assert (flagged["governing"], flagged["flagged"], flagged["destination"]) == ("review", True, "CN")
    assert (subsidiary["governing"], subsidiary["flagged"], subsidiary["destination"]) == ("review", True, "SG")
    assert (nobody["governing"], nobody["flagged"]) == ("review", False)
    assert "15 CFR 744.6" in subsidiary["citations"]
    assert "Lion Cloud (lion)" in subsidiary["why"] and "China (CN)" in subsidiary["why"]
    assert "unknown: actor country" in nobody["why"]


def test_provisioning_h200_for_a_subsidiary_of_a_controlled_parent() -> None:
    event = provision(**{"cloud.region": "us-east-1", "host.type": "p5en.48xlarge", "export_control.end_user": "lion"})
    row = judge(event)
    assert (row["governing"], row["flagged"], row["eccn"]) == ("review", True, "3A090.a")
    assert row["rule_ids"] == ["us-ear/iaas-headquarters"]
    assert "TPP 15832" in row["why"]


def test_an_instance_type_without_specification_is_cleared_only_for_a_party_known_to_be_harmless() -> None:
    def governing(end_user: str) -> str:
        event = {"cloud.region": "us-east-1", "host.type": "g5.xlarge", "export_control.end_user": end_user}
        return str(judge(provision(**event))["governing"])

    assert governing("lion") == "review"
    assert governing("acme") == "no_license_required"
    assert governing("who") == "review"


def test_a_country_named_xx_is_reviewed() -> None:
    event = {"class": "model.transfer", "audit.actor.id": "sha256:a", "export_control.destination.country": "XX"}
    row = judge(event)
    assert (row["governing"], row["destination"]) == ("review", None)


def test_conflicting_evidence_takes_the_most_restrictive() -> None:
    event = {
        "class": "accelerator.transfer",
        "audit.actor.id": "sha256:a",
        "export_control.accelerator.model": "H100 SXM",
        "export_control.end_user": "acme",
        "export_control.destination.country": "JP",
        "cloud.region": "cn-north-1",
    }
    row = judge(event)
    assert (row["governing"], row["destination"], row["flagged"]) == ("license_required", "CN", True)
    assert "evidence names China (CN), Japan (JP)" in row["why"]


def test_the_document_is_that_of_the_evidence_format() -> None:
    row = judge(access("sha256:c"))
    document = json.loads(row["facts"])
    assert canonical_json(document) == row["facts"]
    expected = {
        "v",
        "facts",
        "known_by",
        "in_force",
        "rules",
        "text",
        "enforced",
        "governing",
        "flagged",
        "destination",
        "eccn",
    }
    assert document.keys() == expected
    defined = {definition.fact for definition in REFERENCE.packs.definitions}
    assert document["facts"].keys() == (BASE_FACTS.keys() - SELDOM_FACTS.keys()) | defined
    assert document["known_by"].keys() == {name for name, value in document["facts"].items() if value is not None}
    ids = [entry["id"] for entry in document["rules"]]
    assert ids == sorted(ids)
    assert [entry["id"] for entry in document["rules"] if entry["governs"]] == row["rule_ids"]
    assert {frozenset(entry) for entry in document["rules"]} == {
        frozenset({"authority", "flag", "governs", "id", "outcome"})
    }
    start, end = (int(document["in_force"][key]) for key in ("from", "to"))
    assert start <= NOW < end == parse_instant("2026-11-10")


def test_a_back_dated_event_does_not_escape_a_newer_rule() -> None:
    honest = access("sha256:b")
    back_dated = judge({**honest, "event_time": 0, "time_basis": "both", "faults": ["time.outside_window"]})
    assert (back_dated["governing"], back_dated["flagged"]) == ("review", True)
    assert "us-ear/access-actor" in back_dated["rule_ids"]
    document = json.loads(back_dated["facts"])
    assert document.keys() == {"v", "both"}
    at_event, at_arrival = document["both"]
    assert at_event["governing"] == "no_license_required"
    assert json.dumps(at_arrival, sort_keys=True) == json.dumps(json.loads(judge(honest)["facts"]), sort_keys=True)
    harmless = judge({**access("sha256:a"), "event_time": 0, "time_basis": "both"})
    assert (harmless["governing"], harmless["flagged"]) == ("review", False)


def test_a_post_dated_event_does_not_escape_an_older_rule() -> None:
    event = {**access("sha256:b"), "event_time": 7_258_118_400 * 10**9, "time_basis": "both"}
    assert judge(event)["flagged"]


def test_times_beyond_64_bits_are_judged_as_the_far_future() -> None:
    table = spans({**access("sha256:b"), "time_basis": "both"})
    column = table.schema.get_field_index("event_time")
    table = table.set_column(column, "event_time", pa.array([2**64 - 1], pa.uint64()))
    assert Determiner(REFERENCE).determine(table).column("flagged").to_pylist() == [True]


def test_basis_arrival_judges_the_arrival() -> None:
    event = {**access("sha256:b"), "event_time": 0, "time_basis": "arrival", "faults": ["time.missing"]}
    row = judge(event)
    assert json.loads(row["facts"])["in_force"]["to"] == str(parse_instant("2026-11-10"))
    assert row["flagged"]


@pytest.mark.parametrize(
    ("faults", "governing"),
    [
        ([], "no_license_required"),
        (["time.end_before_start"], "no_license_required"),
        (["attribute.wrong_type"], "review"),
        (["attribute.duplicate_key", "time.end_before_start"], "review"),
    ],
)
def test_a_fault_of_content_asks_for_a_review(faults: list[str], governing: str) -> None:
    row = judge({**access("sha256:a"), "faults": faults})
    assert row["governing"] == governing
    assert json.loads(row["facts"])["governing"] == "no_license_required"


def test_rows_stay_in_order_and_slices_and_plain_columns_give_the_same() -> None:
    rng = np.random.default_rng(7)
    kinds = [
        access("sha256:a"),
        access("sha256:b"),
        provision(**{"cloud.region": "us-east-1", "host.type": "p5.48xlarge"}),
    ]
    kinds += [
        {**access("sha256:c"), "faults": ["attribute.limit"]},
        {**access("sha256:zz"), "client.address": "8.8.8.8"},
    ]
    events = [kinds[index] for index in rng.integers(0, len(kinds), 500)]
    expected = [judge(event) for event in kinds]
    table = spans(*events)
    for found in (
        Determiner(REFERENCE).determine(table),
        Determiner(REFERENCE).determine(spans(*events, encoded=False)),
        pa.concat_tables([Determiner(REFERENCE).determine(part) for part in (table.slice(0, 123), table.slice(123))]),
        Determiner(REFERENCE).determine(
            pa.concat_tables([spans(*events[:200]), spans(*events[200:])], promote_options="default")
        ),
    ):
        assert found.schema == DETERMINATIONS
        rows = found.to_pylist()
        assert len(rows) == len(events)
        assert all(row == expected[kinds.index(event)] for row, event in zip(rows, events, strict=True))


def test_no_rows() -> None:
    found = Determiner(REFERENCE).determine(spans(access("sha256:a")).slice(0, 0))
    assert found.num_rows == 0 and found.schema == DETERMINATIONS


def test_memory_is_bounded_and_forgetting_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determine, "_MOST_REMEMBERED", 3)
    monkeypatch.setattr("auditspan.policy.resolve._MOST_REMEMBERED", 20)
    determiner = Determiner(REFERENCE)
    fresh = judge(access("sha256:b"))
    for number in range(12):
        actors = [f"sha256:unknown-{number}-{index}" for index in range(10)]
        events = [access(actor, **{"export_control.quantity": index}) for index, actor in enumerate(actors)]
        rows = determiner.determine(spans(*events, access("sha256:b"))).to_pylist()
        assert rows[-1] == fresh
        assert len(determiner._remembered) <= 3
        assert max(aspect.size for aspect in determiner._resolver.aspects) <= 20 + 11


def test_5000_parties_are_determined_fast_enough() -> None:
    parties, rows = 5_000, 50_000
    lines = (
        f"  - {{id: p{i}, name: P{i}, country: {'CN' if i % 7 else 'US'}, ultimate_parent: self, credentials: [c{i}]}}"
        for i in range(parties)
    )
    determiner = Determiner(Reference.packaged(("parties:\n" + "\n".join(lines)).encode()))
    actors = pa.DictionaryArray.from_arrays(
        pa.array(np.random.default_rng(1).integers(0, parties, rows), pa.int32()),
        pa.array([f"c{i}" for i in range(parties)]),
    )
    table = spans(access("c0")).take(pa.array(np.zeros(rows, dtype=np.int64)))
    table = table.set_column(table.schema.get_field_index("audit.actor.id"), "audit.actor.id", actors)
    determiner.determine(table)
    started = time.process_time()
    determiner.determine(table)
    # The promise is 150,000 rows a CPU-second, measured by the benchmark; a third of it allows for a busy machine.
    assert rows / (time.process_time() - started) > 50_000
    assert determiner.hits >= 4_900


def weights(**attributes: Any) -> dict[str, Any]:
    declared = b"".join(
        run_of(KeyValue(key=name, value=value).SerializeToString()) for name, value in attributes.items()
    )
    return {
        "class": "model.transfer",
        "audit.actor.id": "sha256:a",
        "export_control.destination.country": "JP",
        "export_control.weights_published": False,
        "export_control.training_operations": "1e24",
        **({DECLARED: declared} if declared else {}),
    }


def test_what_an_emitter_declares_decides() -> None:
    clear = judge(weights())
    use = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="nuclear")]))
    nuclear = judge(weights(**{semconv.KNOWN_END_USES: use}))
    assert (clear["governing"], nuclear["governing"]) == ("no_license_required", "license_required")
    document = json.loads(nuclear["facts"])
    assert document["facts"]["known_end_uses"] == ["nuclear"]
    assert document["known_by"]["known_end_uses"] == semconv.KNOWN_END_USES
    assert json.loads(clear["facts"])["known_by"]["known_end_uses"] == "absent"


def test_a_declaration_that_cannot_be_read_is_unknown_and_never_clears() -> None:
    unreadable = judge(weights(**{semconv.KNOWN_VIOLATION: AnyValue(string_value="perhaps")}))
    assert unreadable["governing"] == "review"
    assert json.loads(unreadable["facts"])["facts"]["known_violation"] is None
    hostile = {**weights(), DECLARED: b"\x0a\xff"}
    assert judge(hostile)["governing"] == "review"


@pytest.mark.parametrize(("registered", "declared"), [("CN", "US"), ("US", "CN"), ("CN", "nowhere")])
def test_a_declared_nationality_does_not_undo_the_one_of_the_registry(registered: str, declared: str) -> None:
    """Of conflicting evidence the most restrictive drives the outcome."""
    party = f"id: p, name: P, country: US, ultimate_parent: self, nationality: {registered}, credentials: ['sha256:a']"
    registry = f"parties: [{{{party}}}]"
    event = weights(**{semconv.END_USER_NATIONALITY: AnyValue(string_value=declared)})
    row = judge(event, Reference.packaged(registry.encode()))
    assert (row["governing"], row["flagged"]) == ("review", True)
    assert "us-ear/weights-controlled-recipient" in row["rule_ids"]


def test_relations_that_cannot_be_read_do_not_undo_those_of_the_registry() -> None:
    registry = b"""parties: [{id: p, name: P, country: SG, ultimate_parent: self, credentials: ["sha256:a"],
        relations: [{kind: supplier, country: CN}]}]"""
    pack = b"""{pack: own, version: "1", title: own, source: the board, rules: [{id: own/relations,
        title: tied to China, citations: [the board], authority: company_policy, status: verified,
        effective: {from: 2020-01-01}, when: [size(chinese_relations) > 0],
        outcome: license_required, flag: true, explanation: tied}]}"""
    reference = Reference.load({**Reference.packaged_artifacts(registry), "own.yaml": pack}, 1)
    unreadable = {semconv.CHINESE_RELATIONS: AnyValue(int_value=5)}
    for more in ({}, unreadable):
        row = judge(weights(**more), reference)
        assert (row["governing"], row["flagged"]) == ("license_required", True)
        assert "own/relations" in row["rule_ids"]
    # Where the registry names none, what is declared may be one.
    nobody = Reference.load(
        {**Reference.packaged_artifacts(registry.split(b"relations:")[0] + b"}]"), "own.yaml": pack}, 1
    )
    assert judge(weights(), nobody)["governing"] == "no_license_required"
    assert judge(weights(**unreadable), nobody)["governing"] == "review"


def test_two_models_of_which_one_is_named_in_a_letter_leave_the_model_unknown() -> None:
    asked = {"gen_ai.request.model": "named-model-1", "gen_ai.response.model": "other"}
    assert json.loads(judge(access("sha256:a", **asked))["facts"])["facts"]["model"] is None
    same = dict.fromkeys(asked, "other")
    assert json.loads(judge(access("sha256:a", **same))["facts"])["facts"]["model"] == "other"
