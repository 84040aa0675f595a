"""The manual API under enforcement: refused before it happens, or not touched at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time

import pytest
from auditspan.instrumentation import audit
from auditspan.instrumentation.audit import AuditRefused, ExportRefused
from auditspan.instrumentation.enforcement import enforcer
from auditspan.instrumentation.enforcement.settings import DecideWith, WithoutDecision
from auditspan.instrumentation.settings import InstrumentationSettings, SettingsError
from difficult_service import answering, http
from epoch_in_force import NO_H200_FOR_ORCHID, put_in_force

from auditspan.policy.snapshot import IN_FORCE

TO_IRAN = {"target": "s3://m/w", "actor": "sha256:harbour", "direction": "upload", "destination_country": "IR"}
TO_JAPAN = {**TO_IRAN, "destination_country": "JP", "attributes": {"export_control.weights_published": True}}
FLAGGED = frozenset({"flagged"})


def h200(**more):
    return {
        "target": "p5en.48xlarge",
        "actor": "sha256:harbour",
        "accelerator_model": "H200",
        "quantity": 2,
        "cloud_region": "us-east-1",
        "end_user": "orchid",
        **more,
    }


def run(kind, **arguments):
    """Whether the block ran, as a sync and as an async context manager."""
    ran = []
    with getattr(audit, kind)(**arguments):
        ran.append("sync")

    async def of_task():
        async with getattr(audit, kind)(**arguments):
            ran.append("async")

    asyncio.run(of_task())
    return ran == ["sync", "async"]


def refusals(kind, **arguments):
    """The errors with which both forms refuse; neither block runs."""
    found = []

    async def of_task():
        async with getattr(audit, kind)(**arguments):
            pytest.fail("the block ran")

    with pytest.raises(ExportRefused) as caught, getattr(audit, kind)(**arguments):
        pytest.fail("the block ran")
    found.append(caught.value)
    with pytest.raises(ExportRefused) as caught:
        asyncio.run(of_task())
    return [*found, caught.value]


def test_monitoring_alone_is_the_default_and_asks_nobody(make, service, records):
    make(classes=frozenset())
    before = service.asked
    assert run("transfer", **TO_IRAN) and run("provision", **h200())
    assert service.asked == before
    assert not any(name.startswith("export_control.decision") for record in records() for name in record)


def test_a_refused_action_does_not_run_and_is_recorded_with_its_rules(make, records):
    make()
    for error in refusals("transfer", **TO_IRAN):
        assert isinstance(error, AuditRefused)
        assert (error.governing, error.failure, error.event_class) == ("license_required", None, "model.transfer")
        assert "us-ear/embargoed-items" in error.rule_ids and "15 CFR 746.7" in error.citations
        text = str(error)
        for part in (
            "upload of s3://m/w is refused",
            "a licence is required",
            "us-ear/embargoed-items",
            "15 CFR 746.7",
        ):
            assert part in text
        assert "Iran" in text and error.remedy in text and error.remedy
    found = records("model.transfer")
    assert [record["audit.outcome"] for record in found] == ["denied", "denied"]
    for record in found:
        assert record["export_control.decision.outcome"] == "license_required"
        assert "us-ear/embargoed-items" in record["export_control.decision.rule_ids"]
        assert record["export_control.decision.epoch"] == 1
        assert record["audit.target.id"] == "s3://m/w"
        assert "export_control.break_glass.reason" not in record


def test_a_permitted_action_runs_and_both_its_records_say_so(make, records):
    make()
    assert run("transfer", **TO_JAPAN)
    found = records("model.transfer")
    assert [record["audit.outcome"] for record in found] == ["started", "success"] * 2
    assert {record["export_control.decision.outcome"] for record in found} == {"no_license_required"}
    assert "export_control.decision.failure" not in found[0]


def test_what_a_permitted_block_raises_is_raised_on_unchanged(make):
    make()
    error = KeyError("theirs")
    with pytest.raises(KeyError) as caught, audit.transfer(**TO_JAPAN):
        raise error
    assert caught.value is error


def test_review_and_flagged_refuse_where_that_is_configured(make):
    make()
    assert run("provision", **h200())
    make(outcomes=FLAGGED)
    assert [error.governing for error in refusals("provision", **h200())] == ["review"] * 2
    assert run("provision", **h200(end_user="nobody-knows"))
    make(outcomes=frozenset({"review"}))
    assert refusals("provision", **h200(end_user="nobody-knows"))
    assert run("provision", **h200(end_user="harbour"))


def test_the_end_user_of_the_resource_counts_where_the_action_names_none(make):
    make(outcomes=FLAGGED, resource={"export_control.end_user": "orchid"})
    assert refusals("provision", **h200(end_user=None))
    assert run("provision", **h200(end_user="harbour"))


def test_a_licence_lifts_what_needs_one_and_no_prohibition(make, tmp_path):
    put_in_force(tmp_path / "data" / "reference", 2, house=NO_H200_FOR_ORCHID)
    local = {"decide_with": DecideWith.PROCESS, "data_directory": str(tmp_path / "data")}
    licensed = {"attributes": {"export_control.license": "D1234567"}}
    make(**local)
    assert run("transfer", **TO_IRAN, **licensed)
    assert refusals("transfer", **TO_IRAN, attributes={"export_control.license": "NLR"})
    found = refusals("provision", **h200(), **licensed)
    assert [error.governing for error in found] == ["prohibited"] * 2
    assert "The board has decided" in str(found[0])


# No decision


def missing(folder):
    (folder / "reference").mkdir(parents=True, exist_ok=True)


def stale(folder):
    put_in_force(folder / "reference")
    os.utime(folder / "reference" / IN_FORCE, (time.time() - 7_200, time.time() - 7_200))


def broken(folder):
    put_in_force(folder / "reference")
    (folder / "reference" / IN_FORCE).write_bytes(b"{")


@pytest.mark.parametrize("trouble", [missing, stale, broken], ids=lambda it: it.__name__)
def test_a_snapshot_that_is_missing_stale_or_broken_is_open_or_closed_in_process(make, records, tmp_path, trouble):
    trouble(tmp_path / "data")
    local = {"decide_with": DecideWith.PROCESS, "data_directory": str(tmp_path / "data")}
    make(**local)
    assert run("provision", **h200())
    assert {record["export_control.decision.failure"] for record in records()} == {trouble.__name__}
    assert [record["audit.outcome"] for record in records()] == ["started", "success"] * 2
    make(**local, without_decision=WithoutDecision.CLOSED)
    for error in refusals("provision", **h200()):
        assert error.failure == trouble.__name__
        assert "whether it may happen is not known" in str(error) and error.remedy
    denied = [record for record in records() if record["audit.outcome"] == "denied"]
    assert [record["export_control.decision.failure"] for record in denied] == [trouble.__name__] * 2


@pytest.mark.parametrize("trouble", [missing, stale, broken], ids=lambda it: it.__name__)
def test_the_same_of_a_service(make, records, tmp_path, trouble):
    from decision_service import DecisionService

    trouble(tmp_path / "other")
    with DecisionService(tmp_path / "other") as other:
        asked = {"endpoint": other.endpoint, "recorder": {"token": other.token}}
        make(**asked)
        assert run("provision", **h200())
        assert {record["export_control.decision.failure"] for record in records()} == {trouble.__name__}
        make(**asked, without_decision=WithoutDecision.CLOSED)
        assert [error.failure for error in refusals("provision", **h200())] == [trouble.__name__] * 2


def test_how_old_is_too_old_is_configured(make, tmp_path):
    stale(tmp_path / "data")
    closed = {
        "decide_with": DecideWith.PROCESS,
        "data_directory": str(tmp_path / "data"),
        "without_decision": WithoutDecision.CLOSED,
    }
    for largest in (8_000.0, 0.0):
        make(**closed, largest_age=largest)
        assert run("provision", **h200())
    make(**closed, largest_age=7_000.0)
    assert refusals("provision", **h200())


DECISION = b'{"governing":"no_license_required","flagged":false}'
DIFFICULT = {
    "silent": ((), 0.0, False, "timeout"),
    "dripping": ((b"HTTP/1.1 200 OK\r\n", *[b"x-a: b\r\n"] * 200), 0.05, False, "timeout"),
    "gone at once": ((), 0.0, True, "unreachable"),
    "no HTTP": ((b"220 mail.example ESMTP\r\n",), 0.0, True, "unreachable"),
    "a collector of old": ((http("404 Not Found", b"Not Found", "text/plain"),), 0.0, True, "unreachable"),
    "a proxy's page": ((http("200 OK", b"<html>hello</html>", "text/html"),), 0.0, True, "fault"),
    "half a decision": ((http("200 OK", DECISION),), 0.0, True, "fault"),
    "deep": ((http("200 OK", b"[" * 100_000),), 0.0, True, "fault"),
    "busy": ((http("503 Service Unavailable", b"{}"),), 0.0, True, "busy"),
    "error": ((http("500 Internal Server Error", b"{}"),), 0.0, True, "fault"),
}


@pytest.mark.parametrize("name", DIFFICULT)
def test_a_service_that_does_not_decide_in_time_or_at_all(make, records, name):
    parts, every, close, failure = DIFFICULT[name]
    timeout = 0.4 if failure == "timeout" else 20.0
    with answering(*parts, every=every, close=close) as endpoint:
        make(endpoint=endpoint, timeout=timeout)
        began = time.monotonic()
        assert run("provision", **h200())
        # Twice the ten seconds that "dripping" lasts, were each of its parts given time of its own.
        assert time.monotonic() - began < 15
        assert {record["export_control.decision.failure"] for record in records()} == {failure}
        make(endpoint=endpoint, timeout=timeout, without_decision=WithoutDecision.CLOSED)
        assert [error.failure for error in refusals("provision", **h200())] == [failure] * 2


def test_all_addresses_of_a_name_share_the_time(make, records, monkeypatch):
    """None of them takes the connection, as behind a firewall that drops packets: the time is that of one."""
    answered = socket.getaddrinfo

    def several(host, *given, **named):
        return answered(host, *given, **named) * 4 if host == "127.0.0.1" else answered(host, *given, **named)

    with full_listener() as port:
        monkeypatch.setattr(socket, "getaddrinfo", several)
        make(endpoint=f"http://127.0.0.1:{port}", timeout=1.0)
        began = time.monotonic()
        with audit.provision(**h200()):
            pass
        assert 0.9 < time.monotonic() - began < 3.5
    assert {record["export_control.decision.failure"] for record in records()} == {"timeout"}


@contextlib.contextmanager
def full_listener():
    """The port of a listener whose queue is full, so that it takes no further connection."""
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(16):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_nobody_listens_and_the_wrong_token(make, service, records):
    make(endpoint="http://127.0.0.1:9")
    assert run("provision", **h200())
    make(recorder={"token": "ast_wrong"})
    assert run("provision", **h200())
    failures = sorted(record["export_control.decision.failure"] for record in records())
    assert failures == ["denied"] * 4 + ["unreachable"] * 4
    make(recorder={"token": "ast_wrong"}, without_decision=WithoutDecision.CLOSED)
    (error, _) = refusals("provision", **h200())
    assert error.failure == "denied" and "ast_wrong" not in str(error)


def test_a_bug_of_ours_is_no_decision(make, records, monkeypatch):
    def bug(*_):
        raise RuntimeError("canary-of-a-bug")

    monkeypatch.setattr(enforcer, "ask", bug)
    make()
    assert run("provision", **h200())
    assert {record["export_control.decision.failure"] for record in records()} == {"fault"}
    make(without_decision=WithoutDecision.CLOSED)
    assert "canary" not in str(refusals("provision", **h200())[0])


def test_attributes_of_strange_types_are_asked_about_all_the_same(make, records):
    make()

    class Strange:
        pass

    strange = {
        "export_control.consignee": b"\xff",
        "cloud.provider": float("nan"),
        "export_control.ultimate_parent": "\ud800",
        "client.address": Strange(),
        "gen_ai.request.model": ["a", b"b", 1],
        "user.id": 2**80,
    }
    assert run("transfer", **{**TO_JAPAN, "attributes": {**TO_JAPAN["attributes"], **strange}})
    assert {record["export_control.decision.outcome"] for record in records("model.transfer")} == {"review"}


def test_the_event_loop_goes_on_while_a_decision_is_awaited(make):
    with answering(close=False) as endpoint:
        make(endpoint=endpoint, timeout=0.5)
        ticks = []

        async def tick():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.01)

        async def main():
            ticking = asyncio.create_task(tick())
            async with audit.provision(**h200()):
                pass
            ticking.cancel()

        asyncio.run(main())
    assert len(ticks) > 3, "it would be one or none of a loop that stands still"


# Break-glass


def test_break_glass_lets_it_run_and_both_records_carry_the_reason(make, records):
    make(outcomes=FLAGGED)
    with audit.break_glass("outage 4711, approved by the duty officer"):
        assert run("provision", **h200())
    assert refusals("provision", **h200())
    through = [record for record in records() if record["audit.outcome"] != "denied"]
    assert len(through) == 4
    for record in through:
        assert record["export_control.break_glass.reason"] == "outage 4711, approved by the duty officer"
        assert record["export_control.decision.rule_ids"] == ["us-ear/iaas-headquarters"]


def test_break_glass_leaves_no_reason_where_there_was_nothing_to_break(make, records):
    make(outcomes=FLAGGED)
    with audit.break_glass("outage"):
        assert run("provision", **h200(end_user="harbour"))
    make(classes=frozenset())
    with audit.break_glass("outage"):
        assert run("provision", **h200())
    assert not any("export_control.break_glass.reason" in record for record in records())


def test_break_glass_by_the_environment_and_without_a_decision(make, records):
    make(
        outcomes=FLAGGED,
        endpoint="http://127.0.0.1:9",
        without_decision=WithoutDecision.CLOSED,
        break_glass_reason="the service is down, ticket 12",
    )
    assert run("provision", **h200())
    assert {record["export_control.break_glass.reason"] for record in records()} == {"the service is down, ticket 12"}
    assert {record["export_control.decision.failure"] for record in records()} == {"unreachable"}


def test_break_glass_holds_for_its_block_its_task_and_no_other_thread(make):
    make(outcomes=FLAGGED)
    refused = []

    def elsewhere():
        try:
            with audit.provision(**h200()):
                pass
        except ExportRefused:
            refused.append(1)

    async def main():
        with audit.break_glass("in this task"):
            async with audit.provision(**h200()):
                pass

    with audit.break_glass("outer"), audit.break_glass("inner"):
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
    assert refused == [1]
    asyncio.run(main())
    assert refusals("provision", **h200())


@pytest.mark.parametrize("reason", ["", "  ", None])
def test_break_glass_needs_a_reason(reason):
    with pytest.raises(ValueError, match="needs a reason"), audit.break_glass(reason):
        pytest.fail("it broke")


# Beside other settings


def test_the_kill_switch_is_one_for_enforcement_too(make, service, tmp_path):
    make(recorder={"disabled": True})
    before = service.asked
    assert run("transfer", **TO_IRAN)
    assert service.asked == before and not (tmp_path / "spool").exists()


def test_a_refusal_that_cannot_be_recorded_refuses_all_the_same(make, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    unwritable = {"spool_directory": tmp_path / "file" / "spool", "fail_closed": frozenset({"model.transfer"})}
    make(recorder=unwritable)
    assert refusals("transfer", **TO_IRAN)


def test_settings_are_read_and_checked():
    def read(**variables):
        names = {f"AUDITSPAN_{name}": text for name, text in variables.items()}
        return InstrumentationSettings.from_environment(names).enforcement

    assert read().classes == frozenset()
    assert read().without_decision is WithoutDecision.OPEN
    found = read(
        ENFORCE="model.transfer, accelerator.provision",
        ENFORCE_OUTCOMES="prohibited,review",
        ENFORCE_WITHOUT_DECISION="closed",
        ENFORCE_DECIDE_WITH="process",
        ENFORCE_ENDPOINT="https://decide.example/v1/decide",
        ENFORCE_TIMEOUT_SECONDS="0.25",
        ENFORCE_SNAPSHOT_SECONDS="60",
        DATA_DIRECTORY="/var/lib/auditspan",
        BREAK_GLASS_REASON=" drill ",
    )
    assert found.classes == {"model.transfer", "accelerator.provision"}
    assert found.outcomes == {"prohibited", "review"}
    assert (found.without_decision, found.decide_with) == (WithoutDecision.CLOSED, DecideWith.PROCESS)
    assert (found.endpoint, found.timeout, found.largest_age) == ("https://decide.example", 0.25, 60.0)
    assert (found.data_directory, found.break_glass_reason) == ("/var/lib/auditspan", "drill")
    for wrong in (
        {"ENFORCE": "model.access"},
        {"ENFORCE_OUTCOMES": "license"},
        {"ENFORCE_WITHOUT_DECISION": "maybe"},
        {"ENFORCE_DECIDE_WITH": "magic"},
        {"ENFORCE_ENDPOINT": "ftp://x"},
        {"ENFORCE_ENDPOINT": "http://decide.example", "TOKEN": "t"},
        {"ENFORCE_TIMEOUT_SECONDS": "soon"},
    ):
        with pytest.raises(SettingsError, match=f"AUDITSPAN_{next(iter(wrong))}|AUDITSPAN_TOKEN"):
            read(**wrong)
