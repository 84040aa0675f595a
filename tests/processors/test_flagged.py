"""Flagged events leave for SIEMs: at least once, the same bytes each time, before the next batch is begun."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from auditspan.processors.flagged import flagged_documents, publish_flagged
from sealing_deployment import running
from sealing_inputs import NOW, access, request
from test_pipeline import signed_everything
from waiting import until

from auditspan.journal.contract import JournalUnavailable

FLAGGED = {"export_control.destination.country": "IR"}


class Topic:
    """A publisher that keeps what it is given, and refuses as often as it is told."""

    def __init__(self, refusals: int = 0) -> None:
        self.refusals = refusals
        self.published: list[tuple[bytes, bytes]] = []

    def publish(self, documents: Sequence[tuple[bytes, bytes]]) -> None:
        if self.refusals:
            self.refusals -= 1
            raise JournalUnavailable("The brokers are away.")
        self.published += documents

    def close(self) -> None:
        """Nothing is open."""


def test_what_is_flagged_is_published_once_a_batch_and_says_what_is_sealed(tmp_path: Path) -> None:
    topic = Topic()
    with running(tmp_path, publisher=topic) as deployment:
        deployment.append("events-0", [request(access(0, **FLAGGED), access(1), access(2, **FLAGGED))], NOW)
        until(lambda: signed_everything(deployment) and len(topic.published) == 2)
        deployment.append("events-0", [request(access(3))], NOW)
        until(lambda: signed_everything(deployment))
        sealed = deployment.store.query("SELECT header, why FROM auditspan.events WHERE flagged ORDER BY leaf_index")
    assert [key for key, _ in topic.published] == [b"record-0", b"record-2"]
    for (key, document), header, why in zip(
        topic.published, sealed["header"].to_pylist(), sealed["why"].to_pylist(), strict=True
    ):
        said, leaf = json.loads(document), json.loads(header)
        assert said["record_id"] == key.decode()
        assert said["why"] == why
        assert said["leaf_index"] >= 1
        for name in ("determination", "rule_ids", "event_time", "log_id", "emitter", "destination"):
            assert said[name] == leaf[name]
        assert said["destination"] == "IR"


def test_a_process_that_takes_over_publishes_the_last_batch_again_with_the_same_bytes(tmp_path: Path) -> None:
    first, second, third = Topic(), Topic(), Topic()
    with running(tmp_path, publisher=first) as deployment:
        deployment.append("events-0", [request(access(0, **FLAGGED))], NOW)
        until(lambda: signed_everything(deployment) and len(first.published) == 1)
    with running(tmp_path, publisher=second) as deployment:
        # The heartbeat of the start makes a batch without a flagged event.
        until(lambda: signed_everything(deployment))
    assert second.published == first.published
    with running(tmp_path, publisher=third) as deployment:
        until(lambda: signed_everything(deployment))
    assert third.published == []


def test_the_next_batch_waits_until_the_topic_took_the_last_one(tmp_path: Path) -> None:
    topic = Topic(refusals=10_000)
    with running(tmp_path, publisher=topic) as deployment:
        deployment.append("events-0", [request(access(0, **FLAGGED))], NOW)
        until(lambda: topic.refusals < 10_000)
        deployment.append("events-0", [request(access(1))], NOW)
        until(lambda: any("brokers are away" in trouble for trouble in deployment.pipeline.troubles()))
        count = "SELECT count() AS n FROM auditspan.events WHERE class = 'model.access'"
        assert deployment.store.query(count)["n"].to_pylist() == [1]
        topic.refusals = 0
        until(lambda: deployment.store.query(count)["n"].to_pylist() == [2])
        until(lambda: deployment.pipeline.troubles() == [])
    assert [key for key, _ in topic.published] == [b"record-0"]


def test_a_batch_of_many_is_published_in_parts_and_in_order(tmp_path: Path) -> None:
    topic = Topic()
    with running(tmp_path, publisher=topic) as deployment:
        deployment.append("events-0", [request(*(access(i, **FLAGGED) for i in range(2500)))], NOW)
        until(lambda: len(topic.published) == 2500)
        log_id = deployment.pipeline.status()[0].log_id
        again = Topic()
        assert publish_flagged(deployment.store, again, log_id, 0, 1 << 40) == 2500
    assert again.published == topic.published
    assert [json.loads(document)["sequence"] for _, document in again.published] == list(range(2500))


def test_a_record_id_that_the_header_shortened_is_the_key_by_its_digest() -> None:
    names = (
        "class event_time arrival_time action outcome asset eccn destination determination rule_ids faults emitter "
        "authentication stream sequence log_id reference_epoch"
    )
    header = dict.fromkeys(names.split())
    row = {"leaf_index": 4, "header": json.dumps(header | {"record_id": {"length": 300, "sha256": "ab" * 32}}).encode()}
    ((key, document),) = flagged_documents([row])
    assert key == b"ab" * 32
    assert json.loads(document)["record_id"] == {"length": 300, "sha256": "ab" * 32}
