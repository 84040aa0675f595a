"""A process judges under the epoch that is in force, with artifacts of its own or from elsewhere, or not at all."""

from __future__ import annotations

import errno
import hashlib
import threading
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.epochs import activate, announce_epoch, effective, keep_artifacts
from auditspan.processors.references import EpochUnavailable, References, epoch_of
from sealing_deployment import artifacts
from waiting import until

from auditspan.policy.activation import Activation
from auditspan.policy.errors import PolicyError
from auditspan.policy.reference import Reference
from auditspan.store.clickhouse import ClickHouseStore

CHANGED = {"parties.yaml": b"parties: []\n# reviewed\n"}


class _Empty:
    def artifact(self, _digest: str) -> None:
        return None


EMPTY: Any = _Empty()
"""A store that keeps nothing."""


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

    keep_artifacts(tmp_path, CHANGED)
    from_folder = References(artifacts(), tmp_path).of(newer, EMPTY)
    assert from_folder.digest == from_store.digest


def test_an_artifact_that_was_altered_is_not_used(tmp_path: Path, newer: dict) -> None:
    class Lying:
        def artifact(self, _digest: str) -> bytes:
            return b"parties: []\n# altered\n"

    with pytest.raises(EpochUnavailable):
        References(artifacts(), tmp_path).of(newer, Lying())  # type: ignore[arg-type]


