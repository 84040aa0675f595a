"""Records of a package on paper: a PDF that a person reads without any program of ours (15 CFR 762.5(b)(1))."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from auditspan.errors import AuditSpanError

from .citations import Citations
from .html import utc
from .records import Record
from .report import Report
from .statement import Manifest

__all__ = ["PaperFont", "print_records"]

_CORE: Final = "helvetica"
_MONO: Final = "courier"
_GIVEN: Final = "given"
_LONGEST_VALUE: Final = 4_000
_MARGIN: Final = 15.0
_LINE: Final = 4.6
_LABEL: Final = 42.0
_TIMES: Final = ("event_time", "arrival_time")
_ORDER: Final = (
    "record_id", "class", "action", "outcome", "asset", "emitter", "authentication", "stream", "sequence", "event_time",
    "arrival_time", "time_basis", "destination", "eccn", "determination", "flagged", "rule_ids", "faults",
    "reference_epoch", "facts_hash", "payload_hash", "payload_length", "encoding", "position", "log_id", "v",
)  # fmt: skip


class PaperFont:
    """Which characters can be printed: Latin ones, or those of a font file that a person gives.

    Raises:
        AuditSpanError: the file is no font that can be used.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._known: frozenset[int] | None = None
        if path is not None:
            from fontTools.ttLib import TTFont, TTLibError

            try:
                with TTFont(path, lazy=True, fontNumber=0) as font:
                    self._known = frozenset(font.getBestCmap() or ())
            except (TTLibError, OSError, ValueError, AssertionError) as error:
                raise AuditSpanError(
                    f"{path} is no font that can be printed with: {error}.", remedy="Give a TrueType or OpenType file."
                ) from error

    @property
    def says(self) -> str:
        """What a reader must know of characters."""
        font = "Latin characters are printed" if self.path is None else f"Printed with the font {self.path.name}"
        return (
            f"{font}. Others, and those that would change how text reads, are written as \\u and four, or \\U and "
            "eight, hexadecimal digits of their Unicode code point; a backslash is written twice."
        )

    def legible(self, text: str) -> str:
        """``text`` in characters that the font has, and nothing else."""
        return "".join(self._one(character) for character in text)

    def _one(self, character: str) -> str:
        if character == "\\":
            return "\\\\"
        code = ord(character)
        has = code < 256 if self._known is None else code in self._known
        if has and character.isprintable():
            return character
        return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@dataclass(frozen=True, slots=True)
class _Document:
    """All that is printed."""

    manifest: Manifest
    report: Report
    records: Sequence[Record]
    citations: Citations
    font: PaperFont
    printed_at: int
    printed_by: str
    selected_by: str


def print_records(
    out: Path,
    manifest: Manifest,
    report: Report,
    records: Sequence[Record],
    citations: Citations,
    font: PaperFont,
    *,
    printed_at: int,
    printed_by: str,
    selected_by: str,
) -> int:
    """Write a PDF of these records with their custody and proof; how many pages it has.

    Args:
        out: a file that does not exist yet.
        manifest: of the package.
        report: of its verification, which was valid.
        records: what is printed.
        citations: what the enclosed packs say of rules.
        font: which characters can be printed.
        printed_at: now, in nanoseconds since 1970.
        printed_by: who prints.
        selected_by: how the records were chosen, in words.

    Raises:
        OSError: it cannot be written, or is there already.
    """
    document = _Document(manifest, report, records, citations, font, printed_at, printed_by, selected_by)
    # Twice: how many pages there are is known at the end, and a text to be replaced could stand in a record.
    pages = _pages(document, None).pages_count
    content = bytes(_pages(document, pages).output())
    with out.open("xb") as file:
        out.chmod(0o600)
        file.write(content)
    return int(pages)


