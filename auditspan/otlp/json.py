"""OTLP/JSON to OTLP protobuf, one canonical form for every document.

The mapping is that of proto3 JSON with OTLP's exceptions (OTLP specification 1.x, "JSON Protobuf Encoding"): trace
and span ids are hexadecimal, enums are integers, keys are lowerCamelCase, and what is unknown is ignored. Fields are
written in ascending order of their numbers and defaults left out, as protobuf's deterministic serialization does. They
and their types come from the descriptors of ``opentelemetry-proto``; the encoder is our own because protobuf's gives up
at 100 levels of nesting.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

__all__ = ["OtlpJsonError", "protobuf_from_json"]

_HEX_FIELDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})
_LONGEST_SHOWN: Final = 60
# Where a value is: (outer path, key or index). Text is made of it only when something is wrong.
_Path = tuple[Any, Any] | None


class OtlpJsonError(ValueError):
    """The document is no OTLP/JSON trace request. Says where and why."""


def protobuf_from_json(document: bytes) -> bytes:
    """The canonical protobuf form of an OTLP/JSON ``ExportTraceServiceRequest``.

    Raises:
        OtlpJsonError: not JSON, an object with a key twice, or a value that its field cannot hold.
    """
    try:
        parsed = json.loads(document.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise OtlpJsonError(f"the document is not UTF-8: {error.reason} at byte {error.start}") from error
    except RecursionError as error:
        raise OtlpJsonError("the document is nested too deep") from error
    except OtlpJsonError:
        raise
    except ValueError as error:
        raise OtlpJsonError(f"the document is not JSON: {error}") from error
    return _encode(parsed)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two equal keys counts differs from parser to parser: one could show us what others do not see."""
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise OtlpJsonError(f"an object has the key {_shown(twice)} more than once")
    return found


def _no_constant(name: str) -> Any:
    raise OtlpJsonError(f"{name} is not JSON; as a double write it in quotes")


@dataclass(slots=True)
class _Field:
    """How the values of one field are written; ``message`` is set for message fields, ``scalar`` for the others."""

    name: str
    tag: bytes
    repeated: bool
    oneof: bool
    message: _Message | None = None
    scalar: Callable[[Any], bytes] = bytes
    default: bytes = b""


@dataclass(slots=True)
class _Message:
    fields: list[_Field] = field(default_factory=list)


def _encode(parsed: Any) -> bytes:
    """Write backwards: the last field first, so that a message's length is known when its tag is written."""
    pieces: list[bytes] = []
    size = 0
    root: tuple[_Message, Any, bytes, _Path] = (_REQUEST, parsed, b"", None)
    # A message yet to be entered, the end of one that was (its tag and the size behind it), or finished bytes.
    todo: list[tuple[_Message, Any, bytes, _Path] | tuple[bytes, int] | bytes] = [root]
    while todo:
        item = todo.pop()
        if isinstance(item, bytes):
            pieces.append(item)
            size += len(item)
        elif len(item) == 2:
            prefix = item[0] + _varint(size - item[1])
            pieces.append(prefix)
            size += len(prefix)
        else:
            message, value, tag, path = item
            if not isinstance(value, dict):
                raise _wrong(path, value, "an object")
            if tag:
                todo.append((tag, size))
            for known in message.fields:
                given = value.get(known.name)
                if given is not None:
                    _push(todo, known, given, path)
            if message is _ANY_VALUE and sum(value.get(known.name) is not None for known in message.fields) > 1:
                raise OtlpJsonError(f"{_where(path)} has more than one value")
    pieces.reverse()
    return b"".join(pieces)


def _push(todo: list[Any], known: _Field, given: Any, path: _Path) -> None:
    here = (path, known.name)
    if not known.repeated:
        if known.message is not None:
            todo.append((known.message, given, known.tag, here))
        else:
            encoded = _scalar(known, given, here)
            if known.oneof or encoded != known.default:
                todo.append(known.tag + encoded)
        return
    if not isinstance(given, list):
        raise _wrong(here, given, "an array")
    for index, element in enumerate(given):
        if known.message is not None:
            todo.append((known.message, element, known.tag, (here, index)))
        else:
            todo.append(known.tag + _scalar(known, element, (here, index)))


def _scalar(known: _Field, value: Any, path: _Path) -> bytes:
    try:
        return known.scalar(value)
    except (TypeError, ValueError, OverflowError, struct.error) as error:
        raise OtlpJsonError(f"{_where(path)} is {_shown(value)}: {error}") from error


def _wrong(path: _Path, value: Any, wanted: str) -> OtlpJsonError:
    return OtlpJsonError(f"{_where(path)} is {_shown(value)}, not {wanted}")


