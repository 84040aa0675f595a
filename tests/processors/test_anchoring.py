"""Anchors at run time: OpenSSL's authority and litewitness vouch for a log that goes on sealing whatever they do."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from auditspan.processors.anchor_sources import (
    AnchorPlan,
    Asked,
    AuthoritySource,
    WitnessAhead,
    WitnessSource,
    anchor_plan,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from litewitness import Litewitness
from sealing_deployment import KEY, Deployment, running
from sealing_inputs import NOW, access, request
from timestamp_authority import OpensslAuthority, served, verified_by_openssl
from waiting import until
from witness_by_hand import HandWitness, listening

from auditspan.config import AnchorSettings
from auditspan.ledger.bounded_post import BoundedPost
from auditspan.ledger.checkpoint import Checkpoint, log_origin, open_checkpoint, sign_checkpoint, verifier_key
from auditspan.ledger.timestamps import AuthorityRefused, TimestampAuthority, verify_timestamp
from auditspan.ledger.trust import Trust
from auditspan.ledger.witnesses import Witness, cosignatures
from auditspan.store.contract import StoredAnchor

SOON = {"interval": 0.2, "patience": 5.0}


@pytest.fixture(scope="module")
def openssl(openssl_here: None, tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    return OpensslAuthority(tmp_path_factory.mktemp("authority"), "tsa")


def trusted(openssl: OpensslAuthority) -> TimestampAuthority:
    return TimestampAuthority.of("tsa", [openssl.root])


def control_log(deployment: Deployment) -> str:
    return next(log.log_id for log in deployment.pipeline.status() if log.partition == "control")


def anchors(deployment: Deployment) -> list[StoredAnchor]:
    store = deployment.store.reader()
    try:
        return store.newest_anchors(control_log(deployment))
    finally:
        store.close()


def grow(deployment: Deployment, number: int) -> None:
    """Seal one more event, and wait until it is signed."""
    deployment.append("events-0", [request(access(number), stream="run")], NOW)
    until(
        lambda: all(log.checkpoint_size >= log.leaves and not log.lag_entries for log in deployment.pipeline.status())
    )


def metric(deployment: Deployment, name: str, kind: str, who: str) -> float | None:
    return deployment.registry.get_sample_value(f"auditspan_{name}", {"kind": kind, "name": who})


def test_an_authority_and_a_witness_vouch_for_a_log_that_grows(
    openssl: OpensslAuthority, litewitness: Litewitness, tmp_path: Path
) -> None:
    with served(openssl) as service, litewitness.running("witness.example/w1") as witness:
        sources = [
            AuthoritySource("tsa", service.url, trusted(openssl)),
            WitnessSource(Witness.parse(witness.vkey), witness.url),
        ]
        with running(tmp_path, anchors=AnchorPlan(sources, **SOON)) as deployment:
            until(lambda: metric(deployment, "anchored_total", "timestamp", "tsa"))
            origin = log_origin("plant", control_log(deployment))
            assert metric(deployment, "anchored_total", "cosignature", "witness.example/w1") == 0
            until(lambda: metric(deployment, "anchor_failures_total", "cosignature", "witness.example/w1"))
            witness.know(origin, verifier_key(origin, KEY.public_key()))
            until(lambda: len(anchors(deployment)) == 2)
            first = {anchor.kind: anchor.size for anchor in anchors(deployment)}
            grow(deployment, 1)
            until(lambda: all(anchor.size > max(first.values()) for anchor in anchors(deployment)))
            newest = {anchor.kind: anchor for anchor in anchors(deployment)}
            assert metric(deployment, "anchor_age_seconds", "timestamp", "tsa") < 60
            stored = deployment.store.reader()
            try:
                notes = stored.query("SELECT size, any(note) AS note FROM auditspan.checkpoints GROUP BY log_id, size")
            finally:
                stored.close()
        assert metric(deployment, "anchor_age_seconds", "timestamp", "tsa") is None, "it is asked no more"
    control = {
        row["size"]: open_checkpoint(row["note"], origin, [KEY.public_key()])
        for row in notes.to_pylist()
        if row["note"].startswith(f"{origin}\n")
    }
    token = base64.b64decode(newest["timestamp"].content)
    body = control[newest["timestamp"].size].body()
    stamp = verify_timestamp(token, body, [trusted(openssl)])
    assert (stamp.authority, stamp.time) == ("tsa", newest["timestamp"].anchored_at)
    assert verified_by_openssl(openssl, token, body)
    (cosigned,) = cosignatures(
        [newest["cosignature"].content], control[newest["cosignature"].size], [Witness.parse(witness.vkey)]
    )
    assert cosigned.time * 1_000_000_000 == newest["cosignature"].anchored_at


def test_sealing_goes_on_while_nobody_answers_and_anchors_resume(openssl: OpensslAuthority, tmp_path: Path) -> None:
    with served(openssl) as service:
        service.status = 503
        slow = HandWitness("slow.example")
        stopped = threading.Event()

        def hang(path: str, body: str) -> tuple[int, str]:
            stopped.wait(60)
            return 503, ""

        with listening(hang) as url:
            sources = [
                WitnessSource(Witness.parse(slow.vkey), url),
                AuthoritySource("tsa", service.url, trusted(openssl)),
            ]
            plan = AnchorPlan(sources, interval=0.2, patience=0.3)
            with running(tmp_path, anchors=plan) as deployment:
                until(lambda: metric(deployment, "anchor_failures_total", "timestamp", "tsa"))
                until(lambda: metric(deployment, "anchor_failures_total", "cosignature", "slow.example"))
                for number in range(5):
                    grow(deployment, number)
                assert deployment.pipeline.healthy() == (True, "")
                assert anchors(deployment) == []
                age = metric(deployment, "anchor_age_seconds", "timestamp", "tsa")
                assert age is not None and age > 0
                service.status = 200
                until(lambda: [anchor.name for anchor in anchors(deployment)] == ["tsa"])
                assert metric(deployment, "anchor_age_seconds", "timestamp", "tsa") < age + 60
                stopped.set()


def test_a_restart_goes_on_where_it_was(openssl: OpensslAuthority, tmp_path: Path) -> None:
    """What is anchored is not anchored again, and a witness that was asked before gets a proof from there."""
    hand, seen = HandWitness("hand.example"), []

    def answer(path: str, body: str) -> tuple[int, str]:
        seen.append(body)
        return 200, hand.cosign(body.partition("\n\n")[2], 1_795_600_000) + "\n"

    with listening(answer) as url:
        plan = AnchorPlan([WitnessSource(Witness.parse(hand.vkey), url)], **SOON)
        with running(tmp_path, anchors=plan) as deployment:
            until(lambda: anchors(deployment))
            grow(deployment, 1)
            until(lambda: len(seen) > 1 and anchors(deployment)[0].size == _size(seen[-1]))
        last = _size(seen[-1])
        before = len(seen)
        with running(tmp_path, anchors=plan) as deployment:
            grow(deployment, 2)
            until(lambda: anchors(deployment)[0].size > last)
    assert seen[0].startswith("old 0\n\n")
    assert all(body.startswith(f"old {_size(earlier)}\n") for earlier, body in pairwise(seen))
    assert len(seen) > before


def _size(body: str) -> int:
    return int(body.partition("\n\n")[2].split("\n")[1])


# One question


def asked(size: int = 9) -> Asked:
    origin = log_origin("plant", "ab" * 16)
    checkpoint = Checkpoint(origin, size, b"\x01" * 32)
    return Asked("ab" * 16, checkpoint, sign_checkpoint(checkpoint, KEY), lambda old: [b"\x02" * 32] * (size - old))


@pytest.fixture
def post() -> BoundedPost:
    return BoundedPost(10.0, 1 << 16, threading.Event())


@pytest.fixture
def hand() -> HandWitness:
    return HandWitness("hand.example")


@pytest.fixture
def answering(hand: HandWitness) -> Iterator[Callable[[list[tuple[int, str]]], tuple[WitnessSource, list[str]]]]:
    """A source whose witness gives these answers one after the other; the bodies that it got."""
    opened: list[Any] = []

    def make(answers: list[tuple[int, str]]) -> tuple[WitnessSource, list[str]]:
        seen: list[str] = []

        def answer(path: str, body: str) -> tuple[int, str]:
            seen.append(body)
            return answers[min(len(seen), len(answers)) - 1]

        server = listening(answer)
        opened.append(server)
        return WitnessSource(Witness.parse(hand.vkey), server.__enter__()), seen

    yield make
    for server in opened:
        server.__exit__(None, None, None)


def test_a_witness_that_knows_less_or_forgot_gets_the_proof_from_there(
    answering: Any, hand: HandWitness, post: BoundedPost
) -> None:
    cosigned = hand.cosign(asked().note, 5) + "\n"
    source, seen = answering([(409, "4\n"), (200, cosigned)])
    anchor = source.ask(post, asked(), 7)
    assert (anchor.size, anchor.kind, anchor.name, anchor.anchored_at) == (9, "cosignature", "hand.example", 5 * 10**9)
    assert [body.split("\n")[0] for body in seen] == ["old 7", "old 4"]
    assert seen[1].count(base64.b64encode(b"\x02" * 32).decode()) == 5
    source, seen = answering([(409, "9\n"), (200, cosigned)])
    source.ask(post, asked(), 0)
    assert seen[1].startswith("old 9\n\n"), "the same tree needs no proof"


def test_a_witness_that_knows_more_than_there_is_is_an_alarm(answering: Any, post: BoundedPost) -> None:
    source, _ = answering([(409, "10\n")])
    with pytest.raises(WitnessAhead, match="cosigned 10 leaves of the control log, and there are 9"):
        source.ask(post, asked(), 7)


def test_a_witness_that_changes_its_mind_is_not_asked_for_ever(answering: Any, post: BoundedPost) -> None:
    source, seen = answering([(409, "1\n"), (409, "2\n"), (409, "3\n")])
    with pytest.raises(Exception, match="2 leaves last"):
        source.ask(post, asked(), 0)
    assert len(seen) == 2


def test_a_token_under_another_root_is_not_kept(openssl: OpensslAuthority, post: BoundedPost, tmp_path: Path) -> None:
    other = OpensslAuthority(tmp_path / "other", "tsa")
    with served(other) as service:
        source = AuthoritySource("tsa", service.url, trusted(openssl))
        with pytest.raises(AuthorityRefused, match="none of the roots"):
            source.ask(post, asked(), 0)
        assert replace(source, authority=None).ask(post, asked(), 0).size == 9, "where no root is known it is"


def test_the_plan_is_that_of_the_settings(openssl: OpensslAuthority, hand: HandWitness) -> None:
    settings = AnchorSettings.model_validate(
        {
            "witnesses": [{"url": "https://w.example/x", "vkey": hand.vkey}],
            "timestamp_authorities": [{"name": name, "url": f"http://{name}.example/tsr"} for name in ("tsa", "more")],
            "interval_seconds": 60,
        }
    )
    key = Ed25519PrivateKey.generate().public_key()
    plan = anchor_plan(settings, Trust("plant", [key], (), (trusted(openssl),)))
    assert (plan.interval, plan.patience) == (60.0, 10.0)
    known = {source.name: getattr(source, "authority", None) for source in plan.sources}
    assert known == {"tsa": trusted(openssl), "more": None, "hand.example": None}
