"""Names of places as people write them, beside those of the countries table."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["OTHER_NAMES", "THREE_LETTERS", "plain_name"]

OTHER_NAMES: Final = {
    "usa": "US",
    "unitedstatesofamerica": "US",
    "uk": "GB",
    "greatbritain": "GB",
    "uae": "AE",
    "prc": "CN",
    "peoplesrepublicofchina": "CN",
    "mainlandchina": "CN",
    "southkorea": "KR",
    "republicofkorea": "KR",
    "northkorea": "KP",
    "dprk": "KP",
    "russianfederation": "RU",
    "macao": "MO",
    "macausar": "MO",
    "macaosar": "MO",
    "macaosarchina": "MO",
    "macausarchina": "MO",
    "hongkongsar": "HK",
    "hongkongsarchina": "HK",
    "us": "US",
    "turkey": "TR",
    "burma": "MM",
    "czechrepublic": "CZ",
    "holland": "NL",
    "thenetherlands": "NL",
    "ivorycoast": "CI",
    "swaziland": "SZ",
    "capeverde": "CV",
    "easttimor": "TL",
    "republicofchina": "TW",
    "kingdomofsaudiarabia": "SA",
    "ksa": "SA",
    "islamicrepublicofiran": "IR",
    "syrianarabrepublic": "SY",
    "crimea": "UA-43",
    "sevastopol": "UA-40",
    "donetsk": "UA-14",
    "dnr": "UA-14",
    "luhansk": "UA-09",
    "lnr": "UA-09",
}
"""Of countries, beside those of the table; of regions that have rules of their own."""

THREE_LETTERS: Final = {
    "ARE": "AE", "AUS": "AU", "AUT": "AT", "BEL": "BE", "BLR": "BY", "BRA": "BR", "CAN": "CA", "CHE": "CH", "CHN": "CN",
    "CUB": "CU", "CYP": "CY", "CZE": "CZ", "DEU": "DE", "DNK": "DK", "EGY": "EG", "ESP": "ES", "EST": "EE", "FIN": "FI",
    "FRA": "FR", "GBR": "GB", "GEO": "GE", "GRC": "GR", "HKG": "HK", "HUN": "HU", "IDN": "ID", "IND": "IN", "IRL": "IE",
    "IRN": "IR", "IRQ": "IQ", "ISL": "IS", "ISR": "IL", "ITA": "IT", "JOR": "JO", "JPN": "JP", "KAZ": "KZ", "KEN": "KE",
    "KGZ": "KG", "KHM": "KH", "KOR": "KR", "KWT": "KW", "LAO": "LA", "LBN": "LB", "LBY": "LY", "LTU": "LT", "LUX": "LU",
    "LVA": "LV", "MAC": "MO", "MEX": "MX", "MLT": "MT", "MMR": "MM", "MYS": "MY", "NIC": "NI", "NLD": "NL", "NOR": "NO",
    "NZL": "NZ", "OMN": "OM", "PAK": "PK", "PHL": "PH", "POL": "PL", "PRK": "KP", "PRT": "PT", "QAT": "QA", "ROU": "RO",
    "RUS": "RU", "SAU": "SA", "SGP": "SG", "SVK": "SK", "SVN": "SI", "SWE": "SE", "SYR": "SY", "THA": "TH", "TUR": "TR",
    "TWN": "TW", "UKR": "UA", "USA": "US", "UZB": "UZ", "VEN": "VE", "VNM": "VN", "YEM": "YE", "ZAF": "ZA",
}  # fmt: skip
"""ISO 3166-1 alpha-3 of countries that are often met; of the rest the name or two letters are asked for."""


def plain_name(name: str) -> str:
    """Letters without accents, case and all else."""
    return re.sub(r"[^a-z]+", "", unicodedata.normalize("NFKD", name.casefold()))
