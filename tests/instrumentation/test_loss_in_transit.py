"""Every way in which a stock exporter loses spans between the process and the collector: here none is lost."""

import socket
import threading
import time

import pytest
from auditspan.instrumentation.adoption import count_refused, inspect_spool, ship_spool
from auditspan.instrumentation.delivery import read_answer
from auditspan.instrumentation.frames import Frame, FrameKind, read_frames
from loopback_collector import Script
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased


def names(count):
    return sorted(f"call-{number}" for number in range(count))


def record_all(recorder, access, count):
    for number in range(count):
        recorder.record("model.access", access(f"call-{number}"))


def test_burst_of_50_000_records_with_a_slow_collector(collector, recorder, access):
    collector.delay_seconds = 0.02
    record_all(recorder, access, 50_000)
    assert recorder.flush(60)
    assert collector.actions() == names(50_000)
    sequences = sorted(sequence for _, sequence in collector.once())
    assert sequences == list(range(50_001))


def test_collector_that_answers_503_thrice(collector, recorder, access):
    collector.script.extend([Script(503, {"Retry-After": "0"})] * 3)
    record_all(recorder, access, 100)
    assert recorder.flush(20)
    assert collector.requests >= 4
    assert collector.actions() == names(100)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 502, 503, 504])
def test_no_status_that_may_pass_loses_a_record(collector, recorder, access, status):
    collector.script.append(Script(status))
    record_all(recorder, access, 3)
    assert recorder.flush(20)
    assert collector.actions() == names(3)


@pytest.mark.parametrize(
    ("status", "setting"), [(401, "AUDITSPAN_TOKEN"), (403, "AUDITSPAN_TOKEN"), (404, "AUDITSPAN_ENDPOINT")]
)
def test_what_somebody_must_correct_is_named_in_the_log(collector, recorder, access, caplog, status, setting):
    collector.script.extend([Script(status)] * 3)
    record_all(recorder, access, 1)
    assert recorder.flush(30)
    assert f"status {status}" in caplog.text
    assert setting in caplog.text


def test_a_page_with_status_200_is_no_acknowledgement(collector, recorder, access):
    collector.script.extend(
        [
            Script(200, {"Content-Type": "text/html"}, b"<html>please log in</html>"),
            Script(200, {"Content-Type": "application/x-protobuf"}, b"\xff\xff\xff"),
            Script(202, {"Content-Type": "application/x-protobuf"}),
        ]
    )
    record_all(recorder, access, 3)
    assert recorder.flush(20)
    assert collector.actions() == names(3)


def test_flush_while_the_collector_fails_says_so_and_loses_nothing(collector, recorder, access):
    collector.always = Script(503, {"Retry-After": "0"})
    record_all(recorder, access, 50)
    assert recorder.flush(0.3) is False
    assert recorder.flush(0.0) is False
    collector.always = None
    assert recorder.flush(20) is True
    assert collector.actions() == names(50)


def test_retry_after_is_honoured(collector, recorder, access):
    arrived, original = [], collector._handle

    def timed(*given):
        arrived.append(time.monotonic())
        return original(*given)

    collector._handle = timed
    collector.script.append(Script(503, {"Retry-After": "1"}))
    record_all(recorder, access, 1)
    assert collector.wait_for(lambda it: it.requests > 1)
    assert arrived[1] - arrived[0] >= 1.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 300.0),
        ("Fri, 31 Dec 99999999999999999999 23:59:59 GMT", None),
        ("Fri, 31 Dec 2027 23:59:59 +99999999999999", None),
        ("tomorrow", None),
        ("nan", None),
        (None, None),
    ],
)
def test_a_time_to_come_again_that_is_none_is_our_own(header, seconds):
    assert read_answer(503, "", header, b"").retry_after == seconds


def test_unsampled_parent_is_recorded_under_every_host_sampler(collector, recorder, access):
    tracer = TracerProvider(sampler=ParentBased(ALWAYS_OFF)).get_tracer("host")
    remote = trace.SpanContext(0x1234, 0x56, is_remote=True, trace_flags=trace.TraceFlags(0))
    with tracer.start_as_current_span("host", context=trace.set_span_in_context(trace.NonRecordingSpan(remote))):
        recorder.record("model.access", access())
    assert recorder.flush(20)
    (found,) = collector.of_class("model.access")
    assert found.span.trace_id == (0x1234).to_bytes(16, "big")


def refused_actions(spool):
    found = []
    from opentelemetry.proto.trace.v1.trace_pb2 import Span

    for path in (spool / "refused").glob("*.spool"):
        for item in read_frames(path.read_bytes(), 8):
            assert isinstance(item, Frame)
            if item.kind is FrameKind.RECORD:
                found.append(Span.FromString(item.body).name)
    return sorted(found)


def test_partial_success_that_rejects_all(collector, recorder, access, spool):
    collector.rejects = lambda item: True
    record_all(recorder, access, 20)
    recorder.flush(20)
    collector.rejects = None
    recorder.record("model.access", access("after"))
    # The record that tells of the gap may have been under way, and refused, while this began: then once more.
    assert recorder.flush(20) or recorder.flush(20)
    assert collector.actions() == ["after"]
    # Nothing is forgotten: what was refused is kept, the gap told or itself kept.
    assert [name for name in refused_actions(spool) if name.startswith("call-")] == names(20)


