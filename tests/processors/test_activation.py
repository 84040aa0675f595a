"""What an officer activates comes into force whole, in order, and while events go on being sealed."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.export import export_package
from auditspan.exporters.evidence.verify import verify_package
from auditspan.processors import activation
from auditspan.processors.activation import Activated, ActivationUncertain, Activator, Change, NotActivated
from auditspan.processors.references import References, epoch_of
from house_rules import HOUSE
from scripted_assignment import Scripted
from sealing_deployment import Deployment, artifacts, running
from sealing_inputs import NOW, access, request
from test_group import ALL, World, running_roles
from test_pipeline import control_entries, leaves_of, opened, prove, signed_everything
from waiting import until

from auditspan.ledger.trust import Trust
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference
from auditspan.policy.snapshot import IN_FORCE
from auditspan.semconv import EventClass

REGISTRY = b"parties: []\n# reviewed\n"


def change(**files: bytes) -> Change:
    return Change("m.berger", "the board wants it", {f"{name}.yaml": text for name, text in files.items()})


def data_leaves(deployment: Deployment | World, partition: str = "events-0") -> list[dict[str, Any]]:
    mine = [head["log_id"] for head in opened(deployment.store) if head["body"]["partition"] == partition]
    return [json.loads(leaf) for log_id in mine for leaf in leaves_of(deployment.store, log_id)]


def judged_by_their_batch(leaves: list[dict[str, Any]]) -> dict[int, set[str]]:
    """Determinations by epoch; every event names the epoch of the batch that it is in."""
    found: dict[int, set[str]] = {}
    batch: list[dict[str, Any]] = []
    for leaf in leaves:
        batch.append(leaf)
        if leaf["class"] == "audit.batch":
            epoch = leaf["body"]["epoch"]["number"]
            assert {one["reference_epoch"] for one in batch} == {epoch}
            found.setdefault(epoch, set()).update(one["determination"] for one in batch if "determination" in one)
            batch = []
    return found


def number_of(done: Activated) -> int:
    return int(done.body["number"])


@pytest.fixture
def deployment(tmp_path: Path) -> Iterator[Deployment]:
    with running(tmp_path) as given:
        yield given


def test_events_go_on_being_sealed_while_a_reference_is_loaded(
    tmp_path: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading takes as long as it takes: here until it is let go, in the role's process, not in the officer's."""
    loading, go_on = threading.Event(), threading.Event()
    load = Reference.load

    def slow(*given: Any, **named: Any) -> Reference:
        if threading.current_thread().name == "auditspan-reference":
            loading.set()
            assert go_on.wait(60)
        return load(*given, **named)

    monkeypatch.setattr(Reference, "load", slow)
    # As from another process: this one's roles have nothing in memory, and find it in the store.
    elsewhere = Activator(deployment.journal, deployment.store.reader, References(artifacts(), tmp_path / "reference"))
    done = elsewhere.activate(change(house=HOUSE), within=60)
    assert (done.sealed, number_of(done)) == (True, 2)
    assert loading.wait(60)
    for k in range(5):
        deployment.append("events-0", [request(access(k))], NOW)
        until(lambda k=k: [x for x in data_leaves(deployment) if x.get("sequence") == k])
    go_on.set()

    def under_the_new_one() -> bool:
        deployment.append("events-0", [request(access(len(data_leaves(deployment)) + 1000))], NOW)
        return any(leaf["reference_epoch"] == 2 for leaf in data_leaves(deployment))

    until(under_the_new_one)
    until(lambda: signed_everything(deployment))
    leaves = data_leaves(deployment)
    assert [x["reference_epoch"] for x in leaves if x.get("sequence") in range(5)] == [1] * 5
    assert judged_by_their_batch(leaves) == {1: {"review"}, 2: {"prohibited"}}
    assert all(
        x["flagged"] and "house/no-access" in x["rule_ids"] for x in leaves if x.get("determination") == "prohibited"
    )


