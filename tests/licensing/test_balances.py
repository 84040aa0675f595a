"""Two that both believe they own the control log allocate as one would: any interleaving, any crash."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_allocation import EVENT, licenses

from auditspan.licensing.allocation import Event
from auditspan.licensing.balances import MOST_IN_A_ROUND, Balances, balances, round_of

REGISTER = """\
number,end_users,items,quantity,valid_to
D1,harbour,H200,5,2026-12-31
D2,harbour,H200,3,2027-12-31
"""
LOGS = ("a" * 32, "b" * 32)


class Owner:
    """As the follower works: it journals the round after what it has read, and reads back before another."""

    def __init__(self) -> None:
        self.known = Balances()
        self.read = 0
        self.next: dict[str, Any] | None = None

    def reads(self, journal: list[dict[str, Any]]) -> None:
        for body in journal[self.read :]:
            self.known.apply(body)
        self.read = len(journal)

    def works_out(self, sealed: dict[str, list[Event]], most: int) -> None:
        register = licenses(REGISTER)
        events = [
            event for log in LOGS for event in sealed[log] if event.leaf_index >= self.known.considered.get(log, 0)
        ][:most]
        considered: dict[str, int] = {}
        for event in events:
            considered[event.log_id] = event.leaf_index + 1
        self.next = round_of(self.known, [(event, register) for event in events], considered)  # type: ignore[assignment]

    def journals(self, journal: list[dict[str, Any]]) -> None:
        if self.next is not None:
            journal.append(self.next)
            self.next = None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("seal"), st.sampled_from(LOGS), st.integers(1, 3), st.sampled_from(["D1", "D2", None, "X9"])),
        st.tuples(st.sampled_from(["read", "work", "journal", "die"]), st.integers(0, 1), st.integers(1, 4)),
    ),
    max_size=60,
)


@settings(deadline=None, max_examples=300)
@given(STEPS)
def test_any_interleaving_of_two_owners_takes_each_event_once_and_no_more_than_there_is(steps: list[Any]) -> None:
    register = licenses(REGISTER)
    sealed: dict[str, list[Event]] = {log: [] for log in LOGS}
    journal: list[dict[str, Any]] = []
    owners = [Owner(), Owner()]
    for step in steps:
        if step[0] == "seal":
            _, log, quantity, declared = step
            sealed[log].append(
                replace(EVENT, log_id=log, leaf_index=len(sealed[log]), quantity=quantity, declared=declared)
            )
            continue
        action, which, most = step
        owner = owners[which]
        if action == "read" and owner.next is None:
            owner.reads(journal)
        elif action == "work" and owner.next is None:
            owner.works_out(sealed, most)
        elif action == "journal":
            owner.journals(journal)
        elif action == "die":
            owners[which] = Owner()  # it knows nothing but what is journaled
    last = Owner()
    last.reads(journal)
    while True:
        last.works_out(sealed, MOST_IN_A_ROUND)
        if last.next is None:
            break
        last.journals(journal)
        last.reads(journal)
    told: list[dict[str, Any]] = []
    fold = Balances()
    for body in journal:
        if fold.apply(body):
            told += body["allocations"]
    # Each event once, in one sequence a license.
    assert sorted((one["log_id"], one["leaf_index"]) for one in told) == sorted(
        (event.log_id, event.leaf_index) for log in LOGS for event in sealed[log]
    )
    for number in ("D1", "D2", None):
        mine = [one for one in told if one["license"] == number]
        assert [one["sequence"] for one in mine] == list(range(1, len(mine) + 1))
        if number is None:
            continue
        found = register.find(number)
        assert found is not None and found.quantity is not None
        taken = 0
        for one in mine:
            covered = one["outcome"] == "covered"
            # It is refused only where it did not fit, and what is left is what was not taken.
            assert covered == (taken + one["quantity"] <= found.quantity)
            taken += one["quantity"] if covered else 0
            assert one["remaining"] == found.quantity - taken
        assert taken <= found.quantity
        assert fold.of.get(number, balances([]).of.get(number)) is None or fold.of[number].used == taken
    # Whoever folds the same entries again comes to the same, also where some are seen twice.
    for again in (balances(journal), balances([body for body in journal for _ in range(2)])):
        assert (again.number, again.of, again.considered) == (fold.number, fold.of, fold.considered)
