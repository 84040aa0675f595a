"""A reference that loads and could not be rested on is found out before it comes into force."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from auditspan.processors.trial import try_out
from house_rules import HOUSE

from auditspan.errors import AuditSpanError
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference
from auditspan.policy.rule_time import parse_instant

NOW = parse_instant("2026-11-26")
BREAK_GLASS = HOUSE.replace(b"house/", b"company-policy/").replace(b"pack: house", b"pack: company-policy")


def tried(files: Mapping[str, bytes], concerned: Mapping[str, bytes] | None = None) -> None:
    reference = Reference({**Reference.packaged_artifacts(), **files}, 1)
    try_out(reference, files, files if concerned is None else concerned, NOW)


def test_what_ships_and_a_sound_pack_pass() -> None:
    tried({})
    tried({"house.yaml": HOUSE})


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("directives.yaml", HOUSE, r"directives\.yaml:1.*house\.yaml"),
        (
            "house.yaml",
            HOUSE.replace(b"act == 'access'", b"destination_country == 'EU'"),
            r"house\.yaml:12.*'EU' is no",
        ),
        ("house.yaml", HOUSE.replace(b"act == 'access'", b"\"'Z:9' in destination_groups\""), r"house\.yaml:12.*'Z:9'"),
    ],
)
def test_what_a_pack_is_called_and_asks_for_must_exist(name: str, content: bytes, says: str) -> None:
    with pytest.raises(PolicyError, match=says) as caught:
        tried({name: content})
    assert caught.value.remedy


def test_an_action_against_enforcement_must_stay_flagged() -> None:
    with pytest.raises(AuditSpanError, match="against enforcement would not be flagged") as caught:
        tried({"company-policy.yaml": BREAK_GLASS})
    assert "break_glass" in caught.value.remedy
    tried({"company-policy.yaml": BREAK_GLASS.replace(b"act == 'access'", b"break_glass")})


def test_an_end_that_no_determination_can_hold_is_refused_where_it_is_written() -> None:
    endless = HOUSE.replace(b"{from: 2020-01-01}", b"{from: 2020-01-01, to: 9999-12-31}")
    with pytest.raises(PolicyError, match=r"house\.yaml:11.*after April 2262"):
        tried({"house.yaml": endless})


def test_an_instant_is_between_1970_and_the_last_nanosecond_of_64_bits() -> None:
    assert parse_instant("2262-04-11T23:47:16Z") == (2**63 - 1) // 10**9 * 10**9
    for text in ("2262-04-11T23:47:17Z", "9999-12-31", "1969-12-31"):
        with pytest.raises(ValueError, match=r"after April 2262|before 1970"):
            parse_instant(text)
