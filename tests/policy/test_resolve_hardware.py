"""A name of a part of an accelerator brings its specification, and a quantity that counts no accelerators."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from auditspan.policy import Reference
from auditspan.policy.resolve import Resolver

REFERENCE = Reference.packaged()


def facts(**columns: Any) -> dict[str, Any]:
    event = {"class": "accelerator.inventory", "audit.actor.id": "user:a", **columns}
    resolver = Resolver(REFERENCE)
    spans = pa.table({name: pa.array([value]) for name, value in event.items()})
    (found,) = resolver.facts([int(codes[0]) for codes in resolver.codes(spans)])
    return found.values


@pytest.mark.parametrize(
    ("name", "model", "per_unit"),
    [
        ("NVIDIA A100-SXM4-40GB", "A100 SXM 40GB", None),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100 SXM 40GB", 0),
        ("Tesla-T4-SHARED", "T4", 0),
        ("10de:2330", "H100 SXM", None),
    ],
)
def test_a_part_is_a_fraction(name: str, model: str, per_unit: int | None) -> None:
    values = facts(**{"export_control.accelerator.model": name, "export_control.quantity": 7})
    assert (values["accelerator_model"], values.get("accelerators_per_unit"), values["quantity"]) == (
        model,
        per_unit,
        7,
    )
    assert values["tpp_low"] > 0


def test_the_machine_type_beside_a_part_says_how_many_there_are() -> None:
    values = facts(**{"export_control.accelerator.model": "A100-SXM4-40GB-MIG-1g.5gb", "host.type": "p4d.24xlarge"})
    assert (values["accelerator_model"], values["accelerators_per_unit"]) == ("A100 SXM 40GB", 8)
