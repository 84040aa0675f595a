"""Who is at the other end: the peer, or what a trusted proxy says of it.

A forwarded header is hearsay until the peer that sent it is a proxy of ours. Then the entries are read from the right,
where our proxies append, up to the first address that is not ours (RFC 7239 section 5.2; the practice of
``X-Forwarded-For``). What stands left of it was written by strangers.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Final

__all__ = ["client_address", "forwarded_for", "x_forwarded_for"]

_MAXIMUM_HOPS: Final = 64
_FOR: Final = re.compile(r'(?:^|;)\s*for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;,\s"]*))', re.IGNORECASE)
_ELEMENT: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,"])+')


def x_forwarded_for(values: Iterable[str]) -> list[str]:
    """The addresses of all ``X-Forwarded-For`` headers of a request, first hop first."""
    return [item.strip() for value in values for item in value.split(",")]


def forwarded_for(values: Iterable[str]) -> list[str]:
    """The ``for`` parameters of all ``Forwarded`` headers (RFC 7239 section 4), first hop first; "" where absent."""
    hops = []
    for value in values:
        for element in _ELEMENT.findall(value):
            found = _FOR.search(element)
            hops.append("" if found is None else (found[1] if found[1] is not None else found[2]).strip())
    return hops


def _address(text: str) -> str | None:
    """An address as text in its canonical form, without port and brackets; None when it is no address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def client_address(peer: str | None, hops: Iterable[str], is_trusted: Callable[[str], bool]) -> str | None:
    """The address of the client: the rightmost one that is not a trusted proxy's.

    Args:
        peer: address of the connection's other end; None for a Unix socket.
        hops: what the forwarded headers say, first hop first; not looked at unless the peer is trusted.
        is_trusted: whether an address is that of a trusted proxy.

    Returns:
        The address, or None when the connection has none. An entry that is no address ends the walk, and the proxy that
        wrote it is the answer: the nearest point that is known.
    """
    if peer is None:
        return None
    known = _address(peer)
    if known is None:
        return peer
    if not is_trusted(known):
        return known
    for hop in list(hops)[: -_MAXIMUM_HOPS - 1 : -1]:
        address = _address(hop)
        if address is None:
            return known
        known = address
        if not is_trusted(address):
            return known
    return known
