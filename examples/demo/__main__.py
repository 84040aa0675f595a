"""``make demo``: from an instrumented call to verified evidence, on this machine, in real processes.

Exit status 0 only when every count and verdict is what it should be.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from . import attacks, checks, officer, who_is_it
from .customers import Load, customers_of
from .processes import PROGRAMS, DemoFailed, Process, answers, free_port, run, wait_until

EXAMPLES = Path(__file__).parent.parent
DATA = Path("demo-data")
REQUESTS_EACH = 25
console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def step(number: int, text: str) -> None:
    console.print(f"\n[bold cyan]{number}[/bold cyan] [bold]{text}[/bold]")


def instrumented(command: list[str]) -> list[str]:
    return [str(PROGRAMS / "opentelemetry-instrument"), *command]


def main() -> int:
    started = time.monotonic()
    if DATA.exists():
        shutil.rmtree(DATA)
    try:
        with ExitStack() as stack:
            demonstrate(stack)
    except DemoFailed as failure:
        console.print(f"\n[bold red]The demonstration failed:[/bold red] {failure}")
        return 1
    console.print(
        f"\n[bold green]All as it should be[/bold green], in {time.monotonic() - started:.0f} s. Left in {DATA}/."
    )
    return 0


def demonstrate(stack: ExitStack) -> None:
    data = DATA / "data"
    logs = DATA / "logs"
    logs.mkdir(parents=True)

    step(1, "auditspan up: collectors, journal, processor, embedded ClickHouse, in one process")
    run([checks.AUDITSPAN, "keys", "init", "--data", str(data)])
    shutil.copy(EXAMPLES / "parties.yaml", data / "parties.yaml")
    tokens = {
        name: json.loads(run([checks.AUDITSPAN, "token", "create", name, "--data", str(data), "--json"]))["token"]
        for name in ("inference-1", "platform-ops")
    }
    anywhere = [argument for name in ("otlp-http", "otlp-grpc", "sql") for argument in (f"--{name}", "127.0.0.1:0")]
    service = stack.enter_context(
        Process([checks.AUDITSPAN, "up", "--data", str(data), *anywhere], logs / "auditspan-up.log")
    )
    endpoints: dict[str, str] = {}

    def ready() -> bool:
        service.running()
        if not endpoints and (data / "endpoints.json").is_file():
            endpoints.update(json.loads((data / "endpoints.json").read_text()))
        return bool(endpoints) and answers(endpoints["otlp_http"] + "/readyz")

    wait_until(ready, "auditspan up to be ready")
    console.print("   " + " · ".join(f"{name} {address}" for name, address in endpoints.items()))

    step(2, "a real inference endpoint that knows nothing of us, under opentelemetry-instrument")
    audit_path = {
        "OTEL_PYTHON_DISTRO": "auditspan",
        "OTEL_PYTHON_CONFIGURATOR": "auditspan",
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "AUDITSPAN_ENDPOINT": endpoints["otlp_http"],
        "AUDITSPAN_SPOOL_DIRECTORY": str((DATA / "spool").absolute()),
    }
    port = free_port()
    uvicorn = ["uvicorn", "inference_endpoint.app:app", "--app-dir", str(EXAMPLES), "--port", str(port)]
    endpoint = stack.enter_context(
        Process(
            instrumented([str(PROGRAMS / uvicorn[0]), *uvicorn[1:], "--log-level", "warning"]),
            logs / "inference-endpoint.log",
            {
                **audit_path,
                "OTEL_SERVICE_NAME": "inference",
                "AUDITSPAN_TOKEN": tokens["inference-1"],
                "INFERENCE_TOKENS_PER_SECOND": "400",
            },
        )
    )
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: endpoint.running() and answers(url + "/healthz"), "the endpoint to answer")
    console.print(f"   {url}/v1/chat/completions, a small language model trained at start")

    step(3, "four customers ask; SIGKILL in the middle; an unchanged boto3 script uploads and provisions")
    customers = customers_of(EXAMPLES / "inference_endpoint" / "api_keys.txt")
    load = Load(url, [customer for customer in customers if customer.id != who_is_it.LISTED])
    load.start(REQUESTS_EACH)
    wait_until(lambda: len(load.seen) >= REQUESTS_EACH, "the first answers")
    endpoint.kill()
    answered = len(load.seen)
    endpoint.start()
    wait_until(lambda: endpoint.running() and answers(url + "/healthz"), "the endpoint to answer again")
    load.finish()
    # What the kill swallowed is asked again, so that every customer is seen.
    load.start(REQUESTS_EACH)
    load.finish()
    console.print(f"   {load.sent} requests sent, {len(load.seen)} gave a byte; the kill came after {answered}")
    moto = stack.enter_context(
        Process(
            [str(PROGRAMS / "moto_server"), "-H", "127.0.0.1", "-p", str(moto_port := free_port())], logs / "moto.log"
        )
    )
    aws = f"http://127.0.0.1:{moto_port}"
    wait_until(lambda: moto.running() and answers(aws + "/moto-api/"), "moto to answer")
    script = EXAMPLES / "move_and_provision" / "move_and_provision.py"
    platform = {
        **audit_path,
        "OTEL_SERVICE_NAME": "platform-ops",
        "OTEL_RESOURCE_ATTRIBUTES": "export_control.end_user=meridian-cloud",
        "AUDITSPAN_TOKEN": tokens["platform-ops"],
        "AWS_ENDPOINT_URL": aws,
        "AWS_ACCESS_KEY_ID": "AKIADEMOPLATFORM0001",
        "AWS_SECRET_ACCESS_KEY": "demonstration",
    }
    move = instrumented([sys.executable, str(script), "--instance-type", "p5en.48xlarge"])
    said = run(move, platform)
    console.print("   " + said.strip().replace("\n", "\n   "))

    step(4, "what was flagged, and why")
    wait_until(lambda: not spool_is_waiting(), "the spool to be acknowledged", 60)
    accesses: list[dict[str, object]] = []

    def all_sealed() -> bool:
        accesses[:] = checks.sealed_events(data, "model.access")
        actions = [checks.sealed_events(data, name) for name in ("model.transfer", "accelerator.provision")]
        return set(load.seen) <= {str(event["trace_id"]) for event in accesses} and min(map(len, actions)) > 1

    wait_until(all_sealed, "every record to be sealed", 30)
    console.print("   " + checks.every_answer_has_its_record(load.seen, accesses))
    show_flagged(data)

    step(5, "who is it really: a screening list and a register of licenses are brought into force, and then …")
    token = officer.credential(data)
    who_is_it.in_force(data, token)
    if who_is_it.screening_is_installed():
        (listed,) = (customer for customer in customers if customer.id == who_is_it.LISTED)
        who_is_it.asked_by(listed, url)
        console.print(f"   {listed.id} asked the model")
    else:
        console.print("   [yellow]names are not screened here:[/yellow] PyICU could not be built (docs/screening.md)")
    shipping = audit_path | {"OTEL_SERVICE_NAME": "shipping", "AUDITSPAN_TOKEN": tokens["platform-ops"]}
    console.print("   " + who_is_it.shipped(shipping).strip().replace("\n", "\n   "), markup=False)

    step(6, "the same script where transfers are enforced: refused before the act")
    console.print("   " + officer.refused(move, {**os.environ, **platform}, data), markup=False, soft_wrap=True)

    step(7, "a proposal in shadow, and after an officer has adopted it; the same transfer, 2027-01-04")
    text, before = officer.explained(data)
    console.print(text.rstrip(), markup=False, soft_wrap=True)
    checks.expect(before["governing"] == "review", "a proposal should not govern before it is adopted")
    console.print(officer.adopted(data, token).rstrip(), markup=False, soft_wrap=True)
    after = officer.explained(data)[1]
    checks.expect(
        (after["text"], after["governing"]) == ("review", "license_required"),
        "the adopted proposal should govern, and leave the text of the law as it is",
    )
    console.print(f"   governing outcome before: {before['governing']}, after: {after['governing']}")

    step(8, "who it really was, as the sealed events say")
    who_is_it.judged(data, lambda text: console.print("   · " + text, markup=False, soft_wrap=True))

    step(9, "an evidence package, verified offline; then attacked in three ways, and verified again")
    package, trust = DATA / "package", data / "trust.json"
    exported = json.loads(
        run([checks.AUDITSPAN, "evidence", "export", "--data", str(data), "--out", str(package), "--json"])
    )
    console.print(f"   {exported['leaves']} leaves proven, {exported['selected']} shown, {exported['flagged']} flagged")
    verify = [checks.AUDITSPAN, "evidence", "verify", str(package), "--trust", str(trust)]
    console.print(run(verify).rstrip(), markup=False)
    report = json.loads(run([*verify, "--json"]))
    checks.expect(report["verdict"] == "VALID", "the package should be valid")
    summary = package / "SUMMARY.html"
    checks.expect(summary.is_file(), "the package should have a summary")
    console.print(f"   what is in it, on one page: {summary}", markup=False, soft_wrap=True)
    for attack in attacks.ATTACKS:
        attacked, done = attacks.attacked(attack, package, data / "keys" / "signing.pem")
        who = "with the stolen signing key" if attack.insider else "without a key"
        console.print(f"\n   attack: {attack.name}, {who}: {done}", soft_wrap=True)
        verify = [checks.AUDITSPAN, "evidence", "verify", str(attacked), "--trust", str(trust)]
        console.print(run(verify, expect=1).rstrip(), markup=False)
        console.print("   " + checks.found(json.loads(run([*verify, "--json"], expect=1)), attack.code))


def spool_is_waiting() -> bool:
    """Whether records of dead processes are still in the spool."""
    command = [checks.AUDITSPAN, "spool", "status", "--spool", str(DATA / "spool"), "--json"]
    return any(stream["pending"] for stream in json.loads(run(command))["streams"])


def show_flagged(data: Path) -> None:
    """The flagged table, and that it holds what it must."""
    accesses = checks.sealed_events(data, "model.access")
    shown = [checks.AUDITSPAN, "events", "--data", str(data), "--flagged", "--distinct"]
    console.print(run(shown, {"COLUMNS": str(max(console.width, 150))}).rstrip(), markup=False, soft_wrap=True)
    checks.the_right_ones_are_flagged(accesses, checks.controlled_credentials(EXAMPLES / "parties.yaml"))
    checks.done_once(checks.sealed_events(data, "model.transfer"), "the upload in parts")
    provisioned = checks.sealed_events(data, "accelerator.provision")
    checks.done_once(provisioned, "the provisioning")
    checks.classified(provisioned)
    flagged = sum(1 for event in accesses if event["flagged"])
    console.print(
        f"   {flagged} of {len(accesses)} accesses flagged, by two parties; the upload and the provisioning once each"
    )


if __name__ == "__main__":
    sys.exit(main())
