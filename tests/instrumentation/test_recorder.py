"""How durable a record is when ``record`` returns, and what happens when it cannot be."""

import asyncio
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from auditspan.instrumentation import stream
from auditspan.instrumentation.adoption import inspect_spool
from auditspan.instrumentation.frames import MAGIC, Frame, FrameKind, read_frames
from auditspan.instrumentation.recorder import AuditRefused, Recorder
from loopback_collector import Script
from opentelemetry.sdk.resources import Resource
from waiting import until

PRELUDE = """
import os, resource, sys, logging
from auditspan.instrumentation.recorder import get_recorder, AuditRefused
recorder = get_recorder()
def record(name, event_class='model.access', **more):
    return recorder.record(event_class, {'audit.action': name}, **more)
def full():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
def free():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def spooled(spool, stream):
    found = []
    for path in sorted((spool / stream).glob("*.spool")):
        for item in read_frames(path.read_bytes(), len(MAGIC)):
            assert isinstance(item, Frame)
            if item.kind is FrameKind.RECORD:
                found.append(item.number)
    return found


@pytest.fixture
def silent(collector):
    """The collector answers 503 to everything."""
    collector.always = Script(503, {"Retry-After": "0.05"})
    return collector


def test_local_is_in_the_file_when_record_returns(silent, recorder, access, spool):
    for number in range(20):
        recorder.record("model.access", access())
        assert spooled(spool, recorder.stream_id) == list(range(number + 2))


def synced_files(monkeypatch):
    """Which of our files are synced, through the real call."""
    real = os.fdatasync
    done = []

    def fdatasync(descriptor):
        real(descriptor)
        done.append((str(Path(f"/proc/self/fd/{descriptor}").readlink()), os.fstat(descriptor).st_size))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return done


def test_local_sync_has_been_synced_when_record_returns(silent, make_recorder, access, spool, monkeypatch):
    done = synced_files(monkeypatch)
    recorder = make_recorder(sync_interval=30.0)
    for _ in range(5):
        recorder.record("model.access", access(), mode="local_sync")
        (segment,) = (spool / recorder.stream_id).glob("*.spool")
        assert (str(segment), segment.stat().st_size) in done


def test_local_is_synced_soon_without_anybody_waiting(silent, make_recorder, access, spool, monkeypatch):
    done = synced_files(monkeypatch)
    recorder = make_recorder(sync_interval=0.1)
    recorder.record("model.access", access())
    (segment,) = (spool / recorder.stream_id).glob("*.spool")
    expected = (str(segment), segment.stat().st_size)
    until(lambda: expected in done, "the sync", 5)


def test_local_sync_commits_in_groups(silent, make_recorder, access, spool, monkeypatch):
    real = os.fdatasync
    calls = []

    def slow(descriptor):
        time.sleep(0.01)
        real(descriptor)
        calls.append(descriptor)

    monkeypatch.setattr(os, "fdatasync", slow)
    recorder = make_recorder()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: recorder.record("model.access", access(), mode="local_sync"), range(160)))
    assert len(spooled(spool, recorder.stream_id)) == 161
    assert len(calls) < 80


def test_async_local_sync_leaves_the_event_loop_free(silent, make_recorder, access, monkeypatch):
    syncing, release = threading.Event(), threading.Event()
    real = os.fdatasync

    def stuck(descriptor):
        syncing.set()
        release.wait(10)
        real(descriptor)

    recorder = make_recorder()
    recorder.record("model.access", access())
    monkeypatch.setattr(os, "fdatasync", stuck)

    async def main():
        task = asyncio.create_task(recorder.record_async("model.access", access(), mode="local_sync"))
        assert await asyncio.to_thread(syncing.wait, 10)
        assert not task.done()
        release.set()
        assert await asyncio.wait_for(task, 10)

    asyncio.run(main())


def test_receipt_waits_for_the_collector(collector, recorder, access):
    recorder.record("model.access", access("r"), mode="receipt")
    assert collector.actions() == ["r"]

    async def main():
        await recorder.record_async("model.access", access("s"), mode="receipt")

    asyncio.run(main())
    assert collector.actions() == ["r", "s"]


def test_receipt_that_does_not_come_lets_an_open_class_go_on(silent, make_recorder, access, caplog):
    recorder = make_recorder(receipt_timeout=0.2)
    assert recorder.record("model.access", access("late"), mode="receipt")
    assert "not as durable as asked" in caplog.text
    silent.always = None
    assert recorder.flush(20)
    assert silent.actions() == ["late"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_receipt_that_does_not_come_refuses_a_fail_closed_class(silent, make_recorder, access, asynchronous):
    recorder = make_recorder(receipt_timeout=0.2, fail_closed=frozenset({"model.transfer"}))
    with pytest.raises(AuditRefused, match="not confirmed in time"):
        if asynchronous:
            asyncio.run(recorder.record_async("model.transfer", access(), mode="receipt"))
        else:
            recorder.record("model.transfer", access(), mode="receipt")


def test_receipt_of_a_refused_record_is_no_receipt(collector, make_recorder, access):
    collector.rejects = lambda item: item.event_class == "model.transfer"
    recorder = make_recorder(fail_closed=frozenset({"model.transfer"}))
    with pytest.raises(AuditRefused, match="refused by the collector"):
        recorder.record("model.transfer", access(), mode="receipt")


def test_fail_closed_class_is_never_only_local(silent, make_recorder, access, spool, monkeypatch):
    done = synced_files(monkeypatch)
    recorder = make_recorder(sync_interval=30.0, fail_closed=frozenset({"model.transfer"}))
    recorder.record("model.transfer", access(), mode="local")
    (segment,) = (spool / recorder.stream_id).glob("*.spool")
    assert (str(segment), segment.stat().st_size) in done


def test_disk_that_cannot_sync_refuses_fail_closed_and_goes_on_afterwards(silent, make_recorder, access, monkeypatch):
    recorder = make_recorder(fail_closed=frozenset({"model.transfer"}))
    recorder.record("model.access", access())
    real = os.fdatasync

    def broken(descriptor):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(AuditRefused, match="the disk would not"):
        recorder.record("model.transfer", access())
    monkeypatch.setattr(os, "fdatasync", real)
    assert recorder.record("model.transfer", access())


def gaps_of(collector):
    return [
        (item.attributes["audit.gap.reason"], item.attributes["audit.gap.count"])
        for item in collector.of_class("audit.gap")
    ]


def test_disk_full_is_a_gap_recorded_as_soon_as_writing_works(collector, run_python):
    run_python(
        PRELUDE
        + """
