"""The demonstration must fail when a count is wrong: its checks, on records that are not as they should be."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.demo import checks
from examples.demo.processes import DemoFailed

REGISTRY = Path(__file__).parents[2] / "examples" / "parties.yaml"


def action(outcome: str, flagged: bool = True) -> dict[str, object]:
    return {"outcome": outcome, "flagged": flagged, "actor_id": "a", "record_id": outcome}


def test_an_action_has_one_intent_and_one_outcome() -> None:
    checks.done_once([action("success"), action("started")], "it")


@pytest.mark.parametrize(
    "records",
    [
        [],
        [action("started")],
        [action("success")],
        [action("started"), action("success"), action("success")],
        [action("started"), action("failure")],
        [action("started"), action("success", flagged=False)],
    ],
)
def test_any_other_count_fails(records: list[dict[str, object]]) -> None:
    with pytest.raises(DemoFailed):
        checks.done_once(records, "it")


def access(actor: str, flagged: bool) -> dict[str, object]:
    return {"record_id": actor, "actor_id": actor, "flagged": flagged}


def test_exactly_the_controlled_parties_are_flagged() -> None:
    controlled = checks.controlled_credentials(REGISTRY)
    assert len(controlled) == 2
    right = [access(actor, True) for actor in controlled] + [access("other", False)]
    checks.the_right_ones_are_flagged(right, controlled)
    for wrong in (right[1:], [*right, access("other", True)], [*right, access(next(iter(controlled)), False)]):
        with pytest.raises(DemoFailed):
            checks.the_right_ones_are_flagged(wrong, controlled)


@pytest.mark.parametrize(
    ("outcomes", "right"),
    [
        (["success"], True),
        (["started"], True),
        (["started", "success"], True),
        ([], False),
        (["success", "success"], False),
        (["started", "started", "success"], False),
    ],
)
def test_an_answer_has_its_record_once(outcomes: list[str], right: bool) -> None:
    events = [{"trace_id": "t", "outcome": outcome} for outcome in outcomes]
    if right:
        assert checks.every_answer_has_its_record(["t"], events).startswith("1 requests")
    else:
        with pytest.raises(DemoFailed):
            checks.every_answer_has_its_record(["t"], events)
