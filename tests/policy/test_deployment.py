"""Who runs the deployment is a sealed artifact, and a party of the registry."""

from __future__ import annotations

import json

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.activation import Activation
from auditspan.policy.adoptions import adopted_packs, check_adopters, with_adoption
from auditspan.policy.decision import Decider
from auditspan.policy.deployment import DEPLOYMENT, RequestDemands

PARTIES = "parties: [{id: “acme” é, name: Acme}]\n".encode()


def test_the_exporter_is_read_from_the_artifact_and_from_nothing_else() -> None:
    assert Reference.packaged().exporter is None
    artifacts = Reference.packaged_artifacts(PARTIES, "“acme” é")
    assert Reference.load(artifacts, 1).exporter == "“acme” é"
    (artifact,) = (one for one in Reference.load(artifacts, 1).artifacts if one.name == DEPLOYMENT)
    assert artifact.kind == "deployment" and artifact.version
    for text, says in (
        (b"exporter: nobody\n", "deployment.yaml:1: the exporter 'nobody' is no party"),
        (b"exporter: [a]\n", "deployment.yaml:1"),
        (b"exporters: acme\n", "deployment.yaml:1"),
        (b"", "deployment.yaml"),
    ):
        with pytest.raises(PolicyError, match=says) as caught:
            Reference.load({**artifacts, DEPLOYMENT: text}, 1)
        assert caught.value.remedy


LETTER = b"""pack: directive-acme
version: "1"
title: A letter
source: the letter
rules:
  - id: directive-acme/weights
    title: Weights need a licence
    citations: ["letter of 1 December"]
    authority: directive
    status: verified
    addressee: acme
    effective: {from: 2020-01-01}
    when: [act == 'transfer', item_kind == 'model_weights', destination_country == 'JP']
    outcome: license_required
    explanation: "a letter binds {exporter}"
"""
WEIGHTS = {"audit.event.class": "model.transfer", "export_control.destination.country": "JP"}
FACTS = {"act": "transfer", "item_kind": "model_weights", "destination_country": "JP"}


@pytest.mark.parametrize("asked", [WEIGHTS, FACTS])
@pytest.mark.parametrize(
    ("more", "registry", "exporter", "says"),
    [
        # The same letter in a pack of one's own, and reported of others in the one that ships.
        ("directive-acme.yaml", b"parties: []", None, "review"),
        ("directives.yaml", b"parties: []", None, ""),
        ("directives.yaml", b"parties: [{id: acme, name: Acme}]", None, "review"),
        ("directive-acme.yaml", b"parties: [{id: acme, name: Acme}]", "acme", "license_required"),
        ("directive-acme.yaml", b"parties: [{id: other, name: Other}]", "other", ""),
    ],
)
def test_a_letter_never_vanishes_where_nobody_says_who_runs_the_deployment(
    asked: dict[str, str], more: str, registry: bytes, exporter: str | None, says: str
) -> None:
    pack = LETTER.replace(b"directive-acme", more.removesuffix(".yaml").encode())
    reference = Reference.load({**Reference.packaged_artifacts(registry, exporter), more: pack}, 1)
    document = json.loads(Decider(reference).decide(asked, "2026-11-01").document)
    rules = {rule["id"]: rule["outcome"] for rule in document["rules"]}
    assert rules.get(f"{more.removesuffix('.yaml')}/weights", "") == says
    if says == "review":
        (rule,) = (rule for rule in reference.packs.rules if rule.addressee == "acme")
        assert "exporter" in reference.missing_facts().among(document["facts"]).of_rule(rule)


def test_an_epoch_says_which_officer_answers_for_what() -> None:
    artifacts = Reference.packaged_artifacts(PARTIES)
    given = Activation("m.berger", "reviewed", {"parties.yaml": "l.ito"})
    reference = Reference.load(artifacts, 7, given)
    body = reference.to_control_body()
    assert (body["officer"], body["reason"]) == ("m.berger", "reviewed")
    assert {a["name"]: a.get("officer") for a in body["artifacts"] if "officer" in a} == {"parties.yaml": "l.ito"}  # type: ignore[union-attr, index, attr-defined]
    # As another version of the software reads it, its digest is that of the sealed body.
    sealed = {**body, "software": "auditspan 0.0.1"}
    again = Reference.load(artifacts, 7, Activation.of(sealed))
    assert again.to_control_body() == sealed
    assert again.digest != reference.digest
    # What was sealed before there were officers says nothing of them.
    assert "officer" not in Reference.load(artifacts, 1).to_control_body()


def test_an_adoption_is_added_once_and_in_the_name_of_who_adopts() -> None:
    first = with_adoption(None, "us-ear", "m.berger", "yes: “all”, 'of' it # and\nmore")
    assert adopted_packs(first, {"us-ear"}) == {"us-ear"}
    assert with_adoption(first, "us-ear", "l.ito", "again") == first
    second = with_adoption(first, "house", "l.ito", "true")
    assert adopted_packs(second, {"us-ear", "house"}) == {"us-ear", "house"}
    check_adopters(second, first, "l.ito")
    check_adopters(first, second, "nobody")
    with pytest.raises(PolicyError, match=r"'house' is adopted by 'l\.ito', and"):
        check_adopters(second, first, "m.berger")


def test_what_is_demanded_of_export_requests_is_sealed_beside_the_exporter() -> None:
    demands = RequestDemands(frozenset({"desk", "“desk” é"}), frozenset({"model.transfer"}))
    for exporter in (None, "“acme” é"):
        artifacts = Reference.packaged_artifacts(PARTIES, exporter, demands)
        reference = Reference.load(artifacts, 1)
        assert (reference.request_demands, reference.exporter) == (demands, exporter)
    plain = Reference.packaged_artifacts(PARTIES, "“acme” é")
    assert plain == Reference.packaged_artifacts(PARTIES, "“acme” é", RequestDemands()), "no demands, no new epoch"
    assert DEPLOYMENT not in Reference.packaged_artifacts(PARTIES, None, RequestDemands())
    assert Reference.load(plain, 1).request_demands == RequestDemands()
    for text in (b"requests: {required_for: [model.access]}\n", b"requests: {approvers: [a]}\n", b"{}\n"):
        with pytest.raises(PolicyError, match=r"deployment\.yaml:1"):
            Reference.load({**plain, DEPLOYMENT: text}, 1)
