"""A journal entry as a Kafka record: the value is the body, everything else stands in headers, and a MAC binds both.

Whoever may write to the topic can put anything there, so only what carries the collectors' MAC is believed. All else
is read as what it is: bytes of unknown origin, from ``kafka:<cluster id>/<topic>``, with authentication ``none``.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any, Final

from auditspan.journal.contract import CONTROL_PARTITION, Entry, EntryKind, NewEntry

__all__ = ["HEADERS", "RecordFormat"]

HEADERS: Final = (
    "auditspan.kind",
    "auditspan.emitter",
    "auditspan.authentication",
    "auditspan.arrival_time",
    "auditspan.encoding",
    "auditspan.mac",
)
"""Names of the headers, in the order in which they are written."""

_MAC_VERSION: Final = b"auditspan.journal.record.v1"
_KINDS: Final = {kind.value.encode(): kind for kind in EntryKind}
_LARGEST_TIME: Final = 2**63 - 1
_LONGEST_TIME: Final = 19

Headers = Sequence[tuple[str, bytes | None]]


class RecordFormat:
    """Entries of one partition to records and back.

    Args:
        topic: Kafka's topic.
        partition: the journal's name of the partition.
        source: ``kafka:<cluster id>/<topic>``, the emitter of what nobody vouches for.
        key: the journal key, shared by collectors and processors; None for a topic that others write.
    """

    def __init__(self, topic: str, partition: str, source: str, key: bytes | None) -> None:
        self._partition = partition
        self._source = source
        self._place = _field(topic.encode()) + _field(partition.encode())
        # Keyed once: a copy of it costs less than scheduling the key for every record.
        self._mac: Any = None if key is None else hmac.new(key, _MAC_VERSION, "sha256")

    def headers(self, entry: NewEntry) -> list[tuple[str, bytes]]:
        """The headers of ``entry``'s record, its MAC last."""
        values = [
            entry.kind.value.encode(),
            entry.emitter.encode(),
            entry.authentication.encode(),
            str(entry.arrival_time).encode(),
            entry.encoding.encode(),
        ]
        return list(zip(HEADERS, [*values, self._seal(values, entry.body)], strict=True))

    def entry(self, offset: int, timestamp: int, headers: Headers, value: bytes | None) -> Entry:
        """The entry of a record; ``timestamp`` is Kafka's, in milliseconds, and -1 where there is none."""
        if value is not None and self._mac is not None and tuple(name for name, _ in headers) == HEADERS:
            vouched = self._vouched(offset, [value or b"" for _, value in headers], value)
            if vouched is not None:
                return vouched
        return self.unvouched(offset, timestamp, value)

    def unvouched(self, offset: int, timestamp: int, value: bytes | None, *, broken: bool = False) -> Entry:
        """What a record without a valid MAC is read as; ``broken``: its value could not be taken out of its batch.

        Without a MAC nothing in the control partition is a control entry, and a record without a value is no request:
        both are kept as undecodable bytes.
        """
        undecodable = broken or value is None or self._partition == CONTROL_PARTITION
        return Entry(
            self._partition,
            offset,
            EntryKind.UNDECODABLE if undecodable else EntryKind.OTLP,
            self._source,
            "none",
            max(timestamp, 0) * 1_000_000,
            "raw" if undecodable else "otlp_proto",
            value or b"",
        )

    def _vouched(self, offset: int, values: list[bytes], body: bytes) -> Entry | None:
        mac = values.pop()
        if not hmac.compare_digest(mac, self._seal(values, body)):
            return None
        kind, emitter, authentication, arrival_time, encoding = values
        # With a valid MAC these are what `headers` wrote; anything else was made with another version's rules.
        if kind not in _KINDS or not arrival_time.isdigit() or len(arrival_time) > _LONGEST_TIME:
            return None
        return Entry(
            self._partition,
            offset,
            _KINDS[kind],
            emitter.decode(),
            authentication.decode(),
            min(int(arrival_time), _LARGEST_TIME),
            encoding.decode(),
            body,
        )

    def _seal(self, values: Sequence[bytes], body: bytes) -> bytes:
        """HMAC-SHA-256, in hexadecimal, over topic, partition, header values and body.

        Every field is preceded by its length, so that no two different records have the same encoding.
        """
        mac = self._mac.copy()
        mac.update(b"".join((self._place, *map(_field, values), len(body).to_bytes(8, "big"))))
        mac.update(body)
        sealed: str = mac.hexdigest()
        return sealed.encode()


def _field(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
