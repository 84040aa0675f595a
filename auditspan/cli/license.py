"""``auditspan license``: the register of export licenses, and what was taken of each."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from auditspan.cli.moments import rfc3339
from auditspan.cli.officer import TokenFileOption
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.cli.policy_activate import ConfigOption, DryRunOption, ReasonOption, bring_into_force
from auditspan.cli.policy_activate import DataOption as OfficersDataOption
from auditspan.cli.reading import DataOption, UrlOption, open_reader
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.licensing.allocation import Balance
    from auditspan.policy.licenses import License, Licenses
    from auditspan.store.contract import Store

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Export licenses: import the register, show what was taken of each.")

_ALLOCATIONS: Final = """
SELECT sequence, outcome, quantity, remaining, why, record_id, log_id, leaf_index, reference_epoch,
       toUnixTimestamp64Nano(assumeNotNull(license_allocations.allocated_at)) AS allocated_at, control_log_id,
       control_leaf_index
FROM auditspan.license_allocations WHERE license = {license:String}
ORDER BY license_allocations.sequence DESC LIMIT {limit:UInt32}
"""


@app.callback()
def _group() -> None:
    """Export licenses."""


@app.command("import")
@reports_errors
def import_(
    file: Annotated[Path, typer.Argument(help="The whole register, CSV or JSON.", dir_okay=False)],
    data: OfficersDataOption,
    reason: ReasonOption,
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a register of licenses into force. It takes the place of the one before: a license that is left out ends.

    A file with an error is refused with line and remedy, and the last good register stays in force. Columns, or keys:
    number, type, exporter, consignees, end_users, items, quantity, unit (accelerator or transfer), value, valid_from,
    valid_to, conditions; several consignees, end users or items have `;` between. Who does it says an officer's token,
    and withdrawing the artifact `licenses.csv` (`auditspan policy withdraw`) takes it back.

    \b
    auditspan license import licenses.csv --reason "D1234567 granted" --data ./data --token-file ./officer.token
    auditspan license import licenses.json --reason "check it" --data ./data --dry-run
    """
    from auditspan.licensing.register import LARGEST_REGISTER, artifact_of, read_register
    from auditspan.policy.licenses import LICENSES

    with file.open("rb") as opened:
        content = opened.read(LARGEST_REGISTER + 1)
    artifact = artifact_of(read_register(content, str(file)))
    bring_into_force(data, config, token_file, reason, dry_run, as_json, files={LICENSES: artifact})


@app.command("list")
@reports_errors
def list_(data: DataOption = None, url: UrlOption = None, as_json: JsonOption = False) -> None:
    """List the licenses of the register in force: validity, quantity, what was taken, and what is left.

    Taken is what sealed allocations say. No event states a value, so the value is only shown.

    \b
    auditspan license list --data ./data
    """
    from auditspan.licensing.allocation import Balance

    with open_reader(data, url) as reading:
        register, balances = _register(reading.store), _balances(reading.store)
    rows = [_document(one, balances.pop(one.number, Balance())) for one in register or ()]
    # What was taken of a license does not go away with it.
    rows += [
        {"number": number, "state": "not in the register", "asked": one.sequence, "used": one.used}
        for number, one in sorted(balances.items())
        if number
    ]
    if as_json:
        print_json(rows)
        return
    shown = [
        {
            **row,
            "license": "\n".join(filter(None, [row["number"], row.get("type")])),
            "valid": f"{row.get('valid_from') or ''} to\n{row['valid_to']}" if "valid_to" in row else None,
            "quantity": _of_units(row),
            "remaining": row.get("remaining"),
        }
        for row in rows
    ]
    columns = ["license", "state", "valid", "quantity", "used", "remaining", "value"]
    print_table(f"{len(rows)} license{'' if len(rows) == 1 else 's'}", columns, shown, lines=False)


