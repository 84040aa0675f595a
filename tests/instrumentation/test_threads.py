"""The threads that serve a recorder outlive what strikes them: while the process lives, nobody else does their work."""

import threading
import time

import pytest
from auditspan.instrumentation import adoption, durability, faults, shipping_thread
from auditspan.instrumentation.delivery import Client
from auditspan.instrumentation.faults import FAULTS
from auditspan.instrumentation.recorder import AuditRefused
from auditspan.instrumentation.stream import Stream
from loopback_collector import Script
from waiting import until

PAUSE = 0.1


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    for module in (durability, shipping_thread):
        monkeypatch.setattr(module, "_TROUBLE_SECONDS", PAUSE)
    monkeypatch.setattr(faults, "_next_log", {})


@pytest.fixture
def recorder_threads():
    """Names of the threads that were started since; to be asked for before any recorder."""
    before = set(threading.enumerate())
    return lambda: [
        thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("auditspan-")
    ]


@pytest.fixture
def strike(monkeypatch):
    """Have a method raise the next so many times; gives the list of its calls."""

    def arrange(owner, name, times):
        real = getattr(owner, name)
        calls = []

        def struck(self, *arguments, **named):
            calls.append(1)
            if len(calls) <= times:
                raise RuntimeError("canary-of-a-bug")
            return real(self, *arguments, **named)

        monkeypatch.setattr(owner, name, struck)
        return calls

    return arrange


def test_shipping_goes_on_after_a_fault(collector, recorder, access, strike, caplog):
    before = FAULTS["shipping"]
    strike(Client, "post", 3)
    for number in range(20):
        recorder.record("model.access", access(f"call-{number:02d}"))
    recorder.record("model.access", access("receipt"), mode="receipt")
    assert recorder.flush(20)
    assert collector.actions() == [*(f"call-{number:02d}" for number in range(20)), "receipt"]
    assert FAULTS["shipping"] == before + 3
    (told,) = [record for record in caplog.records if "shipping" in record.getMessage()]
    assert "RuntimeError" in told.getMessage()
    assert "canary" not in caplog.text


def test_a_fault_that_lasts_is_no_busy_loop_and_closing_ends_it(recorder_threads, make_recorder, access, strike):
    recorder = make_recorder(exit_timeout=0.1)
    calls = strike(Client, "post", 1_000_000)
    recorder.record("model.access", access())
    until(lambda: len(calls) >= 2, seconds=10)
    # Whoever records or waits meanwhile does not hurry it.
    count, until_then = len(calls), time.monotonic() + 10 * PAUSE
    while time.monotonic() < until_then:
        recorder.record("model.access", access())
        recorder._current().shipping.receipt((9, 9))
        time.sleep(0.002)
    assert len(calls) <= count + 20
    recorder.close()
    until(lambda: not recorder_threads(), "the threads to end")


def test_an_absurd_time_to_come_again_stops_nothing(collector, recorder, access):
    collector.script.append(Script(503, {"Retry-After": "Fri, 31 Dec 99999999999999999999 23:59:59 GMT"}))
    recorder.record("model.access", access())
    assert recorder.flush(20)


def test_a_dead_stream_that_strikes_does_not_stop_the_others(collector, settings, access, make_recorder, monkeypatch):
    collector.always = Script(503)
    dead = [make_recorder(exit_timeout=0.0) for _ in range(2)]
    for number, recorder in enumerate(dead):
        recorder.record("model.access", access(f"call-{number}"))
    struck = min(recorder.stream_id for recorder in dead)
    for recorder in dead:
        recorder.close()
    real = adoption.SpoolReader

    def reader(directory, *, live):
        if directory.name == struck:
            raise RuntimeError
        return real(directory, live=live)

    collector.always = None
    with monkeypatch.context() as patch:
        patch.setattr(adoption, "SpoolReader", reader)
        shipping = make_recorder()
        shipping.start()
        assert collector.wait_for(lambda it: len(it.actions()) == 1)
        assert (settings.spool_directory / struck).is_dir()
    assert collector.wait_for(lambda it: len(it.actions()) == 2)


def test_syncing_goes_on_while_heartbeats_meet_a_fault(collector, make_recorder, access, strike):
    before = FAULTS["durability"]
    recorder = make_recorder(heartbeat_interval=0.02, fail_closed=frozenset({"model.access"}), sync_timeout=5.0)
    calls = strike(Stream, "heartbeat", 3)
    recorder.record("model.access", access())
    until(lambda: calls, seconds=10)
    while len(calls) < 3:
        recorder.record("model.access", access())
    assert FAULTS["durability"] >= before + 2
    assert collector.wait_for(lambda it: bool(it.of_class("audit.stream.heartbeat")))


def test_a_fault_that_lasts_does_not_hold_up_who_waits_for_the_disk(make_recorder, access, strike):
    recorder = make_recorder(heartbeat_interval=0.001, fail_closed=frozenset({"model.access"}), sync_timeout=5.0)
    calls = strike(Stream, "heartbeat", 1_000_000)
    recorder.record("model.access", access())
    until(lambda: calls, seconds=10)
    until_then = time.monotonic() + 10 * PAUSE
    while time.monotonic() < until_then:
        recorder.record("model.access", access())
        time.sleep(0.002)
    assert len(calls) <= 20


def test_closing_comes_to_its_end_whatever_strikes_it(recorder_threads, collector, recorder, access, strike, spool):
    recorder.record("model.access", access())
    strike(Stream, "close", 1)
    recorder.close()
    assert not recorder_threads()
    assert collector.actions() == ["chat"]
    assert list(spool.iterdir()) == []


def test_whoever_waits_for_a_sync_that_meets_a_fault_hears_of_it(make_recorder, access, strike):
    recorder = make_recorder(fail_closed=frozenset({"model.access"}), sync_timeout=60.0)
    strike(Stream, "sync", 1)
    with pytest.raises(AuditRefused, match="not durable"):
        recorder.record("model.access", access())
    recorder.record("model.access", access())
