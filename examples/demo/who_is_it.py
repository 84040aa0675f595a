"""Who is it really, in the demonstration: an alias on a list, two owners, a license, a request without decision."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from .checks import AUDITSPAN, expect, sealed_events
from .customers import Customer
from .processes import run, wait_until

FILES = Path(__file__).parent.parent / "who_is_it"
LISTED = "kestrel-lantern"
LICENSE = "D1000001"
SHOWN = {"COLUMNS": "150"}


def screening_is_installed() -> bool:
    """Whether names can be compared here: PyICU is built from source, and may have found nothing to be built with."""
    return all(importlib.util.find_spec(name) is not None for name in ("rigour", "icu"))


def in_force(data: Path, token: Mapping[str, str]) -> None:
    """An officer brings a screening list and a register of licenses into force, while the service runs."""
    if screening_is_installed():
        run([AUDITSPAN, "lists", "import", str(FILES / "screening_list.json"), "--data", str(data)])
        run([AUDITSPAN, "lists", "activate", "--reason", "List of 20 November", "--data", str(data)], token)
    licenses = [AUDITSPAN, "license", "import", str(FILES / "licenses.csv"), "--reason", f"{LICENSE} was granted"]
    run([*licenses, "--data", str(data)], token)


def asked_by(customer: Customer, url: str) -> None:
    """One request of the customer's."""
    answer = httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": "paperwork-4gram", "messages": [{"role": "user", "content": "Who is it?"}], "max_tokens": 8},
        headers={"authorization": f"Bearer {customer.key}"},
        timeout=10,
    )
    expect(answer.status_code == 200, f"the endpoint answered {answer.status_code}")


def shipped(environment: Mapping[str, str]) -> str:
    """What the shipping office did."""
    return run([sys.executable, str(FILES / "ship.py")], environment)


def judged(data: Path, say: Callable[[str], None]) -> None:
    """What came of it; fails unless each is as it should be."""
    if screening_is_installed():
        say(_the_listed_one(data))
    say(_two_owners(data))
    say(_licensed(data))
    say(_undecided(data))


def _done(data: Path, event_class: str, **like: str) -> list[dict[str, Any]]:
    found = [event for event in sealed_events(data, event_class) if event["outcome"] == "success"]
    return [event for event in found if all(value in str(event[name]) for name, value in like.items())]


def _the_listed_one(data: Path) -> str:
    def those() -> list[dict[str, Any]]:
        return _done(data, "model.access", why="Kestrel Lantern Systems Sdn. Bhd.")

    wait_until(lambda: bool(those()), "the access by the listed party to be sealed", 30)
    event = those()[0]
    expect(bool(event["flagged"]), "the access by the listed party should be flagged")
    expect(
        "score" in event["why"] and "900001" in event["why"], f"the reason should have score and entry: {event['why']}"
    )
    return f"listed under an alias: {event['why']}"


def _two_owners(data: Path) -> str:
    wait_until(lambda: bool(_done(data, "accelerator.transfer", target_id="T4")), "the shipment to be sealed", 30)
    (event,) = _done(data, "accelerator.transfer", target_id="T4")
    expect(
        bool(event["flagged"]) and "55 per cent" in event["why"], f"two owners should count together: {event['why']}"
    )
    return f"caught through two owners: {event['why']}"


def _licensed(data: Path) -> str:
    def shipment() -> dict[str, Any]:
        found = _done(data, "accelerator.transfer", target_id="H100")
        return found[0] if found else {}

    wait_until(lambda: shipment().get("current") == "licensed", "the license to be allocated", 30)
    (license_,) = json.loads(run([AUDITSPAN, "license", "list", "--data", str(data), "--json"]))
    expect((license_["used"], license_["remaining"]) == (2, 8), f"the license should have 8 left: {license_}")
    return f"authorized: {shipment()['license_why']}"


def _undecided(data: Path) -> str:
    def transfers() -> list[dict[str, Any]]:
        return [event for event in sealed_events(data, "model.transfer") if "frontier-7" in event["target_id"]]

    def findings() -> list[dict[str, Any]]:
        return [finding for event in transfers() for finding in event["findings"]]

    wait_until(lambda: bool(findings()), "the transfer without decision to be found", 60)
    kinds = {one["finding"] for one in findings()}
    expect(kinds == {"transfer_without_decision"}, f"nobody decided on the transfer, and nothing else: {kinds}")
    flagged = [event for event in transfers() if event["findings"] and event["flagged"]]
    expect(bool(flagged), "the transfer without decision should be flagged")
    return f"without decision: {findings()[0]['why']}"
