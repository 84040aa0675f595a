"""Every way in which a process ends or multiplies: what was recorded is delivered, by it or by another."""

import os
import signal
import subprocess
import time

import pytest
from auditspan.instrumentation.adoption import inspect_spool, ship_spool
from auditspan.instrumentation.frames import MAGIC, FrameKind, encode_frame, read_frames
from auditspan.instrumentation.spool_reader import SpoolReader

ATTRIBUTES = "{'audit.action': name, 'audit.actor.id': 'a', 'audit.outcome': 'success', 'audit.target.id': 't'}"
PRELUDE = f"""
import os, sys, threading
from auditspan.instrumentation.recorder import get_recorder
recorder = get_recorder()
import faulthandler; faulthandler.dump_traceback_later(40, exit=True)
def record(name):
    recorder.record('model.access', {ATTRIBUTES})
def say(text):
    os.write(1, (text + '\\n').encode())
"""
NOWHERE = "http://127.0.0.1:9"
"""An endpoint where nobody listens (the discard port)."""


def ship(spool, settings):
    report = ship_spool(spool, settings, timeout=30)
    assert report.pending == 0
    return report


def streams_without_holes(collector):
    by_stream = {}
    for stream, sequence in collector.once():
        by_stream.setdefault(stream, []).append(sequence)
    for sequences in by_stream.values():
        assert sorted(sequences) == list(range(len(sequences)))
    return len(by_stream)


@pytest.mark.parametrize("mode", ["local", "local_sync"])
@pytest.mark.parametrize("point", ["before", "first", "middle"])
def test_sigkill_loses_nothing_that_record_has_returned_for(point, mode, collector, run_python, spool, settings):
    process = run_python(
        PRELUDE
        + """
count = 0
say('ready')
while True:
    sys.stdin.readline()
    for _ in range(7):
        record(f'call-{count:04d}')
        say(str(count))
        count += 1
""",
        wait=False,
        AUDITSPAN_ENDPOINT=NOWHERE,
        AUDITSPAN_MODE=mode,
    )
    assert process.stdout.readline() == "ready\n"
    done = []
    if point != "before":
        process.stdin.write("\n")
        process.stdin.flush()
        done.append(int(process.stdout.readline()))
        if point == "middle":
            done += [int(process.stdout.readline()) for _ in range(6)]
    process.kill()
    done += [int(line) for line in process.stdout.read().split()]
    process.wait()
    if point == "before":
        assert not spool.exists() or inspect_spool(spool) == []
        return
    ship(spool, settings)
    found = collector.actions()
    # At most the one record that was being written when the kill came is there besides.
    assert found[: len(done)] == [f"call-{number:04d}" for number in done]
    assert len(found) - len(done) <= 1
    assert streams_without_holes(collector) == 1


def test_sigkill_while_shipping_loses_nothing(collector, run_python, spool, settings):
    collector.delay_seconds = 0.05
    process = run_python(
        PRELUDE + "[record(f'call-{n:04d}') for n in range(2000)]\nsay('done')\nsys.stdin.readline()",
        wait=False,
        AUDITSPAN_BATCH_RECORDS="50",
    )
    assert process.stdout.readline() == "done\n"
    assert collector.wait_for(lambda it: it.requests >= 3)
    process.kill()
    process.wait()
    collector.delay_seconds = 0.0
    ship(spool, settings)
    assert collector.actions() == [f"call-{number:04d}" for number in range(2000)]
    assert streams_without_holes(collector) == 1


def test_forked_child_that_ends_in_os_exit(collector, run_python, spool, settings):
    run_python(
        PRELUDE
        + """
record('parent before')
children = []
for n in range(3):
    pid = os.fork()
    if pid == 0:
        for m in range(5):
            record(f'child {n} {m}')
        os._exit(0)
    children.append(pid)
record('parent after')
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
"""
    )
    ship(spool, settings)
    expected = [f"child {n} {m}" for n in range(3) for m in range(5)] + ["parent before", "parent after"]
    assert collector.actions() == sorted(expected)
    assert streams_without_holes(collector) == 4
    assert len(collector.of_class("audit.stream.opened")) == 4


