"""Packages that were tampered with, each with what must be found in it: for the tests that take a check away."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditspan.exporters.evidence.report import Report
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from exported import export
from sealed_world import World
from tampering import repair

from auditspan.ledger.trust import Trust
from auditspan.store.clickhouse import ClickHouseStore

__all__ = ["Expected", "Prepared", "Workshop"]

Expected = frozenset[tuple[str, int | None]]
"""Codes, each with the index of the leaf where it must be noted; None where no leaf is named, or any will do."""


@dataclass(frozen=True)
class Prepared:
    """A package, the keys it is verified with, and what is to be found. ``folder`` may be a zip file."""

    name: str
    folder: Path
    trust: Trust
    expected: Expected
    counts: Mapping[str, int] = field(default_factory=dict)
    """How often a code must be counted, where more faults are found than are kept."""

    def is_found(self, report: Report) -> bool:
        """Whether a report says all that is expected, and says so by its verdict."""
        found = {(fault.code, fault.leaf and fault.leaf[1]) for fault in report.faults}
        codes = {code for code, _ in found}
        told = all((code in codes) if leaf is None else ((code, leaf) in found) for code, leaf in self.expected)
        counted = all(report.fault_counts.get(code) == count for code, count in self.counts.items())
        return told and counted and report.verdict != "VALID"


class Workshop:
    """Makes prepared packages in a folder of its own.

    Args:
        folder: an empty one.
        packages: the honest packages of ``world``.
        world: the deployment they are of.
    """

    def __init__(self, folder: Path, packages: dict[str, Path], world: World) -> None:
        self.folder, self._packages, self.world = folder, packages, world
        self._numbers = itertools.count()
        self.made: list[Prepared] = []

    def of_package(
        self, name: str, package: str, change: Callable[[Path], Any], *expected: tuple[str, int | None]
    ) -> None:
        """A copy of one of the honest packages, after ``change``."""
        folder = self._new()
        shutil.copytree(self._packages[package], folder, symlinks=True)
        change(folder)
        self.made.append(Prepared(name, folder, self.world.trust, frozenset(expected)))

    def of_world(
        self,
        store: ClickHouseStore,
        world: World,
        *expected: tuple[str, int | None],
        change: Callable[[dict[str, Any]], None] | None = None,
        counts: Mapping[str, int] | None = None,
        trust: Trust | None = None,
        signer: Ed25519PrivateKey | None = None,
        **options: Any,
    ) -> None:
        """The export of a deployment in which somebody with the key sealed what is not so.

        ``signer`` signs the manifest anew.
        """
        world.store_into(store)
        folder = self._new()
        export(store, world, folder, **{"time_from": 0, "time_to": 2**62} | options)
        if change is not None or signer is not None:
            repair(folder, signer or world.key, change)
        self.made.append(Prepared(world.name, folder, trust or world.trust, frozenset(expected), counts or {}))

    def _new(self) -> Path:
        return self.folder / str(next(self._numbers))

    def __iter__(self) -> Iterator[Prepared]:
        return iter(self.made)
