"""Deciding before the act: under the epoch in force, never under half of one, and as fast as promised."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from epoch_in_force import NO_H200_FOR_ORCHID, PARTIES, put_in_force
from waiting import until

import auditspan
from auditspan import semconv
from auditspan.errors import AuditSpanError
from auditspan.policy.decision import Decider, FactsInvalid, instant_of
from auditspan.policy.reference import Reference
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.snapshot import IN_FORCE, Snapshot, SnapshotUnavailable, confirm

H200_FOR_ORCHID = {
    "audit.event.class": "accelerator.provision",
    "audit.actor.id": "sha256:harbour",
    "host.type": "p5en.48xlarge",
    "cloud.region": "us-east-1",
    "export_control.end_user": "orchid",
    "export_control.quantity": 2,
}
GIVEN = {"act": "transfer", "accelerator_model": "H200", "destination_country": "CN"}


@pytest.fixture(scope="module")
def decider() -> Decider:
    return Decider(Reference.packaged(PARTIES, 7))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reference"


def test_declared_facts_give_outcomes_rules_citations_and_a_remedy(decider: Decider) -> None:
    found = decider.decide(GIVEN, "2026-11-01")
    assert (found.text, found.enforced, found.governing, found.flagged) == (*["license_required"] * 3, True)
    assert found.eccn == "3A090.a"
    assert "us-ear/3A090.a-d145" in found.rule_ids
    assert "88 FR 73458" in found.citations
    assert "TPP of 15832" in found.why
    assert "licence" in found.remedy
    assert (found.epoch, found.digest, found.at) == (7, decider.reference.digest, parse_instant("2026-11-01"))
    assert json.loads(json.dumps(found.to_json()))["epoch"] == {"number": 7, "digest": found.digest}


def test_the_rule_time_chooses_the_rule(decider: Decider) -> None:
    assert decider.decide(GIVEN, "2022-10-20").governing == "no_license_required"
    assert decider.decide(GIVEN, "2022-10-21").governing != "no_license_required"


def test_attributes_of_a_record_are_resolved(decider: Decider) -> None:
    found = decider.decide(H200_FOR_ORCHID)
    assert (found.governing, found.flagged, found.rule_ids) == ("review", True, ("us-ear/iaas-headquarters",))
    assert "Orchid Robotics Co. Ltd. (orchid)" in found.why


def test_unknown_never_clears(decider: Decider) -> None:
    assert decider.decide(
        {"act": "transfer", "accelerator_model": "Mystery", "destination_country": "CN"}
    ).governing == ("review")
    assert decider.decide({}).governing == "review"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("export_control.quantity", "2"),
        ("host.type", 5),
        ("export_control.end_user", ["orchid"]),
        ("cloud.region", 0.5),
    ],
)
def test_an_attribute_of_the_wrong_type_is_absent_and_asks_for_a_review(
    decider: Decider, name: str, value: Any
) -> None:
    clear = {**H200_FOR_ORCHID, "export_control.end_user": "harbour"}
    assert decider.decide(clear).governing == "no_license_required"
    assert decider.decide({**clear, name: value}).governing == "review"


def test_a_licence_number_is_told_from_an_exception(decider: Decider) -> None:
    def named(text: str) -> str | None:
        return decider.decide({**H200_FOR_ORCHID, "export_control.license": text}).license

    assert named("D1234567") == "D1234567"
    assert [named(text) for text in ("NLR", "TMP", "740.13(b)", "", "D12'; --")] == [None] * 5


@pytest.mark.parametrize(
    "facts",
    [
        {"no_such_fact": 1},
        {"act": 1},
        {"act": {"nested": True}},
        {"act": [["x"]]},
        {"destination_groups": ["A:5"]},
        {"tpp": -1},
        {"tpp": 2**60},
        {"tpp": True},
        {"tpp": float("nan")},
        {"act": "transfer", "audit.event.class": "model.transfer"},
        {"audit.event.class": "other"},
        {"audit.event.class": 7},
        {"audit.actor.id": "sha256:harbour"},
        {"act": "x" * 70_000},
        {f"fact_{number}": 1 for number in range(2_000)},
        {"certifications": ["x"] * 2_000},
        {1: "transfer"},
        ["act"],
    ],
    ids=lambda facts: str(facts)[:40],
)
def test_what_no_rule_could_judge_is_refused_with_a_remedy(decider: Decider, facts: Any) -> None:
    with pytest.raises(FactsInvalid) as caught:
        decider.decide(facts)
    assert caught.value.remedy


def test_true_and_one_are_different_questions(decider: Decider) -> None:
    assert decider.decide({**GIVEN, "data_centre": True}).governing
    with pytest.raises(FactsInvalid):
        decider.decide({**GIVEN, "data_centre": 1})
    assert decider.decide({**H200_FOR_ORCHID, "export_control.quantity": 1}).governing == "review"
    assert decider.decide({**H200_FOR_ORCHID, "export_control.end_user": "harbour"}).governing == "no_license_required"


@pytest.mark.parametrize("at", ["yesterday", -1, True, 2**64, datetime.datetime(2026, 1, 1), 1.5, "2026-02-30"])
def test_a_moment_that_is_none_is_refused(at: Any) -> None:
    with pytest.raises(FactsInvalid, match="`at` cannot be used"):
        instant_of(at)


def test_moments_in_all_their_forms() -> None:
    expected = parse_instant("2026-11-01T00:00Z")
    moment = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
    assert {instant_of(at) for at in (expected, str(expected), "2026-11-01T00:00Z", moment)} == {expected}
    assert abs(instant_of(None) - time.time_ns()) < 60 * 10**9


def test_what_a_confidential_directive_says_is_not_told() -> None:
    text = NO_H200_FOR_ORCHID.replace(b"    outcome:", b"    confidential: true\n    outcome:")
    reference = Reference.load({**Reference.packaged_artifacts(PARTIES), "house.yaml": text}, 1)
    found = Decider(reference).decide(H200_FOR_ORCHID)
    assert found.governing == "prohibited"
    assert "house/no-h200-for-orchid" in found.why and "house/no-h200-for-orchid" in found.rule_ids
    assert "board" not in found.why and "board decision 12" not in found.citations


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditspan.policy.decision._MOST_REMEMBERED", 5)
    monkeypatch.setattr("auditspan.policy.resolve._MOST_REMEMBERED", 20)
    decider = Decider(Reference.packaged(PARTIES))
    before = decider.decide(H200_FOR_ORCHID, "2026-11-01")
    for number in range(100):
        decider.decide({**H200_FOR_ORCHID, "audit.actor.id": f"sha256:{number}", "export_control.quantity": number})
        decider.decide({**GIVEN, "quantity": number})
        assert len(decider._remembered) <= 5
        assert max(aspect.size for aspect in decider._resolver.aspects) <= 21
    assert decider.decide(H200_FOR_ORCHID, "2026-11-01") == before


# The snapshot


def test_the_epoch_in_force_decides_and_says_how_old_that_knowledge_is(folder: Path) -> None:
    reference = put_in_force(folder, 3)
    snapshot = Snapshot(folder)
    found = snapshot.decide(H200_FOR_ORCHID)
    assert (found.epoch, found.digest) == (3, reference.digest)
    assert found.age is not None and found.age < 30
    os.utime(folder / IN_FORCE, (time.time() - 500, time.time() - 500))
    assert snapshot.refresh() is False
    old = snapshot.decide(H200_FOR_ORCHID).age
    assert old is not None and old > 490
    other = Reference.packaged(PARTIES, 4).digest
    assert confirm(folder, other) is False, "another epoch is in force: this one grows older"
    snapshot.refresh()
    older = snapshot.decide(H200_FOR_ORCHID).age
    assert older is not None and older > 490
    assert confirm(folder, reference.digest) is True
    snapshot.refresh()
    young = snapshot.decide(H200_FOR_ORCHID).age
    assert young is not None and young < 30


def test_missing_and_broken_are_told_apart(folder: Path) -> None:
    with pytest.raises(SnapshotUnavailable) as missing:
        Snapshot(folder).decide(GIVEN)
    assert missing.value.reason == "missing"
    put_in_force(folder)
    whole = (folder / IN_FORCE).read_bytes()
    pack = next(item["sha256"] for item in json.loads(whole)["artifacts"] if item["name"] == "us-ear.yaml")
    content = (folder / pack).read_bytes()

    def is_broken() -> None:
        with pytest.raises(SnapshotUnavailable) as broken:
            Snapshot(folder).decide(GIVEN)
        assert broken.value.reason == "broken" and broken.value.remedy

    for text in (b"{", b"[]", b"{}", b'{"number": 1, "artifacts": [{"name": "x", "sha256": "../../etc/passwd"}]}'):
        (folder / IN_FORCE).write_bytes(text)
        is_broken()
    (folder / IN_FORCE).write_bytes(whole)
    (folder / pack).write_bytes(content + b"# altered")
    is_broken()
    (folder / pack).unlink()
    is_broken()
    (folder / pack).write_bytes(content)
    assert Snapshot(folder).decide(GIVEN).governing == "license_required"


def test_a_broken_epoch_never_replaces_a_good_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    put_in_force(folder, 1)
    snapshot = Snapshot(folder)
    assert snapshot.refresh() is True
    (folder / IN_FORCE).write_bytes(b'{"number": 2, "artifacts": [')
    assert snapshot.refresh() is False
    assert snapshot.decide(GIVEN).epoch == 1
    assert "cannot be used" in snapshot.trouble
    snapshot.refresh()
    assert sum("cannot be used" in record.getMessage() for record in caplog.records) == 1
    put_in_force(folder, 2)
    assert snapshot.refresh() is True
    assert (snapshot.decide(GIVEN).epoch, snapshot.trouble) == (2, "")


def test_a_new_epoch_is_taken_up_by_itself_and_in_one_step(folder: Path) -> None:
    put_in_force(folder, 1)
    snapshot = Snapshot(folder)
    assert snapshot.decide(H200_FOR_ORCHID).governing == "review"
    wrong: list[Any] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            found = snapshot.decide(H200_FOR_ORCHID)
            if (found.epoch, found.governing) not in ((1, "review"), (2, "prohibited")):
                wrong.append(found)

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    put_in_force(folder, 2, house=NO_H200_FOR_ORCHID)
    until(lambda: snapshot.decide(H200_FOR_ORCHID).epoch == 2, "the new epoch to decide")
    done.set()
    for asker in askers:
        asker.join()
    assert wrong == []


# In process


def test_decide_finds_the_directory_by_argument_or_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_in_force(folder, 4)
    assert auditspan.decide(GIVEN, data=folder.parent, at="2026-11-01").governing == "license_required"
    monkeypatch.setenv("AUDITSPAN_DATA_DIRECTORY", str(folder.parent))
    assert auditspan.decide(H200_FOR_ORCHID).epoch == 4
    monkeypatch.delenv("AUDITSPAN_DATA_DIRECTORY")
    with pytest.raises(AuditSpanError, match="No data directory is named"):
        auditspan.decide(GIVEN)


def test_without_the_pipeline_the_error_names_the_extra() -> None:
    script = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("yaml", "pyarrow", "cel_expr_python", "jsonschema", "maxminddb"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import auditspan
try:
    auditspan.decide({"act": "transfer"}, data="/nowhere")
except auditspan.errors.AuditSpanError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "pip install 'auditspan[pipeline]'" in done.stdout


def test_a_forked_child_decides_too(folder: Path) -> None:
    put_in_force(folder)
    assert auditspan.decide(GIVEN, data=folder.parent).governing == "license_required"
    script = f"""
