"""Words that facts of few values may take, in the spellings that people use.

A rule compares words. A word that no rule knows would match none and so clear in silence: it is refused instead, and
a known end use that is none of these counts as `other`, which a rule asks about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["CLOSED", "LISTINGS", "OTHER_END_USE", "WORDS", "eccn", "end_use", "license_exception", "word"]

OTHER_END_USE: Final = "other"

WORDS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "act": {
        "access": ("use", "inference", "iaas_access", "remote_access"),
        "transfer": ("export", "reexport", "re_export", "transit", "transfer_in_country", "in_country_transfer", "sale",
                     "sell", "ship", "shipment", "delivery", "send", "transfers"),
        "provision": ("provisioning", "rent", "rental", "iaas", "lease"),
        "inventory": ("hold", "holding", "holds"),
        "release": ("deemed_export", "deemed_reexport", "deemed_re_export", "disclosure"),
    },
    "item_kind": {
        "model": ("ai_model",),
        "model_weights": ("weights", "model_weight", "ai_model_weights"),
        "accelerator": ("accelerators", "gpu", "chip", "ic", "integrated_circuit", "computer", "server", "board"),
        "memory": ("hbm", "high_bandwidth_memory"),
        "technology": (),
        "source_code": ("software", "source"),
        "other": ("other_goods", "goods", "ear99"),
    },
    "movement": {
        "export": ("exports",),
        "reexport": ("re_export", "re_exports", "reexports"),
        "transfer_in_country": ("in_country", "in_country_transfer", "transfer_in_country_"),
        "domestic": (),
        "transit": (),
    },
    "transfer_direction": {"upload": (), "download": (), "copy": (), "grant": (), "undeclared": ()},
    "item_form": {
        "integrated_circuit": ("ic", "chip", "circuit", "bare_chip", "die"),
        "computer": ("server", "assembly", "board", "component", "system", "electronic_assembly", "rack", "card"),
        "undeclared": (),
    },
    "certifications": {
        "parameters": (),
        "us_orders": (),
        "aggregate_share": (),
        "end_use": (),
        "know_your_customer": ("kyc",),
        "laboratory_test": ("lab_test", "third_party_test"),
    },
    "exception_conditions": {
        "purchase_order": ("written_purchase_order", "po"),
        "notice_authorized": ("nac_authorization", "notice_authorised"),
        "inspection_test_calibration_repair": ("inspection", "test", "calibration", "repair"),
        "return_within_year": ("return_within_one_year",),
        "one_for_one_replacement": ("replacement",),
        "serviced_and_returned": ("servicing",),
        "lawfully_exported_original": (),
        "us_government": ("united_states_government",),
        "operation_technology": ("operation_software",),
        "software_update": ("software_updates",),
        "direct_purchase": (),
        "packaging_site": (),
        "manufacturing": (),
        "yearly_limit": (),
    },
    "red_flags": {
        "first_orders_after_2022": ("first_orders_after_october_2022",),
        "vague_address": ("residential_address", "residential_or_vague_address"),
        "little_web_presence": ("no_web_presence",),
        "no_business_case": ("no_business_need",),
        "infrastructure_not_confirmed": ("data_centre_not_confirmed", "data_center_not_confirmed"),
        "unusual_intermediary": ("unusual_forwarder", "unusual_reseller"),
    },
    "chinese_relations": {
        "supplier": (), "reseller": (), "forwarder": ("freight_forwarder",), "financier": (),
        "colocation": ("co_location",),
    },
    "listings": {
        "denied-persons": ("denied_person", "denied_persons_list", "dpl"),
        "entity-list": ("el", "entitylist", "bis_entity_list", "listed_entity"),
        "military-end-user": ("military_end_user_list", "meu", "meu_list", "military_end_users"),
        "unverified-list": ("unverified", "uvl"),
        "sdn": ("sdn_list", "ofac_sdn", "specially_designated_nationals", "specially_designated_national"),
        "cmic": ("ns_cmic", "ns_cmic_list", "cmic_list"),
        "ssi": ("ssi_list", "sectoral_sanctions"),
        "uae-740-supplement-8": (),
        "isn": ("nonproliferation_sanctions", "isn_list"),
        "dtc": ("itar_debarred", "aeca_debarred", "debarred"),
        "plc": ("palestinian_legislative_council", "plc_list"),
        "mbs": ("ns_mbs", "menu_based_sanctions", "ns_mbs_list"),
        "cap": ("capta", "capta_list"),
        "fse": ("foreign_sanctions_evaders", "fse_list"),
    },
    "known_end_uses": {
        "military": ("military_end_use",),
        "military_intelligence": ("military_intelligence_end_use",),
        "nuclear": ("nuclear_weapons", "nuclear_end_use"),
        "missile": ("missiles", "missile_technology", "rocket", "uav", "unmanned_aerial_vehicle"),
        "chemical_biological": ("chemical", "biological", "chemical_weapons", "biological_weapons", "cbw"),
        "supercomputer": ("supercomputing", "supercomputers"),
        "advanced_ic_production": ("advanced_node_ic_production", "semiconductor_manufacturing"),
        "model_training_for_listed_use": (),
        OTHER_END_USE: (),
    },
    **{
        f"{party}_entry_requirements": {"all_items": (), "not_ear99": (), "other": ()}
        for party in ("actor", "end_user", "consignee")
    },
}  # fmt: skip
"""By fact (``listings`` of either party): each word with other spellings, lower case, ``_`` between."""

LISTINGS: Final = frozenset(
    f"{party}_{what}" for party in ("end_user", "actor", "consignee") for what in ("listings", "possible_listings")
)
"""Facts whose words stand under ``listings``."""

CLOSED: Final = frozenset(WORDS.keys() - {"listings", "known_end_uses"})
"""Facts that have no other words than these; a list or an end use may also be one that a pack compares."""

_HARMLESS: Final = frozenset({"", "none", "civil", "civilian", "commercial", "no"})
_ECCN: Final = re.compile(r"^(?:ECCN)?([0-9][A-E][0-9]{3})(?:\.?([A-Z])((?:\.?[0-9A-Z]+)*))?$")


_EXCEPTIONS: Final[Mapping[str, str]] = {
    spelling: symbol
    for symbol, spellings in {
        "NAC": ("nac", "notified_advanced_computing"),
        "ACA": ("aca", "advanced_computing_authorized"),
        "TMP": ("tmp", "740_9", "740_9_a_6"),
        "RPL": ("rpl", "740_10"),
        "GOV": ("gov", "740_11", "740_11_b"),
        "TSU": ("tsu", "740_13", "740_13_a", "740_13_c"),
        "HBM": ("hbm", "740_25"),
        "AIA": ("aia", "740_27"),
        "ACM": ("acm", "740_28"),
        "LPP": ("lpp", "740_29"),
    }.items()
    for spelling in spellings
}
"""Licence exceptions of 15 CFR 740 by their symbols; 740.8 is two of them, and names neither."""
_BEFORE_EXCEPTION: Final = re.compile(r"^(?:15_cfr_|licen[cs]e_)?(?:exception_)?(?:15_cfr_)?")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.strip().casefold()).strip("_")


_SPELLINGS: Final[Mapping[str, Mapping[str, str]]] = {
    name: {_plain(spelling): canonical for canonical, others in words.items() for spelling in (canonical, *others)}
    for name, words in WORDS.items()
}


def word(fact: str, text: str) -> str | None:
    """The word of ``fact`` that ``text`` means; None when it is none of them."""
    return _SPELLINGS["listings" if fact in LISTINGS else fact].get(_plain(text))


def end_use(text: str) -> str | None:
    """A known end use: `other` when it is none of the vocabulary, None when it is a civil one."""
    return word("known_end_uses", text) or (None if _plain(text) in _HARMLESS else OTHER_END_USE)


def license_exception(text: str) -> str | None:
    """The symbol of the exception that ``text`` names, as in ``License Exception NAC``; None when it is none."""
    return _EXCEPTIONS.get(_BEFORE_EXCEPTION.sub("", _plain(text)))


def eccn(text: str) -> str:
    """An ECCN as the list writes it (``3A090.a``), or ``text`` as it is."""
    match = _ECCN.match(re.sub(r"[\s:]+", "", text.upper()))
    if match is None:
        return "EAR99" if text.strip().upper() == "EAR99" else text
    category, paragraph, rest = match.groups()
    return category + (f".{paragraph.lower()}{(rest or '').lower()}" if paragraph else "")