def test_once_it_returns_everything_that_comes_is_judged_by_it(deployment: Deployment) -> None:
    deployment.append("events-0", [request(access(0))], NOW)
    done = deployment.pipeline.activate(change(house=HOUSE))
    assert done.sealed and done.in_use and number_of(done) == 2
    deployment.append("events-0", [request(access(1))], NOW)
    deployment.pipeline.stop()
    after = [leaf for leaf in data_leaves(deployment) if leaf.get("sequence") == 1]
    assert [(x["reference_epoch"], x["determination"]) for x in after] == [(2, "prohibited")]
    judged_by_their_batch(data_leaves(deployment))
    prove(deployment.store)
    # What the control log says is what was answered, by whom and why.
    control = next(head["log_id"] for head in opened(deployment.store) if head["body"]["partition"] == "control")
    leaf = json.loads(deployment.store.log_leaves(control, [EventClass.REFERENCE_ACTIVATED])["header"][-1].as_py())
    assert leaf["body"] == {"actor": "officer:m.berger", "body": done.body}
    assert (done.body["officer"], done.body["reason"]) == ("m.berger", "the board wants it")
    assert [a["name"] for a in done.body["artifacts"] if "officer" in a] == ["house.yaml"]


BROKEN: list[tuple[dict[str, bytes], str]] = [
    ({"house": HOUSE.replace(b"act ==", b"acts ==")}, r"house\.yaml:12"),
    ({"house": HOUSE.replace(b"prohibited", b"forbidden")}, r"house\.yaml:13"),
    ({"house": HOUSE + b"  - [\n"}, "not YAML"),
    (
        {"house": HOUSE.replace(b"act == 'access'", b"destination_country == 'EU'")},
        r"house\.yaml:12.*'EU' is no country",
    ),
    ({"directives": HOUSE}, r"directives\.yaml:1: this pack is house\.yaml"),
    ({"house": HOUSE.replace(b"'access'", b"'export'")}, r"house\.yaml:12.*'export' is no word that act has"),
    (
        {"parties": b"parties:\n  - {id: a, name: A, listings: [SDN List]}\n  - {id: b, name: B, listings: [x]}\n"},
        r"parties\.yaml:3: there is no list 'x'",
    ),
    ({"us-ear": b""}, "us-ear"),
    (
        {"house": HOUSE.replace(b"company_policy", b"directive\n    addressee: acme")},
        r"house\.yaml:10: the letter house/no-access binds 'acme', and nothing says which company",
    ),
    ({"second": HOUSE.replace(b"house", b"us-ear")}, "given twice"),
    ({"parties": b"parties: 3\n"}, r"parties\.yaml"),
    ({"adoptions": b'adopted: [{pack: us-ear, by: somebody, reason: "so"}]\n'}, r"adoptions\.yaml:1.*'somebody'"),
    ({"adoptions": b'adopted: [{pack: none, by: m.berger, reason: "so"}]\n'}, "no pack 'none'"),
    ({"deployment": b"exporter: nobody\n"}, "'nobody' is no party"),
]


def test_what_is_broken_is_not_journaled_and_the_good_one_stays(deployment: Deployment) -> None:
    before = deployment.journal.high_water_mark("control")
    for files, says in BROKEN:
        for dry_run in (True, False):
            with pytest.raises(PolicyError, match=says) as caught:
                deployment.pipeline.activate(change(**files), dry_run=dry_run)
            assert caught.value.remedy
    assert not [
        said
        for said in activation.said_from(deployment.journal, before)
        if said["class"] == EventClass.REFERENCE_ACTIVATED
    ]
    deployment.append("events-0", [request(access(0))], NOW)
    deployment.pipeline.stop()
    assert judged_by_their_batch(data_leaves(deployment)) == {1: {"review"}}


