"""A process judges under the epoch that is in force, with artifacts of its own or from elsewhere, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from auditspan.processors.epochs import EpochUnavailable, References, activate, epoch_of, keep_artifacts
from sealing_deployment import artifacts

from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

CHANGED = {"parties.yaml": b"parties: []\n# reviewed\n"}


@pytest.fixture(scope="module")
def newer() -> dict:
    return Reference.load({**artifacts(), **CHANGED}, 2).to_control_body()


def test_what_this_process_lacks_comes_from_its_folder_or_from_the_store(
    tmp_path: Path, store: ClickHouseStore, newer: dict
) -> None:
    references = References(artifacts(), tmp_path)
    with pytest.raises(EpochUnavailable, match=r"Reference epoch 2 needs parties\.yaml with SHA-256 [0-9a-f]{64}"):
        references.of(newer, store)
    store.keep_artifacts([*artifacts().values(), *CHANGED.values()])
    store.keep_artifacts(list(CHANGED.values()))
    from_store = references.of(newer, store)
    assert {a.name: a.content for a in from_store.artifacts} == {**artifacts(), **CHANGED}
    assert (from_store.number, epoch_of(newer).number) == (2, 2)

    class Empty:
        def artifact(self, _digest: str) -> None:
            return None

    keep_artifacts(tmp_path, CHANGED)
    from_folder = References(artifacts(), tmp_path).of(newer, Empty())  # type: ignore[arg-type]
    assert from_folder.digest == from_store.digest


def test_an_artifact_that_was_altered_is_not_used(tmp_path: Path, newer: dict) -> None:
    class Lying:
        def artifact(self, _digest: str) -> bytes:
            return b"parties: []\n# altered\n"

    with pytest.raises(EpochUnavailable):
        References(artifacts(), tmp_path).of(newer, Lying())  # type: ignore[arg-type]


def test_the_store_keeps_an_artifact_byte_for_byte(store: ClickHouseStore) -> None:
    import hashlib

    content = bytes(range(256)) * 4096
    store.keep_artifacts([content])
    assert store.artifact(hashlib.sha256(content).hexdigest()) == content
    assert store.artifact("00" * 32) is None


def test_an_epoch_that_was_replaced_comes_back_only_where_it_may(tmp_path: Path, newer: dict) -> None:
    references = References(artifacts(), tmp_path)
    said: list[dict] = []

    def append(_name: str, body: dict) -> None:
        said.append(body)

    first = activate([], references, append)
    assert said == [first]
    assert first["number"] == 1
    assert activate([first], references, append) == first
    assert activate([first, newer], references, append, may_return=False) == newer
    assert said == [first]
    back = activate([first, newer], references, append)
    assert said == [first, back]
    assert back == {**first, "number": 3}
