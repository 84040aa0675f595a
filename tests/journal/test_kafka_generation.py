"""Nothing is acknowledged on the strength of a look that is too old, or that found the next generation."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import pytest

from auditspan.errors import AuditSpanError
from auditspan.journal import JournalUnavailable
from auditspan.journal.kafka_generation import LEASE, SETTLED, Fence, boot_time


class Looks:
    """The answers to be given; each look waits until one is there."""

    def __init__(self) -> None:
        self._answers: list[bool | Exception] = []
        self._changed = threading.Condition()
        self._taken = 0
        self._over = False

    def __call__(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._answers or self._over)
            if self._over:
                return False
            answer = self._answers.pop(0)
            self._taken += 1
            self._changed.notify_all()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def give(self, *answers: bool | Exception) -> None:
        """Give answers, and wait until the last one is taken: so those before it were worked upon."""
        with self._changed:
            wanted = self._taken + len(answers)
            self._answers += answers
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._taken >= wanted, timeout=20)

    def end(self) -> None:
        """Let every look go."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


@pytest.fixture
def looks() -> Looks:
    return Looks()


@pytest.fixture
def made(looks: Looks) -> Iterator[Callable[..., Fence]]:
    fences: list[Fence] = []

    def make(current_at: float, lease: float = 60.0) -> Fence:
        fences.append(Fence(looks, "events", current_at, lease, every=0.001))
        return fences[-1]

    yield make
    looks.end()
    for fence in fences:
        fence.close()


def outcome(fence: Fence) -> list[int] | BaseException | None:
    append: Future[list[int]] = Future()
    guarded = fence.guarded(append)
    assert not guarded.done()
    append.set_result([7])
    return guarded.exception() or guarded.result()


def test_an_append_counts_while_a_look_is_young(made, looks: Looks) -> None:
    fence = made(boot_time() - 50)
    looks.give(False, False)
    assert fence.refusal() is None
    assert outcome(fence) == [7]


def test_an_append_that_was_under_way_when_the_next_generation_came_does_not_count(made, looks: Looks) -> None:
    fence = made(boot_time())
    append: Future[list[int]] = Future()
    guarded = fence.guarded(append)
    looks.give(True)
    fence._thread.join(10)
    append.set_result([7])
    error = guarded.exception()
    assert isinstance(error, JournalUnavailable)
    assert "has ended" in error.message
    assert "journal.partitions" in error.remedy
    assert isinstance(outcome(fence), JournalUnavailable)


def test_a_paused_process_does_not_trust_what_it_saw_before(made) -> None:
    """As after SIGSTOP: no look was made meanwhile, and the append is acknowledged now."""
    fence = made(boot_time() - 61)
    error = outcome(fence)
    assert isinstance(error, JournalUnavailable)
    assert "is not known" in error.message


def test_a_look_that_fails_renews_nothing_and_one_that_works_does(made, looks: Looks) -> None:
    fence = made(boot_time() - 61)
    looks.give(AuditSpanError("no broker answers"), RuntimeError("a bug of a library"))
    assert fence.refusal() is not None
    looks.give(False, False)
    assert fence.refusal() is None


def test_a_failed_append_says_why_it_failed(made) -> None:
    fence = made(boot_time() - 61)
    append: Future[list[int]] = Future()
    guarded = fence.guarded(append)
    append.set_exception(JournalUnavailable("the brokers are away"))
    assert str(guarded.exception()).startswith("the brokers are away")


def test_who_closes_waits_for_longer_than_a_look_is_good_for() -> None:
    assert SETTLED >= 2 * LEASE
