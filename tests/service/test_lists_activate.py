"""An officer imports a list and brings it into force on a running service: from then on `why` names alias and score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from running_service import Service
from sent_spans import an_access, request_of, resource
from test_policy_activate import REASON, Officer
from waiting import until

pytestmark = pytest.mark.usefixtures("screening_here")

EXTRACT = Path(__file__).parents[1] / "screening" / "data" / "csl_extract.json"
LISTED = {"audit.record.id": "listed", "export_control.end_user": "Cambrian Hong Kong"}


def test_an_imported_list_comes_into_force_and_is_explained(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service()
    service.start()
    officer = Officer(service, tmp_path / "officer")
    ours = ["--data", service.data, "--reason", REASON, "--token-file", officer.token_file]
    refused = service.run("lists", "activate", *ours, status=1)
    assert "no list" in json.dumps(refused)
    imported = service.run("lists", "import", EXTRACT, "--data", service.data)
    tried = service.run("lists", "activate", *ours, "--dry-run")
    assert (tried["dry_run"], tried["journaled"]) == (True, None)
    done = service.run("lists", "activate", *ours)
    (change,) = done["changes"]
    assert (change["name"], change["before"], done["in_use"]) == ("screening_list.json.gz", None, True)
    assert change["after"]["version"].partition("/")[0] == imported["version"].partition("/")[0]
    assert service.run("lists", "activate", *ours)["changes"] == []
    shown = service.run("policy", "show", "--data", service.data)
    assert any("screening_list" in json.dumps(one) for one in (shown if isinstance(shown, list) else [shown]))

    body = request_of(resource({"service.name": "gateway"}), [an_access(LISTED)]).body
    assert service.post(body, service.token("gateway")).status == 200
    query = "SELECT flagged, why FROM auditspan.events WHERE record_id = 'listed'"
    (row,) = until(lambda: service.rows(query), "the event")
    said = "“Cambrian Hong Kong”, an alias of “Cambricon (Hong Kong) Co., Ltd.”, EL 005407, score 1.00"
    assert row["flagged"]
    assert said in row["why"]
    explained = service.run("policy", "explain", "listed", "--data", service.data)
    assert said in json.dumps(explained, ensure_ascii=False)

    taken_back = service.run(*officer.command("withdraw", "screening_list.json.gz"))
    assert [one["after"] for one in taken_back["changes"]] == [None]


UNKNOWN = "Cambrian Hong Kong Limited"
REGISTRY = """
parties:
  - {id: harbour, name: Cambrian Hong Kong, country: HK, ultimate_parent: self, credentials: ["sha256:c"]}
  - {id: meadow, name: Quiet Meadow Bakery, country: FR, ultimate_parent: self, credentials: ["sha256:m"]}
  - id: mills
    name: Quiet Meadow Mills
    country: FR
    ultimate_parent: self
    credentials: ["sha256:o"]
    owners:
      - {name: Cambrian Hong Kong Co, country: HK, share: 30}
      - {name: Cambrian Hong Kong Ltd, country: HK, share: 30, from: 2020-01-01}