def _pages(document: _Document, pages: int | None) -> Any:
    from fpdf import FPDF
    from fpdf.enums import WrapMode, XPos, YPos

    font, digest = document.font, document.report.package_digest or ""

    class Paper(FPDF):  # type: ignore[misc, unused-ignore]
        def footer(self) -> None:
            self.set_y(-_MARGIN)
            self.set_font(_CORE, size=7)
            self.cell(0, 4, f"Package (SHA-256 of its manifest): {digest}", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
            self.cell(0, 4, f"Page {self.page_no()} of {pages or '?'}", align="R")

        def head(self, text: str, size: float) -> None:
            self.ln(2)
            self.use(size, bold=True)
            self.multi_cell(0, size * 0.5, font.legible(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)

        def say(self, text: str) -> None:
            self.use(9)
            self.multi_cell(0, _LINE, font.legible(text), new_x=XPos.LMARGIN, new_y=YPos.NEXT)

        def row(self, label: str, value: str) -> None:
            if self.will_page_break(_LINE):
                self.add_page()
            top = self.get_y()
            self.set_font(_CORE, size=8)
            self.cell(_LABEL, _LINE, label)
            self.set_xy(self.l_margin + _LABEL, top)
            self.use(8, mono=True)
            self.multi_cell(0, _LINE, font.legible(value), wrapmode=WrapMode.CHAR, new_x=XPos.LMARGIN, new_y=YPos.NEXT)

        def use(self, size: float, *, bold: bool = False, mono: bool = False) -> None:
            if font.path is not None:
                self.set_font(_GIVEN, size=size)
            else:
                self.set_font(_MONO if mono else _CORE, style="B" if bold else "", size=size)

    paper = Paper(format="A4")
    paper.set_margins(_MARGIN, _MARGIN)
    paper.set_auto_page_break(True, margin=_MARGIN + 6)
    paper.set_title("Evidence records")
    paper.set_creation_date(datetime.fromtimestamp(document.printed_at // 1_000_000_000, UTC))
    # Nothing in a record is to be taken for the mark of the number of pages.
    paper.alias_nb_pages("")
    if font.path is not None:
        paper.add_font(_GIVEN, fname=font.path)
    paper.add_page()
    _front(paper, document)
    for number, record in enumerate(document.records, 1):
        _record(paper, document, number, record)
    return paper


def _front(paper: Any, document: _Document) -> None:
    manifest, report = document.manifest, document.report
    paper.head(f"Evidence records of {manifest.deployment}", 15)
    paper.say(f"{len(document.records)} records, selected by: {document.selected_by}.")
    paper.head("Custody", 11)
    for sentence in _custody(document):
        paper.say(sentence)
    paper.head("Package", 11)
    query = manifest.where or "none, everything is selected"
    rows = {
        "package": report.package,
        "manifest SHA-256": report.package_digest or "",
        "deployment": manifest.deployment,
        "arrival times": f"{utc(manifest.time_from)} up to {utc(manifest.time_to)} (UTC)",
        "query of the package": query,
        "exported": f"{utc(manifest.exported_at)} UTC by {manifest.software}",
        "signed by key": ", ".join(report.keys),
        "verdict": f"{report.verdict}, by {report.verifier}",
    }
    if manifest.request is not None:
        rows["request"] = f"{manifest.request['id']}: {manifest.request['by']} ({manifest.request['basis']})"
    _rows(paper, rows)
    paper.head("Not proven", 11)
    for sentence in report.not_proven:
        paper.say(f"- {sentence}")
    paper.head("Characters", 11)
    paper.say(document.font.says)
    paper.head("Statement of the custodian", 11)
    paper.say("I printed these records from the package named above, and changed nothing of them.")
    paper.ln(8)
    paper.say("Name ______________________   Signature ______________________   Date ______________")


def _custody(document: _Document) -> Iterable[str]:
    manifest, report = document.manifest, document.report
    yield (
        "1. The collectors of the deployment received each record from the emitter that it names, at its arrival time "
        "by their clock, and made it durable before they acknowledged it."
    )
    yield (
        "2. Each record was sealed as a leaf of an append-only Merkle log (RFC 6962), under the log and the leaf index "
        "that are printed with it. The log's root was signed with the deployment's key: size and root are printed too."
    )
    yield f"3. The package was exported at {utc(manifest.exported_at)} UTC, and its manifest signed."
    yield (
        f"4. Before this was printed, the package was verified with keys that came by another way ({report.verifier}): "
        f"{report.verdict}, {report.counts.get('proven', 0):,} of {report.leaves_expected:,} leaves proven."
    )
    yield f"5. Printed at {utc(document.printed_at)} UTC by {document.printed_by}."
    yield (
        "The hash of a leaf is SHA-256 over a zero byte and its header in canonical JSON (RFC 8785), as it stands in "
        "the package. With index, size and root, anybody can check there that the record is the one that was sealed."
    )


def _record(paper: Any, document: _Document, number: int, record: Record) -> None:
    paper.add_page()
    header = record.header
    paper.head(f"Record {number} of {len(document.records)}", 13)
    names = [*(name for name in _ORDER if name in header), *sorted(header.keys() - set(_ORDER))]
    paper.head("Header, as it is sealed", 10)
    _rows(paper, {name: _header_value(name, header[name]) for name in names})
    if record.sent is None:
        paper.say("The package holds the header of this record alone; what was sent, and the facts, are withheld.")
    else:
        paper.head("From what was sent", 10)
        _rows(paper, {name: _value(value) for name, value in record.sent.items() if value is not None})
    for title, facts in _documents(record.facts):
        paper.head(title, 10)
        known_by = facts.get("known_by") or {}
        _rows(
            paper,
            {
                name: _value(value) + (f"  (known by {_value(known_by[name])})" if name in known_by else "")
                for name, value in sorted((facts.get("facts") or {}).items())
                if value is not None
            },
        )
        paper.head("Rules that matched", 10)
        for rule in facts.get("rules") or ():
            _rule(paper, document, header.get("reference_epoch"), rule)
    paper.head("Proof", 10)
    _rows(
        paper,
        {
            "log": f"{record.log_id} ({record.partition})",
            "leaf index": str(record.leaf_index),
            "leaf hash": record.leaf_hash,
            "checkpoint origin": record.origin,
            "checkpoint size": str(record.checkpoint_size),
            "checkpoint root": record.checkpoint_root,
        },
    )


def _documents(facts: Mapping[str, Any] | None) -> list[tuple[str, Mapping[str, Any]]]:
    """The facts by which an event was judged: at one time, or at two."""
    if facts is None:
        return []
    if "both" in facts:
        return [("Facts at the event's time", facts["both"][0]), ("Facts at the arrival time", facts["both"][1])]
    return [("Facts", facts)]


def _rule(paper: Any, document: _Document, epoch: int | None, rule: Mapping[str, Any]) -> None:
    quoted = document.citations.of(epoch, str(rule.get("id")))
    said = f"{_value(rule.get('outcome'))}, {_value(rule.get('authority'))}"
    said += "; governs" if rule.get("governs") is True else "; does not govern"
    if quoted is not None:
        said += f"\n{quoted.title}\n{'; '.join(quoted.citations)}"
    _rows(paper, {"rule": f"{_value(rule.get('id'))}: {said}"})


def _rows(paper: Any, rows: Mapping[str, str]) -> None:
    for label, value in rows.items():
        lines = (value or "-").split("\n")
        for place, line in enumerate(lines):
            paper.row(_label(label) if place == 0 else "", line)


def _label(label: str) -> str:
    """A label of our own, or the name of a fact, short enough for its column."""
    clean = "".join(one if one.isascii() and one.isprintable() else "?" for one in label)
    return clean if len(clean) <= 28 else f"{clean[:27]}."


def _header_value(name: str, value: Any) -> str:
    if name in _TIMES and isinstance(value, str):
        return f"{utc(value)} UTC ({value} ns)"
    if isinstance(value, dict) and set(value) == {"length", "sha256"}:
        return f"a text of {value['length']} bytes with SHA-256 {value['sha256']}"
    return _value(value)


def _value(value: Any) -> str:
    """A value as text; what is very long is cut, and says so."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) > _LONGEST_VALUE:
        return f"{text[:_LONGEST_VALUE]} ... ({len(text) - _LONGEST_VALUE:,} more characters, which the package has)"
    return text
