"""``auditspan policy activate``, ``adopt`` and ``withdraw``: what an identified officer brings into force."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from auditspan.cli.officer import TokenFileOption, officer_token
from auditspan.cli.output import JsonOption, console, plain, print_json, print_table, reports_errors
from auditspan.errors import AuditSpanError

if TYPE_CHECKING:
    from auditspan.processors.activation import Activated, Change

__all__ = [
    "ConfigOption",
    "DataOption",
    "DryRunOption",
    "ReasonOption",
    "activate",
    "adopt",
    "bring_into_force",
    "said_of",
    "state_of",
    "withdraw",
]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\.(yaml|csv)")
_ADDRESSES: Final = (".mmdb", ".mmdb.gz")

DataOption = Annotated[
    Path, typer.Option("--data", help="Data directory of the service, running or not.", file_okay=False)
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, in up to 1000 characters: sealed with the officer's name.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check it, and say what would change; change nothing.")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="TOML file; default DIR/auditspan.toml.")]


@reports_errors
def activate(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Packs (*.yaml), tables (*.csv), parties.yaml, adoptions.yaml, clearances.yaml, deployment.yaml, or "
            "an address database (*.mmdb, *.mmdb.gz). A file takes the place of the artifact of its name, or is added."
        ),
    ],
    data: DataOption,
    reason: ReasonOption,
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring packs, tables or a registry into force, all together, while the service runs or before its next start.

    The complete new reference is loaded first: one that is broken is refused with file, line and remedy, and the last
    good one stays in force. Who does it says an officer's token; name and reason are sealed as
    audit.reference.activated. What an officer activated stays in force until it is withdrawn, whatever comes with a new
    version of the software.

    Exit status: 0 it is in force, or will be; 1 refused, and nothing has changed unless the message says that it is
    journaled.

    \b
    auditspan policy activate us-ear.yaml --reason "91 FR 1684" --data ./data --token-file ./officer.token
    auditspan policy activate parties.yaml countries.csv --reason "quarterly review" --data ./data --dry-run
    """
    given = _artifacts(files)
    bring_into_force(data, config, token_file, reason, dry_run, as_json, files=given)