def test_fork_while_threads_record(collector, run_python, spool, settings):
    process = run_python(
        PRELUDE
        + """
import warnings
warnings.simplefilter('ignore')
stop = threading.Event()
counts = [0] * 4
def work(number):
    while not stop.is_set():
        record(f'thread {number} {counts[number]}')
        counts[number] += 1
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
[thread.start() for thread in threads]
children = []
for n in range(30):
    pid = os.fork()
    if pid == 0:
        record(f'child {n}')
        recorder.record('model.access', {'audit.action': f'child sync {n}'}, mode='local_sync')
        os._exit(0)
    children.append(pid)
stop.set()
for pid in children:
    assert os.waitpid(pid, 0)[1] == 0
[thread.join() for thread in threads]
say(' '.join(map(str, counts)))
""",
        AUDITSPAN_ENDPOINT=NOWHERE,
        AUDITSPAN_EXIT_TIMEOUT_SECONDS="0",
    )
    counts = [int(text) for text in process.stdout_text.split()]
    ship(spool, settings)
    actions = collector.actions()
    assert [name for name in actions if name.startswith("child")] == sorted(
        [f"child {n}" for n in range(30)] + [f"child sync {n}" for n in range(30)]
    )
    assert len(actions) == 60 + sum(counts)
    assert streams_without_holes(collector) == 31


def test_fork_that_outlives_its_parent_does_not_hold_the_parents_spool(collector, run_python, spool, settings):
    process = run_python(
        PRELUDE
        + """
record('parent')
if os.fork() == 0:
    record('child before')
    say('forked')
    sys.stdin.readline()
    record('child after')
    say('recorded')
    sys.stdin.readline()
    os._exit(0)
sys.stdout.flush()
os.kill(os.getpid(), 9)
""",
        wait=False,
        AUDITSPAN_ENDPOINT=NOWHERE,
    )
    assert process.stdout.readline() == "forked\n"
    assert process.wait(20) == -signal.SIGKILL
    # The parent is dead and its stream is free, though the child that inherited its descriptors lives.
    # The child may hold it for the moment in which it tries, in vain, to adopt it.
    deadline = time.monotonic() + 10
    while (report := ship_spool(spool, settings, timeout=30)).streams == 0 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (report.streams, report.live) == (1, 1)
    assert collector.actions() == ["parent"]
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "recorded\n"
    process.stdin.write("\n")
    process.stdin.flush()
    process.stdout.read()
    ship(spool, settings)
    assert collector.actions() == ["child after", "child before", "parent"]
    assert streams_without_holes(collector) == 2


def test_fork_around_the_hooks_is_noticed_by_its_process_id(collector, run_python, spool, settings):
    run_python(
        PRELUDE
        + """
from auditspan.instrumentation import fork
record('parent before')
# As if a library had called fork(2) itself: none of our hooks runs.
fork._state.members.clear()
pid = os.fork()
if pid == 0:
    record('child 1')
    record('child 2')
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
record('parent after')
"""
    )
    ship(spool, settings)
    assert collector.actions() == ["child 1", "child 2", "parent after", "parent before"]
    # Had the child gone on in the parent's stream, two records would claim one number.
    assert streams_without_holes(collector) == 2


def test_multiprocessing_fork_and_spawn(collector, run_python, spool, settings, tmp_path):
    script = tmp_path / "main.py"
    script.write_text(
        PRELUDE
        + """
import multiprocessing
def work(name):
    record(name)
if __name__ == '__main__':
    record('main')
    for method in ('fork', 'spawn'):
        context = multiprocessing.get_context(method)
        child = context.Process(target=work, args=(method,))
        child.start()
        child.join()
        assert child.exitcode == 0
"""
    )
    run_python(f"import runpy, sys; sys.argv = [{str(script)!r}]; runpy.run_path({str(script)!r}, run_name='__main__')")
    ship(spool, settings)
    assert collector.actions() == ["fork", "main", "spawn"]


