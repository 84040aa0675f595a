"""Packages as zip files: one for one package, verified where they lie, refused where two programs may differ."""

from __future__ import annotations

import os
import re
import resource
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.export import ExportFailed
from auditspan.exporters.evidence.package import PathRefused
from auditspan.exporters.evidence.verify import verify_package
from auditspan.exporters.evidence.zipped import ZippedPackage, open_package, zip_package
from exported import export
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sealed_world import World, varied_world

from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore

NAMES = ("all", "flagged", "later", "last minute")


@pytest.fixture(scope="module")
def zipped(packages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("zipped")
    for name in NAMES:
        zip_package(packages[name], folder / f"{name}.zip")
    return {name: folder / f"{name}.zip" for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_report_is_that_of_the_folder(
    name: str, packages: dict[str, Path], zipped: dict[str, Path], world: World
) -> None:
    in_folder, in_zip = (verify_package(place, world.trust) for place in (packages[name], zipped[name]))
    in_zip.package = in_folder.package
    assert in_zip.verdict == "VALID" and in_zip.to_dict() == in_folder.to_dict()


def test_one_package_gives_one_zip(packages: dict[str, Path], zipped: dict[str, Path], tmp_path: Path) -> None:
    copy = Path(shutil.copytree(packages["all"], tmp_path / "copy"))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    zip_package(copy, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == zipped["all"].read_bytes()
    assert stat.S_IMODE((tmp_path / "again.zip").stat().st_mode) == 0o600


def test_other_programs_unpack_it(
    packages: dict[str, Path], zipped: dict[str, Path], world: World, tmp_path: Path
) -> None:
    with zipfile.ZipFile(zipped["all"]) as packed:
        assert packed.testzip() is None
        assert {member.compress_type for member in packed.infolist()} == {zipfile.ZIP_STORED}
        packed.extractall(tmp_path / "by python")
    assert verify_package(tmp_path / "by python", world.trust).verdict == "VALID"
    unzip = shutil.which("unzip") or shutil.which("bsdtar")
    if unzip is None:
        if os.environ.get("CI") == "true":
            pytest.fail("CI must unpack with a program that others wrote, and has no unzip")
        pytest.skip("no unzip here")
    (tmp_path / "by unzip").mkdir()
    arguments = ["-q", zipped["all"], "-d"] if unzip.endswith("unzip") else ["-xf", zipped["all"], "-C"]
    subprocess.run([unzip, *arguments, tmp_path / "by unzip"], check=True)
    assert verify_package(tmp_path / "by unzip", world.trust).verdict == "VALID"


def test_an_export_makes_it_and_leaves_no_folder(store: ClickHouseStore, tmp_path: Path) -> None:
    world = varied_world()
    world.store_into(store)
    result = export(store, world, tmp_path / "package", zipped=True)
    assert result.folder == tmp_path / "package.zip"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["package.zip", "store"]
    assert verify_package(result.folder, world.trust).verdict == "VALID"
    with pytest.raises(ExportFailed, match="in the way"):
        export(store, world, tmp_path / "package.zip", zipped=True)
    later = export(store, world, tmp_path / "later", previous=result.folder)
    assert all(one["result"] == "consistent" for one in verify_package(later.folder, world.trust).consistency)

    def refuse(entry: dict[str, object]) -> None:
        raise ExportFailed("The service does not answer.")

    with pytest.raises(ExportFailed, match="does not answer"):
        export(store, world, tmp_path / "refused", zipped=True, record=refuse)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["later", "package.zip", "store"]


def rewritten(source: Path, target: Path, change: Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]) -> Path:
    """The zip of a person who has another program: ``change`` writes each member."""
    with zipfile.ZipFile(source) as given, zipfile.ZipFile(target, "w") as made:
        for member in given.infolist():
            change(made, zipfile.ZipInfo(member.filename, (1980, 1, 1, 0, 0, 0)), given.read(member))
    return target


def stored(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    made.writestr(member, content)


def edited(source: Path, target: Path, change: Callable[[bytearray], bytes | bytearray | None]) -> Path:
    """A zip with other bytes."""
    content = bytearray(source.read_bytes())
    target.write_bytes(change(content) or content)
    return target


def find(content: bytes | bytearray, signature: bytes, name: bytes) -> int:
    """Where the header of a member begins: local (``PK\\3\\4``), or of the central directory (``PK\\1\\2``)."""
    length = 30 if signature == b"PK\3\4" else 46
    at = content.find(signature)
    while content[at + length : at + length + len(name)] != name:
        at = content.find(signature, at + 1)
        assert at >= 0
    return at


def compressed(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    made.writestr(member, content, zipfile.ZIP_DEFLATED)


def twice(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    made.writestr(member, content)
    if member.filename == "VERIFY.md":
        made.writestr(zipfile.ZipInfo("VERIFY.md", (1980, 1, 1, 0, 0, 0)), b"another")


def renamed(name: str) -> Callable[[zipfile.ZipFile, zipfile.ZipInfo, bytes], None]:
    def change(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
        if member.filename == "VERIFY.md":
            extra = zipfile.ZipInfo("placeholder", (1980, 1, 1, 0, 0, 0))
            extra.filename = name
            made.writestr(extra, b"x")
        made.writestr(member, content)

    return change


def link(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    if member.filename == "VERIFY.md":
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        content = b"/etc/passwd"
    made.writestr(member, content)


def with_extra(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    # Info-ZIP's second name of a member.
    member.extra = struct.pack("<2HBI", 0x7075, 5 + 9, 1, 0) + b"other.txt"
    made.writestr(member, content)


def local_name(content: bytearray) -> None:
    at = find(content, b"PK\3\4", b"VERIFY.md")
    content[at + 30 : at + 39] = b"VERIFY.mx"


def local_size(content: bytearray) -> None:
    at = find(content, b"PK\3\4", b"VERIFY.md")
    content[at + 22 : at + 26] = struct.pack("<I", struct.unpack_from("<I", content, at + 22)[0] - 1)


def central_size(content: bytearray) -> None:
    at = find(content, b"PK\1\2", b"VERIFY.md")
    for place in (20, 24):
        content[at + place : at + place + 4] = struct.pack("<I", 5)


def unfolds(content: bytearray) -> None:
    at = find(content, b"PK\1\2", b"VERIFY.md")
    content[at + 24 : at + 28] = struct.pack("<I", 1 << 30)


def encrypted(content: bytearray) -> None:
    content[find(content, b"PK\1\2", b"VERIFY.md") + 8] |= 1
    content[find(content, b"PK\3\4", b"VERIFY.md") + 6] |= 1


def descriptor(content: bytearray) -> None:
    content[find(content, b"PK\1\2", b"VERIFY.md") + 8] |= 8
    content[find(content, b"PK\3\4", b"VERIFY.md") + 6] |= 8


def overlapping(content: bytearray) -> None:
    """A member of which the bytes are those of another: what a zip bomb is made of."""
    one, other = (find(content, b"PK\1\2", name) for name in (b"VERIFY.md", b"SUMMARY.html"))
    content[one + 42 : one + 46] = content[other + 42 : other + 46]


def before(content: bytearray) -> bytes:
    return b"#!/bin/sh\n" + content


def behind(content: bytearray) -> bytes:
    return content + b"x"


def comment(content: bytearray) -> bytes:
    return content[:-2] + struct.pack("<H", 4) + b"PK\5\6"


def cut(content: bytearray) -> bytes:
    return content[:-10]


def between(content: bytearray) -> bytes:
    """Bytes that no member has, before the central directory."""
    start = struct.unpack_from("<I", content, len(content) - 6)[0]
    made = content[:start] + b"hidden" + content[start:]
    made[-6:-2] = struct.pack("<I", start + 6)
    return made


def fewer(content: bytearray) -> None:
    """The end says one member less than the directory has."""
    at = len(content) - 22
    count = struct.unpack_from("<H", content, at + 10)[0] - 1
    content[at + 8 : at + 12] = struct.pack("<2H", count, count)


def several_disks(content: bytearray) -> None:
    content[-18] = 1


def with_comment(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    member.comment = b"hello"
    made.writestr(member, content)


def false_end(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
    """A comment where readers look for the 64-bit form of the end."""
    member.comment = b"PK\6\7" + bytes(16)
    made.writestr(member, content)


MALFORMED: dict[str, tuple[Any, str]] = {
    "compressed": (compressed, "compressed"),
    "a name twice": (twice, "occurs twice"),
    "another extra field": (with_extra, "extra fields"),
    "a comment of a member": (with_comment, "has a comment"),
    "a false end": (false_end, "64-bit form"),
    "another name in the local header": (local_name, "something else"),
    "another size in the local header": (local_size, "something else"),
    "another size in the directory": (central_size, "does not begin|something else"),
    "unfolds": (unfolds, "are to be"),
    "encrypted": (encrypted, "encrypted"),
    "size behind": (descriptor, "stands behind it"),
    "overlapping": (overlapping, "does not begin"),
    "bytes before": (before, "does not end where"),
    "bytes behind": (behind, "does not end as"),
    "a comment": (comment, "does not end as"),
    "cut off": (cut, "does not end as"),
    "bytes between": (between, "bytes between"),
    "a member not counted": (fewer, "longer than its members"),
    "several disks": (several_disks, "several files"),
}
BY_REWRITING = (compressed, twice, with_extra, with_comment, false_end)


def malformed(name: str, source: Path, target: Path) -> Path:
    """A zip that is one of `MALFORMED`."""
    change = MALFORMED[name][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Python's writer sees a name twice as well
        return rewritten(source, target, change) if change in BY_REWRITING else edited(source, target, change)


@pytest.mark.parametrize("name", MALFORMED)
def test_what_can_be_read_in_two_ways_is_refused_whole(
    name: str, zipped: dict[str, Path], world: World, tmp_path: Path
) -> None:
    report = verify_package(malformed(name, zipped["all"], tmp_path / "made.zip"), world.trust)
    assert report.verdict == "INVALID" and report.fault_counts == {"file.malformed": 1}
    (fault,) = report.faults
    assert re.search(MALFORMED[name][1], fault.actual), fault.actual


@pytest.mark.parametrize(
    "name",
    ["../outside", "/etc/passwd", "events/../../x", ".hidden", "a\\b", "C:x", "events//x", "é", "folder/", "a" * 300],
)
def test_names_that_lead_elsewhere_are_refused(
    name: str, zipped: dict[str, Path], world: World, tmp_path: Path
) -> None:
    made = rewritten(zipped["all"], tmp_path / "made.zip", renamed(name))
    report = verify_package(made, world.trust)
    assert report.fault_counts == {"manifest.path": 1}
    with open_package(made) as package, pytest.raises(PathRefused):
        package.open(name)


def test_a_link_is_refused(zipped: dict[str, Path], world: World, tmp_path: Path) -> None:
    report = verify_package(rewritten(zipped["all"], tmp_path / "made.zip", link), world.trust)
    assert set(report.fault_counts) == {"manifest.path"}


def test_a_stored_zip_of_another_program_is_read(zipped: dict[str, Path], world: World, tmp_path: Path) -> None:
    made = rewritten(zipped["all"], tmp_path / "made.zip", stored)
    assert verify_package(made, world.trust).verdict == "VALID"


def test_a_member_less_is_incomplete_and_one_more_is_a_fault(
    zipped: dict[str, Path], world: World, tmp_path: Path
) -> None:
    def without(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
        if member.filename != "VERIFY.md":
            made.writestr(member, content)

    def more(made: zipfile.ZipFile, member: zipfile.ZipInfo, content: bytes) -> None:
        made.writestr(member, content)
        if member.filename == "VERIFY.md":
            made.writestr(zipfile.ZipInfo("extra.txt", (1980, 1, 1, 0, 0, 0)), b"x")

    assert verify_package(rewritten(zipped["all"], tmp_path / "less.zip", without), world.trust).verdict == "INCOMPLETE"
    report = verify_package(rewritten(zipped["all"], tmp_path / "more.zip", more), world.trust)
    assert report.fault_counts == {"file.unlisted": 1}


def test_flipped_bytes_never_raise_and_are_found(zipped: dict[str, Path], world: World, tmp_path: Path) -> None:
    content = zipped["flagged"].read_bytes()
    made = tmp_path / "made.zip"

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        st.integers(0, len(content) - 1) | st.integers(max(0, len(content) - 1_200), len(content) - 1),
        st.integers(1, 255),
    )
    def check(place: int, change: int) -> None:
        made.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
        report = verify_package(made, world.trust)
        # Times, versions and permissions stand in the headers of a zip, and white space in the manifest's envelope.
        if report.verdict == "VALID":
            with open_package(made) as one, open_package(zipped["flagged"]) as other:
                digests = [
                    {name: package.digest(name) for name, _ in package.entries() if name != "manifest.json"}
                    for package in (one, other)
                ]
            assert digests[0] == digests[1]

    check()


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda some: b"PK\3\4" + some + b"PK\5\6" + bytes(18)))
def test_any_bytes_are_a_package_or_none(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.zip"
        path.write_bytes(content)
        with ZippedPackage(path) as package:
            assert package.malformed is not None or list(package.entries()) == []


def test_what_is_no_zip_is_a_wrong_command(world: World, tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text("{}")
    with pytest.raises(AuditSpanError, match="neither a folder nor a zip"):
        verify_package(tmp_path / "trust.json", world.trust)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AuditSpanError, match="cannot be opened"):
        verify_package(tmp_path / "pipe", world.trust)
    with pytest.raises(AuditSpanError, match="cannot be opened"):
        verify_package(tmp_path / "none.zip", world.trust)


def sparse(tmp_path: Path, size: int) -> Path:
    """A zip file in the 64-bit form, of which nearly all is a hole."""
    content = b"x" * 10
    path = tmp_path / "large.zip"
    with path.open("wb") as file:
        names = [b"large.bin", b"VERIFY.md"]
        sizes = [size, len(content)]
        places = []
        for name, length in zip(names, sizes, strict=True):
            places.append(file.tell())
            wide = length >= 0xFFFFFFFF
            short = 0xFFFFFFFF if wide else length
            extra = struct.pack("<2H2Q", 1, 16, length, length) if wide else b""
            file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 33, 0, short, short, len(name), len(extra)))
            file.write(name + extra)
            if wide:
                file.seek(length, os.SEEK_CUR)
            else:
                file.write(content)
        start = file.tell()
        for name, length, place in zip(names, sizes, places, strict=True):
            values = [value for value in (length, length, place) if value >= 0xFFFFFFFF]
            extra = struct.pack(f"<2H{len(values)}Q", 1, 8 * len(values), *values) if values else b""
            short = min(length, 0xFFFFFFFF)
            file.write(
                struct.pack("<4s4B4H3I5H2I", b"PK\1\2", 45, 3, 45, 0, 0, 0, 0, 33, 0, short, short, len(name),
                            len(extra), 0, 0, 0, 0o100600 << 16, min(place, 0xFFFFFFFF)) + name + extra
            )  # fmt: skip
        length = file.tell() - start
        end = file.tell()
        file.write(struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 2, 2, length, start))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, length, min(start, 0xFFFFFFFF), 0))
    return path


@pytest.mark.parametrize("size", [5_000_000_000, 2**32 - 1])
def test_large_members_and_offsets_are_read_where_they_lie(size: int, tmp_path: Path) -> None:
    path = sparse(tmp_path, size)
    with zipfile.ZipFile(path) as packed:
        assert packed.getinfo("large.bin").file_size == size, "as another reader has it"
    before_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open_package(path) as package:
        assert package.malformed is None
        with package.open("VERIFY.md") as file:
            assert file.read() == b"x" * 10
        with package.open("large.bin") as file:
            assert file.seek(-5, os.SEEK_END) == size - 5 and file.read() == bytes(5)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_peak < 50_000


def test_the_64_bit_form_of_pythons_writer_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its limit lowered, so that small files take the form of large ones."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "one").write_bytes(b"1" * 40)
    (tmp_path / "package" / "two").write_bytes(b"2")
    made = tmp_path / "made.zip"
    with zipfile.ZipFile(made, "w") as packed:
        for name in ("one", "two"):
            with packed.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write((tmp_path / "package" / name).read_bytes())
    content = made.read_bytes()
    assert b"PK\6\6" in content and b"PK\6\7" in content
    with open_package(made) as package:
        assert package.malformed is None
        for name, wanted in (("one", b"1" * 40), ("two", b"2")):
            with package.open(name) as file:
                assert file.read() == wanted


def test_nothing_is_unpacked(zipped: dict[str, Path], tmp_path: Path) -> None:
    """Reading a zip opens no socket and writes no file."""
    script = """
import sys
from pathlib import Path
def refuse(event, arguments):
    if event.startswith("socket."):
        raise AssertionError(event)
    if event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        raise AssertionError(arguments)
from auditspan.exporters.evidence.zipped import open_package
sys.addaudithook(refuse)
with open_package(Path(sys.argv[1])) as package:
    names = [name for name, _ in package.entries()]
    assert "manifest.json" in names and len(package.digest("manifest.json")) == 64
"""
    subprocess.run([sys.executable, "-c", script, str(zipped["all"])], check=True, timeout=60, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []
