"""The facts that rules may read: declared, typed, and each with its meaning and source.

A fact that is not known is ``None``. A condition that reads it is then neither true nor false, and a rule that could
match leads to ``review``: what is unknown never clears. Numbers known only within limits are **intervals**: the
document carries ``<name>_low`` and ``<name>_high``, and a comparison with ``<name>`` is decided when both ends agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = ["BASE_FACTS", "GROUP_FACTS", "INTERVALS", "UNDECLARED", "Fact", "FactSet", "FactType", "FactValue"]

FactType = Literal["string", "int", "bool", "strings"]
FactValue = None | str | int | bool | tuple[str, ...]

UNDECLARED: Final = "undeclared"
"""Value of a fact that the emitter may declare and did not: that is known, unlike a null."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: its name, its CEL type, what it means, and where it comes from."""

    name: str
    type: FactType
    meaning: str
    source: str


_PARTY_FACTS: Final = tuple(
    fact
    for party, who in (
        ("actor", "who acted"),
        ("end_user", "who uses the item in the end, the actor where nobody else is named"),
    )
    for fact in (
        Fact(f"{party}_party", "string", f"party id of {who}", "party registry"),
        Fact(f"{party}_country", "string", f"country of {who}", "party registry"),
        Fact(
            f"{party}_parent_country",
            "string",
            f"country of the ultimate parent of {who}",
            "party registry, or declared",
        ),
    )
)

_FACTS: Final = (
    Fact("class", "string", "class of the event", "audit.event.class"),
    Fact("act", "string", "`access`, `transfer`, `provision` or `inventory`", "audit.event.class"),
    Fact("item_kind", "string", "`model`, `model_weights` or `accelerator`", "audit.event.class"),
    Fact(
        "transfer_direction",
        "string",
        "`upload`, `download`, `copy` or `grant`; `undeclared`",
        "export_control.transfer.direction",
    ),
    Fact(
        "accelerator_model",
        "string",
        "model of the accelerator as in the accelerators table",
        "export_control.accelerator.model, host.type",
    ),
    Fact("tpp_low", "int", "least total processing performance: 2 × MacTOPS × bit length", "accelerators table"),
    Fact("tpp_high", "int", "greatest total processing performance", "accelerators table"),
    Fact("performance_density_low", "int", "least TPP ÷ mm² of logic dies, in thousandths", "accelerators table"),
    Fact("performance_density_high", "int", "greatest TPP ÷ mm² of logic dies, in thousandths", "accelerators table"),
    Fact("data_centre", "bool", "designed or marketed for data centres (Note 2 to 3A090)", "accelerators table"),
    Fact("dram_bandwidth", "int", "DRAM bandwidth in GB/s", "accelerators table"),
    Fact(
        "interconnect_bandwidth",
        "int",
        "aggregate bidirectional transfer rate over all inputs and outputs, in GB/s",
        "accelerators table",
    ),
    Fact("quantity", "int", "how many accelerators or instances", "export_control.quantity"),
    Fact(
        "accelerators_per_unit",
        "int",
        "accelerators in one unit of the quantity; 0 = a fraction of one",
        "instance types table",
    ),
    Fact("declared_eccn", "string", "ECCN as the emitter declares it; `undeclared`", "export_control.eccn"),
    Fact("declared_license", "string", "licence or exception relied on; `undeclared`", "export_control.license"),
    Fact(
        "training_exaoperations",
        "int",
        "operations the model was trained with, in units of 10^18, rounded down",
        "export_control.training_operations",
    ),
    Fact("weights_published", "bool", "whether the weights are published (734.7)", "export_control.weights_published"),
    Fact("us_origin_training_data", "bool", "the model incorporates US-origin training data", "provenance records"),
    Fact("us_origin_weights", "bool", "the model incorporates US-origin weights", "provenance records"),
    Fact("us_origin_compute", "bool", "the model was trained on US-origin compute", "provenance records"),
    Fact(
        "destination_country",
        "string",
        "where the item goes or is used; of several candidates the one that restricts most",
        "destination evidence",
    ),
    Fact(
        "destination_candidates",
        "strings",
        "every country that some evidence names; `?` = evidence that names none",
        "destination evidence",
    ),
    Fact(
        "destination_subdivision",
        "string",
        "ISO 3166-2 code where rules turn on it (Ukraine); empty elsewhere",
        "export_control.destination.country",
    ),
    *_PARTY_FACTS,
    Fact("actor_known", "bool", "the actor is in the party registry", "party registry"),
    Fact("end_user_listings", "strings", "lists the end user stands on, as the registry says", "party registry"),
)

GROUP_FACTS: Final[dict[str, str]] = {
    "destination_groups": "destination_country",
    "actor_groups": "actor_country",
    "actor_parent_groups": "actor_parent_country",
    "end_user_groups": "end_user_country",
    "end_user_parent_groups": "end_user_parent_country",
}
"""Facts that follow from a country and the rule time: the Country Groups it was in (15 CFR 740 Supplement 1)."""

INTERVALS: Final[dict[str, tuple[str, str]]] = {
    "tpp": ("tpp_low", "tpp_high"),
    "performance_density": ("performance_density_low", "performance_density_high"),
}
"""Names that rules compare, with the two facts that bound them."""

_ENFORCEMENT_FACTS: Final = (
    Fact(
        "break_glass",
        "bool",
        "the action went on although a refusal, or the want of a decision, stood against it",
        "export_control.break_glass.reason",
    ),
)

BASE_FACTS: Final[dict[str, Fact]] = {fact.name: fact for fact in (*_FACTS, *_ENFORCEMENT_FACTS)} | {
    name: Fact(name, "strings", f"Country Groups of `{country}` at the rule time", "country groups table")
    for name, country in GROUP_FACTS.items()
}
"""Every fact that is not defined by a pack, by name."""


@dataclass(slots=True)
class FactSet:
    """Facts of one event as resolved: values by name (absent = unknown), and how each is known."""

    values: dict[str, FactValue] = field(default_factory=dict)
    known_by: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: FactValue, known_by: str) -> None:
        """Sets a fact; ``None`` leaves it unknown."""
        if value is not None:
            self.values[name] = value
            self.known_by[name] = known_by

    def copy(self) -> FactSet:
        """An independent copy."""
        return FactSet(dict(self.values), dict(self.known_by))
