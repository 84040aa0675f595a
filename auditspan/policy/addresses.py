"""From an IP address to a country, by a MaxMind-format database."""

from __future__ import annotations

import datetime
import ipaddress
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import maxminddb

from .errors import PolicyError

__all__ = ["AddressCountry", "AddressDatabase"]

_LARGEST: Final = 256 * 1024 * 1024
_GZIP: Final = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class AddressCountry:
    """What an address says about a country.

    ``kind``: ``country`` (``code`` is set), ``unknown`` (a public address that the database lacks, or a
    text that is no address: it could be anywhere), ``none`` (absent, loopback, private, reserved: it says nothing).
    """

    kind: Literal["country", "unknown", "none"]
    code: str | None = None


class AddressDatabase:
    """A country database in memory; ``content`` is an ``.mmdb`` file, gzip or not.

    Raises:
        PolicyError: not a database of the format, or larger than 256 MiB.
    """

    def __init__(self, content: bytes, file: str) -> None:
        try:
            plain = _decompress(content) if content.startswith(_GZIP) else content
            # The C reader takes a path only; the mapping outlives the name.
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "database.mmdb"
                path.write_bytes(plain)
                self._reader = maxminddb.open_database(str(path), maxminddb.MODE_AUTO)
        except (OSError, EOFError, zlib.error, ValueError, maxminddb.InvalidDatabaseError) as error:
            raise PolicyError(
                f"not a MaxMind-format database: {error}", file=file, remedy="Give an .mmdb file, gzip or not."
            ) from error
        built = datetime.datetime.fromtimestamp(self._reader.metadata().build_epoch, tz=datetime.UTC)
        self.built_on = built.date().isoformat()
        """Date of the database."""

    def country(self, text: str | None) -> AddressCountry:
        """The country of ``text``. IPv4-mapped IPv6 is read as IPv4; a port or brackets are not accepted."""
        if not text:
            return AddressCountry("none")
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return AddressCountry("unknown")
        mapped = getattr(address, "ipv4_mapped", None)
        if mapped is not None:
            address = mapped
        if not address.is_global or address.is_multicast:
            return AddressCountry("none")
        record: Any = self._reader.get(address)
        code = _country_code(record)
        return AddressCountry("country", code) if code else AddressCountry("unknown")


def _country_code(record: Any) -> str | None:
    if not isinstance(record, dict):
        return None
    code = record.get("country_code")
    if code is None and isinstance(record.get("country"), dict):
        code = record["country"].get("iso_code")
    return code if isinstance(code, str) else None


def _decompress(content: bytes) -> bytes:
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    plain = stream.decompress(content, _LARGEST)
    if stream.unconsumed_tail or not stream.eof:
        raise ValueError(f"truncated, or larger than {_LARGEST} bytes")
    return plain
