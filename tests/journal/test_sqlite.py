"""The SQLite journal keeps the journal contract."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import threading
from contextlib import closing, contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditspan.errors import AuditSpanError
from auditspan.journal import (
    CONTROL_PARTITION,
    EntryKind,
    JournalFull,
    JournalUnavailable,
    NewEntry,
    PositionLost,
)
from auditspan.journal.sqlite import SqliteJournal


def entry(body: bytes = b"body", emitter: str = "emitter", kind: EntryKind = EntryKind.OTLP) -> NewEntry:
    return NewEntry(kind, emitter, "bearer", 1_795_500_000_000_000_000, "otlp_proto", body)


def put(journal, *bodies, partition="events-0"):
    return journal.append([(partition, entry(body)) for body in bodies]).result(timeout=30)


def bodies(journal, partition="events-0", offset=0):
    return [one.body for one in journal.read(partition, offset, max_entries=10_000, max_bytes=1 << 30)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path):
    with closing(SqliteJournal(path, 3)) as opened:
        yield opened


@contextmanager
def writer_held(path):
    """Make the writer wait, as a slow disk would, by holding SQLite's write lock."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def commits_in_log(path) -> int:
    """Commit frames in the write-ahead log (https://www.sqlite.org/fileformat2.html#the_write_ahead_log)."""
    data = path.with_name(path.name + "-wal").read_bytes()
    page_size = struct.unpack(">I", data[8:12])[0]
    salt = data[16:24]
    frames = range(32, len(data) - page_size - 23, 24 + page_size)
    return sum(data[at + 8 : at + 16] == salt and struct.unpack(">I", data[at + 4 : at + 8])[0] > 0 for at in frames)


def test_entries_come_back_as_they_were_with_offsets_from_zero(journal):
    sent = [
        NewEntry(kind, f"emitter-{number}é", "bearer", number, f"encoding {number}", bytes([number]) * number)
        for number, kind in enumerate(EntryKind)
    ]
    assert journal.append([("events-1", one) for one in sent]).result() == [0, 1, 2, 3]
    for number, (found, given_entry) in enumerate(
        zip(journal.read("events-1", 0, max_entries=10, max_bytes=1000), sent, strict=True)
    ):
        assert (found.partition, found.offset) == ("events-1", number)
        for name in ("kind", "emitter", "authentication", "arrival_time", "encoding", "body"):
            assert getattr(found, name) == getattr(given_entry, name)


def test_partitions_count_by_themselves_and_control_always_exists(journal):
    assert list(journal.partitions) == ["events-0", "events-1", "events-2"]
    offsets = journal.append(
        [("events-0", entry()), (CONTROL_PARTITION, entry()), ("events-2", entry()), ("events-0", entry())]
    ).result()
    assert offsets == [0, 0, 0, 1]
    assert [journal.high_water_mark(name) for name in ("events-0", "events-1", "events-2", "control")] == [2, 0, 1, 1]
    assert bodies(journal, "events-1") == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from(["events-0", "events-2", "control"]), st.binary(max_size=40_000))),
        max_size=6,
    )
)
def test_what_is_appended_is_what_is_read_in_order(tmp_path_factory, batches):
    with closing(SqliteJournal(tmp_path_factory.mktemp("j") / "j.sqlite", 3)) as journal:
        futures = [journal.append([(name, entry(body)) for name, body in batch]) for batch in batches]
        expected: dict[str, list[bytes]] = {"events-0": [], "events-2": [], "control": []}
        for batch, future in zip(batches, futures, strict=True):
            offsets = future.result()
            for (name, body), offset in zip(batch, offsets, strict=True):
                assert offset == len(expected[name])
                expected[name].append(body)
        for name, wanted in expected.items():
            assert bodies(journal, name) == wanted


def test_reading_starts_where_asked_and_keeps_both_bounds_but_gives_at_least_one(journal):
    put(journal, *(bytes([number]) * 1000 for number in range(10)))

    def read(offset, entries, size):
        return [one.offset for one in journal.read("events-0", offset, max_entries=entries, max_bytes=size)]

    assert read(3, 4, 1 << 20) == [3, 4, 5, 6]
    assert read(0, 100, 3500) == [0, 1, 2]
    assert read(8, 100, 1) == [8]
    assert read(10, 100, 1000) == []


def test_an_unknown_partition_is_an_error_that_names_those_there_are(journal):
    with pytest.raises(AuditSpanError, match="events-2"):
        journal.append([("events-3", entry())])


def test_identity_and_entries_survive_a_restart(path):
    with closing(SqliteJournal(path)) as journal:
        put(journal, b"a", b"b")
        identity = journal.identity
    assert identity.startswith("sqlite:")
    with closing(SqliteJournal(path)) as journal:
        assert journal.identity == identity
        assert put(journal, b"c") == [2]
        assert bodies(journal) == [b"a", b"b", b"c"]
    with closing(SqliteJournal(path.with_name("other"))) as other:
        assert other.identity != identity


