"""What the export-control officer does in the demonstration: refuse before the act, try a proposal, adopt it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3

from .checks import AUDITSPAN, expect, sealed_events
from .processes import run, wait_until

IMPLEMENTATION = "2027-01-04"
"""The first Monday after the day on which the blueprint would come into force."""
BUCKET = "refused-models"

# Weights that were trained further from weights of US origin go to the subsidiary of a Chinese parent.
TRANSFER: Mapping[str, Any] = {
    "act": "transfer",
    "item_kind": "model_weights",
    "training_exaoperations": 1000,
    "weights_published": False,
    "us_origin_weights": True,
    "us_origin_training_data": False,
    "us_origin_compute": False,
    "destination_country": "SG",
    "end_user_party": "meridian-cloud",
}


def refused(script: Sequence[str], environment: Mapping[str, str], data: Path) -> str:
    """The same script where transfers are enforced: refused, nothing uploaded, and the refusal is on record, once."""
    enforced = {
        **environment,
        "AUDITSPAN_ENFORCE": "model.transfer,accelerator.provision",
        "AUDITSPAN_ENFORCE_OUTCOMES": "prohibited,license_required,flagged",
    }
    done = subprocess.run([*script, "--bucket", BUCKET], capture_output=True, text=True, env=enforced, check=False)
    expect(done.returncode != 0, "the enforced upload should have been refused")
    said = [line for line in done.stderr.splitlines() if "ExportRefused" in line]
    expect(bool(said), f"the refusal should say so, and not:\n{done.stderr}")
    s3 = boto3.client(
        "s3",
        region_name="ap-east-1",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id="AKIADEMOPLATFORM0001",
        aws_secret_access_key="demonstration",
    )
    expect("Contents" not in s3.list_objects_v2(Bucket=BUCKET), "nothing should have been uploaded")

    def denied() -> list[dict[str, Any]]:
        return [event for event in sealed_events(data, "model.transfer") if event["outcome"] == "denied"]

    wait_until(lambda: len(denied()) == 1, "the refusal to be sealed, once", 30)
    return said[-1].split(":", 1)[-1].strip()


def explained(data: Path) -> tuple[str, dict[str, Any]]:
    """The transfer as the packs in force judge it on the first Monday of the proposal: as text, and for programs."""
    command = [AUDITSPAN, "policy", "explain", "--facts", json.dumps(TRANSFER), "--at", IMPLEMENTATION]
    command += ["--data", str(data)]
    return run(command, {"COLUMNS": "150"}), json.loads(run([*command, "--json"]))


def credential(data: Path) -> dict[str, str]:
    """The officer's token, as the environment that commands read it from."""
    token = json.loads(
        run([AUDITSPAN, "token", "create", "d.okafor", "--role", "officer", "--data", str(data), "--json"])
    )
    return {"AUDITSPAN_OFFICER_TOKEN": token["token"], "COLUMNS": "120"}


def adopted(data: Path, token: Mapping[str, str]) -> str:
    """An officer adopts the proposal as company policy, while the service runs."""
    return run(
        [AUDITSPAN, "policy", "adopt", "controlled-ai-assets", "--reason", "Board of 24 November", "--data", str(data)],
        token,
    )
