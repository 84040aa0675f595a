"""A register of licenses: CSV and JSON say the same, and a file with an error gives nothing but where it stands."""

from __future__ import annotations

import json

import pytest

from auditspan.errors import AuditSpanError
from auditspan.licensing.register import LARGEST_REGISTER, artifact_of, read_register
from auditspan.policy.errors import PolicyError
from auditspan.policy.licenses import LICENSE_COLUMNS, LICENSES, Licenses, is_license_number
from auditspan.policy.reference import Reference
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.tables import parse_table

CSV = """\
# Licenses of the plant
number,type,exporter,consignees,end_users,items,quantity,unit,value,valid_from,valid_to,conditions
D1234567,BIS individual,plant,Harbour Logistics;Pier 9,harbour;Orchid Robotics,3A090.a;H200 SXM,10,each,450000,\
2026-01-01,2026-12-31,"no retransfer,
report monthly"
D7654321,,,,harbour,model:orchid-2; 4e091,,transfer,,,2027-06-30,
"""
JSON = json.dumps(
    {
        "licenses": [
            {
                "number": "D7654321",
                "end_users": ["harbour"],
                "items": ["model:orchid-2", "4E091"],
                "quantity": None,
                "unit": "transfers",
                "valid_to": "2027-06-30",
            },
            {
                "number": "D1234567",
                "type": "BIS individual",
                "exporter": "plant",
                "consignees": "Harbour Logistics; Pier 9",
                "end_users": ["harbour", "Orchid  Robotics"],
                "items": ["ECCN 3A090.a", "H200 SXM"],
                "quantity": 10,
                "unit": "accelerator",
                "value": 450000,
                "valid_from": "2026-01-01",
                "valid_to": "2026-12-31",
                "conditions": "no retransfer, report monthly",
            },
        ]
    },
    indent=2,
)


def test_csv_and_json_say_the_same() -> None:
    first, second = read_register(CSV.encode(), "licenses.csv")
    assert (first.number, first.kind, first.exporter) == ("D1234567", "BIS individual", "plant")
    assert first.consignees == ("Harbour Logistics", "Pier 9")
    assert first.end_users == ("harbour", "Orchid Robotics")
    assert first.items == ("3A090.a", "H200 SXM")
    assert (first.quantity, first.unit, first.value) == (10, "accelerator", 450000)
    assert first.conditions == "no retransfer, report monthly"
    assert (second.items, second.quantity, second.unit) == (("model:orchid-2", "4E091"), None, "transfer")
    assert (first.line, second.line) == (3, 5)
    artifact = artifact_of(read_register(CSV.encode(), "licenses.csv"))
    assert artifact_of(read_register(b"\xef\xbb\xbf" + JSON.encode(), "licenses.json")) == artifact
    # What was read of the artifact makes the artifact again.
    assert artifact_of(read_register(artifact, LICENSES)) == artifact


def test_a_license_is_valid_on_its_last_day_in_washington() -> None:
    first, second = read_register(CSV.encode(), "licenses.csv")
    assert (first.begins, first.ends) == (parse_instant("2026-01-01"), parse_instant("2027-01-01"))
    assert second.begins == 0


def test_an_exception_is_no_license_number() -> None:
    assert is_license_number("D1234567") and is_license_number("BIS 12/2026-7")
    assert not any(map(is_license_number, ("NAC", "TMP", "RPL", "NLR", "", "x" * 65 + "1", "D1;D2")))


def row(**cells: str) -> str:
    given = {"number": "D1", "end_users": "harbour", "items": "3A090", "valid_to": "2026-12-31"} | cells
    return f"{','.join(given)}\n{','.join(given.values())}\n"