record('before')
full()
for n in range(5):
    record(f'lost {n}')
assert recorder.lost == 5
free()
import time
deadline = time.monotonic() + 10
while recorder.lost and time.monotonic() < deadline:
    time.sleep(0.01)
assert recorder.lost == 0, 'the gap was not told though nothing else was recorded'
record('after')
""",
        AUDITSPAN_EXIT_TIMEOUT_SECONDS="10",
    )
    assert collector.actions() == ["after", "before"]
    assert gaps_of(collector) == [("disk_full", 5)]
    (gap,) = collector.of_class("audit.gap")
    assert gap.attributes["audit.target.id"] == f"stream:{gap.stream}/2-6"
    # The numbers of the lost records are never given again, so that the log sees the hole too.
    assert {2, 3, 4, 5, 6}.isdisjoint(sequence for _, sequence in collector.once())


def test_disk_full_from_the_first_record_on(collector, run_python, spool):
    run_python(
        PRELUDE + "full()\nrecord('lost')\nrecord('lost too')\nfree()\nrecord('after')",
        AUDITSPAN_EXIT_TIMEOUT_SECONDS="10",
    )
    assert collector.actions() == ["after"]
    assert gaps_of(collector) == [("disk_full", 2)]
    assert inspect_spool(spool) == []


def test_disk_full_refuses_the_action_of_a_fail_closed_class(collector, run_python):
    run_python(
        PRELUDE
        + """
from auditspan.instrumentation import audit
record('before', 'model.transfer')
full()
ran = []
try:
    with audit.transfer(target='t', actor='a'):
        ran.append(1)
except AuditRefused as error:
    assert 'disk_full' in str(error) and error.remedy
else:
    raise SystemExit('not refused')
assert not ran
free()
with audit.transfer(target='t', actor='a'):
    ran.append(1)
