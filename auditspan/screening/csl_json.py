"""The Consolidated Screening List as JSON: ``{"results": […]}``, read record by record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from .csl_fields import entry_from
from .entries import Entry
from .errors import ListError
from .importer import ListHead, TextSource

__all__ = ["CslJson"]

_LARGEST_RECORD: Final = 1 << 20
"""Characters that one record may have; what does not end within them is broken."""

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_AGAIN: Final = "The file is truncated or damaged: download it again. The list that was imported last stays."


class CslJson:
    """`auditspan.screening.importer.Importer` of the JSON file."""

    name = "consolidated-screening-list-json"

    def recognises(self, start: str, file: str) -> bool:
        """By its first character."""
        return start.lstrip()[:1] in ("{", "[")

    def entries(self, source: TextSource, head: ListHead) -> Iterator[Entry]:
        """See the contract."""
        scanner = _Scanner(source)
        if scanner.peek() == "{":
            scanner.take("{")
            while scanner.peek() != "}":
                key = scanner.value()
                scanner.take(":")
                if key == "results":
                    yield from _records(scanner, source.file)
                else:
                    _note(key, scanner.value(), head)
                if scanner.peek() == ",":
                    scanner.take(",")
            scanner.take("}")
        else:
            yield from _records(scanner, source.file)
        scanner.end()


def _note(key: Any, value: Any, head: ListHead) -> None:
    if key == "search_performed_at" and isinstance(value, str):
        head.stated_time = value
    elif key == "total" and isinstance(value, int):
        head.stated_total = value


def _records(scanner: _Scanner, file: str) -> Iterator[Entry]:
    scanner.take("[")
    number = 0
    while scanner.peek() != "]":
        number += 1
        scanner.record = number
        line = scanner.line
        record = scanner.value()
        if not isinstance(record, dict):
            raise ListError("it is no object", file=file, line=line, record=number, remedy=_AGAIN)
        yield entry_from(record, number, file, line)
        if scanner.peek() == ",":
            scanner.take(",")
        elif scanner.peek() != "]":
            raise scanner.fault("a comma is missing after it")
    scanner.take("]")
    scanner.record = 0


class _Scanner:
    """JSON values one after the other, from a text of which only a part is in memory."""

    def __init__(self, source: TextSource) -> None:
        self.file = source.file
        self.record = 0
        self._decoder = json.JSONDecoder()
        self._chunks = source.chunks()
        self._text = ""
        self._place = 0
        self._lines_before = 1
        self._ended = False

    @property
    def line(self) -> int:
        """Line of the next value."""
        return self._lines_before + self._text.count("\n", 0, self._place)

    def fault(self, message: str, line: int = 0) -> ListError:
        """At the place that was reached."""
        return ListError(message, file=self.file, line=line or self.line, record=self.record, remedy=_AGAIN)

    def peek(self) -> str:
        """The next character that is no blank."""
        while True:
            blank = _BLANK.match(self._text, self._place)
            self._place = blank.end() if blank else self._place
            if self._place < len(self._text):
                return self._text[self._place]
            if not self._more():
                raise self.fault("the file ends in the middle of the list")

    def take(self, character: str) -> None:
        """Passes ``character``."""
        if self.peek() != character:
            raise self.fault(f"{character!r} is missing before {self._text[self._place : self._place + 20]!r}")
        self._place += 1

    def value(self) -> Any:
        """The next value."""
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                if len(self._text) - self._place > _LARGEST_RECORD:
                    raise self.fault(f"it is no JSON: {error.msg}", self._lines_before + error.lineno - 1) from error
                if not self._more():
                    raise self.fault(f"the file ends or breaks within it: {error.msg}") from error
            except RecursionError as error:
                raise self.fault("it is nested too deep") from error
            else:
                # A number at the end of what is in memory may go on; objects, lists and texts do not.
                if end < len(self._text) or not self._more():
                    self._place = end
                    return found

    def end(self) -> None:
        """Nothing follows.

        Raises:
            ListError: something does.
        """
        while self._more():
            pass
        if self._text[self._place :].strip():
            raise self.fault("something follows the list")

    def _more(self) -> bool:
        if self._ended:
            return False
        chunk = next(self._chunks, None)
        if chunk is None:
            self._ended = True
            return False
        self._lines_before += self._text.count("\n", 0, self._place)
        self._text = self._text[self._place :] + chunk
        self._place = 0
        return True
