"""What a deployment demanded of export requests, and who its parties were, under each reference epoch.

A record is held to the epoch under which it was sealed: what an officer changes later makes nothing of before wrong.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from auditspan.errors import AuditSpanError
from auditspan.policy.cases import REGISTRY_ARTIFACTS, registry
from auditspan.policy.deployment import DEPLOYMENT, RequestDemands, request_demands
from auditspan.policy.errors import PolicyError
from auditspan.policy.owners import plain_name
from auditspan.policy.parties import Parties
from auditspan.policy.reference import Reference
from auditspan.store.contract import Store

from .epochs import epochs

__all__ = ["RequestTerms", "Terms", "TermsUnavailable"]

_REGISTRIES: Final = 2
"""Registries that are kept in memory: the one in force, and one of before."""


class TermsUnavailable(AuditSpanError):
    """What an epoch demanded cannot be had by this process: nothing sealed under it can be judged here."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Of one epoch."""

    demands: RequestDemands
    parties: Parties

    def party(self, name: str) -> str:
        """What two names have in common that mean the same party: its id where the registry has it."""
        found = self.parties.named(name) or self.parties.of_actor(name)
        return f"party:{found.id}" if found is not None else f"name:{plain_name(name)}"


class RequestTerms:
    """By number of the epoch. For one thread.

    Args:
        control_log: id of the control log, which says which epochs there were.
        reference: the snapshot in force, whose registry need not be read again.
    """

    def __init__(self, control_log: str, reference: Callable[[], Reference | None]) -> None:
        self._control_log = control_log
        self._reference = reference
        self._digests: dict[int, dict[str, str]] = {0: {}}
        self._demands: dict[str, RequestDemands] = {}
        self._registries: OrderedDict[tuple[str, ...], Parties] = OrderedDict()

    def look(self, store: Store) -> None:
        """Take note of epochs that were sealed since."""
        for body in epochs(store, self._control_log):
            self._digests[int(body["number"])] = _digests(body)

    def required(self, store: Store) -> list[str]:
        """Classes that some epoch demands a request for, sorted."""
        found = {name for number in self._digests for name in self.demands(number, store).required_for}
        return sorted(found)

    def demands(self, number: int, store: Store) -> RequestDemands:
        """What the epoch demanded.

        Raises:
            TermsUnavailable: it cannot be had here.
        """
        digest = self._of(number).get(DEPLOYMENT)
        if digest is None:
            return RequestDemands()
        if digest not in self._demands:
            try:
                self._demands[digest] = request_demands(self._content(DEPLOYMENT, digest, number, store))
            except PolicyError as error:
                raise _unreadable(number, error) from error
        return self._demands[digest]

    def of(self, number: int, store: Store) -> Terms:
        """The terms of the epoch.

        Raises:
            TermsUnavailable: they cannot be had here.
        """
        return Terms(self.demands(number, store), self._parties(number, store))

    def _of(self, number: int) -> Mapping[str, str]:
        try:
            return self._digests[number]
        except KeyError:
            raise TermsUnavailable(
                f"The control log does not show reference epoch {number} yet.", remedy="It is waited for."
            ) from None

    def _parties(self, number: int, store: Store) -> Parties:
        digests = self._of(number)
        key = tuple(digests.get(name, "") for name in REGISTRY_ARTIFACTS)
        found = self._registries.get(key)
        if found is None:
            found = self._in_force(key) or self._read(number, key, store)
            self._registries[key] = found
            while len(self._registries) > _REGISTRIES:
                self._registries.popitem(last=False)
        self._registries.move_to_end(key)
        return found

    def _in_force(self, key: tuple[str, ...]) -> Parties | None:
        reference = self._reference()
        if reference is None:
            return None
        own = {artifact.name: artifact.sha256 for artifact in reference.artifacts}
        return reference.parties if tuple(own.get(name, "") for name in REGISTRY_ARTIFACTS) == key else None

    def _read(self, number: int, key: tuple[str, ...], store: Store) -> Parties:
        try:
            return registry(
                {
                    name: self._content(name, digest, number, store)
                    for name, digest in zip(REGISTRY_ARTIFACTS, key, strict=True)
                }
            )
        except PolicyError as error:
            raise _unreadable(number, error) from error

    def _content(self, name: str, digest: str, number: int, store: Store) -> bytes:
        content = store.artifact(digest) if digest else None
        if content is None or hashlib.sha256(content).hexdigest() != digest:
            raise TermsUnavailable(
                f"The store lacks {name} of reference epoch {number}, with SHA-256 {digest}.",
                remedy="Put back the rows of auditspan.reference_artifacts that were removed.",
            )
        return content


def _digests(body: Mapping[str, Any]) -> dict[str, str]:
    wanted = {DEPLOYMENT, *REGISTRY_ARTIFACTS}
    return {str(one["name"]): str(one["sha256"]) for one in body["artifacts"] if one["name"] in wanted}


def _unreadable(number: int, error: PolicyError) -> TermsUnavailable:
    return TermsUnavailable(
        f"This version of the software cannot read reference epoch {number}: {error}",
        remedy="Run the version that activated it, or a later one.",
    )