def _where(path: _Path) -> str:
    parts: list[str] = []
    while path is not None:
        path, last = path
        parts.append(f"[{last}]" if isinstance(last, int) else f".{last}")
    return "".join(reversed(parts)).lstrip(".") or "the document"


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    text = json.dumps(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _delimited(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("not text")
    return _delimited(value.encode())


def _hexadecimal(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError("not hexadecimal text")
    try:
        return _delimited(binascii.unhexlify(value))
    except ValueError as error:
        raise ValueError("not hexadecimal text") from error


def _base64(value: Any) -> bytes:
    """Either alphabet, with or without padding, as proto3 JSON allows."""
    if not isinstance(value, str):
        raise TypeError("not base64 text")
    plain = value.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    try:
        return _delimited(base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True))
    except ValueError as error:
        raise ValueError("not base64 text") from error


def _boolean(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return b"\x01" if value else b"\x00"


def _integer(value: Any, lowest: int, highest: int) -> int:
    """A number, or the same as text; ``1e3`` and ``2.0`` are integers in proto3 JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("not an integer")
    if isinstance(value, str):
        if value != value.strip() or "_" in value:
            raise ValueError("not an integer")
        try:
            value = int(value)
        except ValueError:
            value = float(value)
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError("not an integer")
        value = int(value)
    number: int = value
    if not lowest <= number <= highest:
        raise ValueError(f"not from {lowest} to {highest}")
    return number


def _signed(bits: int) -> Callable[[Any], bytes]:
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return lambda value: _varint(_integer(value, lowest, highest) & 0xFFFF_FFFF_FFFF_FFFF)


def _unsigned32(value: Any) -> bytes:
    return _varint(_integer(value, 0, 2**32 - 1))


def _fixed32(value: Any) -> bytes:
    return struct.pack("<I", _integer(value, 0, 2**32 - 1))


def _fixed64(value: Any) -> bytes:
    return struct.pack("<Q", _integer(value, 0, 2**64 - 1))


def _double(value: Any) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("not a number")
    if isinstance(value, str):
        special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
        value = special[value] if value in special else _finite(value)
    return struct.pack("<d", value)


def _finite(text: str) -> float:
    number = float(text) if text == text.strip() and "_" not in text else math.nan
    if not math.isfinite(number):
        raise ValueError("not a number")
    return number


def _enumeration(known: FieldDescriptor) -> Callable[[Any], bytes]:
    names = {value.name: value.number for value in known.enum_type.values}
    number = _signed(32)
    return lambda value: number(names.get(value, value) if isinstance(value, str) else value)


_SCALARS: Final[dict[int, tuple[int, Callable[[Any], bytes], bytes]]] = {
    # type: wire type, encoder, encoded default
    FieldDescriptor.TYPE_STRING: (2, _text, b"\x00"),
    FieldDescriptor.TYPE_BYTES: (2, _base64, b"\x00"),
    FieldDescriptor.TYPE_BOOL: (0, _boolean, b"\x00"),
    FieldDescriptor.TYPE_INT64: (0, _signed(64), b"\x00"),
    FieldDescriptor.TYPE_INT32: (0, _signed(32), b"\x00"),
    FieldDescriptor.TYPE_UINT32: (0, _unsigned32, b"\x00"),
    FieldDescriptor.TYPE_FIXED32: (5, _fixed32, bytes(4)),
    FieldDescriptor.TYPE_FIXED64: (1, _fixed64, bytes(8)),
    FieldDescriptor.TYPE_DOUBLE: (1, _double, bytes(8)),
}


def _plan(descriptor: Descriptor, plans: dict[str, _Message]) -> _Message:
    if descriptor.full_name in plans:
        return plans[descriptor.full_name]
    plan = plans[descriptor.full_name] = _Message()
    for known in sorted(descriptor.fields, key=lambda each: each.number):
        made = _Field(known.json_name, b"", known.is_repeated, known.containing_oneof is not None)
        if known.type == FieldDescriptor.TYPE_MESSAGE:
            wire_type, made.message = 2, _plan(known.message_type, plans)
        elif known.type == FieldDescriptor.TYPE_ENUM:
            wire_type, made.scalar, made.default = 0, _enumeration(known), b"\x00"
        else:
            wire_type, made.scalar, made.default = _SCALARS[known.type]
            if known.json_name in _HEX_FIELDS:
                made.scalar = _hexadecimal
        made.tag = _varint(known.number << 3 | wire_type)
        plan.fields.append(made)
    return plan


_PLANS: Final[dict[str, _Message]] = {}
_REQUEST: Final = _plan(ExportTraceServiceRequest.DESCRIPTOR, _PLANS)
_ANY_VALUE: Final = _PLANS["opentelemetry.proto.common.v1.AnyValue"]
