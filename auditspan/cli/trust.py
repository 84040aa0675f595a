"""``auditspan keys trust``: whom a verifier believes, and how many of them it demands."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from auditspan.cli.moments import rfc3339
from auditspan.cli.output import JsonOption, console, plain, print_json, reports_errors
from auditspan.errors import AuditSpanError

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="trust.json: public keys, witnesses, timestamp authorities and the policy."
)

TrustOption = Annotated[Path, typer.Option("--trust", help="The trust.json to show or to change.", dir_okay=False)]


@app.command()
@reports_errors
def show(trust: TrustOption, as_json: JsonOption = False) -> None:
    """Show whom a trust.json names, and how many must vouch.

    \b
    auditspan keys trust show --trust ./trust.json
    """
    _print(_loaded(trust), as_json)


@app.command("add-witness")
@reports_errors
def add_witness(
    vkey: Annotated[str, typer.Argument(help="The witness's verifier key: NAME+KEY-ID+KEY, of type 0x04.")],
    trust: TrustOption,
    as_json: JsonOption = False,
) -> None:
    """Trust a witness: its cosignatures count from now on. How many are demanded, `keys trust policy` says.

    \b
    auditspan keys trust add-witness witness.example.com/w1+42a5bbf7+BEQpkwZQBKoeTEj03QFYGUwCNJvMZkzZbkAOommRio1R --trust ./trust.json
    """  # noqa: E501 - a verifier key has no place to break at
    from auditspan.ledger.witnesses import Witness

    wanted = Witness.parse(vkey.strip()).vkey
    _change(trust, lambda document: document["witnesses"].append(wanted), as_json)


@app.command("add-timestamp-authority")
@reports_errors
def add_timestamp_authority(
    name: Annotated[str, typer.Argument(help="What to call it; a deployment's settings name it so as well.")],
    certificates: Annotated[
        Path,
        typer.Option(help="PEM file with its root certificate, and any between that its tokens lack.", dir_okay=False),
    ],
    trust: TrustOption,
    as_json: JsonOption = False,
) -> None:
    """Trust an RFC 3161 timestamp authority: tokens of signers below its root count from now on.

    Take the root from where the authority publishes it, and compare its fingerprint by another way.

    \b
    auditspan keys trust add-timestamp-authority freetsa --certificates ./cacert.pem --trust ./trust.json
    """
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from auditspan.ledger.timestamps import TimestampAuthority

    try:
        found = x509.load_pem_x509_certificates(certificates.read_bytes())
    except (OSError, ValueError) as error:
        raise AuditSpanError(
            f"{certificates} holds no certificates in PEM.", remedy="Give the file with the authority's root."
        ) from error
    TimestampAuthority.of(name, found)
    entry = {"name": name, "certificates": [one.public_bytes(Encoding.PEM).decode() for one in found]}
    _change(trust, lambda document: document["timestamp_authorities"].append(entry), as_json)


@app.command()
@reports_errors
def remove(
    name: Annotated[str, typer.Argument(help="Name of a witness or timestamp authority.")],
    trust: TrustOption,
    as_json: JsonOption = False,
) -> None:
    """Trust a witness or timestamp authority no longer.

    \b
    auditspan keys trust remove freetsa --trust ./trust.json
    """

    def change(document: dict[str, Any]) -> None:
        before = len(document["witnesses"]) + len(document["timestamp_authorities"])
        document["witnesses"] = [one for one in document["witnesses"] if one.partition("+")[0] != name]
        document["timestamp_authorities"] = [one for one in document["timestamp_authorities"] if one["name"] != name]
        if len(document["witnesses"]) + len(document["timestamp_authorities"]) == before:
            raise AuditSpanError(
                f"{trust} names no witness or timestamp authority {name!r}.",
                remedy="`auditspan keys trust show` lists them.",
            )

    _change(trust, change, as_json)


@app.command()
@reports_errors
def policy(
    trust: TrustOption,
    witnesses: Annotated[int | None, typer.Option(min=0, help="How many witnesses must vouch; 0 demands none.")] = None,
    timestamp_authorities: Annotated[
        int | None, typer.Option(min=0, help="How many timestamp authorities must vouch; 0 demands none.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say how many of the witnesses and timestamp authorities must vouch for a package to be valid.

    \b
    auditspan keys trust policy --witnesses 2 --timestamp-authorities 1 --trust ./trust.json
    """

    def change(document: dict[str, Any]) -> None:
        for name, count in (("witnesses", witnesses), ("timestamp_authorities", timestamp_authorities)):
            if count is not None:
                document["policy"][name] = count

    _change(trust, change, as_json)