FAULTS = [
    (row(quantity="-1"), r"licenses\.csv:2: quantity is '-1'.*from 0"),
    (row(quantity="1.5"), r":2: quantity is '1\.5'"),
    (row(quantity="9" * 16), r":2: quantity is '9"),
    (row(value="-3"), r":2: value is '-3'.*whole US dollars"),
    (row(valid_from="2027-01-01"), r":2: valid_from 2027-01-01 is after valid_to 2026-12-31.*reversed"),
    (row(valid_to="31.12.2026"), r":2: valid_to is '31\.12\.2026'.*YYYY-MM-DD"),
    (row(valid_to="2026-02-30"), r":2: valid_to is '2026-02-30'"),
    (row(valid_to="9999-12-31"), r":2: valid_to is '9999-12-31'"),
    (row(valid_to=""), r":2: valid_to is empty"),
    (row(unit="tons"), r":2: the unit is 'tons'.*accelerator and transfer"),
    (row(items="3A09"), r":2: '3A09' is no ECCN"),
    (row(items="ECCN X"), r":2: 'ECCN X' is no ECCN"),
    (row(items=""), r":2: items is empty"),
    (row(end_users=";"), r":2: end_users is empty"),
    (row(number="NAC"), r":2: the number is 'NAC'"),
    (row(number="x" * 70 + "1"), r":2: the number is"),
    (row(conditions="x" * 2001), r":2: conditions has 2001 characters"),
    (row(end_users="x" * 201), r":2: a name in end_users has 201 characters"),
    (row(items=";".join(f"model:m{n}" for n in range(201))), r":2: items has 201 entries"),
    (row(end_user="harbour"), r":1: there is no column 'end_user'.*Did you mean end_users"),
    (row().replace("number", "Number,number", 1), r":1: number stands twice"),
    ("number,items\nD1,3A090\n", r":1: no column end_users, valid_to"),
    (row() + "d1,harbour,3A090,2026-12-31\n", r":3: the license d1 stands in line 2 already"),
    (row() + "D2,harbour,3A090\n", r":3: 3 cells under 4 columns"),
    (row() + 'D2,"harbour,3A090\n', r":3: not CSV"),
    (row().splitlines()[0], r"licenses\.csv:1: it has no license"),
    ("", r"licenses\.csv:1: no column"),
    ("[]", r"licenses\.csv:1: it has no license"),
    ("{}", r":1: no list of licenses"),
    ('[{"number": "D1",\n]', r":2: not JSON"),
    ('[{"number": "D1"\n', r":\d: not JSON"),
    ("[1]", r":1: an entry is no object"),
    ('[\n{"number": "D1", "colour": 1}]', r":2: there is no column 'colour'"),
    ('[{"number": "D1", "number": "D2"}]', r":1: number stands twice"),
    ('[{"number": {"a": 1}}]', r":1: number is neither text nor a number"),
    ('[{"number": "D1", "items": ["3A090;4A090"]}]', r":1: items is neither"),
    (JSON + "x", r"something stands after the list"),
    ("[" * 100_000, r":1: "),
]


@pytest.mark.parametrize(("text", "said"), FAULTS, ids=[said for _, said in FAULTS])
def test_a_file_with_an_error_gives_nothing_but_where_and_what_to_do(text: str, said: str) -> None:
    with pytest.raises(PolicyError, match=f"(?s){said}") as raised:
        read_register(text.encode(), "licenses.csv")
    assert raised.value.remedy and raised.value.line >= 1


def test_size_is_bounded_and_only_utf_8_is_read() -> None:
    with pytest.raises(PolicyError, match="more than 4194304 bytes"):
        read_register(b" " * (LARGEST_REGISTER + 1), "licenses.csv")
    with pytest.raises(PolicyError, match="byte 7 is not UTF-8"):
        read_register(b"number,\xff", "licenses.csv")
    with pytest.raises(PolicyError, match=r"licenses\.json:1: more than 10000 licenses"):
        many = [
            {"number": f"D{n}", "end_users": "a", "items": "EAR99", "valid_to": "2026-01-01"} for n in range(10_001)
        ]
        read_register(json.dumps(many).encode(), "licenses.json")


def test_a_reference_has_the_register_where_an_officer_activated_one() -> None:
    packaged = Reference.packaged_artifacts()
    assert LICENSES not in packaged and Reference.packaged().licenses is None
    artifact = artifact_of(read_register(CSV.encode(), "licenses.csv"))
    reference = Reference.load({**packaged, LICENSES: artifact}, 2)
    assert reference.licenses is not None
    assert [one.number for one in reference.licenses] == ["D1234567", "D7654321"]
    (kept,) = [one for one in reference.artifacts if one.name == LICENSES]
    assert (kept.kind, kept.content) == ("table", artifact)
    found = reference.licenses.find(" d1234567 ")
    assert found is not None and found.number == "D1234567"
    # Everything else is as it is without it.
    others = [one.to_json() for one in reference.artifacts if one.name != LICENSES]
    assert others == [one.to_json() for one in Reference.packaged().artifacts]


def test_a_mistyped_accelerator_is_no_license_that_covers_nothing() -> None:
    text = row(items="H20O")
    artifact = artifact_of(read_register(text.encode(), "licenses.csv"))
    with pytest.raises(AuditSpanError, match=r"licenses\.csv:6: license D1: the item 'H20O' is no accelerator"):
        Reference.load({**Reference.packaged_artifacts(), LICENSES: artifact}, 2)


def test_the_artifact_itself_is_checked_as_a_file_is() -> None:
    head = "# table: licenses\n# version: 1\n# source: s\n# status: in force\n"
    table = head + ",".join(LICENSE_COLUMNS) + "\nD1,,,,harbour,3A090,-4,,,,2026-12-31,\n"
    with pytest.raises(PolicyError, match=r"licenses\.csv:6: license D1: quantity is '-4'"):
        Licenses(parse_table(table.encode(), LICENSES, LICENSE_COLUMNS))
