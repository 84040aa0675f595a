"""OTLP messages as the log reads them, with attributes and what is carried onward left as bytes.

Every message here is wire-compatible with the OTLP message it stands for (same field numbers and wire types). It
differs in that a field whose bytes the log keeps, shares between rows or does not look into is declared ``bytes``:
``ResourceSpans.resource``, ``ScopeSpans.scope`` and ``.spans`` (the payload, byte for byte), ``attributes`` everywhere
(equal attributes are parsed once), and ``AnyValue.array_value`` and ``kvlist_value`` (opaque, so nesting has no depth).
Scalars have presence, so that what was parsed can be weighed against the bytes it came from (`Projection.read`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import ptars
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from auditspan.otlp.weight import encoded_sizes, lengths

__all__ = ["KEY_VALUE", "REQUEST", "RESOURCE", "SCOPE", "SPAN", "Projection", "projection"]

_PACKAGE: Final = "auditspan.otlp.v1"
_BYTES: Final = "bytes"
_REPEATED: Final = "repeated "

REQUEST: Final = "Request"
RESOURCE: Final = "Resource"
SCOPE: Final = "Scope"
SPAN: Final = "Span"
KEY_VALUE: Final = "KeyValue"

MESSAGES: Final[dict[str, dict[str, tuple[int, str]]]] = {
    REQUEST: {"resource_spans": (1, "repeated ResourceSpans")},
    "ResourceSpans": {
        # Repeated although OTLP says once: what occurs twice must be seen, not overwritten or merged.
        "resource": (1, "repeated bytes"),
        "scope_spans": (2, "repeated ScopeSpans"),
        "schema_url": (3, "string"),
    },
    "ScopeSpans": {
        "scope": (1, "repeated bytes"),
        "spans": (2, "repeated bytes"),
        "schema_url": (3, "string"),
    },
    RESOURCE: {
        "attributes": (1, "repeated bytes"),
        "dropped_attributes_count": (2, "uint32"),
        "entity_refs": (3, "repeated EntityRef"),
    },
    "EntityRef": {
        "schema_url": (1, "string"),
        "type": (2, "string"),
        "id_keys": (3, "repeated string"),
        "description_keys": (4, "repeated string"),
    },
    SCOPE: {
        "name": (1, "string"),
        "version": (2, "string"),
        "attributes": (3, "repeated bytes"),
        "dropped_attributes_count": (4, "uint32"),
    },
    SPAN: {
        "trace_id": (1, _BYTES),
        "span_id": (2, _BYTES),
        "trace_state": (3, "string"),
        "parent_span_id": (4, _BYTES),
        "name": (5, "string"),
        "kind": (6, "int32"),
        "start_time_unix_nano": (7, "fixed64"),
        "end_time_unix_nano": (8, "fixed64"),
        "attributes": (9, "repeated bytes"),
        "dropped_attributes_count": (10, "uint32"),
        "events": (11, "repeated Event"),
        "dropped_events_count": (12, "uint32"),
        "links": (13, "repeated Link"),
        "dropped_links_count": (14, "uint32"),
        "status": (15, "Status"),
        "flags": (16, "fixed32"),
    },
    "Event": {
        "time_unix_nano": (1, "fixed64"),
        "name": (2, "string"),
        "attributes": (3, "repeated bytes"),
        "dropped_attributes_count": (4, "uint32"),
    },
    "Link": {
        "trace_id": (1, _BYTES),
        "span_id": (2, _BYTES),
        "trace_state": (3, "string"),
        "attributes": (4, "repeated bytes"),
        "dropped_attributes_count": (5, "uint32"),
        "flags": (6, "fixed32"),
    },
    "Status": {"message": (2, "string"), "code": (3, "int32")},
    KEY_VALUE: {"key": (1, "string"), "value": (2, "AnyValue"), "key_strindex": (3, "int32")},
    "AnyValue": {
        "string_value": (1, "string"),
        "bool_value": (2, "bool"),
        "int_value": (3, "int64"),
        "double_value": (4, "double"),
        "array_value": (5, _BYTES),
        "kvlist_value": (6, _BYTES),
        "bytes_value": (7, _BYTES),
        "string_value_strindex": (8, "int32"),
    },
}
"""Message → field → (number, type), as in the Python package opentelemetry-proto 1.45. Part of ``derive_v1``: frozen;
what OTLP adds later is an unknown field to the log."""

_ONE_OF: Final = frozenset({"AnyValue"})
"""Messages whose fields are one ``oneof``."""

_SCALARS: Final = {
    "string": FieldDescriptor.TYPE_STRING,
    _BYTES: FieldDescriptor.TYPE_BYTES,
    "bool": FieldDescriptor.TYPE_BOOL,
    "int32": FieldDescriptor.TYPE_INT32,
    "int64": FieldDescriptor.TYPE_INT64,
    "uint32": FieldDescriptor.TYPE_UINT32,
    "fixed32": FieldDescriptor.TYPE_FIXED32,
    "fixed64": FieldDescriptor.TYPE_FIXED64,
    "double": FieldDescriptor.TYPE_DOUBLE,
}

_SLICE: Final = 256
"""Messages tried together when a batch holds one that ptars refuses."""


class Projection:
    """One message type, read from an Arrow array of serialized messages into Arrow columns.

    ``descriptor`` is that of the projection. Safe to use from several threads.
    """

    def __init__(self, descriptor: Descriptor, handler: Any) -> None:
        self.descriptor = descriptor
        self._handler = handler
        self._class: type[Message] = message_factory.GetMessageClass(descriptor)

    def read(self, messages: pa.Array) -> tuple[pa.RecordBatch, npt.NDArray[np.bool_]]:
        """Columns of ``messages`` (binary, no nulls), row for row, and which rows do not parse; those are all null.

        The result is what the standard protobuf parser says, groups refused. ptars alone is not that: it keeps every
        member of a ``oneof`` that was set, takes varints that are too long, and refuses a whole array for one message.
        So a row counts only where the parsed fields, written canonically, weigh what the message weighs. The others are
        read by the standard parser, and given to ptars in the form in which that writes them.
        """
        bad = np.zeros(len(messages), dtype=bool)
        batch = self._try(messages)
        if batch is None:
            suspects = self._refused(messages)
        else:
            suspects = np.flatnonzero(encoded_sizes(self.descriptor, batch) != lengths(messages))
        if len(suspects) == 0:
            return batch, bad
        values = messages.to_pylist()
        for row in suspects.tolist():
            canonical = self._canonical(values[row])
            bad[row] = canonical is None
            values[row] = canonical or b""
        return self._handler.array_to_record_batch(pa.array(values, pa.binary())), bad

    def _try(self, messages: pa.Array) -> pa.RecordBatch | None:
        try:
            return self._handler.array_to_record_batch(messages)
        except ValueError:
            return None
        except BaseException as error:
            # A length near 2^64 makes ptars panic, which PyO3 raises as a BaseException that cannot be imported.
            if type(error).__name__ != "PanicException":
                raise
            return None

    def _refused(self, messages: pa.Array) -> npt.NDArray[np.intp]:
        starts = range(0, len(messages), _SLICE)
        return np.concatenate(
            [
                np.arange(start, min(start + _SLICE, len(messages)))
                for start in starts
                if len(messages) <= _SLICE or self._suspicious(messages.slice(start, _SLICE))
            ]
        )

    def _suspicious(self, messages: pa.Array) -> bool:
        batch = self._try(messages)
        return batch is None or bool((encoded_sizes(self.descriptor, batch) != lengths(messages)).any())

    def _canonical(self, message: bytes) -> bytes | None:
        try:
            parsed = self._class.FromString(message)
        except DecodeError:
            return None
        if _has_group(parsed):
            return None
        parsed.DiscardUnknownFields()
        canonical: bytes = parsed.SerializeToString()
        return canonical


def _has_group(message: Message) -> bool:
    if any(field.wire_type == 3 for field in UnknownFieldSet(message)):
        return True
    nested: Iterable[Any] = (value for field, value in message.ListFields() if field.message_type is not None)
    return any(_has_group(part) for value in nested for part in ([value] if isinstance(value, Message) else value))


@cache
def projection(message: str) -> Projection:
    """The projection of ``message``, one of `MESSAGES`."""
    descriptor, handlers = _pool()
    return Projection(descriptor[message], handlers.get_for_message(descriptor[message]))


@cache
def _pool() -> tuple[dict[str, Descriptor], Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    file = pool.FindFileByName(f"{_PACKAGE}.proto")
    return dict(file.message_types_by_name), ptars.HandlerPool([file])


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name="value")
        for field_name, (number, kind) in fields.items():
            field = message.field.add(name=field_name, number=number)
            kind_name = kind.removeprefix(_REPEATED)
            field.label = field.LABEL_REPEATED if kind.startswith(_REPEATED) else field.LABEL_OPTIONAL
            if kind_name in MESSAGES:
                field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind_name}"
                continue
            field.type = _SCALARS[kind_name]
            if name in _ONE_OF:
                field.oneof_index = 0
            elif field.label == field.LABEL_OPTIONAL:
                # Explicit presence in proto3 is a oneof of one field.
                field.proto3_optional, field.oneof_index = True, len(message.oneof_decl)
                message.oneof_decl.add(name=f"_{field_name}")
    return file
