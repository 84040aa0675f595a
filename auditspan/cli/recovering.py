"""The deployment that goes on for one that lost signed leaves: its directory, its keys, and what it seals first."""

from __future__ import annotations

import json
import re
import shutil
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from auditspan.cli.evidence_sealing import acting_user
from auditspan.cli.keys import make_keys
from auditspan.cli.lost_leaves import LostLeaves
from auditspan.config import EMBEDDED, Settings, load_settings
from auditspan.data_directory import DataDirectory
from auditspan.durable import NewFolder, refuse_in_the_way, sync
from auditspan.errors import AuditSpanError
from auditspan.journal.contract import CONTROL_PARTITION, Entry, EntryKind, NewEntry
from auditspan.journal.onward import read_onward
from auditspan.journal.opening import is_kafka, open_journal
from auditspan.ledger.keys import load_signing_key, write_secret_file
from auditspan.ledger.recovery import RecoveredLog, Recovery, RecoveryInvalid, sign_recovery
from auditspan.ledger.trust import load_trust

__all__ = ["begin_successor", "settings_renamed"]

Progress = Callable[[int, int], None]
"""Is told how many entries of the journal were looked at, of how many."""

_PURPOSE: Final = "auditspan ledger recover"
_AT_ONCE: Final = 1_000
_BYTES_AT_ONCE: Final = 16 << 20
_DEPLOYMENT: Final = re.compile(r"^[ \t]*deployment[ \t]*=.*$", re.MULTILINE)


def begin_successor(
    old: DataDirectory,
    settings: Settings,
    settings_file: Path,
    lost: Sequence[LostLeaves],
    into: Path,
    deployment: str,
    reason: str,
    progress: Progress,
) -> Recovery:
    """Make ``into``, complete or not at all, and mark ``old`` as succeeded; what was signed by both keys.

    Args:
        old: the directory that lost signed leaves; its service stopped.
        settings: of it.
        settings_file: where they are from; it may be absent.
        lost: what is left of its logs.
        into: the new directory.
        deployment: name of the new deployment.
        reason: what happened.
        progress: is told how many entries of the journal were looked at, of how many.

    Raises:
        AuditSpanError: journal or store are elsewhere, ``old`` is in use or was succeeded before, ``into`` is in the
            way, or name or reason are none.
    """
    if is_kafka(settings) or settings.store.url != EMBEDDED:
        raise AuditSpanError(
            "Journal and store of this deployment are not in its directory, and only there can they be gone on for.",
            remedy="Begin a new deployment with topics and a database of its own, and keep this one for reading.",
        )
    refuse_in_the_way(into)
    with old.lock(_PURPOSE):
        _refuse_succeeded(old)
        predecessor = load_trust(old.trust).deployment
        if deployment == predecessor:
            raise AuditSpanError(
                f"{deployment!r} is the name of the deployment that lost its leaves.",
                remedy="Give another one: under the old name, two histories could not be told from each other.",
            )
        with NewFolder(into) as folder:
            new = DataDirectory(folder)
            _copy_settings(old, new, settings_file, deployment)
            named = load_settings(new.settings)
            if named.deployment != deployment:
                raise AuditSpanError(
                    f"AUDITSPAN_DEPLOYMENT says {named.deployment!r}, not {deployment!r}.", remedy="Take it away."
                )
            make_keys(new, deployment)
            _copy_vouchers(old, new)
            carried = _carry(old, new, settings, named, lost, progress)
            recovery = _signed(old, new, predecessor, deployment, reason, lost, carried)
            for path in folder.rglob("*"):
                if path.is_file():
                    sync(path)
            # Before the new directory is there: two may not go on for one.
            write_secret_file(old.succeeded, json.dumps({"deployment": deployment, "at": str(recovery.at)}) + "\n")
    return recovery


def settings_renamed(text: str, deployment: str) -> str:
    """A settings file with another name of the deployment, and else as it was, comments included.

    Raises:
        AuditSpanError: it says the name in a way in which it cannot be replaced.
    """
    said = f"deployment = {json.dumps(deployment)}"
    before = tomllib.loads(text)
    renamed = _DEPLOYMENT.sub(lambda _: said, text, count=1) if "deployment" in before else f"{said}\n{text}"
    try:
        is_renamed = tomllib.loads(renamed) == {**before, "deployment": deployment}
    except tomllib.TOMLDecodeError:
        is_renamed = False
    if not is_renamed:
        raise AuditSpanError(
            "The name in the settings file cannot be replaced.",
            remedy='Write it at the beginning of the file, in a line of its own: deployment = "…"',
        )
    return renamed