def test_another_number_of_partitions_is_refused_by_name(path):
    SqliteJournal(path, 2).close()
    with pytest.raises(AuditSpanError, match="has 2 data partitions, not 5"):
        SqliteJournal(path, 5)
    SqliteJournal(path, 2).close()  # the refusal let go of the lock


def test_a_file_that_is_no_journal_is_refused_and_left_alone(path):
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(AuditSpanError):
        SqliteJournal(path)
    assert path.read_bytes() == b"not a database" * 100
    path.unlink()
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE mine (x)")
    with pytest.raises(AuditSpanError, match="is no journal"):
        SqliteJournal(path)


def test_one_writer_at_a_time_and_readers_beside_it(path):
    with closing(SqliteJournal(path)) as journal:
        put(journal, b"a")
        with pytest.raises(AuditSpanError, match="Another process writes"):
            SqliteJournal(path)
        with closing(SqliteJournal(path, read_only=True)) as reader:
            assert bodies(reader) == [b"a"]
            put(journal, b"b")
            assert bodies(reader) == [b"a", b"b"]
            assert reader.high_water_mark("events-0") == 2
            with pytest.raises(JournalUnavailable):
                reader.append([("events-0", entry())]).result()


def test_files_are_for_the_owner_alone(journal, path):
    put(journal, b"a")
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_every_commit_is_synced(journal):
    with closing(journal._connect()) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_appends_that_wait_are_committed_together(journal, path):
    put(journal, b"first")
    before = commits_in_log(path)
    with writer_held(path):
        futures = [journal.append([("events-0", entry())]) for _ in range(200)]
        assert not any(future.done() for future in futures)
    assert [future.result(30) for future in futures] == [[number] for number in range(1, 201)]
    assert commits_in_log(path) - before <= 2


def test_nothing_is_acknowledged_before_it_is_committed(journal, path):
    with writer_held(path):
        future = journal.append([("events-0", entry(b"late"))])
        assert not journal.wait("events-0", 0, timeout=0.05)
        assert not future.done()
        assert not future.cancel()  # who waits may go away; what was submitted goes on
        assert bodies(journal) == []
    assert future.result(30) == [0]


def test_waiting_ends_when_the_entry_is_there(journal):
    found = []
    waiter = threading.Thread(target=lambda: found.append(journal.wait("events-0", 1, timeout=30)))
    waiter.start()
    put(journal, b"a")
    put(journal, b"b")
    waiter.join(30)
    assert found == [True]
    assert journal.wait("events-0", 1, timeout=0)
    assert not journal.wait("events-0", 2, timeout=0.01)


def test_bytes_that_wait_are_bounded_and_the_sender_is_told_to_come_again(path):
    with closing(SqliteJournal(path, queue_bytes=10_000)) as journal:
        put(journal, b"opened")
        with writer_held(path):
            first = journal.append([("events-0", entry(bytes(9_000)))])
            refused = journal.append([("events-0", entry(bytes(2_000)))])
            with pytest.raises(JournalUnavailable, match="wait to be made durable"):
                refused.result(30)
        assert first.result(30) == [1]
        assert put(journal, bytes(50_000)) == [2]  # alone, it may be larger than the bound


def test_what_cannot_be_stored_does_not_take_its_neighbours_with_it(journal, path):
    with writer_held(path):
        before = journal.append([("events-0", entry(b"before"))])
        bad = journal.append([("events-0", entry(b"half")), ("events-0", entry(emitter="\ud800"))])
        after = journal.append([("events-0", entry(b"after"))])
    assert before.result(30) == [0]
    assert after.result(30) == [1]
    with pytest.raises(JournalUnavailable):
        bad.result(30)
    assert bodies(journal) == [b"before", b"after"]


def test_a_full_journal_says_so_and_goes_on_when_there_is_room(path):
    with closing(SqliteJournal(path, maximum_bytes=2_000_000)) as journal:
        stored = 0
        with pytest.raises(JournalFull):
            while stored < 100:
                stored = put(journal, bytes(100_000))[0] + 1
        assert 5 < stored < 100
        with pytest.raises(JournalFull):
            put(journal, bytes(100_000))
        with pytest.raises(JournalFull):
            journal.append([("control", entry()), ("events-0", entry(bytes(100_000)))]).result(30)
        assert journal.high_water_mark("events-0") == stored
        assert journal.high_water_mark("control") == 0
        journal.trim("events-0", stored - 1)
        assert put(journal, bytes(100_000)) == [stored]
        journal.probe().result(30)


_LIMITED = """
import resource, signal, sys
from auditspan.journal import EntryKind, JournalUnavailable, NewEntry
from auditspan.journal.sqlite import SqliteJournal

journal = SqliteJournal(sys.argv[1])
entry = ("events-0", NewEntry(EntryKind.OTLP, "e", "bearer", 1, "otlp_proto", bytes(200_000)))
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limit[1]))
stored = 0
try:
    while stored < 50:
        stored = journal.append([entry]).result(30)[0] + 1
except JournalUnavailable as error:
    assert str(error.remedy)
else:
    raise SystemExit("the limit did not act")
try:
    journal.probe().result(30)
except JournalUnavailable:
    pass
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
assert journal.append([entry]).result(30) == [stored], stored
assert len(journal.read("events-0", 0, max_entries=100, max_bytes=1 << 30)) == stored + 1
journal.close()
"""


