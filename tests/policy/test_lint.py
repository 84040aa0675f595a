"""Lint: every fault at once, at its own line, and none that loading does not find; and packs that mean to explode."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time

import pytest

from auditspan.policy import PolicyError, Reference
from auditspan.policy.lint import MOST_FAULTS, Fault, lint
from auditspan.policy.packs import compile_packs

SHIPPED = Reference.packaged_artifacts()
PACK = """\
pack: own
version: "1"
title: own rules
source: nobody
definitions:
  - id: own/term
    fact: own_term
    title: a term
    citations: [internal note 1]
    status: verified
    effective: {from: 2026-01-01}
    when: [item_3a090_a]
rules:
  - id: own/one
    title: a rule
    citations: [internal note 1]
    authority: company_policy
    status: verified
    effective: {from: 2026-01-01}
    when: [act == 'transfer', own_term]
    outcome: review
    explanation: because of {destination_country}
  - id: own/two
    title: another rule
    citations: [internal note 2]
    authority: law
    status: verified
    effective: {from: 2026-01-01}
    when:
      - any: [destination_country == 'CN', "'D:5' in destination_groups"]
    outcome: license_required
    lifts: [own/one]
    explanation: because
"""


def faults_of(text: str, beside: dict[str, bytes] | None = None) -> list[Fault]:
    return lint([("./own.yaml", text.encode())], SHIPPED if beside is None else beside)


def changed(*changes: tuple[str, str]) -> str:
    text = PACK
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_a_sound_pack_has_no_fault_beside_the_shipped_ones_and_needs_them() -> None:
    assert faults_of(PACK) == []
    (alone,) = faults_of(PACK, {name: text for name, text in SHIPPED.items() if not name.endswith(".yaml")})
    assert (alone.file, alone.line) == ("./own.yaml", 12)
    assert "no such fact: item_3a090_a" in alone.message


def test_what_ships_has_no_fault() -> None:
    files = [(name, text) for name, text in SHIPPED.items() if not name.endswith(".gz")]
    assert lint(files, SHIPPED) == []


def test_every_fault_is_found_at_once_each_at_its_line() -> None:
    text = changed(
        ("[act == 'transfer', own_term]", "[acts == 'transfer', act == 4, own_term]"),
        ("because of {destination_country}", "because of {destination}"),
        ("effective: {from: 2026-01-01}\n    when:\n", "effective: {from: 2026-01-01, to: 2025-01-01}\n    when:\n"),
        ("lifts: [own/one]", "lifts: [own/three]"),
        ("destination_country == 'CN'", "destination_country == 'EU'"),
        ("'D:5' in destination_groups", "'D:9' in destination_groups"),
    )
    found = [(fault.line, fault.message) for fault in faults_of(text)]
    assert [line for line, _ in found] == [20, 20, 22, 28, 30, 30, 32]
    said = "\n".join(message for _, message in found)
    for words in (
        "no such fact: acts",
        "no matching overload",
        "no such fact: {destination}",
        "`to` is not after `from`",
        "'EU' is no country",
        "no Country Group 'D:9'",
        "no such rule: own/three",
    ):
        assert words in said
    assert all(fault.remedy for fault in faults_of(text))


def test_faults_against_the_schema_are_all_found_and_do_not_hide_others() -> None:
    text = changed(
        ("outcome: review", "outcome: forbidden"),
        ("law\n    status: verified", "law\n    status: sure"),
        ("[item_3a090_a]", "[item_3a090_x]"),
    )
    found = faults_of(text)
    assert [fault.line for fault in found] == [12, 21, 27]
    assert "forbidden" in found[1].message
    assert "sure" in found[2].message


def test_overlapping_ids_and_a_foreign_prefix() -> None:
    twice = changed(("id: own/two", "id: own/one"))
    (fault,) = faults_of(twice)
    assert (fault.line, "occurs twice" in fault.message) == (23, True)
    # What only follows from a fault is not a fault of its own: the rule is there, under a wrong name.
    (fault,) = faults_of(changed(("- id: own/one", "- id: other/one"), ("[own/one]", "[other/one]")))
    assert (fault.line, "is not the pack's" in fault.message) == (14, True)
    clash = [("a.yaml", PACK.encode()), ("b.yaml", PACK.encode())]
    assert any("given twice" in fault.message for fault in lint(clash, SHIPPED))
    (fault,) = faults_of(changed(("fact: own_term", "fact: act"), ("[act == 'transfer', own_term]", "[own/x]")))[:1]
    assert (fault.line, "defined elsewhere" in fault.message) == (7, True)


@pytest.mark.parametrize(
    ("code", "says"),
    [("EU", "no country"), ("AN", "no country"), ("cn", "no country"), ("HK", "judged as CN"), ("PR", "judged as US")],
)
def test_codes_that_no_fact_ever_has_are_refused(code: str, says: str) -> None:
    (fault,) = faults_of(changed(("destination_country == 'CN'", f"\"destination_country in ['CN', '{code}']\"")))
    assert fault.line == 30
    assert says in fault.message


def test_codes_that_facts_have_are_let_through() -> None:
    for condition in (
        "destination_country == 'XK'",  # Kosovo, as Supplement No. 1 to part 740 lists it
        "destination_subdivision in ['UA-43', '']",
        "'?' in destination_candidates",
        "destination_country.startsWith('C')",
    ):
        assert faults_of(changed(("destination_country == 'CN'", f'"{condition}"'))) == []
    (fault,) = faults_of(changed(("destination_country == 'CN'", "destination_subdivision == 'FR-75'")))
    assert "no subdivision" in fault.message


def test_a_pack_takes_the_place_of_the_shipped_one_with_its_id() -> None:
    text = SHIPPED["us-ear.yaml"]
    assert lint([("/home/me/new law.yaml", text)], SHIPPED) == []
    without = text.replace(b"fact: item_3a090_a\n", b"fact: item_3a090_z\n")
    found = lint([("new.yaml", without)], SHIPPED)
    assert found
    assert {fault.file for fault in found} == {"new.yaml"}


def test_lint_finds_a_fault_wherever_loading_refuses() -> None:
    """Random damage to the shipped pack: lint is never milder than loading, and says first what loading says."""
    choose = random.Random(7)
    lines = SHIPPED["us-ear.yaml"].decode().splitlines()
    refused = 0
    for _ in range(40):
        damaged = list(lines)
        number = choose.randrange(len(damaged))
        match choose.randrange(4):
            case 0:
                del damaged[number]
            case 1:
                damaged[number] = damaged[number].replace("'", "", 1)
            case 2:
                damaged.insert(number, damaged[choose.randrange(len(damaged))])
            case 3:
                words = damaged[number].split(" ")
                choose.shuffle(words)
                damaged[number] = " ".join(words)
        text = "\n".join(damaged).encode()
        try:
            compile_packs([("us-ear.yaml", text)])
        except PolicyError as error:
            refused += 1
            found = lint([("us-ear.yaml", text)], SHIPPED)
            assert any(fault.message in str(error) or str(error).startswith("us-ear.yaml:") for fault in found)
            assert found
            assert Fault.of(error).line in {fault.line for fault in found}, (error, found)
    assert refused > 10


# Tables and registries


def test_faults_of_a_table_are_found_row_by_row() -> None:
    text = SHIPPED["country_groups.csv"]
    text += b"D:5,EU,,,somebody,unverified\nD:5,CN,2026-02-01,2026-01-01,somebody,unverified\n"
    end = text.count(b"\n")
    found = lint([("groups.csv", text)], SHIPPED)
    assert [(fault.line, fault.message) for fault in found] == [
        (end - 1, "'EU' is no country"),
        (end, "`to` is not after `from`"),
    ]
    broken = SHIPPED["country_groups.csv"].replace(b"\nA:1,", b"\nA:1,Z")
    found = lint([("country_groups.csv", broken)], SHIPPED)
    assert len(found) == broken.count(b"\nA:1,Z") > 5


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("country_groups.csv", ",CN,", ",EU,"),
        ("cloud_regions.csv", "us-east-1,US", "us-east-1,EU"),
        ("accelerators.csv", ",true,", ",perhaps,"),
        ("instance_types.csv", "g4ad.xlarge,radeon-pro-v520,1", "g4ad.xlarge,radeon-pro-v520,one"),
        ("accelerator_names.csv", "a100,A100 SXM 80GB", "a100,A100 SXM 90GB"),
        ("accelerator_performance.csv", "int8,8,624", "int8,8,fast"),
        ("accelerator_lines.csv", "tpp,1600", "tpp,much"),
        ("computer_eccns.csv", "contained,computer", "contained,machine"),
    ],
)
def test_a_table_is_read_as_what_it_is_whatever_its_file_is_called(name: str, old: str, new: str) -> None:
    assert old.encode() in SHIPPED[name]
    broken = SHIPPED[name].replace(old.encode(), new.encode(), 1)
    found = lint([("/elsewhere/table.csv", broken)], SHIPPED)
    assert found
    assert {fault.file for fault in found} == {"/elsewhere/table.csv"}


def test_a_table_that_no_longer_has_what_another_names() -> None:
    text = b"\n".join(line for line in SHIPPED["countries.csv"].split(b"\n") if not line.startswith(b"CN,"))
    found = lint([("countries.csv", text)], SHIPPED)
    assert any("'CN' is no country" in fault.message for fault in found)


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("strange.csv", b"# table: strange\n", "no table 'strange'"),
        ("what.yaml", b"a: b\n", "neither a pack"),
        ("list.yaml", b"- a\n", "neither a pack"),
        ("parties.yaml", b"parties: [{id: a, name: A, country: EU}]\n", "'EU' is no country"),
        ("parties.yaml", b"parties: [{id: a, name: A, listings: [entity-lists]}]\n", "there is no list 'entity-lists'"),
        ("adoptions.yaml", b"adopted: [{pack: nobody, by: me, reason: because}]\n", "no pack 'nobody'"),
        ("cases.yaml", b"cases: [{name: a case}]\n", "required"),
        ("bytes.yaml", b"\xff\xfe", "not UTF-8"),
        ("pack.yaml", PACK.replace("pack: own", "pack: parties").encode(), "no id for a pack"),
    ],
)
def test_other_files(file: str, text: bytes, says: str) -> None:
    found = lint([(file, text)], SHIPPED)
    assert any(says in fault.message for fault in found)
    assert {fault.file for fault in found} == {file}


# Packs that mean to explode. Grammar and limits bound them: no loop, no arithmetic, 32 levels in an expression, 24 in a
# file, 4 MiB, 10,000 different expressions, 600,000 values.


def rules(count: int, when: str) -> str:
    head = 'pack: own\nversion: "1"\ntitle: t\nsource: s\nrules:\n'
    rule = (
        "  - {{id: own/r{0}, title: t, citations: [abc], authority: law, status: verified, "
        "effective: {{from: 2026-01-01}}, outcome: review, explanation: x, when: [{1}]}}\n"
    )
    return head + "".join(rule.format(number, when.format(number)) for number in range(count))


MANY = ", ".join(f'"quantity == {number}{{0:03}}"' for number in range(1, 65))
"""64 expressions that no other rule has."""

EXPLODING = {
    "deep parentheses": rules(1, '"' + "(" * 900 + "data_centre" + ")" * 900 + '"'),
    "a chain of comparisons": rules(1, '"' + "data_centre" + " == true" * 240 + '"'),
    "nested lists": rules(1, '"size(' + "[" * 900 + "]" * 900 + ') == 1"'),
    "a loop": rules(1, "\"[1, 2].all(x, [1, 2].all(y, x > y))\""),
    "a regular expression": rules(1, "\"act.matches('(a+)+$')\""),
    "a product": rules(1, '"quantity * quantity * quantity > 3"'),
    "a long expression": rules(1, '"act in [' + ",".join(["'a'"] * 600) + ']"'),
    "nested conditions": rules(1, "{{not: " * 30 + "data_centre" + "}}" * 30),
    "too many conditions": rules(1, "{{any: [" + ", ".join(["data_centre"] * 65) + "]}}"),
    "too many rules": rules(5_001, "data_centre"),
    "too many expressions": rules(160, MANY),
    "an alias bomb": "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*a, *a]\n" for i in range(50)),
    "a merge key": PACK.replace("pack: own", "base: &b {x: 1}\n<<: *b\npack: own"),
    "a tag": PACK.replace("title: own rules", "title: !!python/object/apply:os.system [id]"),
    "nothing but commas": "pack: [" + "," * 10 + "x," * 700_000 + "x]",
    "too large": "#" + "x" * (4 * 1024 * 1024),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLODING)
def test_a_pack_that_means_to_explode_is_refused_in_bounded_time(name: str) -> None:
    started = time.process_time()
    found = faults_of(EXPLODING[name])
    assert found
    assert len(found) <= 2 * MOST_FAULTS
    assert time.process_time() - started < 30


def test_the_greatest_pack_that_is_let_through_loads_and_judges_in_bounded_time_and_memory() -> None:
    """9,984 different expressions, each read at many values: time, and the memory that is kept."""
    program = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from auditspan.policy import Reference
        from auditspan.policy.facts import FactSet
        from auditspan.policy.rule_time import parse_instant
        from auditspan.policy.packs import compile_packs
        from auditspan.policy.engine import Engine
        started = time.process_time()
        packs = compile_packs([("own.yaml", sys.stdin.buffer.read())])
        engine = Engine(packs, Reference.packaged().countries)
        at = parse_instant("2026-11-01")
        for number in range(45):
            engine.determine([FactSet({"quantity": number}, {"quantity": "given"})], at)
        # Not `ru_maxrss`: that also counts the process which forked this one.
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        print(time.process_time() - started, peak.split()[1])
        """
    )
    text = rules(156, f"{{{{any: [{MANY}]}}}}")
    done = subprocess.run([sys.executable, "-c", program], input=text.encode(), capture_output=True, check=True)
    seconds, kilobytes = (float(word) for word in done.stdout.split())
    assert seconds < 60
    assert kilobytes < 1_000_000