assert ran
""",
        AUDITSPAN_FAIL_CLOSED="model.transfer",
        AUDITSPAN_EXIT_TIMEOUT_SECONDS="10",
    )
    assert gaps_of(collector) == [("disk_full", 1)]
    assert len(collector.of_class("model.transfer")) == 3


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_really_full_disk_keeps_what_it_has_and_tells_the_rest(collector, make_recorder, access, small_disk):
    collector.always = Script(503, {"Retry-After": "0.05"})
    recorder = make_recorder(spool_directory=small_disk, segment_size=32_768)
    for number in range(600):
        recorder.record("model.access", access(f"call-{number:03d}", blob="x" * 700))
    ballast = sorted(path for path in small_disk.rglob("*") if path.is_file())
    assert ballast
    collector.always = None
    # Some may have been told before, where a gap record still found room.
    until(lambda: recorder.lost == 0, "every gap to be told", 20)
    assert recorder.flush(20)
    lost = sum(count for _, count in gaps_of(collector))
    assert lost > 50
    assert len(collector.actions()) + lost == 600
    recorder.close()


def test_spool_limit_is_as_a_full_disk(silent, make_recorder, access):
    recorder = make_recorder(spool_limit=100_000, segment_size=20_000)
    for number in range(200):
        recorder.record("model.access", access(f"call-{number:03d}", blob="x" * 1_000))
    silent.always = None
    # Some may have been told before, where a gap record still found room.
    until(lambda: recorder.lost == 0, "every gap to be told", 20)
    assert recorder.flush(20)
    assert {reason for reason, _ in gaps_of(silent)} == {"spool_full"}
    lost = sum(count for _, count in gaps_of(silent))
    assert lost > 50
    assert len(silent.actions()) + lost == 200


def test_spool_directory_that_is_no_directory_goes_on_and_recovers(collector, make_recorder, access, tmp_path):
    path = tmp_path / "taken"
    path.write_text("not a directory")
    recorder = make_recorder(spool_directory=path)
    assert recorder.record("model.access", access("lost"))
    path.unlink()
    recorder.record("model.access", access("kept"))
    assert recorder.flush(20)
    assert collector.actions() == ["kept"]
    assert gaps_of(collector) == [("write_failed", 1)]


def test_stream_is_bounded_by_its_own_records(collector, make_recorder, access):
    recorder = make_recorder(heartbeat_interval=0.05)
    recorder.record("model.access", access())
    assert collector.wait_for(lambda it: len(it.of_class("audit.stream.heartbeat")) >= 2)
    recorder.close()
    records = sorted(collector.once().values(), key=lambda item: item.sequence)
    assert records[0].event_class == "audit.stream.opened"
    assert records[-1].event_class == "audit.stream.closed"
    assert [item.sequence for item in records] == list(range(len(records)))
    for item in records:
        if item.event_class in {"audit.stream.heartbeat", "audit.stream.closed"}:
            assert item.attributes["audit.stream.last_sequence"] == item.sequence - 1
    assert len({item.resource for item in records}) == 1
    assert len({item.stream for item in records}) == 1
    assert len(bytes.fromhex(records[0].stream)) == 16


def test_record_after_close_opens_another_stream(collector, recorder, access):
    recorder.record("model.access", access("first"))
    recorder.close()
    recorder.record("model.access", access("second"))
    assert recorder.flush(20)
    assert len({item.stream for item in collector.of_class("model.access")}) == 2


def test_signal_handler_and_finalizer_may_record_inside_record(collector, recorder, access):
    fired, sent = [], []
    done = threading.Event()

    class Finalized:
        def __del__(self):
            recorder.record("model.access", access("finalizer"))

    def handler(number, frame):
        recorder.record("model.access", access("signal"), mode="local_sync")
        fired.append(1)

    def interrupt():
        while not done.wait(0.001):
            # One at a time: a storm of handlers would only interrupt one another.
            if len(sent) == len(fired):
                sent.append(1)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    old = signal.signal(signal.SIGUSR1, handler)
    sender = threading.Thread(target=interrupt)
    rounds = 0
    try:
        sender.start()
        while len(fired) < 50 and rounds < 100_000:
            recorder.record("model.access", access("outer"))
            Finalized()
            rounds += 1
    finally:
        done.set()
        sender.join()
        # The last signal is handled before this thread's next instruction, at the latest.
        signal.signal(signal.SIGUSR1, old)
    assert recorder.flush(30)
    found = collector.actions()
    assert found.count("outer") == found.count("finalizer") == rounds
    assert found.count("signal") == len(fired) >= 50
    sequences = sorted(sequence for _, sequence in collector.once())
    assert sequences == list(range(len(sequences)))


def test_recording_inside_the_critical_section_gets_a_number_of_its_own(collector, recorder, access, monkeypatch):
    recorder.record("model.access", access("first"))
    writer = recorder._current().stream._writer
    real = writer.append

    def interrupted(sequence, body):
        monkeypatch.setattr(writer, "append", real)
        recorder.record("model.access", access("inner"), mode="local_sync")
        return real(sequence, body)

    monkeypatch.setattr(writer, "append", interrupted)
    recorder.record("model.access", access("outer"))
    recorder.record("model.access", access("last"))
    assert recorder.flush(20)
    assert collector.actions() == ["first", "inner", "last", "outer"]
    assert sorted(sequence for _, sequence in collector.once()) == list(range(5))


@pytest.fixture
def interrupting(monkeypatch):
    """Runs a function while a stream is being opened, as a signal handler may."""

    def arrange(function):
        real = stream.SpoolWriter

        def interrupted(*arguments):
            monkeypatch.setattr(stream, "SpoolWriter", real)
            function()
            return real(*arguments)

        monkeypatch.setattr(stream, "SpoolWriter", interrupted)

    return arrange


def test_recording_inside_the_opening_of_a_stream_is_not_durable_yet(
    collector, make_recorder, access, interrupting, caplog
):
    recorder = make_recorder(fail_closed=frozenset({"model.transfer"}))

    def inner():
        with pytest.raises(AuditRefused, match="the call that it interrupts has to end first"):
            recorder.record("model.transfer", access("refused"))
        recorder.record("model.access", access("inner"), mode="local_sync")
        assert "model.access is kept but not as durable as asked" in caplog.text

    interrupting(inner)
    recorder.record("model.access", access("outer"))
    assert recorder.flush(20)
    assert collector.actions() == ["inner", "outer"]
    assert collector.actions("model.transfer") == ["refused"]
    assert sorted(sequence for _, sequence in collector.once()) == list(range(4))


def test_what_waited_for_the_opening_and_cannot_be_written_is_a_gap(
    collector, recorder, access, interrupting, monkeypatch
):
    interrupting(lambda: [recorder.record("model.access", access(name)) for name in ("lost", "inner")])
    own = recorder._current().stream
    real = own._append

    def failing(span, *, limited):
        if b"lost" in span:
            raise RuntimeError
        return real(span, limited=limited)

    monkeypatch.setattr(own, "_append", failing)
    recorder.record("model.access", access("outer"))
    assert recorder.flush(20)
    assert collector.wait_for(lambda it: bool(it.of_class("audit.gap")))
    assert gaps_of(collector) == [("write_failed", 1)]
    assert collector.actions() == ["inner", "outer"]


def test_a_receipt_cannot_be_waited_for_inside_the_critical_section(collector, make_recorder, access, monkeypatch):
    recorder = make_recorder(fail_closed=frozenset({"model.transfer"}))
    recorder.record("model.access", access("first"))
    writer = recorder._current().stream._writer
    real = writer.append

    def interrupted(sequence, body):
        monkeypatch.setattr(writer, "append", real)
        with pytest.raises(AuditRefused, match="has to end first"):
            recorder.record("model.transfer", access("inner"), mode="receipt")
        return real(sequence, body)

    monkeypatch.setattr(writer, "append", interrupted)
    recorder.record("model.access", access("outer"))
    assert recorder.flush(20)
    assert collector.actions("model.transfer") == ["inner"]


def test_attributes_that_cannot_be_read_are_a_gap_and_no_error(collector, recorder, access):
    class Hostile(dict):
        def items(self):
            raise RuntimeError("no")

    recorder.record("model.access", Hostile(a=1))
    recorder.record("model.access", access("after"))
    assert recorder.flush(20)
    assert collector.actions() == ["after"]
    assert gaps_of(collector) == [("unencodable", 1)]


def test_kill_switch_records_nothing(make_recorder, access, spool, collector):
    recorder = make_recorder(disabled=True)
    recorder.start()
    assert recorder.record("model.access", access())
    assert not recorder.enabled
    assert not spool.exists()
    assert collector.requests == 0


def test_resource_is_that_of_the_sdk(collector, run_python):
    run_python(
        PRELUDE + "record('x')",
        OTEL_SERVICE_NAME="serve",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=prod,export_control.end_user=party-7",
    )
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Message

    (resource,) = {item.resource for item in collector.once().values()}
    found = {pair.key: pair.value.string_value for pair in Message.FromString(resource).attributes}
    assert found["service.name"] == "serve"
    assert found["deployment.environment.name"] == "prod"
    assert found["export_control.end_user"] == "party-7"
    assert found["telemetry.sdk.language"] == "python"


def test_process_detector_names_the_child(settings, collector, access):
    recorder = Recorder(settings, resource=Resource({"process.pid": 1}))
    recorder.record("model.access", access())
    recorder.close()
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource as Message

    (resource,) = {item.resource for item in collector.once().values()}
    assert {p.key: p.value.int_value for p in Message.FromString(resource).attributes}["process.pid"] == os.getpid()


def test_record_costs_little(silent, recorder, access):
    """p50 of 25 attributes in mode ``local``: encode, one write. The budget is 60 µs; slow machines get four times.

    CPU time of this thread: what others of the process and the machine do meanwhile is not what a record costs.
    """
    attributes = access(**{f"gen_ai.attribute.number.{n}": f"value-{n}" if n % 3 else n for n in range(21)})
    times = []
    for _ in range(2_000):
        began = time.thread_time_ns()
        recorder.record("model.access", attributes)
        times.append(time.thread_time_ns() - began)
    assert sorted(times)[len(times) // 2] < 240_000


def test_default_spool_is_private(spool, recorder, access):
    recorder.record("model.access", access())
    assert Path(spool).stat().st_mode & 0o077 == 0
