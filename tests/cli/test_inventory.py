"""`auditspan inventory classify`: what it prints, what it refuses, how it ends, what it records."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
from command_line import auditspan, fails, gives
from conftest import Running
from running_service import PROGRAM
from waiting import until

EXAMPLES = Path(__file__).parents[2] / "examples"
HOLDINGS = EXAMPLES / "inventory" / "holdings.csv"
AT = ("--at", "2026-11-27")
CLASSIFY = ("inventory", "classify")


def classified(file: Path, *more: str | Path, status: int = 0) -> dict[str, Any]:
    found = gives(*CLASSIFY, file, *AT, *more, status=status)
    assert isinstance(found, dict)
    return found


def test_the_example_as_a_person_reads_it() -> None:
    done = auditspan(*CLASSIFY, HOLDINGS, *AT, "--parties", EXAMPLES / "parties.yaml", env={"COLUMNS": "160"})
    assert done.status == 3, "two rows are rejected"
    for text in (
        "16 × H100 SXM",
        "3A090.a.1",
        "4A090.a",
        "Totals by ECCN and destination",
        "Close to a line",
        "+0.00 %",
    ):
        assert text in done.out
    assert "no specification of NVIDIA Tesla K80" in done.out
    assert "line 15" in done.out and "count is '-2'" in done.out and "country 'EU' is no country" in done.out
    assert "⚑" in done.out


def test_the_output_in_the_docs_is_what_the_command_prints() -> None:
    page = (EXAMPLES.parent / "docs" / "inventory.md").read_text()
    shown = page.split("```text\n", 1)[1].split("```", 1)[0].splitlines()
    file = "examples/inventory/holdings.csv"
    command = [PROGRAM, *CLASSIFY, file, "--parties", "examples/parties.yaml", *AT]
    done = subprocess.run(
        command, cwd=EXAMPLES.parent, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, timeout=240
    )
    printed = {line.rstrip() for line in done.stdout.splitlines()}
    assert len(shown) > 50 and [line for line in shown if line not in printed] == ["…"]


def test_the_example_as_a_program_reads_it() -> None:
    found = classified(HOLDINGS, "--parties", EXAMPLES / "parties.yaml", status=3)
    items = {item["target"]: item for item in found["items"]}
    assert len(items) == 12 and [one["place"] for one in found["rejected"]] == ["line 15", "line 16"]
    colo = items["Singapore colo"]
    assert (colo["eccn"], colo["accelerators"], colo["tpp"]) == (
        "3A090.a",
        {"low": 64, "high": 64},
        {"low": 15832, "high": 15991},
    )
    assert colo["determination"]["flagged"] and colo["determination"]["citations"]
    assert "Meridian" in colo["determination"]["why"], "its parent is in China"
    assert items["Hong Kong branch"]["eccn"] is None and items["Old rack"]["eccn"] is None
    (prototype,) = items["Prototype"]["models"]
    own = found["specifications"][prototype["specification"]]
    assert own["rates"][0]["tops"] == [900.0, 900.0], "declared sparse, so halved"
    assert own["margins"][0]["basis_points"] == 5000 and own["margins"][0]["line"] == "TPP 4800"
    assert items["Hong Kong branch"]["close_to"] == ["TPP 2400", "density 3.2"]
    assert items["Ireland cloud"]["accelerators"] == {"low": 0, "high": 10}
    assert sum(one["items"] for one in found["totals"]) == 12
    assert found["recorded"] is None


@pytest.mark.parametrize(
    ("name", "format", "items"), [("nvidia-smi.xml", "nvidia-smi", 3), ("nodes.json", "kubernetes", 11)]
)
def test_the_other_formats_are_found_out(name: str, format: str, items: int) -> None:
    found = classified(EXAMPLES / "inventory" / name, "--destination", "SG")
    assert (found["format"], len(found["items"])) == (format, items)
    assert all(item["determination"] for item in found["items"]), "what the file places nowhere is in Singapore"
    assert auditspan(*CLASSIFY, EXAMPLES / "inventory" / name).status == 0


def test_it_reads_standard_input() -> None:
    done = subprocess.run(
        [PROGRAM, *CLASSIFY, "-", "--json"], input=b"model\nH100\n", capture_output=True, timeout=240, check=True
    )
    assert b'"3A090.a"' in done.stdout


def test_the_day_chooses_the_rules(tmp_path: Path) -> None:
    file = tmp_path / "one.csv"
    file.write_text("model,country\nL4,CN\n")
    before = gives(*CLASSIFY, file, "--at", "2023-11-16")["items"][0]
    after = gives(*CLASSIFY, file, "--at", "2023-11-17")["items"][0]
    assert (before["eccn"], after["eccn"]) == (None, "3A090.a")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"model,quantiy\nT4,1\n", "Did you mean quantity?"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><nvidia_smi_log>&x;</nvidia_smi_log>', "refused XML (EntitiesForbidden)"),
        (b'{"kind": ', "not JSON"),
        (b"\x80\x81", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(content: bytes, says: str, tmp_path: Path) -> None:
    file = tmp_path / "inventory"
    file.write_bytes(content)
    said = fails(*CLASSIFY, file)
    assert says in said and str(file) in said


def test_a_file_of_200_megabytes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "large.csv"
    with file.open("wb") as sparse:
        sparse.write(b"model\n")
        sparse.truncate(200_000_000)
    assert "larger than 64 MiB" in fails(*CLASSIFY, file)


def test_what_is_asked_for_must_make_sense(tmp_path: Path) -> None:
    assert "No such file" in fails(*CLASSIFY, tmp_path / "none.csv")
    assert "is no country" in fails(*CLASSIFY, HOLDINGS, "--destination", "EU")
    assert "is not YYYY-MM-DD" in fails(*CLASSIFY, HOLDINGS, "--at", "yesterday")
    assert "Add --record" in fails(*CLASSIFY, HOLDINGS, "--endpoint", "http://127.0.0.1:1")
    assert "not JSON" in fails(*CLASSIFY, HOLDINGS, "--format", "json")
    assert "not XML" in fails(*CLASSIFY, HOLDINGS, "--format", "nvidia-smi")
    assert auditspan(*CLASSIFY, HOLDINGS, "--format", "toml").status == 2


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "hostile.json"
    file.write_text('[{"model": "[red]x[/red] \\u202e", "target": "a"}, {"model": "[bold]H100[/bold]"}]')
    done = auditspan(*CLASSIFY, file, env={"COLUMNS": "160"})
    assert done.status == 3, "a character that turns the line around is no part of a name"
    assert "[bold]H100[/bold]" in done.out and "\u202e" not in done.out + done.err


# Recording


def test_recorded_items_are_sealed_events(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "held.csv"
    file.write_text(
        "site,model,count,country,serials,instance_type,region,provider\n"
        "rack 1,NVIDIA H100 80GB HBM3,2,VN,s-1;s-2,,,\n"
        "cloud,,3,,,p5.48xlarge,eu-west-1,aws\n"
        "rack 2,A100-SXM4-40GB-MIG-1g.5gb,7,SG,,,,\n"
        "rack 3,T4,-1,SG,,,,\n"
    )
    env = {"AUDITSPAN_TOKEN": running.service.token("inventory")}
    found = gives(*CLASSIFY, file, "--record", "--data", running.data, "--actor", "user:counter", status=3, env=env)
    assert found["recorded"] == 3
    query = (
        "SELECT target_id, actor_id, action, determination, flagged, destination_country, emitter, eccn "
        "FROM auditspan.events WHERE class = 'accelerator.inventory' ORDER BY target_id"
    )
    until(lambda: len(running.service.rows(query)) == 3, "3 sealed events")
    cloud, rack1, rack2 = running.service.rows(query)
    assert (rack1["target_id"], rack1["actor_id"], rack1["action"]) == ("rack 1", "user:counter", "inventory")
    assert (rack1["eccn"], rack1["determination"], bool(rack1["flagged"])) == ("3A090.a", "review", True)
    assert (cloud["eccn"], cloud["destination_country"]) == ("3A090.a", "IE")
    assert rack2["destination_country"] == "SG" and rack2["eccn"] == "3A090.a"
    payloads = "SELECT payload FROM auditspan.events WHERE class = 'accelerator.inventory'"
    assert sum(b"s-1" in row["payload"] and b"s-2" in row["payload"] for row in running.service.rows(payloads)) == 1
    spool = running.data / "spool"
    assert stat.S_IMODE(spool.stat().st_mode) & 0o077 == 0
    assert gives("spool", "status", "--spool", spool)["streams"] == [], "nothing waits: all was acknowledged"


def test_recording_needs_a_token_and_a_collector(running: Running, tmp_path: Path) -> None:
    file = tmp_path / "held.csv"
    file.write_text("model\nT4\n")
    assert "no token" in fails(*CLASSIFY, file, "--record", "--data", running.data)
    wrong = {"AUDITSPAN_TOKEN": "ast_wrong", "AUDITSPAN_SPOOL_DIRECTORY": str(tmp_path / "spool")}
    wrong |= {"AUDITSPAN_RECEIPT_TIMEOUT_SECONDS": "1"}
    said = fails(*CLASSIFY, file, "--record", "--data", running.data, env=wrong)
    assert "0 of 1" in said and "auditspan spool ship" in said and "ast_wrong" not in said
    nobody = wrong | {"AUDITSPAN_SPOOL_DIRECTORY": str(tmp_path / "other")}
    said = fails(*CLASSIFY, file, "--record", "--endpoint", "http://127.0.0.1:1", env=nobody)
    assert "0 of 1" in said
    assert "Give either" in fails(
        *CLASSIFY, file, "--record", "--data", running.data, "--endpoint", "http://127.0.0.1:1", env=nobody
    )
    assert "No service has said" in fails(*CLASSIFY, file, "--record", "--data", tmp_path, env=nobody)
    assert any((tmp_path / "other").iterdir()), "what was written waits there"
