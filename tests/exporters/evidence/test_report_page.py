"""A verification report says the same as text, as JSON and as HTML, and everything that it must say."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence.rendering import render
from auditspan.exporters.evidence.report import Fault, Report, StreamSeen
from auditspan.exporters.evidence.report_page import report_page
from auditspan.exporters.evidence.verify import verify_package
from html_tables import read_page
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from sealed_world import World
from tampering import edit, repair

Copy = Callable[[str], Path]


def as_text(report: Report) -> str:
    out = StringIO()
    render(report, Console(file=out, width=400))
    return out.getvalue()


def words(text: str) -> str:
    return " ".join(text.split())


def leaves_of(value: Any) -> list[str]:
    """Every text and number in a JSON value, as a reader sees it."""
    if isinstance(value, dict):
        return [one for key, each in value.items() if key != "watermark" for one in leaves_of(each)]
    if isinstance(value, list):
        return [one for each in value for one in leaves_of(each)]
    if value is None:
        return []
    return [f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)]


@pytest.mark.parametrize("name", ["all", "flagged", "later", "last minute"])
def test_the_page_says_all_that_json_says(name: str, packages: dict[str, Path], world: World) -> None:
    report = verify_package(packages[name], world.trust)
    said = json.loads(report.to_json())
    page = read_page(report_page(report))
    text = words(page.text)
    # Times are shown as such, and the rest below another name.
    unseen = {"exported_at", "query", "exit_code", "package"}
    for key in said.keys() - unseen:
        for value in leaves_of(said[key]):
            plain = value.replace(",", "")
            assert words(value) in text or plain in text, (key, value)
    assert not {"script", "link", "img", "a"} & {tag for tag, _ in page.tags}


def test_what_a_report_must_say_is_in_text_json_and_page(packages: dict[str, Path], world: World) -> None:
    report = verify_package(packages["later"], world.trust)
    said = report.to_dict()
    shapes = {"text": words(as_text(report)), "page": words(read_page(report_page(report)).text)}
    assert said["leaves_expected"] == said["counts"]["leaves"] == said["counts"]["proven"]
    for name, text in shapes.items():
        wanted = [
            said["package_digest"],
            said["verifier"],
            *said["keys"],
            *said["trusted_keys"],
            *(one["root"] for one in said["checkpoints"]),
            *(one["result"] for one in said["consistency"]),
            *said["not_proven"],
        ]
        for value in wanted:
            assert words(str(value)) in text, (name, value)
        for count in ("payload matched", "withheld", "proven", "expected"):
            assert count in text, (name, count)
        for stream in said["streams"]:
            assert stream["stream"] in text and str(stream["first"]) in text and str(stream["last"]) in text
        assert "clock skew" in text, name
    assert {one["result"] for one in said["consistency"]} == {"consistent"}
    assert all(one["from"] is not None and one["from"] <= one["to"] for one in said["consistency"])


def test_every_repetition_is_named(packages: dict[str, Path], world: World) -> None:
    report = verify_package(packages["all"], world.trust)
    suppressed = [one for one in report.duplicates if one["what"] == "suppressed in this batch"]
    assert sum(one["records"] for one in suppressed) == report.counts["duplicates_suppressed"] == 12
    conflicts = [one for one in report.duplicates if one["what"] == "identity.conflict"]
    assert len(conflicts) == report.counts["conflicts"] == 3
    log = world.logs[0]
    assert {one["leaf_index"] for one in conflicts} == {
        row["leaf_index"] for row in log.rows if row["class"] == "audit.conflict"
    }
    # The batch that the interval begins with is that of leaves before it.
    part = verify_package(packages["flagged"], world.trust)
    assert sum(one["records"] for one in part.duplicates if one["what"].startswith("suppressed")) == 8
    assert part.counts["duplicates_suppressed"] == 8
    for text in (as_text(report), read_page(report_page(report)).text):
        assert "identity.conflict" in text


def test_an_invalid_package_is_said_to_be_so(copy: Copy, world: World) -> None:
    folder = copy("all")

    def act(rows: list[dict[str, Any]]) -> None:
        rows[3]["actor_id"] = "<b>VALID</b>\x1b[2J\u202e"

    edit(folder, "events", world.logs[0].log_id, act)
    repair(folder, world.key)
    report = verify_package(folder, world.trust)
    text = report_page(report)
    page = read_page(text)
    assert "INVALID" in page.text and "column.mismatch" in page.text and "<b>VALID</b>" in page.text
    assert "b" not in [tag for tag, _ in page.tags] and "\x1b" not in text and "\u202e" not in text


def test_a_report_of_nothing_has_a_page(world: World, tmp_path: Path) -> None:
    report = verify_package(tmp_path, world.trust)
    page = read_page(report_page(report))
    assert "INVALID" in page.text and "manifest.malformed" in page.text
    assert "INVALID" in as_text(report)


def test_what_the_template_has_no_place_for_is_shown_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Report("a verifier", "a package")
    said = report.to_dict() | {"anchors": [{"authority": "a <clock>"}], "nothing": []}
    monkeypatch.setattr(Report, "to_dict", lambda self: said)
    page = read_page(report_page(report))
    assert "Anchors" in page.text and "a <clock>" in page.text and "Nothing" not in page.text


TEXT = st.text(st.characters(codec="utf-8"), max_size=20) | st.sampled_from(["</td><script>", "{{ x }}", "{% raw %}"])


@settings(max_examples=40)
@given(TEXT, TEXT, TEXT)
def test_hostile_texts_stay_text(one: str, other: str, third: str) -> None:
    def made(texts: tuple[str, str, str]) -> Report:
        report = Report("a verifier", texts[0], deployment=texts[1], query={"from": "1", "to": "2", "where": texts[2]})
        report.faults = [Fault("leaf.order", None, texts[0], texts[1])]
        report.fault_counts = {"leaf.order": 1}
        report.streams = [StreamSeen(texts[0], texts[1], 0, 1, 2)]
        report.gaps = [{"emitter": texts[0], "stream": texts[2], "from": "1", "to": "2"}]
        report.notes = [texts[1]]
        report.request = {"id": texts[0], "by": texts[1], "basis": texts[2]}
        return report

    wanted = read_page(report_page(made(("a", "b", "c")))).tags
    found = read_page(report_page(made((one, other or "b", third or "c")))).tags
    assert found == wanted


def test_a_stream_of_a_report_is_what_its_row_says(packages: dict[str, Path], world: World) -> None:
    report = verify_package(packages["all"], world.trust)
    page = read_page(report_page(report))
    table = next(rows for caption, rows in page.tables.items() if caption.startswith("Streams: "))
    for stream, row in zip(report.streams, table[1:], strict=True):
        assert row == [str(value) for value in asdict(stream).values()]
