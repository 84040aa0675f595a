from __future__ import annotations

import pytest
from auditspan.instrumentation.serving.client_address import client_address, forwarded_for, x_forwarded_for
from auditspan.instrumentation.serving.settings import ServingSettings
from auditspan.instrumentation.settings import InstrumentationSettings
from hooked import http_scope
from test_exchange import body, sends, start

TRUSTED = InstrumentationSettings.from_environment(
    {"AUDITSPAN_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.7,fd00::/8", "HOME": "/"}
).is_trusted_proxy


@pytest.mark.parametrize(
    ("peer", "hops", "expected"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),  # a stranger's header is not read
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),  # what stands left is the stranger's own
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1", "10.9.9.9", "192.0.2.7"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.2", "10.0.0.3"], "10.0.0.2"),  # all ours: the outermost
        ("10.0.0.1", ["6.6.6.6", "garbage"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6", "garbage", "10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("fd00::1", ["[2001:db8::5]:443"], "2001:db8::5"),
        ("fd00::1", ["2001:DB8:0::5"], "2001:db8::5"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("testclient", ["1.1.1.1"], "testclient"),
        (None, ["1.1.1.1"], None),
        ("10.0.0.1", ["6.6.6.6"] + ["10.0.0.2"] * 1000, "10.0.0.2"),  # a bounded walk
    ],
)
def test_the_rightmost_address_that_is_not_ours(peer, hops, expected):
    assert client_address(peer, hops, TRUSTED) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.1.1.1, 2.2.2.2", "3.3.3.3"], ["1.1.1.1", "2.2.2.2", "3.3.3.3"]),
        ([], []),
    ],
)
def test_x_forwarded_for(values, expected):
    assert x_forwarded_for(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["for=192.0.2.60;proto=http;by=203.0.113.43"], ["192.0.2.60"]),
        (["for=192.0.2.43, For=198.51.100.17", "for=9.9.9.9"], ["192.0.2.43", "198.51.100.17", "9.9.9.9"]),
        (['for="[2001:db8:cafe::17]:4711"'], ["[2001:db8:cafe::17]:4711"]),
        (['proto=http;by="a,b";for=unknown'], ["unknown"]),
        (["for=_hidden, proto=https"], ["_hidden", ""]),
        (['by="for=1.1.1.1"'], [""]),
    ],
)
def test_forwarded_as_rfc_7239_writes_it(values, expected):
    assert forwarded_for(values) == expected


@pytest.mark.parametrize(
    ("header", "expected"), [("x-forwarded-for", "198.51.100.1"), ("forwarded", "198.51.100.2"), (None, "198.51.100.1")]
)
def test_only_the_header_that_the_proxies_write_is_read(serve, records, header, expected):
    """The other one may come from the client untouched."""
    scope = http_scope(
        client=("10.0.0.1", 1),
        headers=[(b"x-forwarded-for", b"198.51.100.1"), (b"forwarded", b"for=198.51.100.2")],
    )
    settings = ServingSettings.from_environment({} if header is None else {"AUDITSPAN_FORWARDED_HEADER": header})
    trusted = InstrumentationSettings.from_environment({"AUDITSPAN_TRUSTED_PROXIES": "10.0.0.0/8", "HOME": "/"})
    serve(sends(start(), body(b"{}")), scope, settings=settings, trusted_proxies=trusted.trusted_proxies)
    assert records()[0]["client.address"] == expected