@reports_errors
def adopt(
    pack: Annotated[str, typer.Argument(help="Id of the pack whose proposals become company policy.")],
    data: DataOption,
    reason: ReasonOption,
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Adopt the proposals of a pack as company policy: from now on they govern. Sealed like every activation.

    It ends with `auditspan policy withdraw adoptions.yaml …`, which ends all adoptions, or by activating an
    adoptions.yaml without it.

    \b
    auditspan policy adopt controlled-ai-assets --reason "board of 20 Nov" --data ./data --token-file ./officer.token
    """
    bring_into_force(data, config, token_file, reason, dry_run, as_json, adopted=pack)


@reports_errors
def withdraw(
    artifacts: Annotated[list[str], typer.Argument(metavar="ARTIFACT...", help="Names as `policy show` lists them.")],
    data: DataOption,
    reason: ReasonOption,
    token_file: TokenFileOption = None,
    dry_run: DryRunOption = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what officers activated: what comes with the software takes its place, or nothing where nothing does.

    \b
    auditspan policy withdraw us-ear.yaml --reason "the packaged one has it" --data ./data --token-file ./officer.token
    """
    bring_into_force(data, config, token_file, reason, dry_run, as_json, withdrawn=artifacts)


def bring_into_force(
    data: Path,
    config: Path | None,
    token_file: Path | None,
    reason: str,
    dry_run: bool,
    as_json: bool,
    *,
    files: Mapping[str, bytes] | None = None,
    withdrawn: Sequence[str] = (),
    adopted: str | None = None,
) -> None:
    """Have an officer's change carried out, by the service or here, and show what came of it.

    Raises:
        AuditSpanError: it is refused, and nothing has changed unless the message says that it is journaled.
    """
    token = officer_token(token_file)
    # Here, so that the program and its help stay quick.
    from auditspan.cli.activating import carry_out
    from auditspan.processors.activation import Change

    def change_of(officer: str) -> Change:
        return Change(officer, reason, files or {}, withdrawn, adopted)

    done = carry_out(data, config, token, change_of, dry_run=dry_run)
    said = said_of(done, dry_run)
    if as_json:
        print_json(said)
    else:
        _show(said)


def _artifacts(files: Sequence[Path]) -> dict[str, bytes]:
    """Content by the name of the artifact.

    Raises:
        AuditSpanError: a name that no artifact has, one given twice, or too much.
    """
    from auditspan.cli.policy_socket import LARGEST_FILES
    from auditspan.policy.artifact_files import kind_of
    from auditspan.policy.deployment import DEPLOYMENT
    from auditspan.policy.reference import ADDRESSES

    found: dict[str, bytes] = {}
    left = LARGEST_FILES
    for file in files:
        addresses = file.name.endswith(_ADDRESSES)
        if not addresses and not _NAME.fullmatch(file.name):
            raise AuditSpanError(
                f"{file} is no name of an artifact.",
                remedy="Packs and registries end in .yaml, tables in .csv, address databases in .mmdb or .mmdb.gz.",
            )
        with file.open("rb") as opened:
            content = opened.read(left + 1)
        left -= len(content)
        if left < 0:
            raise AuditSpanError(
                f"The files have more than {LARGEST_FILES >> 20} MiB.", remedy="Activate them one after the other."
            )
        # As lint, test and diff name it: by what it is, whatever its file is called.
        named_apart = ADDRESSES if addresses else file.name if file.name == DEPLOYMENT else None
        name = named_apart or kind_of(str(file), content)[1]
        if name in found:
            raise AuditSpanError(f"{name} is given twice.", remedy="Leave one out: a pack is named by its id.")
        found[name] = content
    return found


def said_of(done: Activated, dry_run: bool) -> dict[str, Any]:
    """What came of a change, as JSON shows it."""
    from auditspan.processors.references import epoch_of

    before, after = (
        {artifact["name"]: artifact for artifact in body["artifacts"]} for body in (done.before, done.body)
    )
    return {
        "number": done.body["number"],
        "digest": epoch_of(done.body).digest,
        "officer": done.body.get("officer"),
        "reason": done.body.get("reason"),
        "changes": [
            {"name": name, "before": before.get(name), "after": after.get(name)}
            for name in sorted({*before, *after})
            if before.get(name) != after.get(name)
        ],
        "dry_run": dry_run,
        "journaled": done.offset,
        "sealed": done.sealed,
        "in_use": done.in_use,
    }


def _show(said: Mapping[str, Any]) -> None:
    if not said["changes"]:
        console.print(f"Nothing changes: reference epoch {said['number']} has it already.", soft_wrap=True)
        return
    rows = [
        {
            "artifact": one["name"],
            "before": _version(one["before"]),
            "after": _version(one["after"]),
            "by": one["after"] and (one["after"].get("officer") or "the software"),
        }
        for one in said["changes"]
    ]
    number = said["number"]
    print_table(f"Reference epoch {number}", ["artifact", "before", "after", "by"], rows, lines=False)
    console.print(plain(state_of(said)), soft_wrap=True)


def state_of(said: Mapping[str, Any]) -> str:
    """What has become of a change that `said_of` describes, in a sentence."""
    number = said["number"]
    if said["dry_run"]:
        return f"Reference epoch {number} can be activated as it is. Nothing was changed."
    if said["sealed"] and not said["in_use"]:
        return f"Reference epoch {number} is sealed, and each process judges by it within seconds."
    if said["sealed"]:
        return f"Reference epoch {number} is in force, activated by {said['officer']}."
    return f"Reference epoch {number} is journaled: it is sealed and in force once the deployment's service runs."


def _version(artifact: Mapping[str, Any] | None) -> str:
    if artifact is None:
        return "none"
    version, digest = str(artifact["version"]), str(artifact["sha256"])[:12]
    return version if version == digest else f"{version} ({digest})"