def test_a_disk_that_refuses_a_write_is_unavailable_then_available_again(path):
    done = subprocess.run([sys.executable, "-c", _LIMITED, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with closing(SqliteJournal(path)) as journal:
        assert len(bodies(journal)) == journal.high_water_mark("events-0") > 1


_FULL_DISK = """
import os, sys
from auditspan.journal import EntryKind, JournalFull, JournalUnavailable, NewEntry
from auditspan.journal.sqlite import SqliteJournal

ballast = sys.argv[1] + "/ballast"
with open(ballast, "wb") as file:
    file.write(bytes(2_000_000))
journal = SqliteJournal(sys.argv[1] + "/j.sqlite")
entry = ("events-0", NewEntry(EntryKind.OTLP, "e", "bearer", 1, "otlp_proto", bytes(100_000)))
stored = 0
refused = None
while refused is None:
    try:
        stored = journal.append([entry]).result(30)[0] + 1
    except JournalUnavailable as error:
        refused = error
assert isinstance(refused, JournalFull), refused
os.unlink(ballast)
assert journal.append([entry]).result(30) == [stored]
journal.close()
journal = SqliteJournal(sys.argv[1] + "/j.sqlite")
assert len(journal.read("events-0", 0, max_entries=1000, max_bytes=1 << 30)) == stored + 1
"""


def test_a_really_full_disk(tmp_path):
    unshare = shutil.which("unshare")
    mount = [unshare or "", "--user", "--map-root-user", "--mount", "sh", "-c"]
    script = 'mount -t tmpfs -o size=6m tmpfs "$1" && shift && exec "$@"'
    directory = str(tmp_path)
    if not unshare or subprocess.run([*mount, script, "sh", directory, "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us mount a small file system")
    command = [*mount, script, "sh", directory, sys.executable, "-c", _FULL_DISK, directory]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_trimming_forgets_loudly_and_never_moves_the_high_water_mark(path):
    with closing(SqliteJournal(path, 2)) as journal:
        put(journal, *(b"%d" % number for number in range(700)))
        put(journal, b"untouched", partition="events-1")
        journal.trim("events-0", 600)
        with pytest.raises(PositionLost, match="earliest kept is 600"):
            journal.read("events-0", 599, max_entries=1, max_bytes=1)
        assert bodies(journal, offset=600) == [b"%d" % number for number in range(600, 700)]
        journal.trim("events-0", 100)  # backwards: nothing
        assert journal.earliest("events-0") == 600
        journal.trim("events-0", 10_000)  # beyond the end: everything there is
        assert journal.earliest("events-0") == journal.high_water_mark("events-0") == 700
        assert bodies(journal, "events-1") == [b"untouched"]
    with closing(SqliteJournal(path, 2)) as journal:
        assert put(journal, b"next") == [700]
        with pytest.raises(PositionLost):
            journal.read("events-0", 0, max_entries=1, max_bytes=1)


def test_trimming_gives_space_back(path):
    with closing(SqliteJournal(path)) as journal:
        for _ in range(8):
            put(journal, *[bytes(100_000)] * 100)
        journal.trim("events-0", 800)
    assert path.stat().st_size < 45_000_000


def test_a_read_sees_either_all_of_a_trim_or_nothing(journal):
    put(journal, *[b"x"] * 2000)
    outcomes = []

    def read():
        try:
            while True:
                offsets = [one.offset for one in journal.read("events-0", 0, max_entries=5000, max_bytes=1 << 20)]
                outcomes.append(offsets == list(range(2000)))
        except PositionLost:
            outcomes.append(True)

    reader = threading.Thread(target=read)
    reader.start()
    journal.trim("events-0", 1500)
    reader.join(30)
    assert outcomes
    assert all(outcomes)


def test_closing_commits_what_waits_and_refuses_what_comes_after(path):
    journal = SqliteJournal(path)
    put(journal, b"opened")
    with writer_held(path):
        futures = [journal.append([("events-0", entry(b"%d" % number))]) for number in range(20)]
        closer = threading.Thread(target=journal.close)
        closer.start()
    closer.join(30)
    assert [future.result(0) for future in futures] == [[number] for number in range(1, 21)]
    with pytest.raises(JournalUnavailable):
        journal.append([("events-0", entry())]).result(0)
    with pytest.raises(JournalUnavailable):
        journal.probe().result(0)
    journal.close()
    with closing(SqliteJournal(path)) as again:
        assert len(bodies(again)) == 21


def test_a_deleted_file_is_an_error_not_a_new_journal(path):
    with closing(SqliteJournal(path)) as journal:
        path.unlink()
        with pytest.raises(JournalUnavailable):
            journal.probe().result(30)
        assert not path.exists()