def test_collector_down_for_the_whole_life_of_the_process(collector, run_python, spool, settings):
    run_python(
        PRELUDE + "[record(f'call-{n:03d}') for n in range(500)]",
        AUDITSPAN_ENDPOINT=NOWHERE,
    )
    (status,) = inspect_spool(spool)
    assert (status.live, status.pending) == (False, 502)
    report = ship(spool, settings)
    assert (report.acknowledged, report.streams) == (502, 1)
    assert collector.actions() == [f"call-{number:03d}" for number in range(500)]
    assert len(collector.of_class("audit.stream.closed")) == 1
    assert list(spool.iterdir()) == []
    assert ship(spool, settings).acknowledged == 0


def test_ship_gives_up_on_a_silent_collector_and_keeps_everything(run_python, spool, settings, collector):
    run_python(PRELUDE + "record('x')", AUDITSPAN_ENDPOINT=NOWHERE)
    import dataclasses

    report = ship_spool(spool, dataclasses.replace(settings, endpoint=NOWHERE), timeout=0.2)
    assert report.pending == 3
    ship(spool, settings)
    assert collector.actions() == ["x"]


def test_two_processes_share_one_spool_directory(collector, run_python, spool, settings):
    script = PRELUDE + "sys.stdin.readline()\n[record(f'{sys.argv[1]} {n:03d}') for n in range(300)]"
    processes = [run_python(script, name, wait=False) for name in ("one", "two")]
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    ship(spool, settings)
    assert collector.actions() == sorted(f"{name} {n:03d}" for name in ("one", "two") for n in range(300))
    assert streams_without_holes(collector) == 2


def test_two_shippers_at_once_deliver_each_stream_once(collector, run_python, spool, settings):
    for number in range(4):
        run_python(PRELUDE + f"[record(f'{number} {{n}}') for n in range(50)]", AUDITSPAN_ENDPOINT=NOWHERE)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: ship_spool(spool, settings, timeout=30), range(3)))
    assert sum(report.streams for report in reports) == 4
    assert sum(report.acknowledged for report in reports) == 4 * 52 == len(collector.received)


def test_spool_of_a_crashed_process_is_adopted_by_a_living_one(collector, run_python, recorder, access):
    run_python(PRELUDE + "record('crashed'); os.kill(os.getpid(), 9)", AUDITSPAN_ENDPOINT=NOWHERE, code=-signal.SIGKILL)
    recorder.record("model.access", access("living"))
    assert collector.wait_for(lambda it: it.actions() == ["crashed", "living"])


def leave_spool(run_python, spool, names=("a", "b", "c")):
    """A crashed process's stream; its only segment."""
    run_python(
        PRELUDE + "[record(name) for name in sys.argv[1:]]\nos.kill(os.getpid(), 9)",
        *names,
        AUDITSPAN_ENDPOINT=NOWHERE,
        code=-signal.SIGKILL,
    )
    (segment,) = spool.glob("*/00000001.spool")
    return segment


@pytest.mark.parametrize("cut", [1, 10, 25])
def test_torn_tail_is_cut_off_counted_and_costs_one_record(cut, collector, run_python, spool, settings):
    segment = leave_spool(run_python, spool)
    os.truncate(segment, segment.stat().st_size - cut)
    report = ship(spool, settings)
    assert report.damaged == 1
    assert collector.actions() == ["a", "b"]
    (gap,) = collector.of_class("audit.gap")
    assert gap.attributes["audit.gap.reason"] == "torn_tail"
    assert gap.attributes["audit.target.id"] == f"stream:{segment.parent.name}"