@app.command("show")
@reports_errors
def show(
    number: Annotated[str, typer.Argument(help="Number of the license.")],
    data: DataOption = None,
    url: UrlOption = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many allocations, the last first.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show one license, and which events took what of it or were refused, and why.

    \b
    auditspan license show D1234567 --data ./data
    """
    from auditspan.licensing.allocation import Balance

    with open_reader(data, url) as reading:
        register, balances = _register(reading.store), _balances(reading.store)
        found = register.find(number) if register is not None else None
        name = found.number if found is not None else number
        if found is None and name not in balances:
            raise AuditSpanError(
                f"There is no license {number!r}.", remedy="`auditspan license list` shows the register in force."
            )
        rows = reading.store.query(_ALLOCATIONS, {"license": name, "limit": limit}).to_pylist()
    balance = balances.get(name, Balance())
    document = (
        _document(found, balance)
        if found is not None
        else {"number": name, "state": "not in the register", "asked": balance.sequence, "used": balance.used}
    )
    document["allocations"] = [row | {"allocated_at": rfc3339(row["allocated_at"])} for row in rows]
    if as_json:
        print_json(document)
        return
    console.print(plain(f"License {name}, {document['state']}."), soft_wrap=True)
    for label in ("type", "exporter", "consignees", "end_users", "items", "valid_from", "valid_to", "conditions"):
        if value := document.get(label):
            said = ", ".join(value) if isinstance(value, list | tuple) else value
            console.print(plain(f"{label.replace('_', ' ').capitalize()}: {said}"), soft_wrap=True)
    console.print(f"Quantity: {_of_units(document) or 'no limit'}; taken: {document['used']}.", soft_wrap=True)
    shown = [
        {"no.": row["sequence"], "event": row["record_id"], "outcome": row["outcome"], "why": row["why"]}
        for row in rows
    ]
    title = f"{len(rows)} of {document['asked']} allocations"
    print_table(title, ["no.", "event", "outcome", "why"], shown, prose="why")


def _document(license_: License, balance: Balance) -> dict[str, Any]:
    left = None if license_.quantity is None else max(0, license_.quantity - balance.used)
    now = time.time_ns()
    if now < license_.begins:
        state = "not yet valid"
    elif now >= license_.ends:
        state = "expired"
    else:
        state = "exhausted" if left == 0 else "valid"
    return {
        "number": license_.number,
        "type": license_.kind,
        "state": state,
        "exporter": license_.exporter or None,
        "consignees": list(license_.consignees),
        "end_users": list(license_.end_users),
        "items": list(license_.items),
        "quantity": license_.quantity,
        "unit": license_.unit,
        "asked": balance.sequence,
        "used": balance.used,
        "remaining": left,
        "value": license_.value,
        "valid_from": license_.valid_from or None,
        "valid_to": license_.valid_to,
        "conditions": license_.conditions,
    }


def _of_units(row: dict[str, Any]) -> str | None:
    quantity = row.get("quantity")
    return None if quantity is None else f"{quantity} {row['unit']}{'' if quantity == 1 else 's'}"


def _register(store: Store) -> Licenses | None:
    """The register of the epoch in force, as far as the control log has sealed it; None where it has none.

    Raises:
        AuditSpanError: the store does not keep what the epoch names.
    """
    from auditspan.exporters.evidence.control import control_log_of
    from auditspan.policy.licenses import LICENSE_COLUMNS, LICENSES, Licenses
    from auditspan.policy.tables import parse_table
    from auditspan.processors.epochs import last_epoch

    body = last_epoch(store, control_log_of(store))
    digests = [str(a["sha256"]) for a in (body or {"artifacts": ()})["artifacts"] if a["name"] == LICENSES]
    if not digests:
        return None
    content = store.artifact(digests[0])
    if content is None or hashlib.sha256(content).hexdigest() != digests[0]:
        raise AuditSpanError(
            "The store does not keep the register in force.", remedy="Restore it: `auditspan doctor` says more."
        )
    return Licenses(parse_table(content, LICENSES, LICENSE_COLUMNS))


def _balances(store: Store) -> dict[str, Balance]:
    from auditspan.exporters.evidence.control import control_log_of
    from auditspan.processors.allocating import sealed_rounds

    return dict(sealed_rounds(store, control_log_of(store)).of)