def _loaded(path: Path) -> Any:
    """The trust.json at ``path``.

    Raises:
        AuditSpanError: it is not there. Whoever verifies has none to make: it came from the operator.
        KeyFileError: it cannot be used.
    """
    from auditspan.ledger.trust import load_trust

    if not path.exists():
        raise AuditSpanError(
            f"{path} cannot be read: it is not there.",
            remedy="Name the trust.json that you verify with; that of a deployment is DIR/trust.json.",
        )
    return load_trust(path)


def _change(path: Path, change: Callable[[dict[str, Any]], None], as_json: bool) -> None:
    """Change a trust.json, in one step, if what comes out can be used; as version 2 from then on."""
    from auditspan.ledger.trust import parse_trust, read_trust_document

    _loaded(path)
    document = read_trust_document(path)
    if document["version"] == 1:
        document |= {"version": 2, "witnesses": [], "timestamp_authorities": [], "policy": {}}
    document["witnesses"] = document.get("witnesses", [])
    document["timestamp_authorities"] = document.get("timestamp_authorities", [])
    document["policy"] = {"witnesses": 0, "timestamp_authorities": 0} | document.get("policy", {})
    change(document)
    try:
        changed = parse_trust(document)
    except ValueError as error:
        raise AuditSpanError(
            f"{path} stays as it is: with this change {error}.", remedy="`auditspan keys trust show` lists what it has."
        ) from error
    _replace(path, json.dumps(document, indent=2) + "\n")
    _print(changed, as_json)


def _replace(path: Path, text: str) -> None:
    target = path.resolve()
    try:
        handle, name = tempfile.mkstemp(prefix=".trust-", dir=target.parent)
        with os.fdopen(handle, "w") as file:
            os.fchmod(file.fileno(), target.stat().st_mode & 0o777)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except OSError as error:
        raise AuditSpanError(
            f"{path} cannot be written: {error.strerror}.", remedy="Run this as the user that owns it."
        ) from error


def _print(trust: Any, as_json: bool) -> None:
    from cryptography.hazmat.primitives.hashes import SHA256

    from auditspan.ledger.signing_key import public_bytes

    raw = [public_bytes(key) for key in trust.keys]
    keys = [hashlib.sha256(key).hexdigest() for key in raw]
    named = zip(keys, raw, strict=True)
    retired = {name: rfc3339(trust.retired_at[key]) for name, key in named if key in trust.retired_at}
    roots = {one.name: [root.fingerprint(SHA256()).hex() for root in one.roots] for one in trust.timestamp_authorities}
    if as_json:
        print_json(
            {
                "deployment": trust.deployment,
                "keys_sha256": keys,
                "retired_at": retired,
                "witnesses": [witness.vkey for witness in trust.witnesses],
                "timestamp_authorities": [{"name": name, "roots_sha256": found} for name, found in roots.items()],
                "policy": {
                    "witnesses": trust.policy.witnesses,
                    "timestamp_authorities": trust.policy.timestamp_authorities,
                },
            }
        )
        return
    lines = [f"deployment {trust.deployment}"]
    lines += [f"key {key} (SHA-256){f', retired at {retired[key]}' if key in retired else ''}" for key in keys]
    lines += [f"witness {witness.vkey}" for witness in trust.witnesses]
    lines += [f"timestamp authority {name}: root {', '.join(found)} (SHA-256)" for name, found in roots.items()]
    lines.append(
        f"demanded: {trust.policy.witnesses} of {len(trust.witnesses)} witnesses, "
        f"{trust.policy.timestamp_authorities} of {len(trust.timestamp_authorities)} timestamp authorities"
    )
    console.print(plain("\n".join(lines)), soft_wrap=True)
