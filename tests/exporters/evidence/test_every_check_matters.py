"""Without any one check of the verifier, an attack of the matrix goes unseen by its code."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from auditspan.exporters.evidence import verify, verify_tree
from auditspan.exporters.evidence.verify_batches import BatchCheck
from auditspan.exporters.evidence.verify_facts import FactsCheck
from auditspan.exporters.evidence.verify_leaves import LeafCheck
from sealed_world import World
from tampering import edit, repair
from test_attack_matrix import ATTACKS, MANIFEST_ATTACKS, drop_included, forge_included

MUTATIONS: list[tuple[Any, str, Any, str, str]] = [
    (LeafCheck, "_check_log_id", None, "leaf of another log", "leaf.log_id"),
    (LeafCheck, "_check_selection", None, "flagged event moved to withheld", "selection.omitted"),
    (LeafCheck, "_check_selection", None, "other_query", "selection.extra"),
    (LeafCheck, "_check_hashes", None, "bit flip in a payload", "payload.hash"),
    (LeafCheck, "_check_hashes", None, "bit flip in facts", "facts.hash"),
    (LeafCheck, "_check_columns", None, "typed column edited", "column.mismatch"),
    (LeafCheck, "_check_log_leaves", None, "payload given to a log leaf", "payload.hash"),
    (FactsCheck, "_compare", None, "milder determination", "facts.mismatch"),
    (FactsCheck, "_without_facts", None, "facts removed", "facts.mismatch"),
    (verify_tree.TreeCheck, "finish", None, "bit flip in a header", "range.root"),
    (verify_tree.TreeCheck, "finish", None, "replace_proof", "range.root"),
    (verify._Verification, "_holes", False, "delete one", "leaf.missing"),
    (BatchCheck, "_compare", None, "batch counts fewer", "batch.counts"),
    (BatchCheck, "_compare", None, "batch skips the journal", "batch.contiguity"),
    (BatchCheck, "_interval", None, "narrow_interval", "interval.start"),
    (BatchCheck, "finish", None, "wide_interval", "interval.end"),
    (verify, "check_logs", None, "drop_log", "log.missing"),
    (verify, "check_logs", None, "other_partition", "control.inclusion"),
    (verify._Verification, "_previous", None, "other_previous", "consistency"),
    (verify._Verification, "_epochs", None, "batch names another epoch", "epoch.unknown"),
    (verify._Verification, "_counts", None, "other_counts", "manifest.malformed"),
]


def _run(name: str, copy: Callable[[str], Path], world: World) -> dict[str, int]:
    attack = next((each for each in ATTACKS if each.name == name), None)
    if attack is not None:
        folder = copy(attack.package)
        attack.change(folder, world.logs[0].log_id)
        repair(folder, world.key)
    else:
        change = next(each for each in MANIFEST_ATTACKS if each.__name__ == name)
        folder = copy("last minute" if change in (drop_included, forge_included) else "later")
        repair(folder, world.key, lambda predicate: change(predicate, world))
    return verify.verify_package(folder, world.trust).fault_counts


@pytest.mark.parametrize(
    ("owner", "name", "result", "attack", "code"),
    MUTATIONS,
    ids=[f"{name}-{attack}".replace(" ", "-") for _, name, _, attack, _ in MUTATIONS],
)
def test_without_the_check_the_attack_goes_unseen(
    owner: Any,
    name: str,
    result: Any,
    attack: str,
    code: str,
    copy: Callable[[str], Path],
    world: World,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hasattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *arguments, **options: result)
    assert code not in _run(attack, copy, world)


def test_only_the_control_log_sees_a_log_rolled_back_with_its_checkpoint(
    copy: Callable[[str], Path], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leaves, interval, proof and signed checkpoint all as they honestly were earlier."""
    folder, log = copy("all"), world.logs[0]
    earlier = next(each for each in world.checkpoints if each.log_id == log.log_id)
    edit(folder, "events", log.log_id, lambda rows: rows[: earlier.size])

    def change(predicate: dict[str, Any]) -> None:
        entry = next(each for each in predicate["logs"] if each["log_id"] == log.log_id)
        gone = log.rows[earlier.size :]
        entry |= {"interval": [0, earlier.size], "checkpoint": earlier.note}
        for name in ("leaves", "selected"):
            predicate["counts"][name] -= len(gone)
        predicate["counts"]["flagged"] -= sum(row["flagged"] for row in gone)

    repair(folder, world.key, change)
    report = verify.verify_package(folder, world.trust)
    assert set(report.fault_counts) == {"checkpoint.size"}
    assert report.faults[0].leaf is not None and report.faults[0].leaf[0] == world.control.log_id
    monkeypatch.setattr(verify, "check_logs", lambda *arguments: None)
    assert verify.verify_package(folder, world.trust).verdict == "VALID"


def test_with_all_checks_every_one_of_them_is_seen(copy: Callable[[str], Path], world: World) -> None:
    for attack in sorted({mutation[3] for mutation in MUTATIONS}):
        assert _run(attack, lambda name, attack=attack: _fresh(copy, name), world)  # type: ignore[misc]


def _fresh(copy: Callable[[str], Path], name: str) -> Path:
    made = copy(name)
    target = made.with_name(f"{made.name}-{len(list(made.parent.iterdir()))}")
    shutil.move(made, target)
    return target
