"""``auditspan policy show``: the reference epoch in force, and who brought it there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.reading import DataOption, UrlOption, open_reader
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["show"]


@reports_errors
def show(
    data: DataOption = None,
    url: UrlOption = None,
    history: Annotated[bool, typer.Option("--history", help="All epochs, not only the one in force.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the reference epoch in force: its artifacts, and which officer activated what, when and why.

    It shows what the control log has sealed. What was activated while no service ran is sealed when one starts.

    \b
    auditspan policy show --data ./data
    auditspan policy show --data ./data --history --json
    """
    with open_reader(data, url) as reading:
        epochs = _epochs(reading.store)
    if not epochs:
        raise AuditSpanError(
            f"No reference epoch is sealed in {reading.where} yet.", remedy="Start the service: it brings its own."
        )
    if as_json:
        print_json(epochs if history else epochs[-1])
    elif history:
        _show_history(epochs)
    else:
        _show(epochs[-1])


def _epochs(store: ClickHouseStore) -> list[dict[str, Any]]:
    """All epochs that came into force, each artifact with the epoch since which it is there as it is."""
    from auditspan.exporters.evidence.control import control_log_of
    from auditspan.processors.epochs import effective
    from auditspan.processors.references import epoch_of
    from auditspan.semconv import EventClass

    leaves = store.log_leaves(control_log_of(store), [EventClass.REFERENCE_ACTIVATED])
    by_number: dict[int, tuple[Mapping[str, Any], int]] = {}
    for leaf_index, header in zip(leaves["leaf_index"].to_pylist(), leaves["header"].to_pylist(), strict=True):
        leaf = json.loads(header)
        by_number.setdefault(int(leaf["body"]["body"]["number"]), (leaf, leaf_index))
    since: dict[tuple[str, str, str | None], int] = {}
    names: set[str] = set()
    found: list[dict[str, Any]] = []
    for body in effective(leaf["body"]["body"] for leaf, _ in by_number.values()):
        leaf, leaf_index = by_number[int(body["number"])]
        here = {(a["name"], a["sha256"], a.get("officer")): a for a in body["artifacts"]}
        since = {key: since.get(key, int(body["number"])) for key in here}
        gone = sorted(names - {name for name, *_ in here})
        names = {name for name, *_ in here}
        found.append(
            {
                "number": body["number"],
                "digest": epoch_of(body).digest,
                "activated_at": _time(int(leaf["arrival_time"])),
                "actor": leaf["body"]["actor"],
                "officer": body.get("officer"),
                "reason": body.get("reason"),
                "software": body["software"],
                "leaf_index": leaf_index,
                "artifacts": [
                    {
                        **{name: artifact[name] for name in ("name", "kind", "version", "sha256")},
                        "officer": artifact.get("officer"),
                        "since_epoch": since[key],
                    }
                    for key, artifact in here.items()
                ],
                "gone": gone,
            }
        )
    return found


def _time(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _show(epoch: Mapping[str, Any]) -> None:
    rows = [
        {
            "artifact": one["name"],
            "kind": one["kind"],
            "version": one["version"],
            "sha256": one["sha256"][:12],
            "since": one["since_epoch"],
            "by": one["officer"] or "the software",
        }
        for one in epoch["artifacts"]
    ]
    columns = ["artifact", "kind", "version", "sha256", "since", "by"]
    print_table(f"Reference epoch {epoch['number']}", columns, rows, lines=False)
    who = epoch["officer"] or f"a start of {epoch['software']}"
    console.print(plain(f"In force since {epoch['activated_at']}, by {who}."), soft_wrap=True)
    if epoch["reason"]:
        console.print(plain(f"Reason: {epoch['reason']}"), soft_wrap=True)
    console.print(f"Digest {epoch['digest']}, leaf {epoch['leaf_index']} of the control log.", soft_wrap=True)


def _show_history(epochs: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {
            "epoch": epoch["number"],
            "since": epoch["activated_at"],
            "by": epoch["officer"] or epoch["software"],
            "changed": _changed(epoch),
            "reason": epoch["reason"],
        }
        for epoch in epochs
    ]
    print_table("Reference epochs", ["epoch", "since", "by", "changed", "reason"], rows, prose="reason")


def _changed(epoch: Mapping[str, Any]) -> str:
    new = [one["name"] for one in epoch["artifacts"] if one["since_epoch"] == epoch["number"]]
    if len(new) == len(epoch["artifacts"]):
        return "everything"
    return ", ".join([*new, *(f"{name} gone" for name in epoch["gone"])]) or "the software"
