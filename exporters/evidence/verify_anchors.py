"""Whether somebody independent vouches for the control log: timestamps and cosignatures (evidence format, section 16).

Anchors are of the control log alone. Its checkpoints are prefixes of each other, so whoever vouches for one of them
vouches for all smaller ones, and through the rounds below it for every log.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from auditspan.ledger.checkpoint import Checkpoint, CheckpointInvalid, log_origin, open_checkpoint
from auditspan.ledger.merkle import verify_consistency
from auditspan.ledger.timestamps import TimestampInvalid, verify_timestamp
from auditspan.ledger.trust import AnchorPolicy, Trust
from auditspan.ledger.witnesses import CosignatureInvalid, Witness, cosignatures, signature_lines

from .report import Faults
from .statement import AnchorEvidence, Manifest
from .verify_control import ControlState

__all__ = ["TOLERANCE", "Anchored", "Voucher", "check_anchored_sizes", "check_anchors"]

TOLERANCE: Final = 300_000_000_000
"""Nanoseconds by which a clock that vouches may be ahead of the one that exported."""
_SECOND: Final = 1_000_000_000
_AUTHORITY: Final = "timestamp authority"
_WITNESS: Final = "witness"


@dataclass(frozen=True, slots=True)
class Voucher:
    """Somebody trusted says that a tree of ``size`` leaves of the control log existed at ``time`` (ns)."""

    kind: str
    name: str
    size: int
    time: int


@dataclass(slots=True)
class Anchored:
    """What is vouched for, and by whom, under the policy of trust.json."""

    policy: AnchorPolicy = field(default_factory=AnchorPolicy)
    vouchers: list[Voucher] = field(default_factory=list)
    strangers: int = 0
    """Tokens and signature lines of those whom trust.json does not name."""

    def sizes(self) -> list[int]:
        """Sizes of the checkpoints that somebody vouches for, rising."""
        return sorted({voucher.size for voucher in self.vouchers})

    def at(self, size: int) -> tuple[int, list[str]] | None:
        """By when as many as the policy demands vouched for ``size`` leaves or more, and who they were; None: never.

        Each counts once, with the earliest time it states. Where nothing is demanded the first one is enough.
        """
        earliest: dict[tuple[str, str], int] = {}
        for voucher in self.vouchers:
            if voucher.size >= size:
                key = (voucher.kind, voucher.name)
                earliest[key] = min(voucher.time, earliest.get(key, voucher.time))
        ranked = sorted((time, *key) for key, time in earliest.items())
        needed = {_WITNESS: self.policy.witnesses, _AUTHORITY: self.policy.timestamp_authorities}
        if not self.policy.demands:
            needed = {ranked[0][1]: 1} if ranked else {_WITNESS: 1}
        chosen: list[tuple[int, str, str]] = []
        for kind, count in needed.items():
            of_kind = [one for one in ranked if one[1] == kind][:count]
            if len(of_kind) < count:
                return None
            chosen += of_kind
        chosen.sort()
        return chosen[-1][0], [f"{kind} {name}" for _, kind, name in chosen]


def check_anchors(manifest: Manifest, control: Checkpoint | None, trust: Trust, faults: Faults) -> Anchored:
    """Verify every anchor of a manifest, and whether there are as many as trust.json demands.

    Args:
        manifest: whose anchors they are.
        control: the control log's checkpoint in the package, once its signature was verified.
        trust: who is trusted, and how many of them must vouch.
        faults: where faults are noted.
    """
    anchored = Anchored(trust.policy)
    for anchor in manifest.anchors:
        checkpoint = _opened(manifest, anchor, trust, faults)
        if checkpoint is None or control is None:
            continue
        if not verify_consistency(checkpoint.size, checkpoint.root, control.size, control.root, anchor.consistency):
            faults.add(
                "anchor.consistency",
                None,
                f"{control.size} leaves of the control log that begin with the {checkpoint.size} of an anchor",
                "the proof does not show that",
            )
            continue
        vouchers = [
            *_stamped(anchor, checkpoint, trust, anchored, faults),
            *_cosigned(anchor, checkpoint, trust, anchored, faults),
        ]
        for voucher in vouchers:
            if voucher.time > manifest.exported_at + TOLERANCE:
                faults.add(
                    "anchor.future",
                    None,
                    f"{voucher.kind} {voucher.name}: at most {TOLERANCE // _SECOND} s after the export at "
                    f"{manifest.exported_at}",
                    voucher.time,
                )
                continue
            anchored.vouchers.append(voucher)
    # What was vouched for before the interval says nothing of it; its first leaf is the batch before it.
    least = min(manifest.control.begin + 2, manifest.control.end)
    if trust.policy.demands and anchored.at(least) is None:
        faults.add("anchor.policy", None, _demanded(trust.policy), _count(anchored, least))
    return anchored


def _opened(manifest: Manifest, anchor: AnchorEvidence, trust: Trust, faults: Faults) -> Checkpoint | None:
    try:
        return open_checkpoint(anchor.note, log_origin(manifest.deployment, manifest.control.log_id), trust.keys)
    except CheckpointInvalid as error:
        code, said = error.code, error
    except (ValueError, UnicodeError) as error:
        code, said = "checkpoint.malformed", CheckpointInvalid("checkpoint.malformed", str(error))
    faults.add(code, None, "a signed checkpoint of the control log as an anchor", said)
    return None


def _stamped(
    anchor: AnchorEvidence, checkpoint: Checkpoint, trust: Trust, anchored: Anchored, faults: Faults
) -> list[Voucher]:
    found = []
    for token in anchor.timestamps:
        try:
            stamp = verify_timestamp(token, checkpoint.body(), trust.timestamp_authorities)
        except TimestampInvalid as error:
            faults.add("anchor.timestamp", None, f"a token over the control log's {checkpoint.size} leaves", error)
            continue
        if stamp.authority is None:
            anchored.strangers += 1
        else:
            found.append(Voucher(_AUTHORITY, stamp.authority, checkpoint.size, stamp.time))
    return found


def _cosigned(
    anchor: AnchorEvidence, checkpoint: Checkpoint, trust: Trust, anchored: Anchored, faults: Faults
) -> list[Voucher]:
    found: list[Voucher] = []
    lines = [line for line in signature_lines(anchor.note) if not line.startswith(f"— {checkpoint.origin} ")]
    # One by one: a witness whose line is wrong must not hide the others.
    for line in lines:
        try:
            good = cosignatures([line], checkpoint, trust.witnesses)
        except CosignatureInvalid as error:
            faults.add("anchor.witness", None, f"a cosignature of the control log's {checkpoint.size} leaves", error)
            continue
        anchored.strangers += not good
        found += [_voucher(one.witness, checkpoint, one.time) for one in good]
    return found


def _voucher(witness: Witness, checkpoint: Checkpoint, seconds: int) -> Voucher:
    return Voucher(_WITNESS, witness.name, checkpoint.size, seconds * _SECOND)


def check_anchored_sizes(
    manifest: Manifest, opened: Mapping[str, Checkpoint], state: ControlState, faults: Faults
) -> Callable[[str, int], int | None]:
    """How much of each log a part of the control log covers; a function of log id and size of the control log.

    It counts a size that a round below states only where the package shows that the root stated there is of the same
    history: inside the interval, at the packaged checkpoint, and at the size that ``anchored`` of the manifest proves.
    """
    shown: dict[str, list[tuple[int, int]]] = {}
    for log in manifest.logs:
        stated, checkpoint = state.roots.get(log.log_id, {}), opened.get(log.log_id)
        if checkpoint is None:
            continue
        good = {size for size in stated if log.begin <= size <= log.end or size == checkpoint.size}
        if log.anchored is not None:
            size, proof = log.anchored
            root, index = stated.get(size, (b"", None))
            if verify_consistency(size, root, checkpoint.size, checkpoint.root, proof):
                good.add(size)
            else:
                faults.add(
                    "anchor.consistency",
                    None if index is None else (state.log_id, index),
                    f"{log.log_id}: {checkpoint.size} leaves that begin with the {size} that a round states",
                    "the proof does not show that",
                )
        shown[log.log_id] = sorted((stated[size][1], size) for size in good)

    def covered(log_id: str, size: int) -> int | None:
        if log_id == state.log_id:
            return size
        return max((leaves for index, leaves in shown.get(log_id, ()) if index < size), default=None)

    return covered


def _demanded(policy: AnchorPolicy) -> str:
    return (
        f"{policy.witnesses} witnesses and {policy.timestamp_authorities} timestamp authorities of trust.json that "
        "vouch for leaves of the control log's interval"
    )


def _count(anchored: Anchored, least: int) -> str:
    names = {(voucher.kind, voucher.name) for voucher in anchored.vouchers if voucher.size >= least}
    known = [sum(kind == wanted for kind, _ in names) for wanted in (_WITNESS, _AUTHORITY)]
    return f"{known[0]} and {known[1]}; {anchored.strangers} that trust.json does not name"
