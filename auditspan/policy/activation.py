"""Who brought a reference epoch into force, and which of its artifacts officers answer for (evidence format: 11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from auditspan.canonical import JsonValue

__all__ = ["Activation"]


@dataclass(frozen=True, slots=True)
class Activation:
    """What the control body of an epoch says besides its artifacts.

    Args:
        officer: who activated it, by the name of the credential; None where a start of the software did.
        reason: the officer's.
        held: for each artifact that an officer activated, which one did. It stays in force, whatever comes with the
            software, until it is withdrawn.
        software: name and version of what brought it into force; empty: this one.
    """

    officer: str | None = None
    reason: str | None = None
    held: Mapping[str, str] = field(default_factory=dict)
    software: str = ""

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Activation:
        """What a control body says; bodies from before there were officers say nothing of them."""
        return cls(
            officer=body.get("officer"),
            reason=body.get("reason"),
            held={str(one["name"]): str(one["officer"]) for one in body["artifacts"] if "officer" in one},
            software=str(body["software"]),
        )

    def body(self, number: int, artifacts: Sequence[Mapping[str, JsonValue]]) -> dict[str, JsonValue]:
        """The control body of the epoch ``number``. ``software`` must be set."""
        body: dict[str, JsonValue] = {
            "number": number,
            "artifacts": [
                {**one, "officer": self.held[str(one["name"])]} if one["name"] in self.held else dict(one)
                for one in artifacts
            ],
            "software": self.software,
        }
        if self.officer is not None:
            body["officer"] = self.officer
            body["reason"] = self.reason or ""
        return body
