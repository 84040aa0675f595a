"""Whatever comes and goes, in whatever order roles end: each owned partition has one role, and what went is let go."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from auditspan.processors.pipeline import Pipeline
from auditspan.processors.role import Role
from auditspan.processors.signing import SignerPlaces
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from sealing_deployment import KEY

from auditspan.journal.sqlite import SqliteJournal
from auditspan.ledger.signing_key import public_bytes

PARTITIONS = ("control", "events-0", "events-1")


class StandIn(Role):
    """A role without a thread: it lives until the test ends it."""

    lives = True

    def start(self) -> None:
        pass

    @property
    def alive(self) -> bool:
        return self.lives


class Process:
    """A pipeline's side of the assignment."""

    def __init__(self, journal: SqliteJournal, folder: Path) -> None:
        self.pipeline = Pipeline(
            journal,
            _no_store,
            SignerPlaces(KEY, folder, "plant"),
            salt_key=b"k" * 32,
            public_key=base64.b64encode(public_bytes(KEY.public_key())).decode(),
            deployment="plant",
            artifacts={},
            reference_folder=folder,
            registry=CollectorRegistry(),
            assignment=lambda: pytest.fail("nothing follows it here"),
        )
        self.begun: list[StandIn] = []
        self.owned: frozenset[str] = frozenset()
        self.owed: set[str] = set()
        self.pipeline._role = self._begin  # type: ignore[method-assign, assignment]

    def _begin(self, partition: str) -> StandIn:
        assert partition not in self.living(), "two roles of one partition"
        role = StandIn(partition, self.pipeline._parts)
        self.begun.append(role)
        return role

    def living(self) -> dict[str, StandIn]:
        return {role.partition: role for role in self.begun if role.lives}

    def released(self, partition: str) -> None:
        assert partition not in self.living(), "let go while a role still works"
        self.owed.discard(partition)

    def give(self, owned: frozenset[str]) -> None:
        self.owed |= self.owned - owned
        self.owned = owned
        self.look()

    def look(self) -> None:
        self.pipeline._apply(SimpleNamespace(released=self.released), self.owned)  # type: ignore[arg-type]

    def end(self, partition: str) -> None:
        """A role that was told to stop has come to its end."""
        role = self.living().get(partition)
        if role is not None and role.stopped:
            role.lives = False

    def settle(self) -> None:
        for partition in PARTITIONS:
            self.end(partition)
        self.look()
        self.look()


def _no_store() -> Any:
    pytest.fail("no role asks for a store here")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = SqliteJournal(tmp_path_factory.mktemp("journal") / "journal.sqlite", 2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signer")


STEPS = st.lists(
    st.one_of(
        st.frozensets(st.sampled_from(PARTITIONS)),
        st.sampled_from(PARTITIONS),
        st.none(),
    ),
    max_size=40,
)


@given(STEPS)
def test_every_owned_partition_has_one_role_in_the_end(
    journal: SqliteJournal, folder: Path, steps: Sequence[frozenset[str] | str | None]
) -> None:
    process = Process(journal, folder)
    for step in steps:
        if step is None:
            process.look()
        elif isinstance(step, str):
            process.end(step)
        else:
            process.give(step)
        working = {name for name, role in process.living().items() if not role.stopped}
        assert working <= process.owned, "it begins or keeps only what it owns"
    process.settle()
    assert {name for name, role in process.living().items() if not role.stopped} == process.owned
    assert not process.owed, "what it lost is let go"