def test_partial_success_that_rejects_some_finds_them(collector, recorder, access, spool):
    bad = {"call-3", "call-11", "call-19"}
    collector.rejects = lambda item: item.attributes["audit.action"] in bad
    record_all(recorder, access, 20)
    recorder.flush(20)
    assert collector.wait_for(
        lambda it: sum(gap.attributes["audit.gap.count"] for gap in it.of_class("audit.gap")) == 3
    )
    assert collector.actions() == sorted(set(names(20)) - bad)
    assert refused_actions(spool) == sorted(bad)
    gaps = collector.of_class("audit.gap")
    assert {item.attributes["audit.gap.reason"] for item in gaps} == {"rejected"}
    assert sum(item.attributes["audit.gap.count"] for item in gaps) == 3
    assert all(item.attributes["audit.target.id"].startswith(f"stream:{recorder.stream_id}/") for item in gaps)
    assert count_refused(spool) == 3


def test_status_400_finds_the_bad_record_and_delivers_its_neighbours(collector, recorder, access, spool):
    original = collector._handle

    def strict(path, headers, body):
        import gzip

        if b"poison" in gzip.decompress(body):
            return 400, {}, b""
        return original(path, headers, body)

    collector._handle = strict
    collector.script.append(Script(503, {"Retry-After": "0.2"}))
    for number in range(10):
        recorder.record("model.access", access("poison" if number == 4 else f"call-{number}"))
    recorder.flush(20)
    assert collector.wait_for(lambda it: len(it.actions()) == 9)
    assert collector.actions() == sorted(f"call-{number}" for number in range(10) if number != 4)
    assert refused_actions(spool) == ["poison"]


def test_oversize_batch_is_split(collector, make_recorder, access):
    collector.largest = 20_000
    recorder = make_recorder(batch_bytes=200_000)
    record_all(recorder, access, 500)
    assert recorder.flush(20)
    assert collector.actions() == names(500)


def test_oversize_record_alone_is_refused_and_told(collector, recorder, access, spool):
    collector.largest = 50_000
    recorder.record("model.access", access("small"))
    recorder.record("model.access", access("huge", blob="x" * 60_000))
    recorder.record("model.access", access("small too"))
    recorder.flush(20)
    assert collector.wait_for(lambda it: bool(it.of_class("audit.gap")))
    assert collector.actions() == ["small", "small too"]
    assert refused_actions(spool) == ["huge"]
    (gap,) = collector.of_class("audit.gap")
    assert gap.attributes["audit.gap.reason"] == "oversize"


def test_record_above_the_limit_is_a_gap_and_its_neighbours_are_not(collector, make_recorder, access):
    recorder = make_recorder(record_limit=10_000)
    recorder.record("model.access", access("before"))
    recorder.record("model.access", access("huge", blob="x" * 20_000))
    recorder.record("model.access", access("after"))
    assert recorder.flush(20)
    assert collector.actions() == ["after", "before"]
    (gap,) = collector.of_class("audit.gap")
    assert (gap.attributes["audit.gap.reason"], gap.attributes["audit.gap.count"]) == ("oversize", 1)
    assert gap.attributes["audit.target.id"] == f"stream:{recorder.stream_id}/2"


def test_connection_refused_then_accepted(settings, make_recorder, access, collector):
    # Bound, so that nobody else gets the port, and not listening.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        recorder = make_recorder(endpoint=f"http://127.0.0.1:{closed.getsockname()[1]}", exit_timeout=5.0)
        record_all(recorder, access, 5)
        assert recorder.flush(0.2) is False
        recorder.close()
    report = ship_spool(settings.spool_directory, settings, timeout=20)
    assert (report.pending, report.streams) == (0, 1)
    assert collector.actions() == names(5)


def test_connection_cut_before_the_answer_is_sent_again(collector, recorder, access):
    cut = threading.Event()
    original = collector._handle

    def cutting(path, headers, body):
        if not cut.is_set():
            cut.set()
            raise ConnectionError("cut")
        return original(path, headers, body)

    collector._handle = cutting
    record_all(recorder, access, 10)
    assert recorder.flush(20)
    assert cut.is_set()
    assert collector.actions() == names(10)


def test_the_token_is_sent_and_nowhere_else(collector, recorder, access, spool):
    recorder.record("model.access", access())
    assert recorder.flush(20)
    assert set(collector.authorization) == {"Bearer tok-123"}
    assert "tok-123" not in repr(recorder.settings)
    assert all(b"tok-123" not in path.read_bytes() for path in spool.rglob("*") if path.is_file())


def test_delivered_stream_leaves_nothing_behind(collector, recorder, access, spool):
    record_all(recorder, access, 10)
    recorder.close()
    assert collector.of_class("audit.stream.closed")
    assert inspect_spool(spool) == []
    assert list(spool.iterdir()) == []


def test_acknowledged_segments_are_deleted_while_the_process_lives(collector, make_recorder, access, spool):
    recorder = make_recorder(segment_size=8_192)
    record_all(recorder, access, 300)
    assert recorder.flush(20)
    recorder.record("model.access", access("last"))
    assert recorder.flush(20)
    assert len(list((spool / recorder.stream_id).glob("*.spool"))) <= 2
    assert collector.actions() == sorted([*names(300), "last"])
