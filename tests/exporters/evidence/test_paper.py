"""Records on paper: what a reader of the PDF finds is what the package holds."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from auditspan.exporters.evidence import records as records_module
from auditspan.exporters.evidence.epochs import enclosed_citations
from auditspan.exporters.evidence.opened import open_verified
from auditspan.exporters.evidence.paper import PaperFont, print_records
from auditspan.exporters.evidence.query import compile_query
from auditspan.exporters.evidence.records import Record, TooManyRecords, select_records
from exported import export
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader
from sealed_world import DEPLOYMENT, SECOND, T0, World, varied_world

from auditspan.errors import AuditSpanError
from auditspan.store.clickhouse import ClickHouseStore

DEJAVU = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


def printed(
    folder: Path, world: World, out: Path, font: Path | None = None, **selection: Any
) -> tuple[list[Record], list[str]]:
    """The records that were printed, and the text of each page without white space, as lines are broken anywhere."""
    with open_verified(folder, world.trust) as opened:
        assert opened.manifest is not None
        found = select_records(opened.package, opened.manifest, **selection)
        pages = print_records(
            out, opened.manifest, opened.report, found, enclosed_citations(opened.package, opened.manifest),
            PaperFont(font), printed_at=T0, printed_by="user:custodian", selected_by="a test",
        )  # fmt: skip
    reader = PdfReader(out)
    assert len(reader.pages) == pages
    return found, ["".join((page.extract_text() or "").split()) for page in reader.pages]


def squeezed(value: object) -> str:
    return "".join(str(value).split())


def test_a_record_is_printed_with_all_that_proves_it(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    log = world.logs[0]
    row = next(row for row in log.rows if row["flagged"])
    header = json.loads(row["header"])
    found, pages = printed(packages["all"], world, tmp_path / "one.pdf", record_id=header["record_id"])
    assert [record.leaf_index for record in found] == [row["leaf_index"]]
    record = "".join(pages[1:])
    for name in ("record_id", "class", "emitter", "determination", "facts_hash", "payload_hash", "arrival_time"):
        assert squeezed(header[name]) in record, name
    assert "us-ear.744.6" in record and "license_required,law;governs" in record
    assert "destination" in record and "CN" in record and "(knownbyaddress)" in record
    wanted = [log.log_id, hashlib.sha256(b"\0" + row["header"]).hexdigest(), f"auditspan/{DEPLOYMENT}/{log.log_id}"]
    size, root = found[0].checkpoint_size, found[0].checkpoint_root
    assert size == len(log.rows)
    for value in (*wanted, size, root):
        assert squeezed(value) in record
    assert hashlib.sha256(b"\0" + row["header"]).hexdigest() == found[0].leaf_hash


def test_custody_and_page_numbers(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    found, pages = printed(packages["all"], world, tmp_path / "some.pdf", query=compile_query("flagged = true"))
    digest = hashlib.sha256((packages["all"] / "manifest.json").read_bytes()).hexdigest()
    assert len(found) == sum(row["flagged"] for log in world.logs for row in log.rows)
    for number, text in enumerate(pages, 1):
        assert f"Page{number}of{len(pages)}" in text
        assert digest in text
    front = pages[0] + pages[1]
    for said in ("Custody", "user:custodian", "VALID", "Notproven", "Signature", "leavesproven", "2026-11-24"):
        assert said in front, said
    for number, record in enumerate(found, 1):
        assert any(f"Record{number}of{len(found)}" in text and record.leaf_hash for text in pages)


def test_a_withheld_record_is_its_header(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    header = json.loads(next(row for row in world.logs[0].rows[17:] if row["payload"] and not row["flagged"])["header"])
    found, pages = printed(packages["flagged"], world, tmp_path / "one.pdf", record_id=header["record_id"])
    assert found[0].sent is None and found[0].facts is None
    text = "".join(pages)
    assert "theheaderofthisrecordalone" in text and "192.0.2.7" not in text
    _, shown = printed(packages["all"], world, tmp_path / "two.pdf", record_id=header["record_id"])
    assert "192.0.2.7" in "".join(shown)


def test_two_sets_of_facts_are_two(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    _, pages = printed(packages["all"], world, tmp_path / "both.pdf", query=compile_query("time_basis = 'both'"))
    text = "".join(pages)
    assert "Factsattheevent'stime" in text and "Factsatthearrivaltime" in text
    # Too long for a header: what stands there is its digest.
    assert "atextof" in text


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    folder = tmp_path_factory.mktemp("foreign")
    store = ClickHouseStore.embedded(folder / "store")
    world = World("foreign", logs=1)
    world.logs[0].event(T0, sequence=0, asset="Модель 模型 é \\u4e2d {nb} <b>")
    world.batch(T0 + SECOND)
    try:
        store.migrate()
        world.store_into(store)
        export(store, world, folder / "out", time_from=0, time_to=2**62)
    finally:
        store.close()
    return folder / "out", world


def test_without_a_font_other_scripts_are_code_points(foreign: tuple[Path, World], tmp_path: Path) -> None:
    _, pages = printed(*foreign, tmp_path / "latin.pdf")
    text = "".join(pages)
    escaped = "".join(f"\\u{ord(one):04x}" for one in "Модель")
    assert f"{escaped}\\u6a21\\u578bé\\\\u4e2d{{nb}}<b>" in text
    assert "Latincharactersareprinted" in text and "codepoint" in text


def test_with_a_font_what_it_has_is_printed(foreign: tuple[Path, World], tmp_path: Path) -> None:
    _, pages = printed(*foreign, tmp_path / "font.pdf", font=DEJAVU)
    text = "".join(pages)
    assert "Модель\\u6a21\\u578bé\\\\u4e2d{nb}<b>" in text
    assert "PrintedwiththefontDejaVuSans.ttf" in text
    (tmp_path / "none.ttf").write_bytes(b"no font")
    with pytest.raises(AuditSpanError, match="is no font"):
        PaperFont(tmp_path / "none.ttf")


@given(st.text(max_size=40), st.text(max_size=40))
def test_two_texts_never_look_alike(one: str, other: str) -> None:
    font = PaperFont()
    legible = font.legible(one)
    assert all(character.isprintable() and ord(character) < 256 for character in legible)
    assert (legible == font.legible(other)) == (one == other)
    back = re.sub(
        r"\\(\\|u([0-9a-f]{4})|U([0-9a-f]{8}))",
        lambda match: "\\" if match[1] == "\\" else chr(int(match[2] or match[3], 16)),
        legible,
    )
    assert back == one


def test_too_many_records_are_refused_with_their_number(
    packages: dict[str, Path], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_module, "MOST_RECORDS", 3)
    with open_verified(packages["all"], world.trust) as opened:
        assert opened.manifest is not None
        events = sum(row["payload"] is not None for log in world.logs for row in log.rows)
        with pytest.raises(TooManyRecords, match=f"{events} records match, and at most 3"):
            select_records(opened.package, opened.manifest)
        assert len(select_records(opened.package, opened.manifest, query=compile_query("sequence = 1"))) <= 3


def test_a_paper_is_never_overwritten(packages: dict[str, Path], world: World, tmp_path: Path) -> None:
    (tmp_path / "there.pdf").write_text("mine")
    with pytest.raises(FileExistsError):
        printed(packages["all"], world, tmp_path / "there.pdf", query=compile_query("sequence = 1"))
    assert (tmp_path / "there.pdf").read_text() == "mine"


def test_a_long_record_goes_over_pages(store: ClickHouseStore, tmp_path: Path) -> None:
    world = varied_world("long")
    facts = {
        "v": 1,
        "facts": {f"fact_{number}": "value " * 30 for number in range(60)} | {"very_long": "x" * 9_000},
        "known_by": {},
        "in_force": {"from": "0", "to": None},
        "rules": [],
        "text": "review",
        "enforced": "review",
        "governing": "review",
        "flagged": False,
        "destination": None,
        "eccn": None,
    }
    leaf = world.logs[0].event(T0 + 200 * SECOND, sequence=90, facts=facts, record_id="long-one")
    world.batch(T0 + 201 * SECOND)
    world.store_into(store)
    export(store, world, tmp_path / "out", time_from=0, time_to=2**62)
    found, pages = printed(tmp_path / "out", world, tmp_path / "long.pdf", record_id="long-one")
    assert found[0].leaf_index == leaf and len(pages) > 4
    text = "".join(pages)
    assert all(f"fact_{number}" in text for number in range(60)) and "5,000morecharacters" in text