"""


def test_a_list_that_comes_later_finds_parties_of_the_past_once(
    new_service: Callable[..., Service], tmp_path: Path
) -> None:
    service = new_service()
    service.directory.parties.write_text(REGISTRY)
    service.start()
    shipped = {
        "audit.event.class": "accelerator.transfer",
        "audit.record.id": "shipped",
        "audit.actor.id": "sha256:m",
        "audit.outcome": "success",
        "export_control.end_user": "harbour",
        "export_control.accelerator.model": "T4",
    }
    spans = [
        *(an_access({"audit.actor.id": "sha256:c", "audit.record.id": f"used-{number}"}) for number in range(3)),
        an_access({"audit.actor.id": "sha256:m", "audit.record.id": "quiet"}),
        an_access({"audit.actor.id": "sha256:o", "audit.record.id": "owned"}),
        an_access(shipped),
        # Whom no registry knows is named in payloads alone; one of them as the last of a chain.
        *(
            an_access({**shipped, "audit.record.id": f"sent-{number}", "export_control.end_user": "meadow", **named})
            for number, named in enumerate(
                (
                    {"export_control.consignee": "Quiet Meadow Bakery", "export_control.final_recipient": UNKNOWN},
                    {"export_control.final_recipient": f" {UNKNOWN} "},
                    {"export_control.consignee": UNKNOWN, "audit.outcome": "failure"},
                )
            )
        ),
    ]
    body = request_of(resource({"service.name": "gateway"}), spans).body
    token = service.token("gateway")
    assert service.post(body, token).status == 200
    until(lambda: len(service.rows("SELECT 1 FROM auditspan.events WHERE facts != ''")) == 9, "9 events")
    rescreen = ["rescreen", "--since", "2026-01-01", "--data", service.data]
    assert "no screening list" in json.dumps(service.run(*rescreen, status=1))
    officer = Officer(service, tmp_path / "officer")
    service.run("lists", "import", EXTRACT, "--data", service.data)
    ours = ["--data", service.data, "--reason", REASON, "--token-file", officer.token_file]
    service.run("lists", "activate", *ours)

    tried = service.run(*rescreen, "--dry-run")
    assert (tried["new"], tried["dry_run"]) == (4, True)
    sealed = "SELECT header FROM auditspan.events WHERE class = 'screening.rescreened' ORDER BY leaf_index"
    assert service.rows(sealed) == []
    assert service.run("cases", "list", "--data", service.data, "--all") == []
    done = service.run(*rescreen)
    named, found, *owners = done["found"]
    assert (found["party"], found["word"], found["counts"]) == ("harbour", "entity-list", True)
    assert (found["entry"]["id"], found["entry"]["matched"], found["entry"]["score"]) == (
        "005407", "Cambrian Hong Kong", "1.0000",
    )  # fmt: skip
    assert (found["roles"], found["events"], found["transfers"]) == (["actor", "end_user"], 4, 1)
    assert {"sell", "forward", "service"} <= set(found["stop"])
    assert (named["party"], named["name"], named["roles"]) == ("", UNKNOWN, ["consignee", "final_recipient"])
    assert (named["events"], named["transfers"], named["entry"]["id"]) == (2, 2, "005407")
    assert (named["first"]["record_id"], named["last"]["record_id"]) == ("sent-0", "sent-2")
    # Two owners are like one entry: each is a likeness of its own, of the one event.
    assert [(one["party"], one["whose"], one["name"], one["events"]) for one in owners] == [
        ("mills", "owner", "Cambrian Hong Kong Co", 1), ("mills", "owner", "Cambrian Hong Kong Ltd", 1),
    ]  # fmt: skip
    leaves = until(lambda: len(rows := service.rows(sealed)) == 4 and rows, "the entries")
    assert [json.loads(leaf["header"])["body"]["body"] for leaf in leaves] == [named, found, *owners]
    assert service.run(*rescreen)["new"] == 0
    _are_cases_until_they_are_cleared(service, ours)

    # What is judged under the list says it itself, and is no news; nor is anything when no service runs.
    after = [an_access({"audit.actor.id": "sha256:c", "audit.record.id": "later"})]
    body = request_of(resource({"service.name": "gateway"}), after).body
    assert service.post(body, token).status == 200
    until(lambda: service.rows("SELECT 1 FROM auditspan.events WHERE record_id = 'later' AND flagged"), "the event")
    assert service.run(*rescreen)["new"] == 0
    service.stop()
    assert service.run(*rescreen)["new"] == 0


def _are_cases_until_they_are_cleared(service: Service, ours: list[object]) -> None:
    found = service.run("cases", "list", "--data", service.data)
    assert [one["flagged"] for one in found] == [True, True, False, False]
    cases = {one["subject"]: one for one in found}
    assert set(cases) == {"party:harbour", f"name:{UNKNOWN}", "party:mills"}
    case = cases["party:harbour"]
    assert (case["question"], case["events"], case["transfers"]) == ("listed:EL 005407", 4, 1)
    assert case["flagged"] and {"sell", "forward"} <= set(case["stop"])
    assert "General Prohibition 10" in case["what_to_do"] and "Cambricon (Hong Kong) Co., Ltd." in case["what_to_do"]
    shown = service.run("cases", "show", case["case_id"][:10], "--data", service.data)
    assert {one["record_id"] for one in shown["latest_events"]} == {"shipped", "used-0", "used-1", "used-2"}
    assert (shown["likeness"]["score"], shown["likeness"]["counts"]) == (1.0, True)
    named = service.run("cases", "show", cases[f"name:{UNKNOWN}"]["case_id"], "--data", service.data)
    assert {one["record_id"] for one in named["latest_events"]} == {"sent-0", "sent-2"}

    hit = ["Cambrian Hong Kong", "--country", "HK", "--list", "EL", "--entry", "005407"]
    service.run("screen", "clear", *hit, "--until", "2027-03-31", *ours)
    # What is sealed counts, which may be a moment later.
    listed = ["cases", "list", "--data", service.data]
    left = until(lambda: len(rows := service.run(*listed)) == 3 and rows, "three left")
    assert left[0]["likeness"]["name"] == UNKNOWN
    assert {one["likeness"]["name"] for one in left[1:]} == {"Cambrian Hong Kong Co", "Cambrian Hong Kong Ltd"}
    assert service.run(*listed, "--limit", "1") == left[:1], "what is answered takes nobody's place"
    assert len(service.run(*listed, "--all")) == 4
    service.run("screen", "unclear", *hit, *ours)