def test_damage_in_the_middle_costs_one_record(collector, run_python, spool, settings):
    segment = leave_spool(run_python, spool)
    data = bytearray(segment.read_bytes())
    frames = list(read_frames(bytes(data), len(MAGIC)))
    data[frames[3].end - 3] ^= 0xFF
    segment.write_bytes(data)
    report = ship(spool, settings)
    assert report.damaged == 1
    assert collector.actions() == ["a", "c"]
    assert collector.of_class("audit.gap")[0].attributes["audit.gap.reason"] == "damaged"


def test_damaged_segment_header_still_names_the_stream(collector, run_python, spool, settings):
    segment = leave_spool(run_python, spool)
    data = bytearray(segment.read_bytes())
    data[len(MAGIC) + 30] ^= 0xFF
    segment.write_bytes(data)
    ship(spool, settings)
    assert collector.actions() == ["a", "b", "c"]
    assert {item.stream for item in collector.of_class("model.access")} == {segment.parent.name}


@pytest.mark.parametrize("content", [b"", b"ASPO", b"\0" * 4096])
def test_segment_that_never_got_a_record_stops_nothing(content, collector, run_python, spool, settings):
    segment = leave_spool(run_python, spool)
    segment.with_name("00000002.spool").write_bytes(content)
    ship(spool, settings)
    assert collector.actions() == ["a", "b", "c"]


@pytest.mark.parametrize(
    "cursor", [b"", b"{", b'{"segment": 9, "offset": 5}', b'{"segment":1,"offset":99999999}', b"[]"]
)
def test_cursor_that_cannot_be_read_sends_again_and_never_stops(cursor, collector, run_python, spool, settings):
    segment = leave_spool(run_python, spool)
    (segment.parent / "cursor").write_bytes(cursor)
    ship(spool, settings)
    if not cursor.startswith(b'{"'):
        assert collector.actions() == ["a", "b", "c"]


def test_lost_cursor_repeats_the_same_bytes(collector, run_python, spool, settings):
    segment = leave_spool(run_python, spool)
    saved = segment.read_bytes()
    name = segment.parent
    ship(spool, settings)
    name.mkdir()
    (name / "lock").touch()
    segment.write_bytes(saved)
    ship(spool, settings)
    assert collector.actions() == ["a", "b", "c"]
    assert len(collector.received) == 2 * len(collector.once())


def test_a_reader_never_moves_past_what_it_was_told(run_python, spool):
    segment = leave_spool(run_python, spool)
    reader = SpoolReader(segment.parent, live=False)
    batch = reader.next_batch(1 << 20, 2)
    assert [record.sequence for record in batch.records] == [0, 1]
    again = SpoolReader(segment.parent, live=False).next_batch(1 << 20, 2)
    assert again.records == batch.records
    reader.advance(batch.end)
    rest = SpoolReader(segment.parent, live=False).next_batch(1 << 20, 100)
    assert [record.sequence for record in rest.records] == [2, 3]


def test_record_larger_than_a_read_comes_whole(tmp_path):
    directory = tmp_path / "s"
    directory.mkdir()
    body = bytes(3 << 20)
    (directory / "00000001.spool").write_bytes(
        MAGIC + encode_frame(FrameKind.RECORD, 0, body) + encode_frame(FrameKind.RECORD, 1, b"x")
    )
    reader = SpoolReader(directory, live=True)
    found = []
    while (batch := reader.next_batch(1 << 16, 100)) is not None:
        found += [record.span for record in batch.records]
        reader.advance(batch.end)
    assert found == [body, b"x"]


def test_files_are_for_their_owner_only(run_python, spool):
    segment = leave_spool(run_python, spool)
    assert segment.stat().st_mode & 0o777 == 0o600
    assert (segment.parent / "lock").stat().st_mode & 0o777 == 0o600
    assert segment.parent.stat().st_mode & 0o777 == 0o700
    assert spool.stat().st_mode & 0o777 == 0o700


def test_subprocesses_inherit_nothing(collector, recorder, access, spool):
    recorder.record("model.access", access())
    listing = subprocess.run(["ls", "-l", "/proc/self/fd"], capture_output=True, text=True, check=True, close_fds=False)
    assert str(spool) not in listing.stdout
