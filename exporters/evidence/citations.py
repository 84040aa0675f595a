"""What the rule packs of an epoch say of their rules: read from the artifacts that a package encloses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from auditspan.policy.errors import PolicyError
from auditspan.policy.yaml_text import load

__all__ = ["Citations", "Quoted"]


@dataclass(frozen=True, slots=True)
class Quoted:
    """A rule as a person reads of it. ``text`` is its explanation, with places for facts in braces."""

    title: str
    citations: tuple[str, ...]
    text: str


class Citations:
    """Rules by epoch and id; a pack is read when a rule of its epoch is first asked for.

    Args:
        epochs: bodies of ``audit.reference.activated`` (evidence format, section 11), by number.
        artifact: the bytes of an artifact by its SHA-256, or None.
    """

    def __init__(self, epochs: Mapping[int, Mapping[str, Any]], artifact: Callable[[str], bytes | None]) -> None:
        self._epochs, self._artifact = epochs, artifact
        self._packs: dict[str, dict[str, Quoted]] = {}

    def of(self, epoch: int | None, rule: str) -> Quoted | None:
        """A rule; None where no pack of the epoch has it."""
        body = self._epochs.get(-1 if epoch is None else epoch)
        artifacts = body.get("artifacts") if body is not None else None
        for artifact in artifacts if isinstance(artifacts, list) else ():
            if isinstance(artifact, dict) and artifact.get("kind") == "pack":
                found = self._pack(str(artifact.get("sha256"))).get(rule)
                if found is not None:
                    return found
        return None

    def _pack(self, digest: str) -> dict[str, Quoted]:
        known = self._packs.get(digest)
        if known is None:
            content = self._artifact(digest)
            known = self._packs[digest] = {} if content is None else _rules(content)
        return known


def _rules(content: bytes) -> dict[str, Quoted]:
    """The rules of a pack by id; what is no pack has none."""
    try:
        data = load(content, "pack").data
    except PolicyError:
        return {}
    rules = data.get("rules") if isinstance(data, dict) else None
    found = {}
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict) and isinstance(rule.get("id"), str):
            cited = rule.get("citations")
            citations = tuple(str(one) for one in cited) if isinstance(cited, list) else ()
            found[rule["id"]] = Quoted(str(rule.get("title", "")), citations, str(rule.get("explanation", "")))
    return found
