"""Attribute values as Python has them, of the few attributes that are read for the determination alone."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

__all__ = ["key_values", "run_of"]

_UNREADABLE: Final = object()


def run_of(key_value: bytes) -> bytes:
    """A serialized ``KeyValue`` as a part of a run: with its tag and its length before it."""
    length, prefix = len(key_value), bytearray(b"\x0a")
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix) + key_value


def key_values(run: bytes) -> dict[str, Any]:
    """The attributes of a run of serialized ``KeyValue`` messages, each with its length before it.

    The first of equal keys stands. Text, truth values, integers and lists of text become Python's; anything else
    becomes an object that is none of these.

    Raises:
        ValueError: the run does not parse, or is nested too deep.
    """
    # A resource is such a run: ``repeated KeyValue attributes = 1`` comes first in it.
    message = Resource()
    try:
        message.ParseFromString(run)
    except DecodeError as error:
        raise ValueError(f"attributes that do not parse: {error}") from error
    found: dict[str, Any] = {}
    for attribute in message.attributes:
        found.setdefault(attribute.key, _value(attribute.value))
    return found


def _value(value: AnyValue) -> Any:
    match value.WhichOneof("value"):
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "int_value":
            return value.int_value
        case "array_value":
            entries = [entry.string_value for entry in value.array_value.values if entry.HasField("string_value")]
            return entries if len(entries) == len(value.array_value.values) else _UNREADABLE
        case _:
            return _UNREADABLE
