"""Learning the model and the token counts from bodies that pass by; their content is not kept, delayed or recorded.

Only three things are taken: the member ``model`` of the request, ``model`` and ``usage`` of the response. Everything is
bounded: a body may be of any size and shape, hostile ones included.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["MODEL_LIMIT", "RequestPeek", "ResponsePeek", "Usage"]

MODEL_LIMIT: Final = 256
"""Longest name of a model that is taken, characters; a longer one is cut."""

_WHOLE_LIMIT: Final = 64 * 1024
"""A body of one piece up to this size is parsed as it is; the parser in C is exact and takes microseconds."""

_SCAN_LIMIT: Final = 4 * 1024 * 1024
_STEP_LIMIT: Final = 20_000
_TRIES: Final = 4
_HEAD_LIMIT: Final = 4 * 1024
_TAIL_LIMIT: Final = 8 * 1024

# Possessive: a hostile string cannot make the pattern go back over what it has passed.
_STRING_REST: Final = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_SHALLOW: Final = re.compile(rb'["{}\[\],:]')
_DEEP: Final = re.compile(rb'["{}\[\]]')
_MODEL: Final = re.compile(rb'(?<!\\)"model"\s*:\s*("(?:[^"\\]|\\.){1,512}")')
_USAGE: Final = re.compile(rb'(?<!\\)"usage"\s*:\s*(?=\{)')


def _text(encoded: bytes | bytearray) -> str | None:
    """A JSON string literal as text."""
    try:
        value = json.loads(encoded)
    except ValueError:
        return None
    return value[:MODEL_LIMIT] if isinstance(value, str) and value else None


class RequestPeek:
    """Finds the member ``model`` of a JSON object in a body that passes by in pieces.

    A body in several pieces is scanned as it comes, with constant memory: clients put a long prompt before ``model`` as
    often as after it. Of several members of that name the last counts, as it does for the application.
    """

    def __init__(self) -> None:
        self.model: str | None = None
        self.size = 0
        self._pieces = 0
        self._steps = 0
        self._done = False
        self._depth = 0
        self._in_string = False
        self._escape = False
        self._literal: bytearray | None = None
        self._is_value = False
        self._key = b""

    def feed(self, piece: bytes, *, more: bool) -> None:
        """Look at the next piece of the body."""
        self._pieces += 1
        self.size += len(piece)
        if self._done or not piece:
            return
        if self._pieces == 1 and not more and len(piece) <= _WHOLE_LIMIT:
            self._parse(piece)
        elif self.size > _SCAN_LIMIT:
            self._done = True
        else:
            self._scan(piece)

    def _parse(self, body: bytes) -> None:
        self._done = True
        if body.lstrip()[:1] != b"{":
            return
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return
        model = document.get("model")
        if isinstance(model, str) and model:
            self.model = model[:MODEL_LIMIT]

    def _scan(self, piece: bytes) -> None:
        at, end = 0, len(piece)
        while at < end and not self._done:
            self._steps += 1
            if self._steps > _STEP_LIMIT:
                self._done = True
            elif self._in_string:
                at = self._string(piece, at)
            else:
                found = (_SHALLOW if self._depth <= 1 else _DEEP).search(piece, at)
                if found is None:
                    return
                at = found.end()
                self._mark(found[0])

    def _string(self, piece: bytes, at: int) -> int:
        """Pass over a string, or as much of it as there is; the index behind it."""
        start, end = at, len(piece)
        if self._escape:
            self._escape = False
            at += 1
        found = _STRING_REST.match(piece, at)
        at = found.end() if found is not None else at
        closed = at < end and piece[at] == 0x22
        if at < end and not closed:
            # A lone backslash is the last byte: what it escapes comes with the next piece.
            self._escape = True
            at = end
        if self._literal is not None:
            room = 2 * MODEL_LIMIT + 2 - len(self._literal)
            self._literal += piece[start : min(at, start + max(room, 0))]
        if closed:
            at += 1
            self._in_string = False
            self._string_ended()
        return at

    def _string_ended(self) -> None:
        literal, self._literal = self._literal, None
        if literal is None:
            return
        if not self._is_value:
            self._key = bytes(literal) if b"\\" not in literal else (_text(b'"' + literal + b'"') or "").encode()
        elif self._key == b"model":
            self.model = _text(b'"' + literal + b'"') or self.model

    def _mark(self, mark: bytes) -> None:
        if mark == b'"':
            self._in_string = True
            self._literal = bytearray() if self._depth == 1 and (not self._is_value or self._key == b"model") else None
        elif mark in b"{[":
            self._depth += 1
            if self._depth == 1 and mark == b"[":
                self._done = True
        elif mark in b"}]":
            self._depth -= 1
            self._done = self._depth <= 0
        elif self._depth == 1:
            self._is_value = mark == b":"


@dataclass(slots=True)
class Usage:
    """Token counts as the response states them."""

    input_tokens: int | None = None
    output_tokens: int | None = None


def _count(usage: dict[str, object], *names: str) -> int | None:
    for name in names:
        value = usage.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53:
            return value
    return None


def _read_usage(value: object) -> Usage:
    """Counts under the names of OpenAI's chat and of its responses interface, which Anthropic's share."""
    if not isinstance(value, dict):
        return Usage()
    return Usage(_count(value, "prompt_tokens", "input_tokens"), _count(value, "completion_tokens", "output_tokens"))


class ResponsePeek:
    """Finds ``model`` and ``usage`` in a JSON response or in the events of a streamed one.

    Of a response in pieces only the first 4 KiB and the last 8 KiB are kept until its end: servers name the model in
    the first event and the usage in one of the last. A quote inside a text is escaped, so it cannot pass for a member.
    """

    def __init__(self) -> None:
        self.size = 0
        self._head = b""
        self._tail = b""

    def feed(self, piece: bytes) -> None:
        """Look at the next piece of the body."""
        self.size += len(piece)
        if len(self._head) < _HEAD_LIMIT:
            self._head += piece[: _HEAD_LIMIT - len(self._head)]
        self._tail = piece[-_TAIL_LIMIT:] if len(piece) >= _TAIL_LIMIT else (self._tail + piece)[-_TAIL_LIMIT:]

    @property
    def done_event(self) -> bool:
        """Whether the body ends with the event that OpenAI-compatible servers send last, ``data: [DONE]``."""
        last = self._tail[-32:].rstrip()
        return last.endswith((b"data: [DONE]", b"data:[DONE]"))

    def model(self) -> str | None:
        """The model that answered, as far as the response says."""
        for part in (self._head, self._tail):
            found = _MODEL.search(part)
            if found is not None:
                return _text(found[1])
        return None

    def usage(self) -> Usage:
        """The token counts; the last ones stated, and from the beginning what those leave out."""
        usage = self._usage_in(self._tail, last=True)
        if usage.input_tokens is None or usage.output_tokens is None:
            first = self._usage_in(self._head, last=False)
            if usage.input_tokens is None:
                usage.input_tokens = first.input_tokens
            if usage.output_tokens is None:
                usage.output_tokens = first.output_tokens
        return usage

    @staticmethod
    def _usage_in(part: bytes, *, last: bool) -> Usage:
        found = list(_USAGE.finditer(part))
        for match in reversed(found[-_TRIES:]) if last else found[:_TRIES]:
            try:
                text = part[match.end() :].decode("utf-8", "replace")
                return _read_usage(json.JSONDecoder().raw_decode(text)[0])
            except (ValueError, RecursionError):
                continue
        return Usage()


def peek_whole(body: bytes) -> tuple[str | None, Usage]:
    """``model`` and ``usage`` of a response that is one piece of JSON."""
    peek = ResponsePeek()
    if len(body) <= _WHOLE_LIMIT and body.lstrip()[:1] == b"{":
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            return None, Usage()
        model = document.get("model")
        return (model[:MODEL_LIMIT] if isinstance(model, str) and model else None), _read_usage(document.get("usage"))
    peek.feed(body)
    return peek.model(), peek.usage()
