"""A page as a reader sees it: its tables, its text, and every tag and attribute in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

__all__ = ["Page", "read_page"]

_VOID = {"meta", "br", "link", "img", "input"}


@dataclass
class Page:
    """``tables`` by caption; one without has that of the heading before it. ``tags`` in order, with attribute names."""

    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    tags: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    values: list[str] = field(default_factory=list)
    text: str = ""

    def row(self, caption: str, first: str) -> list[str]:
        """The row of a table that begins with this cell."""
        return next(row for row in self.tables[caption] if row and row[0] == first)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.page = Page()
        self._heading = self._caption = ""
        self._rows: list[list[str]] | None = None
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.page.tags.append((tag, tuple(name for name, _ in attrs)))
        self.page.values += [value or "" for _, value in attrs]
        if tag in _VOID:
            return
        self._open.append(tag)
        if tag in ("h2", "h3"):
            self._heading = ""
        elif tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr" and self._rows is not None:
            self._rows.append([])
        elif tag in ("td", "th") and self._rows:
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, (tag, self._open)
        self._open.pop()
        if tag == "table" and self._rows is not None:
            self.page.tables[(self._caption or self._heading).strip()] = [
                [" ".join(cell.split()) for cell in row] for row in self._rows
            ]
            self._rows = None

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.page.text += data
        if "caption" in self._open:
            self._caption += data
        elif self._rows and self._rows[-1] and {"td", "th"} & set(self._open):
            self._rows[-1][-1] += data
        elif {"h2", "h3"} & set(self._open):
            self._heading += data


def read_page(text: str) -> Page:
    """Read a page whose every tag is closed in its place."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    assert not reader._open
    return reader.page