import os, auditspan
print(auditspan.decide({GIVEN!r}, data={str(folder.parent)!r}).governing, flush=True)
pid = os.fork()
if pid == 0:
    print(auditspan.decide({GIVEN!r}, data={str(folder.parent)!r}).governing, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["license_required"] * 2


def test_a_child_that_is_forked_while_another_thread_decides_or_loads_decides_too(folder: Path) -> None:
    """The child has neither the thread nor what it had half done: its numbers must not mean other values there."""
    put_in_force(folder)
    script = f"""
import os, signal, sys, threading
from pathlib import Path
from auditspan.policy.snapshot import Snapshot
from auditspan.policy.resolve import Aspect

snapshot = Snapshot(Path({str(folder)!r}))
record = {H200_FOR_ORCHID!r}
expected = snapshot.decide(record).document
decider = snapshot._decider
inside, go_on = threading.Event(), threading.Event()
which = sys.argv[1]

class Numbers(dict):
    def setdefault(self, key, value):
        found = super().setdefault(key, value)
        if key == "half done":
            inside.set()
            go_on.wait(60)
        return found

if which == "deciding":
    aspect = next(a for a in decider._resolver.aspects if a.column == "cloud.provider")
    aspect._numbers = Numbers(aspect._numbers)
    work = lambda: snapshot.decide({{**record, "cloud.provider": "half done"}})
else:
    load = Snapshot._follow
    def slowly(self):
        inside.set()
        go_on.wait(60)
        return load(self)
    Snapshot._follow = slowly
    work = snapshot.refresh
thread = threading.Thread(target=work)
thread.start()
assert inside.wait(60)
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    Snapshot._follow = load if which == "loading" else Snapshot._follow
    snapshot.decide({{**record, "cloud.provider": "gcp"}})
    same = snapshot.decide(record).document == expected and snapshot.decide(record).governing == "review"
    print("child", same, snapshot.refresh(), flush=True)
    os._exit(0)
os.waitpid(pid, 0)
go_on.set()
thread.join()
print("parent", snapshot.decide(record).document == expected, flush=True)
"""
    for which in ("deciding", "loading"):
        done = subprocess.run(
            [sys.executable, "-c", script, which], capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stdout.split() == ["child", "True", "False", "parent", "True"], done.stderr


def test_cold_and_warm_decisions_are_fast(decider: Decider) -> None:
    def seconds(quantity: int) -> float:
        began = time.thread_time()
        decider.decide({**H200_FOR_ORCHID, "export_control.quantity": quantity})
        return time.thread_time() - began

    seconds(1)
    cold = sorted(seconds(number) for number in range(10, 210))
    warm = sorted(seconds(17) for _ in range(200))
    # CPU time, as other tests run beside this one; the benchmark measures what a caller waits.
    assert cold[197] < 0.02
    assert warm[197] < 0.001


def test_everything_that_is_read_of_a_record_can_be_asked(decider: Decider) -> None:
    values: dict[str, Any] = {"string": "x", "int": 1, "boolean": True, "string[]": ["x"]}
    record = {name: values[kind] for name, kind in semconv.READ_FROM_SPAN.items()}
    assert decider.decide({**record, "audit.event.class": "model.transfer"}).governing in ("review", "license_required")
