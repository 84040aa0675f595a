"""Attributes of spans that are sealed: read from stored payloads as the log read them from the wire."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from auditspan.ledger.payloads import split_payloads
from auditspan.otlp.attributes import AttributeLists, AttributeTable
from auditspan.otlp.projection import SPAN, projection

__all__ = ["payload_attributes"]


def payload_attributes(payloads: pa.ChunkedArray | pa.Array, known: Mapping[str, str]) -> dict[str, pa.Array]:
    """Columns for the attributes ``known`` (name → type) of the spans in ``payloads``, row for row.

    The first of a name counts, and one of another type is as if it were absent (evidence format, section 4). A payload
    that is none, as of a leaf of the log's own, has no attributes.
    """
    if isinstance(payloads, pa.ChunkedArray):
        payloads = payloads.combine_chunks()
    spans, _ = projection(SPAN).read(split_payloads(payloads.cast(pa.binary())).span)
    lists = AttributeLists.of(spans.column("attributes"))
    return AttributeTable.of(lists).select(lists, known).columns
