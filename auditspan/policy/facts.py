"""The facts that rules may read: declared, typed, and each with its meaning and source.

A fact that is not known is ``None``. A condition that reads it is then neither true nor false, and a rule that could
match leads to ``review``: what is unknown never clears. Numbers known only within limits are **intervals**: the
document carries ``<name>_low`` and ``<name>_high``, and a comparison with ``<name>`` is decided when both ends agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

__all__ = [
    "BASE_FACTS",
    "GROUP_FACTS",
    "INTERVALS",
    "OWNED_FACTS",
    "SCREENED_FACTS",
    "SELDOM_FACTS",
    "UNDECLARED",
    "Fact",
    "FactSet",
    "FactType",
    "FactValue",
]

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
        Fact(f"{party}_country", "string", f"country of {who}, where its headquarters are", "party registry"),
        Fact(
            f"{party}_parent_country",
            "string",
            f"country of the headquarters of the ultimate parent of {who}",
            "party registry, or declared",
        ),
        Fact(
            f"{party}_nationality",
            "string",
            f"country of the most recent citizenship or permanent residency of {who}, where a person (734.13(b)); "
            "empty where no person is meant",
            "export_control.nationality, party registry",
        ),
    )
)

_EXCEPTION_FACTS: Final = (
    Fact(
        "exception_conditions",
        "strings",
        "what the exporter states so as to rely on a licence exception: `purchase_order`, `notice_authorized`, "
        "`inspection_test_calibration_repair`, `return_within_year`, `one_for_one_replacement`, "
        "`serviced_and_returned`, `lawfully_exported_original`, `us_government`, `operation_technology`, "
        "`software_update`, `direct_purchase`, `packaging_site`, `manufacturing`, `yearly_limit`",
        "export_control.exception.conditions",
    ),
    Fact(
        "exception_notice_date",
        "int",
        "day on which BIS was notified of the export, as YYYYMMDD in Washington; 0 = no notice declared",
        "export_control.exception.notice_time",
    ),
    Fact(
        "notice_days",
        "int",
        "calendar days from the notice to BIS until the day of lading; 0 = no notice declared, or none before it; "
        "not known while the day of lading is not",
        "exception_notice_date, lading_date",
    ),
)

_FACTS: Final = (
    # What happened.
    Fact("class", "string", "class of the event", "audit.event.class"),
    Fact(
        "act",
        "string",
        "`access`, `transfer`, `provision`, `inventory`, or `release` (technology or source code shown to a person)",
        "audit.event.class",
    ),
    Fact(
        "item_kind",
        "string",
        "`model`, `model_weights`, `accelerator`, `memory`, `technology`, `source_code`, or `other` goods",
        "audit.event.class",
    ),
    Fact(
        "movement",
        "string",
        "`export` (out of the United States), `reexport`, `transfer_in_country`, `domestic` or `transit`; "
        "from the countries of origin and destination where it is not given",
        "export_control.movement",
    ),
    Fact("origin_country", "string", "where the item is shipped or sent from", "export_control.origin.country"),
    Fact("transit_countries", "strings", "countries that the item passes through", "export_control.transit.countries"),
    Fact(
        "lading_date",
        "int",
        "day on which the goods were laden for their journey, as YYYYMMDD in Washington; 0 = not laden yet",
        "export_control.lading_time",
    ),
    Fact(
        "transfer_direction",
        "string",
        "`upload`, `download`, `copy` or `grant`; `undeclared`",
        "export_control.transfer.direction",
    ),
    Fact(
        "exporter",
        "string",
        "party id of the company that exports or gives access; `undeclared` = not said, and no letter is meant for it",
        "export_control.exporter",
    ),
    # Whether the item is subject to the EAR.
    Fact(
        "us_origin",
        "bool",
        "made in, or located in, the United States (734.3(a)(1) and (2))",
        "export_control.us_origin",
    ),
    Fact(
        "us_content",
        "int",
        "controlled content of US origin in a foreign-made item, in thousandths of its value (734.4)",
        "export_control.us_content",
    ),
    Fact(
        "foreign_direct_product",
        "bool",
        "made with US technology or software, or in a plant that is such a product (734.9)",
        "export_control.foreign_direct_product",
    ),
    Fact("itar", "bool", "declared to be under the ITAR (22 CFR 121)", "export_control.itar"),
    Fact(
        "end_to_end_encrypted",
        "bool",
        "encrypted end to end by the means that 734.18(a)(5) names",
        "export_control.end_to_end_encrypted",
    ),
    Fact("storage_country", "string", "where encrypted data are stored on purpose", "export_control.storage.country"),
    # Classification.
    Fact(
        "accelerator_model",
        "string",
        "model of the accelerator as in the accelerators table",
        "export_control.accelerator.model, host.type",
    ),
    Fact(
        "item_form",
        "string",
        "`integrated_circuit` or `computer` (a computer, assembly or component with such a circuit); `undeclared`",
        "export_control.item_form, host.type",
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
    Fact("total_bandwidth", "int", "DRAM bandwidth and interconnect bandwidth together, in GB/s", "accelerators table"),
    Fact(
        "memory_bandwidth_density",
        "int",
        "memory bandwidth ÷ mm² of a memory stack, in thousandths of GB/s/mm²",
        "export_control.memory_bandwidth_density",
    ),
    Fact(
        "co_packaged",
        "bool",
        "memory in one package with a logic circuit that dominates it",
        "export_control.co_packaged",
    ),
    Fact("quantity", "int", "how many accelerators or instances", "export_control.quantity"),
    Fact(
        "accelerators_per_unit",
        "int",
        "accelerators in one unit of the quantity; 0 = a fraction of one",
        "instance types table",
    ),
    Fact("declared_eccn", "string", "ECCN as the emitter declares it; `undeclared`", "export_control.eccn"),
    Fact(
        "declared_license",
        "string",
        "licence relied on, or the symbol of a licence exception, such as `NAC`; `undeclared`",
        "export_control.license",
    ),
    Fact(
        "available_in_us",
        "bool",
        "commercially available in the United States (91 FR 1684)",
        "export_control.available_in_us",
    ),
    Fact(
        "model",
        "string",
        "name of the model that was asked for, answered or moved; `undeclared`",
        "gen_ai.request.model, gen_ai.response.model",
    ),
    Fact(
        "training_exaoperations",
        "int",
        "operations the model was trained with, in units of 10^18, rounded down",
        "export_control.training_operations",
    ),
    Fact(
        "derivative",
        "bool",
        "the model was made by training another model further (note to 4E091)",
        "export_control.added_operations",
    ),
    Fact(
        "added_exaoperations",
        "int",
        "operations added to the model it derives from, in units of 10^18, rounded down",
        "export_control.added_operations",
    ),
    Fact(
        "added_permille",
        "int",
        "operations added ÷ operations of the model it derives from, in thousandths",
        "export_control.added_operations",
    ),
    Fact(
        "synthetic_data_permille",
        "int",
        "share of the training operations on unpublished data that one generator made, in thousandths (note to 4E091)",
        "export_control.synthetic_data",
    ),
    Fact("weights_published", "bool", "whether the weights are published (734.7)", "export_control.weights_published"),
    Fact("us_origin_training_data", "bool", "the model incorporates US-origin training data", "provenance records"),
    Fact("us_origin_weights", "bool", "the model incorporates US-origin weights", "provenance records"),
    Fact("us_origin_compute", "bool", "the model was trained on US-origin compute", "provenance records"),
    # Destination.
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
    # Parties, and what is known of the end use.
    *_PARTY_FACTS,
    Fact("actor_known", "bool", "the actor is in the party registry", "party registry"),
    Fact("actor_exempt", "bool", "the actor is one whom a directive exempts by name", "party registry"),
    Fact(
        "actor_listings",
        "strings",
        "lists the actor stands on, as registry and screening list say",
        "party registry, screening list",
    ),
    Fact(
        "end_user_listings",
        "strings",
        "lists the end user stands on, as registry and screening list say: `denied-persons`, `entity-list`, "
        "`military-end-user`, `unverified-list`, `sdn`, `cmic`, `ssi`, `isn`, `dtc`, `plc`, `mbs`, `cap`, `fse`, "
        "`uae-740-supplement-8`",
        "party registry, screening list",
    ),
    Fact(
        "consignee_listings",
        "strings",
        "lists the consignee stands on, as registry and screening list say; none where no list is in force",
        "party registry, screening list",
    ),
    *(
        fact
        for party, who in (("actor", "the actor"), ("end_user", "the end user"), ("consignee", "the consignee"))
        for fact in (
            Fact(
                f"{party}_possible_listings",
                "strings",
                f"lists with an entry that {who}, its ultimate parent or an owner is like by name, while nothing else "
                "settles whether it is that entry; none where no list is in force",
                "screening list",
            ),
            Fact(
                f"{party}_entry_requirements",
                "strings",
                f"which items the entries of {who} on the Entity List are for: `all_items`, `not_ear99` (those of the "
                "Commerce Control List), `other` (a person must read it); none where no entry is known",
                "screening list",
            ),
        )
    ),
    Fact(
        "end_user_government_affiliated",
        "bool",
        "the end user is of a government, or a laboratory affiliated to one",
        "party registry",
    ),
    *(
        Fact(
            f"{party}_blocked_ownership",
            "int",
            f"share of {who} that blocked persons (SDN) own together by OFAC's rule, in per cent; 0 where the registry "
            "names no owners",
            "owners in the party registry",
        )
        for party, who in (("end_user", "the end user"), ("actor", "the actor"))
    ),
    Fact(
        "listed_ownership",
        "int",
        "share of the end user that listed parties own together by the Affiliates Rule, in per cent; where a part is "
        "open that cannot reach the line, the most it can be",
        "party registry, owners in it",
    ),
    Fact(
        "chinese_relations",
        "strings",
        "how the supply chain is tied to Chinese parties: `supplier`, `reseller`, `forwarder`, `financier`, "
        "`colocation`",
        "party registry, export_control.chinese_relations",
    ),
    Fact(
        "known_end_uses",
        "strings",
        "end uses that the exporter knows of, or is informed of: `military`, `military_intelligence`, `nuclear`, "
        "`missile`, "
        "`chemical_biological`, `supercomputer`, `advanced_ic_production`, `model_training_for_listed_use`, `other`; "
        "none = no such knowledge",
        "export_control.known_end_uses",
    ),
    Fact(
        "known_violation",
        "bool",
        "it is known that a violation has occurred, or is about to, with the item (736.2(b)(10))",
        "export_control.known_violation",
    ),
    Fact(
        "certifications",
        "strings",
        "certifications made under 91 FR 1684: `parameters`, `us_orders`, `aggregate_share`, `end_use`, "
        "`know_your_customer`, `laboratory_test`",
        "export_control.certifications",
    ),
    *_EXCEPTION_FACTS,
    Fact(
        "red_flags",
        "strings",
        "red flags for advanced integrated circuits that nobody has cleared up: `first_orders_after_2022`, "
        "`vague_address`, `little_web_presence`, `no_business_case`, `infrastructure_not_confirmed`, "
        "`unusual_intermediary`",
        "party registry, export_control.red_flags",
    ),
)

GROUP_FACTS: Final[dict[str, str]] = {
    "destination_groups": "destination_country",
    "actor_groups": "actor_country",
    "actor_parent_groups": "actor_parent_country",
    "end_user_groups": "end_user_country",
    "end_user_parent_groups": "end_user_parent_country",
    "actor_nationality_groups": "actor_nationality",
    "end_user_nationality_groups": "end_user_nationality",
    "storage_groups": "storage_country",
    "transit_groups": "transit_countries",
}
"""Facts that follow from a country, or several, and the rule time: the Country Groups it was in (15 CFR 740
Supplement 1)."""

INTERVALS: Final[dict[str, tuple[str, str]]] = {
    "tpp": ("tpp_low", "tpp_high"),
    "performance_density": ("performance_density_low", "performance_density_high"),
}
"""Names that rules compare, with the two facts that bound them."""

SCREENED_FACTS: Final[dict[str, FactValue]] = {
    "consignee_listings": (),
    **{
        f"{party}_{what}": ()
        for party in ("actor", "end_user", "consignee")
        for what in ("possible_listings", "entry_requirements")
    },
}
"""Facts that only a reference with a screening list has, and only of those that it says something of."""

OWNED_FACTS: Final[dict[str, FactValue]] = {
    "end_user_blocked_ownership": 0,
    "actor_blocked_ownership": 0,
    **SCREENED_FACTS,
}
"""Facts that only some parties have, with what holds for all others: those whose owners the registry names, and those
that the screening list says something of.

A facts document has them only where registry or list say something of them, null where it cannot be told.
"""

SELDOM_FACTS: Final[dict[str, FactValue]] = {
    **OWNED_FACTS,
    "exception_conditions": (),
    "exception_notice_date": 0,
    "notice_days": 0,
    "red_flags": (),
}
"""Facts that few events say anything of, with what holds for all others, those of `OWNED_FACTS` among them.

A facts document has them only where something is said of them, null where that cannot be told.
"""

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
        elif name in SELDOM_FACTS:
            self.values[name] = None  # not the value that holds where nothing is said

    def copy(self) -> FactSet:
        """An independent copy."""
        return FactSet(dict(self.values), dict(self.known_by))