def test_what_is_journaled_is_never_called_refused(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(deployment.journal, "wait", lambda *_: False)  # as a journal whose reader lags far behind
        with pytest.raises(ActivationUncertain, match="is journaled at") as caught:
            deployment.pipeline.activate(change(house=HOUSE))
    assert "policy show" in caught.value.remedy
    until(lambda: len(control_entries(deployment.store, "audit.reference.activated")) == 2)
    again = deployment.pipeline.activate(change(house=HOUSE))
    assert (again.changes, number_of(again)) == (False, 2)


def test_what_makes_no_sense_is_refused_and_what_changes_nothing_changes_nothing(deployment: Deployment) -> None:
    pipeline = deployment.pipeline
    for wrong in (
        Change("m.berger", " \n", {"house.yaml": HOUSE}),
        Change("m.berger", "x" * 1001, {"house.yaml": HOUSE}),
        Change("m.berger", "nothing at all"),
        Change("m.berger", "not an officer's", withdrawn=["us-ear.yaml"]),
        Change("m.berger", "nothing in it to adopt", adopted="us-ear"),
        Change("m.berger", "too many", {f"countries{n}.yaml": HOUSE for n in range(200)}),
    ):
        with pytest.raises(NotActivated) as caught:
            pipeline.activate(wrong)
        assert caught.value.remedy
    tried = pipeline.activate(change(house=HOUSE), dry_run=True)
    assert (tried.offset, tried.changes, number_of(tried)) == (None, True, 2)
    assert number_of(pipeline.activate(change(house=HOUSE))) == 2
    again = pipeline.activate(change(house=HOUSE))
    assert (again.offset, again.changes, number_of(again)) == (None, False, 2)
    until(lambda: signed_everything(deployment))
    assert [epoch["number"] for epoch in control_entries(deployment.store, "audit.reference.activated")] == [1, 2]


def test_an_adoption_governs_and_a_withdrawal_ends_it(deployment: Deployment) -> None:
    adopt = Change("m.berger", "the board: “yes”, from now on\nand for good", adopted="controlled-ai-assets")
    adopted = deployment.pipeline.activate(adopt)
    entry = next(a for a in adopted.body["artifacts"] if a["name"] == "adoptions.yaml")
    text = deployment.store.artifact(entry["sha256"])
    reference = Reference.load({**artifacts(), "adoptions.yaml": text}, 2)
    assert reference.adopted == {"controlled-ai-assets"}
    assert not deployment.pipeline.activate(adopt).changes
    # Another officer may add an adoption, and leaves that of the first as it is.
    proposed = HOUSE.replace(b"authority: company_policy", b"authority: proposal")
    both = Change("l.ito", "mine too", {"house.yaml": proposed}, adopted="house")
    assert number_of(deployment.pipeline.activate(both)) == 3
    with pytest.raises(PolicyError, match="no pack 'house'"):
        deployment.pipeline.activate(Change("l.ito", "away", withdrawn=["house.yaml"]))
    ended = deployment.pipeline.activate(Change("l.ito", "away", withdrawn=["house.yaml", "adoptions.yaml"]))
    assert {a["name"]: a["sha256"] for a in ended.body["artifacts"]} == {
        a.name: a.sha256 for a in Reference.packaged().artifacts
    }
    assert not [a for a in ended.body["artifacts"] if "officer" in a]


def test_a_withdrawal_from_elsewhere_brings_back_what_the_deployment_had(
    tmp_path: Path, deployment: Deployment
) -> None:
    """A workstation with another version and no registry: nothing of its own comes into force."""
    workstation = {**artifacts(), "parties.yaml": b"parties: []\n# none here\n"}
    workstation["us-ear.yaml"] += b"# an older law\n"
    references = References(workstation, tmp_path / "workstation")
    references.folder.mkdir()
    officer = Activator(deployment.journal, deployment.store.reader, references, elsewhere=True)
    first = officer.activate(
        change(**{"us-ear": artifacts()["us-ear.yaml"] + b"# corrected\n", "parties": REGISTRY, "house": HOUSE}),
        within=60,
    )
    again = officer.activate(change(parties=REGISTRY + b"# and again\n"), within=60)
    assert (number_of(first), number_of(again)) == (2, 3)
    names = ["us-ear.yaml", "parties.yaml", "house.yaml"]
    ended = officer.activate(Change("l.ito", "away", withdrawn=names), within=60)
    assert {a["name"]: a["sha256"] for a in ended.body["artifacts"]} == {
        a.name: a.sha256 for a in Reference.packaged().artifacts
    }
    assert not [a for a in ended.body["artifacts"] if "officer" in a]


def test_a_withdrawal_from_elsewhere_is_refused_where_nothing_was_in_force_before(
    tmp_path: Path, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    references = References(artifacts(), tmp_path / "reference")
    officer = Activator(deployment.journal, deployment.store.reader, references, elsewhere=True)
    officer.activate(change(parties=REGISTRY), within=60)
    known = activation.journaled_epochs
    # As if the control log began with an epoch in which officers held it.
    monkeypatch.setattr(activation, "journaled_epochs", lambda *given: known(*given)[1:])
    with pytest.raises(NotActivated, match="nothing says what would take its place") as caught:
        officer.activate(Change("m.berger", "away", withdrawn=["parties.yaml"]))
    assert "Activate the parties.yaml" in caught.value.remedy


def test_two_at_once_come_one_after_the_other_and_both_are_sealed(deployment: Deployment) -> None:
    """Also from two processes that both looked before either had journaled: the order of the journal decides."""
    both_looked = threading.Barrier(2)
    looked: set[str] = set()
    known = activation.journaled_epochs

    def together(*given: Any) -> Any:
        found = known(*given)
        name = threading.current_thread().name
        if name not in looked:
            looked.add(name)
            both_looked.wait(60)
        return found

    done: dict[str, Activated] = {}

    def run(name: str, files: dict[str, bytes]) -> None:
        references = References(artifacts(), deployment.root / "reference")
        activator = Activator(deployment.journal, deployment.store.reader, references)
        done[name] = activator.activate(Change(name, "at once", files), within=60)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(activation, "journaled_epochs", together)
        threads = [
            threading.Thread(target=run, args=("l.ito", {"house.yaml": HOUSE})),
            threading.Thread(target=run, args=("m.berger", {"parties.yaml": REGISTRY})),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    first, second = sorted(done.values(), key=number_of)
    assert (number_of(first), number_of(second)) == (2, 3)
    assert {a["name"]: a["officer"] for a in second.body["artifacts"] if "officer" in a} == {
        "house.yaml": "l.ito",
        "parties.yaml": "m.berger",
    }
    sealed = control_entries(deployment.store, "audit.reference.activated")
    assert [epoch["number"] for epoch in sealed] == [1, 2, 2, 3], "who came second has said so once in vain"
    assert (sealed[1], sealed[3]) == (first.body, second.body)

    def under_the_last_one() -> bool:
        deployment.append("events-0", [request(access(len(data_leaves(deployment))))], NOW)
        return judged_by_their_batch(data_leaves(deployment)).get(3) == {"prohibited"}

    until(under_the_last_one)
    deployment.pipeline.stop()
    evidence_is_valid(deployment)


def evidence_is_valid(deployment: Deployment) -> dict[str, Any]:
    """A package over all epochs, with the artifacts of each, verified."""
    from sealing_deployment import KEY

    folder = deployment.root / "package"
    export_package(
        deployment.store,
        lambda digest: (deployment.root / "reference" / digest).read_bytes(),
        KEY,
        "plant",
        folder,
        time_from=0,
        time_to=2 * NOW,
        where=None,
        previous=None,
        record=lambda body: None,
    )
    report = verify_package(folder, Trust("plant", (KEY.public_key(),)))
    assert report.exit_code == 0, report.to_json()
    return {path.name: path.read_bytes() for path in (folder / "reference").iterdir()}


def test_evidence_over_a_change_of_epoch_has_the_artifacts_of_both(deployment: Deployment) -> None:
    deployment.append("events-0", [request(access(0))], NOW)
    until(lambda: any(leaf.get("sequence") == 0 for leaf in data_leaves(deployment)))
    changed = artifacts()["controlled-ai-assets.yaml"] + b"# reviewed\n"
    deployment.pipeline.activate(
        Change("m.berger", "reviewed", {"controlled-ai-assets.yaml": changed, "house.yaml": HOUSE})
    )
    deployment.append("events-0", [request(access(1))], NOW)
    until(lambda: any(leaf.get("sequence") == 1 for leaf in data_leaves(deployment)))
    deployment.pipeline.stop()
    inside = set(evidence_is_valid(deployment).values())
    assert inside == {*artifacts().values(), changed, HOUSE}


def test_what_was_journaled_when_the_process_died_is_in_force_at_the_next_start(tmp_path: Path) -> None:
    with running(tmp_path) as deployment:
        until(lambda: signed_everything(deployment))
    # As if killed after the journal had it: nothing has sealed it.
    dead = Deployment(tmp_path)
    try:
        references = References(artifacts(), tmp_path / "reference")
        done = Activator(dead.journal, dead.store.reader, references, starts=True).activate(change(house=HOUSE))
        assert (done.sealed, number_of(done)) == (False, 2)
        assert len(control_entries(dead.store, "audit.reference.activated")) == 1
    finally:
        dead.signer.close()
        dead.store.close()
        dead.journal.close()
    for start in range(2):
        with running(tmp_path) as deployment:
            deployment.append("events-0", [request(access(start))], NOW)
            deployment.pipeline.stop()
            leaves = data_leaves(deployment)
            assert [x["reference_epoch"] for x in leaves if x.get("sequence") == start] == [2]
            judged = judged_by_their_batch(leaves)
            assert (judged[2], judged.get(1, set())) == ({"prohibited"}, set())
            assert len(control_entries(deployment.store, "audit.reference.activated")) == 2


def test_without_a_service_what_a_start_would_bring_comes_first(tmp_path: Path) -> None:
    """The change is checked together with what it will be in force with."""
    with running(tmp_path) as deployment:
        until(lambda: signed_everything(deployment))
    stopped = Deployment(tmp_path)
    try:
        upgraded = {**artifacts(), "controlled-ai-assets.yaml": artifacts()["controlled-ai-assets.yaml"] + b"# later\n"}
        references = References(upgraded, tmp_path / "reference")
        activator = Activator(stopped.journal, stopped.store.reader, references, starts=True)
        end = stopped.journal.high_water_mark("control")
        assert number_of(activator.activate(change(house=HOUSE), dry_run=True)) == 3
        assert stopped.journal.high_water_mark("control") == end
        done = activator.activate(change(house=HOUSE))
        assert number_of(done) == 3
        assert "officer" not in done.before and done.before["number"] == 2
    finally:
        stopped.signer.close()
        stopped.store.close()
        stopped.journal.close()
    with running(tmp_path, artifacts=upgraded) as deployment:
        assert control_entries(deployment.store, "audit.reference.activated")[1:] == [done.before, done.body]


def test_what_cannot_be_announced_is_sealed_and_announced_later_and_the_one_before_grows_old(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("auditspan.processors.control_role._ANNOUNCE_AGAIN", 0.1)
    folder = deployment.root / "reference"
    in_force = folder / IN_FORCE
    until(in_force.is_file)
    in_the_way = folder / f"{IN_FORCE}.{os.getpid()}.tmp"
    in_the_way.mkdir()
    assert deployment.pipeline.activate(change(house=HOUSE)).sealed
    until(lambda: "cannot be announced" in caplog.text)
    os.utime(in_force, (1_000, 1_000))
    tried = caplog.text.count("cannot be announced")
    until(lambda: caplog.text.count("cannot be announced") >= tried + 2)
    assert in_force.stat().st_mtime == 1_000
    assert json.loads(in_force.read_bytes())["number"] == 1
    deployment.append("events-0", [request(access(0))], NOW)
    until(lambda: any(leaf.get("sequence") == 0 for leaf in data_leaves(deployment)))
    until(lambda: signed_everything(deployment))
    in_the_way.rmdir()
    until(lambda: json.loads(in_force.read_bytes())["number"] == 2)
    os.utime(in_force, (1_000, 1_000))
    until(lambda: in_force.stat().st_mtime > 1_000)


def test_roles_in_another_process_judge_under_what_was_activated_here(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        first, second = Scripted("control", "events-0"), Scripted("events-1")
        one, two = world.process(first), world.process(second)
        until(lambda: running_roles(one, "control", "events-0") and running_roles(two, "events-1"))
        (tmp_path / "reference-officer").mkdir()
        # As a command does that has the deployment's keys, on a machine of its own.
        officer = Activator(world.journal, world.store.reader, References(artifacts(), tmp_path / "reference-officer"))
        done = officer.activate(change(house=HOUSE), within=60)
        assert done.sealed

        def under_the_new_one(partition: int) -> bool:
            world.send(partition, sum(stream == f"stream-{partition}" for stream, _ in world.sent))
            return 2 in judged_by_their_batch(data_leaves(world, f"events-{partition}"))

        until(lambda: under_the_new_one(0) and under_the_new_one(1))
        until(world.settled)
        for partition in ("events-0", "events-1"):
            assert judged_by_their_batch(data_leaves(world, partition))[2] == {"prohibited"}
        # The control log's next owner, with artifacts of its own, leaves it in force.
        first.give("events-0")
        until(lambda: "control" in first.released_)
        second.give("control", "events-1")
        until(lambda: running_roles(two, "control", "events-1"))
        assert [e["number"] for e in control_entries(world.store, "audit.reference.activated")] == [1, 2]
        assert epoch_of(done.body).number == 2
        assert set(ALL) == {"control", "events-0", "events-1"}
    finally:
        for pipeline in world.pipelines:
            pipeline.stop()
        world.store.close()
        world.journal.close()
