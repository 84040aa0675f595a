"""Every place where the verifier notes a fault is there for an attack that goes unseen without it.

The places are read from its source: each call that notes a fault, or that calls a helper which does. All attacks are
verified once, and it is written down which places they reach. Then each place is taken away alone.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from anchored import Vouchers
from auditspan.exporters.evidence import verify
from auditspan.exporters.evidence.report import Faults
from falsified import falsify
from prepared import Prepared, Workshop
from sealed_world import World
from tampering import edit, repair

from auditspan.store.clickhouse import ClickHouseStore

SOURCE = Path(verify.__file__).parent
HELPERS = {
    "_check_columns",
    "_check_hashes",
    "_differ",
    "_fault",
    "_malformed",
    "_refuse_after_closing",
    "_refuse_closing",
}
"""They note what their callers found: the caller is the check."""


@dataclass(frozen=True, order=True)
class Place:
    """A line of the verifier that notes a fault."""

    file: str
    line: int
    function: str = field(compare=False)
    text: str = field(compare=False)

    def __str__(self) -> str:
        return f"{self.file.removesuffix('.py')}.{self.function}:{self.text}".replace(" ", "")[:70]


def _places(path: Path) -> Iterator[Place]:
    text = path.read_text()

    def walk(node: ast.AST, function: str) -> Iterator[Place]:
        if isinstance(node, ast.FunctionDef):
            if node.name in HELPERS:
                return
            function = node.name
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = ast.unparse(node.func.value)
            if (node.func.attr == "add" and owner.endswith("faults")) or node.func.attr in HELPERS:
                said = ",".join(ast.unparse(each) for each in node.args[:1])
                yield Place(path.name, node.lineno, function, said)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, function)

    return walk(ast.parse(text), "")


PLACES = sorted({place for path in sorted(SOURCE.glob("*.py")) for place in _places(path) if path.name != "report.py"})


def place_of(frame: FrameType | None) -> tuple[str, int]:
    """The file and line of the check that notes a fault now."""
    while frame is not None and frame.f_code.co_name in HELPERS:
        frame = frame.f_back
    assert frame is not None
    return Path(frame.f_code.co_filename).name, frame.f_lineno


class Watched:
    """`Faults.add` with an eye on who calls it: it writes the place down, and passes over ``without``."""

    def __init__(self, without: Place | None = None) -> None:
        self.reached: set[tuple[str, int]] = set()
        self._without = None if without is None else (without.file, without.line)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        add = Faults.add

        def watched(faults: Faults, *arguments: Any, **options: Any) -> None:
            place = place_of(sys._getframe(1))
            self.reached.add(place)
            if place != self._without:
                add(faults, *arguments, **options)

        monkeypatch.setattr(Faults, "add", watched)


@pytest.fixture(scope="module")
def attacks(
    packages: dict[str, Path], world: World, openssl_here: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, int], list[Prepared]]:
    """By place, the attacks that reach it. Each is found by what it is expected to be found by."""
    folder = tmp_path_factory.mktemp("prepared")
    store = ClickHouseStore.embedded(folder / "store")
    try:
        store.migrate()
        workshop = Workshop(folder, packages, world)
        falsify(workshop, store, Vouchers(tmp_path_factory.mktemp("vouchers")))
    finally:
        store.close()
    reached: dict[tuple[str, int], list[Prepared]] = defaultdict(list)
    for prepared in workshop:
        with pytest.MonkeyPatch.context() as monkeypatch:
            watched = Watched()
            watched.install(monkeypatch)
            report = verify.verify_package(prepared.folder, prepared.trust)
        assert prepared.is_found(report), (prepared.name, prepared.expected, report.faults[:5])
        for place in watched.reached:
            reached[place].append(prepared)
    return reached


def test_the_places_are_all_there(attacks: dict[tuple[str, int], list[Prepared]]) -> None:
    known = {(place.file, place.line) for place in PLACES}
    assert set(attacks) <= known, "a fault was noted by a line that is no place"
    assert len(PLACES) > 60


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_without_it_an_attack_goes_unseen(
    place: Place, attacks: dict[tuple[str, int], list[Prepared]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reaching = attacks.get((place.file, place.line), [])
    assert reaching, "no attack makes the verifier note this"
    Watched(place).install(monkeypatch)
    # Whoever reaches it alone comes first: those who are found by much else as well are many.
    for prepared in sorted(reaching, key=lambda one: len(one.expected)):
        if not prepared.is_found(verify.verify_package(prepared.folder, prepared.trust)):
            return
    pytest.fail(f"{len(reaching)} attacks reach it, and each is seen without it: {[one.name for one in reaching[:5]]}")


def test_only_the_control_log_sees_a_log_rolled_back_with_its_checkpoint(
    packages: dict[str, Path], world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Leaves, interval, proof and signed checkpoint all as they honestly were earlier."""
    workshop, log = Workshop(tmp_path, packages, world), world.logs[0]
    earlier = next(each for each in world.checkpoints if each.log_id == log.log_id)

    def roll_back(folder: Path) -> None:
        edit(folder, "events", log.log_id, lambda rows: rows[: earlier.size])
        repair(folder, world.key, change)

    def change(predicate: dict[str, Any]) -> None:
        entry = next(each for each in predicate["logs"] if each["log_id"] == log.log_id)
        gone = log.rows[earlier.size :]
        entry |= {"interval": [0, earlier.size], "checkpoint": earlier.note}
        for name in ("leaves", "selected"):
            predicate["counts"][name] -= len(gone)
        predicate["counts"]["flagged"] -= sum(row["flagged"] for row in gone)

    workshop.of_package("rolled back", "all", roll_back)
    (prepared,) = workshop
    report = verify.verify_package(prepared.folder, world.trust)
    assert set(report.fault_counts) == {"checkpoint.size"}
    assert report.faults[0].leaf is not None and report.faults[0].leaf[0] == world.control.log_id
    monkeypatch.setattr(verify, "check_logs", lambda *arguments: None)
    assert verify.verify_package(prepared.folder, world.trust).verdict == "VALID"
