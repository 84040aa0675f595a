"""Names in an entry's text, and how alike two names are."""

from __future__ import annotations

import needs_screening  # noqa: F401 - skips where it is not installed
import pytest

from auditspan.screening.entry_names import names_in, names_of
from auditspan.screening.evaluation import pair_score
from auditspan.screening.kind_guess import guessed_kind
from auditspan.screening.name_form import name_form
from auditspan.screening.policies import kind_thresholds


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Huawei Technologies Co., Ltd. (Huawei). Affiliated Entity: Huawei Marine Networks Co., Ltd.",
         [("Huawei Marine Networks Co., Ltd.", "primary")]),
        ("LTS Holding Limited (f.k.a. IPP-International Petroleum Products Ltd.)",
         [("LTS Holding Limited", "primary"), ("IPP-International Petroleum Products Ltd", "former")]),
        ("NPO Izhmash OAO;OJSC Concern Kalashnikov",
         [("NPO Izhmash OAO", "primary"), ("OJSC Concern Kalashnikov", "alias")]),
        ("Iran Aviation Industries Organization (IAIO)",
         [("Iran Aviation Industries Organization", "primary"), ("IAIO", "acronym")]),
        ("RUNNING BROOK, LLC (USA)", [("RUNNING BROOK, LLC (USA)", "primary")]),
        ("EuroAsia and any successor, sub-unit, or subsidiary thereof", [("EuroAsia", "primary")]),
        ("F.K.A. Presidency Office of Studies", [("Presidency Office of Studies", "former")]),
        ("Address 01", []),
        ("(all of preceding located in or near Mianyang, Sichuan Province)", []),
        ("Akanonu Fabian", [("Akanonu Fabian", "primary")]),
        ("!!!", []),
    ],
)  # fmt: skip
def test_names_that_a_text_holds(text: str, names: list[tuple[str, str]]) -> None:
    assert names_in(text) == names


def test_a_unit_without_a_name_of_its_own_keeps_that_of_its_parent() -> None:
    text = "China Aerospace Corporation Second Academy. Subordinate Institution - Second Design Department"
    assert names_in(text) == [(text, "primary")]


def test_each_name_of_an_entry_once() -> None:
    assert names_of("COREZING -AKAS- CORE ZING, COREZING GRP, COREZING TECH", ["Core Zing", "Address 02"]) == (
        ("COREZING", "primary"), ("CORE ZING", "alias"), ("COREZING GRP", "alias"), ("COREZING TECH", "alias"),
        ("Core Zing", "alias"),
    )  # fmt: skip


SAME = [
    ("Vladimir Putin", "PUTIN, Vladimir Vladimirovich", "person"),
    ("Владимир Путин", "Vladimir Putin", "person"),
    ("Bill Clinton", "William Jefferson Clinton", "person"),
    ("Usama bin Ladin", "Osama bin Laden", "person"),
    ("محمد حسين", "Muhammad Husayn", "person"),
    ("J. R. Smith", "John Robert Smith", "person"),
    ("Dr. Jean-Luc Picard", "Picard, Jean Luc", "person"),
    ("ООО Газпром", "Gazprom LLC", "organization"),
    ("华为技术有限公司", "Huawei Technologies Co., Ltd.", "organization"),
    ("Obshchestvo S Ogranichennoi Otvetstvennostyu Molot", "MOLOT, OOO", "organization"),
    ("IBM", "International Business Machines Corp.", "organization"),
    ("Islamic Republic of Iran Shipping Lines", "IRISL", "organization"),
    ("ICBC", "Industrial and Commercial Bank of China", "organization"),
    ("13th Research Institute", "Thirteenth Research Institute", "organization"),
    ("Nauchno-Issledovatelski Institut Argon", "Research Institute ARGON", "organization"),
    ("Microsft Corp", "Microsoft Corporation", "organization"),
    ("Longshine Information", "Long Shine Information", "organization"),
    ("M/V OCEANIC 5", "OCEANIC V", "vessel"),
    ("100 King St W, Toronto", "100 King Street West, Toronto, ON M5X", "address"),
    ("Gаzрrоm Nеft", "Gazprom Neft", "organization"),
]
OTHER = [
    ("John Smith", "John Brown", "person"),
    ("Vladimir Ivanovich Sokolov", "Vladimir Petrovich Sokolov", "person"),
    ("Ivan Petrov", "Ivan Pavlov", "person"),
    ("Bank of China", "Bank of Chile", "organization"),
    ("Plant No. 5", "Plant No. 6", "organization"),
    ("A" * 150, "B" * 150, "organization"),
    ("ZTE Corporation", "ZTA Corporation", "organization"),
    ("Shanghai Electric Group", "Beijing Electric Group", "organization"),
    ("Toyota Motor Corporation", "Toyota Tsusho Corporation", "organization"),
    ("OCEANIC 5", "OCEANIC 6", "vessel"),
    ("LONG XING 801", "LONG XING 603", "vessel"),
    ("NADIYA XI", "NADIYA XII", "vessel"),
    ("14 Main Street, Springfield", "12 Main St., Springfield", "address"),
    ("100 Queen Street West, Toronto", "100 King Street West, Toronto", "address"),
    ("", "Acme", "organization"),
    ("!!!", "???", "person"),
]


@pytest.mark.parametrize(("left", "right", "kind"), SAME)
def test_names_of_one_party(left: str, right: str, kind) -> None:
    score = pair_score(left, right, kind)
    assert kind_thresholds()[kind] <= score <= 1
    assert score == pytest.approx(pair_score(right, left, kind))


@pytest.mark.parametrize(("left", "right", "kind"), OTHER)
def test_names_of_two_parties(left: str, right: str, kind) -> None:
    assert 0 <= pair_score(left, right, kind) < kind_thresholds()[kind]


@pytest.mark.parametrize(
    ("query", "candidate", "kind"),
    [
        ("10 Downing Street, London", "Downing St. 10, London SW1A 2AA", "address"),
        ("ул. Ленина, д. 5, Москва", "Ulitsa Lenina 5, Moskva", "address"),
        ("Plant No. 5", "10 Downing Street, London", "organization"),
        ("M/V EVER GIVEN", "Ever Given", "vessel"),
        ("Gazprom", "Газпром OAO", "organization"),
        ("PUTIN, Vladimir", "Владимир Путин", "person"),
        ("Kubrat Slavov", "Kubrat Slavoff", ""),
    ],
)
def test_a_kind_that_nobody_gave_is_guessed(query: str, candidate: str, kind) -> None:
    assert guessed_kind(query, candidate) == guessed_kind(candidate, query) == kind
    assert pair_score(query, candidate) == pair_score(query, candidate, kind)


@pytest.mark.parametrize(
    "name",
    ["", " ", "\u202e\u200b", "!?…", "🚀🚀", "A" * 10_000, "a " * 5000, "\x00\ud800", "مرحبا🚀Acme Азия", "́" * 500],
)
@pytest.mark.parametrize("kind", ["", "organization", "person", "vessel"])
def test_any_text_has_a_form_of_bounded_size(name: str, kind) -> None:
    form = name_form(name, kind)
    assert len(form.original) <= 1000
    assert len(form.tokens) <= 40
    assert all(token.text.isascii() for token in form.tokens)
