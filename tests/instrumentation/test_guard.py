"""A fault in a hook never breaks the call; what it may have cost is a gap in the log."""

import pytest
from auditspan.instrumentation import faults, guard
from auditspan.instrumentation.guard import FAULTS, guarded, note_loss, recognised
from auditspan.instrumentation.recorder import AuditRefused, set_recorder
from auditspan.instrumentation.settings import SettingsError

CLASS = "model.transfer"


def broken(*arguments):
    raise RuntimeError("canary-of-a-bug")


def gaps(collector):
    return [
        (item.attributes["audit.gap.reason"], item.attributes["audit.gap.count"])
        for item in collector.of_class("audit.gap")
    ]


def test_what_a_fault_may_have_cost_is_a_gap_in_the_log(collector, recorder, access):
    recorder.record("model.access", access())
    note_loss("somewhere", RuntimeError(), recorder)
    assert collector.wait_for(lambda it: gaps(it) == [("hook_fault", 1)])


def test_it_is_told_by_the_recorder_of_the_process(collector, recorder):
    set_recorder(recorder)
    assert recognised("somewhere", CLASS, None, "not ours", broken) == "not ours"
    # Nothing else was ever recorded, and the process ends at once.
    recorder.close()
    assert gaps(collector) == [("hook_fault", 1)]
    assert collector.of_class("audit.stream.closed")


def test_what_only_enriches_a_record_costs_none(recorder):
    before = FAULTS["somewhere"]
    assert guarded("somewhere", 7, broken) == 7
    assert FAULTS["somewhere"] == before + 1
    assert recorder.lost == 0


def test_without_a_recorder_the_count_is_all_there_is(monkeypatch):
    def none():
        raise SettingsError("no", remedy="none")

    monkeypatch.setattr(guard, "get_recorder", none)
    monkeypatch.delenv("AUDITSPAN_FAIL_CLOSED", raising=False)
    before = FAULTS["somewhere"], FAULTS["gap"]
    assert recognised("somewhere", CLASS, None, None, broken) is None
    assert (FAULTS["somewhere"], FAULTS["gap"]) == (before[0] + 1, before[1] + 1)
    monkeypatch.setenv("AUDITSPAN_FAIL_CLOSED", f"model.access,{CLASS}")
    with pytest.raises(AuditRefused):
        recognised("somewhere", CLASS, None, None, broken)


def test_a_call_that_may_have_needed_a_record_is_refused_with_fail_closed(make_recorder):
    recorder = make_recorder(fail_closed=frozenset({CLASS}))
    with pytest.raises(AuditRefused, match=r"model\.transfer record \(RuntimeError\)"):
        recognised("somewhere", CLASS, recorder, None, broken)
    assert recognised("somewhere", "model.access", recorder, None, broken) is None


def test_under_the_kill_switch_nothing_is_counted_or_refused(make_recorder, spool):
    recorder = make_recorder(disabled=True, fail_closed=frozenset({CLASS}))
    assert recognised("somewhere", CLASS, recorder, None, broken) is None
    assert recorder.lost == 0
    assert not spool.exists()


def test_a_fault_is_told_once_a_minute_and_without_its_text(monkeypatch, caplog):
    now = [1000.0]
    monkeypatch.setattr(faults.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(faults, "_next_log", {})
    for passed in (0.0, 30.0, 29.0, 2.0):
        now[0] += passed
        guarded("the minute", None, broken)
    assert [record.getMessage().partition("; ")[2] for record in caplog.records] == [
        "1 so far); the call goes on.",
        "4 so far); the call goes on.",
    ]
    assert "canary" not in caplog.text