def _refuse_succeeded(old: DataDirectory) -> None:
    if not old.succeeded.exists():
        return
    raise AuditSpanError(
        f"Another deployment goes on for {old.root} already, as {old.succeeded.name} there says.",
        remedy=f"Go on with it. Only where it was never started, and its directory is gone: remove {old.succeeded}.",
    )


def _copy_settings(old: DataDirectory, new: DataDirectory, settings_file: Path, deployment: str) -> None:
    """What the operator set, and who may send and read."""
    text = settings_file.read_text() if settings_file.is_file() else ""
    new.settings.write_text(settings_renamed(text, deployment))
    for path in (old.tokens, old.read_token, old.parties):
        if path.is_file():
            shutil.copy2(path, new.root / path.name)
    if old.screening.is_dir():
        shutil.copytree(old.screening, new.screening)


def _copy_vouchers(old: DataDirectory, new: DataDirectory) -> None:
    """Witnesses and timestamp authorities, whom verifiers of the new deployment trust as they did before."""
    before, made = json.loads(old.trust.read_bytes()), json.loads(new.trust.read_bytes())
    whole = {**before, "deployment": made["deployment"], "keys": made["keys"]}
    new.trust.write_text(json.dumps(whole, indent=2) + "\n")
    load_trust(new.trust)


def _carry(
    old: DataDirectory,
    new: DataDirectory,
    settings: Settings,
    named: Settings,
    lost: Sequence[LostLeaves],
    progress: Progress,
) -> dict[str, int]:
    """Journal again what the journal holds and the stored trees do not; how many entries, by partition."""
    carried: dict[str, int] = {}
    with (
        closing(open_journal(old, settings, read_only=True)) as source,
        closing(open_journal(new, named)) as target,
    ):
        data = [one for one in lost if one.partition != CONTROL_PARTITION]
        total = sum(max(source.high_water_mark(one.partition) - one.stored.sealed_to, 0) for one in data)
        done = 0
        for one in data:
            place = list(source.own_partitions).index(one.partition)
            partition = target.own_partitions[place % len(target.own_partitions)]
            carried[one.partition] = 0
            unsealed = read_onward(
                source, one.partition, one.stored.sealed_to, max_entries=_AT_ONCE, max_bytes=_BYTES_AT_ONCE
            )
            for read in unsealed:
                entries = [(partition, _again(entry)) for entry in read if entry.kind is not EntryKind.HEARTBEAT]
                if entries:
                    target.append(entries).result()
                carried[one.partition] += len(entries)
                done += len(read)
                progress(done, total)
    return carried


def _again(entry: Entry) -> NewEntry:
    return NewEntry(entry.kind, entry.emitter, entry.authentication, entry.arrival_time, entry.encoding, entry.body)


def _signed(
    old: DataDirectory,
    new: DataDirectory,
    predecessor: str,
    deployment: str,
    reason: str,
    lost: Sequence[LostLeaves],
    carried: dict[str, int],
) -> Recovery:
    """The statement, signed by both keys and written for the service to seal."""
    old_key, new_key = load_signing_key(old.signing_key), load_signing_key(new.signing_key)
    recovery = Recovery(
        deployment=deployment,
        predecessor=predecessor,
        old=old_key.public_key(),
        new=new_key.public_key(),
        at=time.time_ns(),
        by=acting_user(),
        reason=reason,
        logs=[
            RecoveredLog(
                log_id=one.log_id,
                partition=one.partition,
                stored=(one.stored.size, one.stored.root),
                signed=None if one.signed is None else (one.signed.size, one.signed.root),
                carried=carried.get(one.partition, 0),
            )
            for one in lost
        ],
    )
    try:
        body = sign_recovery(recovery, old_key, new_key)
    except RecoveryInvalid as error:
        raise AuditSpanError(
            f"The recovery cannot be stated: {error}.", remedy="Give a reason of 1 to 256 bytes."
        ) from error
    write_secret_file(new.recovered, json.dumps(body, indent=1) + "\n")
    return recovery