def test_a_damaged_file_does_not_stand_before_a_good_copy(
    tmp_path: Path, store: ClickHouseStore, newer: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """As a crash leaves it on a disk that does not keep its promises: at every start the epoch must be had."""
    (content,) = CHANGED.values()
    damaged = tmp_path / hashlib.sha256(content).hexdigest()
    for left in (content[:7], b"", content + b"\n"):
        damaged.write_bytes(left)
        with pytest.raises(EpochUnavailable):
            References(artifacts(), tmp_path).of(newer, EMPTY)
        store.keep_artifacts([content])
        references = References(artifacts(), tmp_path)
        assert references.of(newer, store).digest == epoch_of(newer).digest
        assert str(damaged) in caplog.text and "damaged" in caplog.text
        assert damaged.read_bytes() == left
        # Who keeps it again puts it right, and leaves no file beside it.
        assert announce_epoch(references, newer, store)
        assert damaged.read_bytes() == content
        assert References(artifacts(), tmp_path).of(newer, EMPTY).digest == epoch_of(newer).digest
    assert not [*tmp_path.glob("*.tmp")]


def test_an_artifact_that_cannot_be_written_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space"):
            keep_artifacts(tmp_path, CHANGED)
    assert not [*tmp_path.iterdir()]


def test_the_store_keeps_an_artifact_byte_for_byte(store: ClickHouseStore) -> None:
    content = bytes(range(256)) * 4096
    store.keep_artifacts([content])
    assert store.artifact(hashlib.sha256(content).hexdigest()) == content
    assert store.artifact("00" * 32) is None


def test_an_epoch_that_was_replaced_comes_back_only_where_it_may(tmp_path: Path, newer: dict) -> None:
    references = References(artifacts(), tmp_path)
    said: list[dict] = []

    def append(_name: str, body: dict) -> None:
        said.append(body)

    first = activate([], references, EMPTY, append)
    assert said == [first]
    assert first["number"] == 1
    assert activate([first], references, EMPTY, append) == first
    assert activate([first, newer], references, EMPTY, append, may_return=False) == newer
    assert said == [first]
    back = activate([first, newer], references, EMPTY, append)
    assert said == [first, back]
    assert back == {**first, "number": 3}


def test_a_registry_with_a_list_that_nothing_knows_comes_not_into_force_with_a_start(tmp_path: Path) -> None:
    said: list[dict] = []

    def start(listing: str, sealed: list[dict]) -> dict:
        text = f"parties:\n  - {{id: a, name: A, listings: [{listing}]}}\n".encode()
        own = {**artifacts(), "parties.yaml": text}
        return activate(sealed, References(own, tmp_path), EMPTY, lambda _, body: said.append(body))

    with pytest.raises(PolicyError, match=r"parties\.yaml:2: there is no list 'entity lists of 2026'"):
        start("entity lists of 2026", [])
    assert not said
    good = start("Entity List", [])
    assert start("entity lists of 2026", [good]) == good
    assert said == [good]


def test_a_start_leaves_in_force_what_an_officer_activated_and_brings_the_rest(tmp_path: Path) -> None:
    said: list[dict] = []

    def start(own: dict[str, bytes], sealed: list[dict], **options: bool) -> dict:
        return activate(sealed, References(own, tmp_path), EMPTY, lambda _, body: said.append(body), **options)

    first = Reference.load(artifacts(), 1).to_control_body()
    keep_artifacts(tmp_path, CHANGED)
    officers = Reference.load(
        {**artifacts(), **CHANGED}, 2, Activation("m.berger", "reviewed", {"parties.yaml": "m.berger"})
    ).to_control_body()
    assert start(artifacts(), [first, officers]) == officers
    assert not said
    # A later version brings a pack of its own, and its registry is not the officer's.
    later = {**artifacts(), "parties.yaml": b"parties: []\n# shipped later\n"}
    later["controlled-ai-assets.yaml"] += b"# later\n"
    upgraded = start(later, [first, officers])
    assert said == [upgraded]
    assert upgraded["number"] == 3
    assert "officer" not in upgraded and "reason" not in upgraded, "a start is nobody's act"
    kept = {a["name"]: a for a in upgraded["artifacts"]}
    assert kept["parties.yaml"] == {a["name"]: a for a in officers["artifacts"]}["parties.yaml"]
    assert kept["parties.yaml"]["officer"] == "m.berger"
    shipped = hashlib.sha256(later["controlled-ai-assets.yaml"]).hexdigest()
    assert kept["controlled-ai-assets.yaml"]["sha256"] == shipped
    assert start(later, [first, officers, upgraded]) == upgraded
    # Beside the later version, the one before does not undo it, whatever officers did meanwhile.
    assert start(artifacts(), [first, officers, upgraded], may_return=False) == upgraded
    assert said == [upgraded]


def test_a_start_that_cannot_be_loaded_leaves_the_last_epoch_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Reference.load(artifacts(), 1).to_control_body()
    broken = {**artifacts(), "us-ear.yaml": b"pack: us-ear\n"}
    said: list[dict] = []
    assert activate([first], References(broken, tmp_path), EMPTY, lambda _, body: said.append(body)) == first
    assert not said
    assert "us-ear.yaml" in caplog.text and "epoch 1 stays in force" in caplog.text
    with pytest.raises(PolicyError, match=r"us-ear\.yaml"):
        activate([], References(broken, tmp_path), EMPTY, lambda _, body: said.append(body))


def test_the_first_of_several_epochs_with_one_number_counts() -> None:
    bodies = [{"number": n, "by": by} for n, by in ((1, "a"), (2, "a"), (2, "b"), (1, "c"), (3, "b"), (3, "a"))]
    assert effective(bodies) == [{"number": 1, "by": "a"}, {"number": 2, "by": "a"}, {"number": 3, "by": "b"}]


def test_an_epoch_is_loaded_while_nobody_waits(tmp_path: Path, store: ClickHouseStore, newer: dict) -> None:
    references = References(artifacts(), tmp_path)
    store.keep_artifacts(list(CHANGED.values()))
    assert references.ready(newer, store.reader) is None
    found = until(lambda: references.ready(newer, store.reader))
    assert found.digest == epoch_of(newer).digest
    assert references.ready(newer, store.reader) is found is references.of(newer, store)
    lacking = Reference.load({**artifacts(), "parties.yaml": b"parties: []\n# lost\n"}, 3).to_control_body()
    with pytest.raises(EpochUnavailable):
        until(lambda: references.ready(lacking, store.reader))


def test_no_client_of_the_store_is_held_while_an_epoch_is_loaded(
    tmp_path: Path, store: ClickHouseStore, newer: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes seconds, and the engine of a store goes with its last client: also when a process is told to end."""
    store.keep_artifacts(list(CHANGED.values()))
    held: list[str] = []
    held_while_loading: list[list[str]] = []

    def counted() -> ClickHouseStore:
        client = store.reader()
        close = client.close
        held.append("client")
        monkeypatch.setattr(client, "close", lambda: (held.pop(), close()))
        return client

    load = Reference.load
    monkeypatch.setattr(
        Reference, "load", lambda *given, **named: (held_while_loading.append([*held]), load(*given, **named))[1]
    )
    references = References(artifacts(), tmp_path)
    assert until(lambda: references.ready(newer, counted)).digest == epoch_of(newer).digest
    assert held_while_loading == [[]] and not held


def test_the_end_waits_for_whoever_reads_the_store_and_nothing_is_loaded_after_it(
    tmp_path: Path, store: ClickHouseStore, newer: dict
) -> None:
    store.keep_artifacts(list(CHANGED.values()))
    go_on = threading.Event()
    let_go: list[bool] = []

    def slow() -> ClickHouseStore:
        assert go_on.wait(60)
        client = store.reader()
        close = client.close

        def closing() -> None:
            close()
            let_go.append(True)

        client.close = closing  # type: ignore[method-assign]
        return client

    references = References(artifacts(), tmp_path)
    assert references.ready(newer, slow) is None
    references.end(0.05)
    assert not let_go, "it waits no longer than it may"
    go_on.set()
    references.end(60)
    assert let_go == [True]
    other = Reference.load({**artifacts(), "parties.yaml": b"parties: []\n# other\n"}, 3).to_control_body()
    assert references.ready(other, lambda: pytest.fail("nothing is loaded any more")) is None
