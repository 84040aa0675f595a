"""Two officers clear a hit: on a real journal and store, sealed, and there again after another start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.activation import Activated, Activator, Change, NotActivated
from auditspan.processors.references import References
from sealing_deployment import Deployment, running
from sealing_inputs import NOW, access, request
from test_activation import data_leaves, evidence_is_valid, number_of
from test_pipeline import control_entries, prove
from waiting import until

from auditspan.policy.activation import Activation
from auditspan.policy.clearances import CLEARANCES, Clearance
from auditspan.policy.clearing import Clearing
from auditspan.policy.deployment import DEPLOYMENT
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference

LISTED = "Cambricon (Hong Kong) Co., Ltd."
HIT = ("Cambrian Hong Kong", "EL", "005407", LISTED, None)
TWO = Reference.packaged_artifacts(clearance_second_person=True)


def today() -> date:
    return datetime.now(UTC).date()


def now() -> int:
    return int(datetime.now(UTC).timestamp() * 1e9)


def clearing(act: Any, **changed: Any) -> Clearing:
    usual = {
        "name": HIT[0], "list": "EL", "entry": "005407", "listed_name": LISTED, "start": str(today()),
        "until": str(today() + timedelta(30)),
    }  # fmt: skip
    return Clearing(act, **{**usual, **changed})


def wanted(officer: str, act: Any, reason: str = "owner and register differ", **changed: Any) -> Change:
    return Change(officer, reason, cleared=clearing(act, **changed))


def sealed_reference(deployment: Deployment) -> Reference:
    """The snapshot of the epoch sealed last, from nothing but what the store and the folder keep."""
    body = control_entries(deployment.store, "audit.reference.activated")[-1]
    references = References({}, deployment.root / "reference")
    artifacts = references.contents(body, deployment.store)
    return Reference.load(artifacts, int(body["number"]), Activation.of(body))


def cleared(deployment: Deployment) -> Clearance | None:
    return sealed_reference(deployment).clearances.cleared(*HIT, now())


@pytest.fixture
def asks_for_two(tmp_path: Path) -> Iterator[Deployment]:
    with running(tmp_path, artifacts=TWO) as given:
        yield given


def test_two_officers_clear_a_hit_and_it_is_sealed(tmp_path: Path, asks_for_two: Deployment) -> None:
    pipeline = asks_for_two.pipeline
    first = pipeline.activate(wanted("m.berger", "clear"))
    assert first.sealed and first.in_use and number_of(first) == 2
    (one,) = sealed_reference(asks_for_two).clearances
    assert one.waits and cleared(asks_for_two) is None, "one officer alone suppresses nothing here"
    with pytest.raises(PolicyError, match="cannot be its second person"):
        pipeline.activate(wanted("m.berger", "second"))
    agreed = pipeline.activate(wanted("l.ito", "second", "register seen"))
    assert agreed.sealed and number_of(agreed) == 3
    found = cleared(asks_for_two)
    assert found is not None
    assert (found.by, found.second, found.reason) == ("m.berger", "l.ito", "owner and register differ")
    # What the control log sealed says who did what and why.
    sealed = control_entries(asks_for_two.store, "audit.reference.activated")
    assert [(body.get("officer"), body.get("reason")) for body in sealed[1:]] == [
        ("m.berger", "owner and register differ"), ("l.ito", "register seen"),
    ]  # fmt: skip
    assert sealed[-1] == agreed.body
    asks_for_two.append("events-0", [request(access(0))], NOW)
    until(lambda: any(leaf.get("sequence") == 0 for leaf in data_leaves(asks_for_two)))
    pipeline.stop()
    prove(asks_for_two.store)
    assert any(b"Cambrian Hong Kong" in content for content in evidence_is_valid(asks_for_two).values())
    asks_for_two.close()
    with running(tmp_path, artifacts=TWO) as again:
        until(lambda: len(control_entries(again.store, "audit.log.opened")) >= 1)
        assert control_entries(again.store, "audit.reference.activated")[-1] == agreed.body
        assert cleared(again) == found
        # And where the operator no longer asks for two, what waited goes on waiting.
        again.pipeline.activate(wanted("m.berger", "clear", name="Another Name"))
    with running(tmp_path, artifacts=Reference.packaged_artifacts()) as later:
        until(lambda: number_of_last(later) == 5)
        assert not sealed_reference(later).clearance_second_person
        assert [one.waits for one in sealed_reference(later).clearances] == [False, True]
        assert cleared(later) == found


def number_of_last(deployment: Deployment) -> int:
    return int(control_entries(deployment.store, "audit.reference.activated")[-1]["number"])


def test_anybody_ends_it_and_the_hit_is_back(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        deployment.pipeline.activate(wanted("m.berger", "clear"))
        assert cleared(deployment) is not None
        with pytest.raises(PolicyError, match=r"is cleared already, by m\.berger"):
            deployment.pipeline.activate(wanted("l.ito", "clear"))
        ended = deployment.pipeline.activate(wanted("l.ito", "end", "it is them after all", listed_name="", until=""))
        assert ended.sealed and cleared(deployment) is None
        assert ended.body["reason"] == "it is them after all"
        # The whole of it goes as every artifact does.
        deployment.pipeline.activate(wanted("m.berger", "clear"))
        deployment.pipeline.activate(Change("l.ito", "all of them", withdrawn=[CLEARANCES]))
        assert cleared(deployment) is None


def test_two_officers_at_once_on_two_machines_both_count(tmp_path: Path) -> None:
    """Whoever comes second is made anew upon the first: neither clearance takes the place of the other."""
    with running(tmp_path) as deployment:
        done: dict[str, Activated] = {}
        elsewhere = Activator(
            deployment.journal, deployment.store.reader, References({}, tmp_path / "reference"), elsewhere=True
        )
        # As if this one had looked before the other journaled: the first answer it gets is an old one.
        from auditspan.processors import activation

        known = activation.journaled_epochs
        old = known(deployment.journal, deployment.store.reader(), control_log(deployment))
        done["m.berger"] = deployment.pipeline.activate(wanted("m.berger", "clear"))
        answers = [old]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(activation, "journaled_epochs", lambda *given: answers.pop() if answers else known(*given))
            done["l.ito"] = elsewhere.activate(wanted("l.ito", "clear", name="Another Name"), within=60)
        assert [number_of(done[name]) for name in ("m.berger", "l.ito")] == [2, 3]
        assert [one.by for one in sealed_reference(deployment).clearances] == ["m.berger", "l.ito"]


def control_log(deployment: Deployment) -> str:
    from auditspan.processors.control import opened_logs

    return opened_logs(deployment.journal, deployment.store)[0].log_id


def test_one_officer_alone_does_not_lift_what_binds_two(asks_for_two: Deployment) -> None:
    pipeline = asks_for_two.pipeline
    yaml = (
        "clearances: [{name: A, list: EL, entry: '1', listed_name: B, by: m.berger, reason: so, "
        f"from: '{today()}', until: '{today() + timedelta(9)}'}}]\n"
    ).encode()
    with pytest.raises(PolicyError, match="asks for a second person"):
        pipeline.activate(Change("m.berger", "alone", {CLEARANCES: yaml}))
    for text in (b"clearance_second_person: false\n", b"exporter: acme\n"):
        files = {DEPLOYMENT: text, "parties.yaml": b"parties: [{id: acme, name: Acme}]\n", CLEARANCES: yaml}
        for given in (files, {name: files[name] for name in (DEPLOYMENT, "parties.yaml")}):
            with pytest.raises((NotActivated, PolicyError)) as caught:
                pipeline.activate(Change("m.berger", "alone", given))
            assert "asks for" in caught.value.message
    files = {DEPLOYMENT: b"exporter: acme\nclearance_second_person: true\n", "parties.yaml": files["parties.yaml"]}
    assert pipeline.activate(Change("m.berger", "who we are", files)).sealed
    ended = pipeline.activate(Change("m.berger", "away", withdrawn=[DEPLOYMENT]))
    assert sealed_reference(asks_for_two).clearance_second_person and ended.sealed


def test_a_file_of_clearances_is_activated_in_the_own_name_alone(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        first = deployment.pipeline.activate(wanted("m.berger", "clear"))
        sha256 = next(one["sha256"] for one in first.body["artifacts"] if one["name"] == CLEARANCES)
        text = deployment.store.artifact(sha256)
        assert text is not None
        longer = text.replace(str(today() + timedelta(30)).encode(), str(today() + timedelta(60)).encode())
        assert longer != text
        with pytest.raises(PolicyError, match=r"clearances\.yaml:\d+: .* is cleared by 'm.berger', and the credential"):
            deployment.pipeline.activate(Change("l.ito", "longer", {CLEARANCES: longer}))
        assert number_of(deployment.pipeline.activate(Change("m.berger", "longer", {CLEARANCES: longer}))) == 3
        found = cleared(deployment)
        assert found is not None and found.until == today() + timedelta(60)
