"""Whose determinations this software makes again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditspan.policy.software import reproduces, software

VERSIONS = st.tuples(*[st.integers(0, 30)] * 3)


def test_it_makes_its_own_again() -> None:
    assert reproduces(software(), software())


@given(VERSIONS, VERSIONS, st.sampled_from(["", "rc1", ".dev3", "+local"]))
def test_every_version_up_to_its_own(own: tuple[int, ...], other: tuple[int, ...], suffix: str) -> None:
    names = ["auditspan " + ".".join(map(str, version)) for version in (own, other)]
    assert reproduces(names[0], names[1] + suffix) is (other <= own)


NONE = [
    "", "auditspan", "auditspan 1", "auditspan x.y.z", "audit 0.0.1", "auditspan 0.0.1 ", "auditspan 0.0.-1",
    "auditspan unknown", "AuditSpan 0.0.1", "auditspan 0.0.1\n", "auditspan 0.0.1" + "x" * 100,
]  # fmt: skip


@pytest.mark.parametrize("name", NONE)
def test_no_other_name(name: str) -> None:
    assert not reproduces("auditspan 9.9.9", name)
    assert not reproduces(name, "auditspan 0.0.1")
