"""Whether a deployment goes on for one that lost signed leaves, and by whose word (evidence format, section 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from auditspan.ledger.recovery import RecoveredLog, Recovery, RecoveryInvalid, described, open_recovery
from auditspan.ledger.signing_key import key_id, public_bytes

from .report import Faults, Report, shown
from .statement import Manifest
from .verify_keys import KeyRing, stated_keys

__all__ = ["RecoveryLeaves"]

_MOST_NAMED: Final = 20


class RecoveryLeaves:
    """The ``audit.ledger.recovered`` leaves of the control log that a package shows. The first in the log counts.

    Args:
        log_id: of the control log.
        deployment: whose it is.
        faults: where to note what is wrong.
    """

    def __init__(self, log_id: str, deployment: str, faults: Faults) -> None:
        self._log_id, self._deployment, self._faults = log_id, deployment, faults
        self._found: tuple[int, Recovery] | None = None

    def leaf(self, index: int, body: Any) -> None:
        """Take note of one."""
        place = (self._log_id, index)
        try:
            recovery = open_recovery(body)
        except RecoveryInvalid as error:
            self._faults.add("recovery.statement", place, "a statement that both of its keys signed", error)
            return
        if recovery.deployment != self._deployment:
            self._faults.add("recovery.statement", place, f"one for {self._deployment}", recovery.deployment)
            return
        if self._found is None or index < self._found[0]:
            self._found = index, recovery

    def check(self, ring: KeyRing, stated: Sequence[Any]) -> None:
        """Whether the new key of the statement is one of this deployment's: of those trusted, or rotated from."""
        if self._found is None:
            return
        index, recovery = self._found
        known = {public_bytes(key) for key in (*ring.keys, *stated_keys(stated))}
        if public_bytes(recovery.new) not in known:
            wanted = f"a statement signed by a key of {self._deployment}"
            self._faults.add("recovery.statement", (self._log_id, index), wanted, key_id(recovery.new))

    def write(self, report: Report, manifest: Manifest) -> None:
        """Say in a report whom the deployment goes on for and what is lost, or that this is not shown."""
        if self._found is not None:
            _, recovery = self._found
            report.recovery = _shown(described(recovery))
            report.not_proven.append(_lost(recovery))
        elif manifest.control.begin:
            report.not_proven.append(
                "Whether this deployment goes on for another one that lost leaves: the beginning of the control log "
                "says so, and this package shows it from a later leaf on."
            )


def _lost(recovery: Recovery) -> str:
    """What the report says of the logs of the old deployment, in one sentence."""
    named = [_of_log(log) for log in recovery.logs if log.lost is not None or log.differs]
    more = f", and of {len(named) - _MOST_NAMED} logs more" if len(named) > _MOST_NAMED else ""
    known = f" are lost: {'; '.join(named[:_MOST_NAMED])}{more}." if named else " are not known to be lost."
    text = (
        f"What {recovery.predecessor} had sealed before {recovery.deployment} went on for it: signed leaves{known} "
        "What else it had sealed, those who recovered it did not know."
    )
    # Its pieces are bounded, and may be a stranger's.
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def _of_log(log: RecoveredLog) -> str:
    if log.lost is None:
        return f"{log.partition} ({log.log_id}) is another tree than the one that was signed"
    begin, end = log.lost
    return f"{begin:,} to {end - 1:,} of {log.partition} ({log.log_id})"


def _shown(value: Any) -> Any:
    """The values of a statement, its texts as a report may show them."""
    if isinstance(value, dict):
        return {name: _shown(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_shown(each) for each in value]
    return shown(value) if isinstance(value, str) else value
