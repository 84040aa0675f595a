"""``/v1/decide`` with stock HTTP and gRPC clients: who may ask, what is answered, and how a problem is told."""

from __future__ import annotations

import json
import os
import threading
import time

import grpc
import pytest
from collector_requests import a_request
from epoch_in_force import NO_H200_FOR_ORCHID, put_in_force
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from waiting import until

from auditspan.policy.snapshot import IN_FORCE

QUESTION = {"facts": {"act": "transfer", "accelerator_model": "H200", "destination_country": "CN"}, "at": "2026-11-01"}
RECORD = {
    "audit.event.class": "accelerator.provision",
    "audit.actor.id": "sha256:harbour",
    "host.type": "p5en.48xlarge",
    "cloud.region": "us-east-1",
    "export_control.end_user": "orchid",
    "export_control.quantity": 2,
}


@pytest.fixture
def deciding(start):
    running = start()
    put_in_force(running.reference)
    until(lambda: ask(running, QUESTION).status == 200, "the epoch to be taken up")
    return running


def ask(running, question, content_type="application/json", token=None, **headers):
    body = question if isinstance(question, bytes) else json.dumps(question).encode()
    sent = {**running.headers, **({"authorization": f"Bearer {token}"} if token is not None else {})}
    sent |= {"content-type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return running.request("POST", "/v1/decide", body, sent)


def call(running, question, token=None):
    request = question
    if not isinstance(question, bytes):
        request = Struct()
        request.update(question)
        request = request.SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{running.grpc_port}") as channel:
        method = channel.unary_unary(
            "/auditspan.v1.DecisionService/Decide", request_serializer=bytes, response_deserializer=Struct.FromString
        )
        metadata = [("authorization", f"Bearer {running.token if token is None else token}")]
        return MessageToDict(method(request, metadata=metadata, timeout=30))


def test_a_decision_over_http(deciding):
    answer = ask(deciding, QUESTION)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found = answer.json
    assert (found["governing"], found["flagged"], found["eccn"]) == ("license_required", True, "3A090.a")
    assert "us-ear/3A090.a-d145" in found["rule_ids"] and "88 FR 73458" in found["citations"]
    assert found["epoch"]["number"] == 1 and found["age_seconds"] < 60
    assert deciding.metric("auditspan_decisions_total", transport="http", governing="license_required") >= 1


def test_the_attributes_of_a_record_over_http_and_grpc_give_the_same(deciding):
    of_http = ask(deciding, {"facts": RECORD}).json
    of_grpc = call(deciding, {"facts": RECORD})
    assert of_http["governing"] == "review" and of_http["rule_ids"] == ["us-ear/iaas-headquarters"]
    for changing in ("at", "age_seconds"):
        del of_http[changing], of_grpc[changing]
    assert of_grpc == of_http


def test_a_decision_over_grpc_keeps_whole_numbers(deciding):
    assert call(deciding, {"facts": {**QUESTION["facts"], "quantity": 5}})["governing"] == "license_required"
    with pytest.raises(grpc.RpcError) as caught:
        call(deciding, {"facts": {**QUESTION["facts"], "quantity": 5.5}})
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


HOSTILE = [
    (b"", 400, "malformed"),
    (b"\xff\xfe", 400, "malformed"),
    (b"[" * 60_000, 400, "malformed"),
    (b"[1]", 400, "malformed"),
    (b'{"facts": {"tpp": NaN}}', 400, "malformed"),
    (b'{"facts": {"act": "access", "act": "transfer"}}', 400, "malformed"),
    (b'{"facts": {"tpp": ' + b"9" * 5_000 + b"}}", 400, "malformed"),
    (b'{"facts": {"tpp": 1e999}}', 422, "facts-invalid"),
    (b'{"facts": {"a": "' + b"x" * 300_000 + b'"}}', 413, "too-large"),
    (b'{"facts": {"a": "' + b"x" * 100_000 + b'"}}', 422, "facts-invalid"),
    (b'{"facts": {"\\u0000": 1}}', 422, "facts-invalid"),
    (b'{"facts": {"act": "\\ud800"}}', 422, "facts-invalid"),
    (b'{"facts": {"act": ["\\udfff"]}}', 422, "facts-invalid"),
    (b'{"facts": {"act": {"$ne": 1}}}', 422, "facts-invalid"),
    (b'{"facts": {"destination_groups": ["A:5"]}}', 422, "facts-invalid"),
    (b'{"facts": []}', 422, "facts-invalid"),
    (b"{}", 422, "facts-invalid"),
    (b'{"facts": {}, "data": "/etc"}', 422, "facts-invalid"),
    (b'{"facts": {}, "at": "2026-13-01"}', 422, "facts-invalid"),
    (b'{"facts": {}, "at": []}', 422, "facts-invalid"),
    (b'{"facts": {"act": "transfer", "audit.event.class": "model.transfer"}}', 422, "facts-invalid"),
    (b'{"facts": {"audit.event.class": "audit.batch"}}', 422, "facts-invalid"),
]


def test_hostile_questions_get_a_problem_each_and_the_service_goes_on(deciding):
    for body, status, name in HOSTILE:
        answer = ask(deciding, body)
        assert answer.status == status, (body[:60], answer)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json["type"] == f"https://auditspan.dev/problems/{name}", body[:60]
        assert answer.json["status"] == status
        assert answer.json["title"] and answer.json["detail"]
        assert len(answer.body) < 10_000
    assert ask(deciding, QUESTION).status == 200
    assert deciding.entries() == []


def test_another_media_type_or_encoding_is_415(deciding):
    assert ask(deciding, QUESTION, "text/plain").status == 415
    assert ask(deciding, QUESTION, content_encoding="gzip").status == 415


@pytest.mark.parametrize("token", ["", "ast_no", "x" * 5_000])
def test_only_an_emitter_s_token_lets_in(deciding, token):
    refused = ask(deciding, QUESTION, token=token)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert refused.headers["content-type"] == "application/problem+json"
    assert "why" not in refused.json
    with pytest.raises(grpc.RpcError) as caught:
        call(deciding, QUESTION, token=token)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_revoked_token_asks_no_more(deciding):
    deciding.tokens.revoke("emitter")
    until(lambda: ask(deciding, QUESTION).status == 401, "the revocation to act")


def test_without_an_epoch_in_force_it_is_503_and_says_which_trouble(start):
    running = start()
    answer = ask(running, QUESTION)
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.json["type"].endswith("/snapshot-missing") and answer.json["remedy"]
    with pytest.raises(grpc.RpcError) as caught:
        call(running, QUESTION)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    (details,) = [value for name, value in caught.value.trailing_metadata() if name == "grpc-status-details-bin"]
    info = ErrorInfo()
    assert Status.FromString(details).details[0].Unpack(info)
    assert (info.reason, info.domain) == ("snapshot-missing", "auditspan.dev")
    (running.reference / IN_FORCE).write_bytes(b"{")
    until(lambda: ask(running, QUESTION).json["type"].endswith("/snapshot-broken"), "the trouble to be told")
    assert running.metric("auditspan_decisions_refused_total", reason="snapshot-broken") >= 1
    # Records are taken all the same.
    assert running.post(a_request()).status == 200


def test_a_new_epoch_decides_soon_after_it_came_into_force(deciding):
    assert ask(deciding, {"facts": RECORD}).json["governing"] == "review"
    put_in_force(deciding.reference, 2, house=NO_H200_FOR_ORCHID)
    found = until(
        lambda: (it := ask(deciding, {"facts": RECORD}).json)["epoch"]["number"] == 2 and it,
        "the epoch to decide",
        pause=0.1,
    )
    assert (found["governing"], found["rule_ids"]) == (
        "prohibited",
        ["house/no-h200-for-orchid", "us-ear/iaas-headquarters"],
    )


def test_the_answer_says_how_old_the_knowledge_is(deciding):
    os.utime(deciding.reference / IN_FORCE, (time.time() - 7_200, time.time() - 7_200))
    until(lambda: ask(deciding, QUESTION).json["age_seconds"] > 7_000, "the age to be seen")


def test_questions_beyond_the_bound_are_503_and_records_are_still_taken(deciding, monkeypatch):
    held, begun = threading.Event(), threading.Semaphore(0)
    decide = "auditspan.policy.snapshot.Snapshot.decide"

    def slow(self, facts, at=None):
        begun.release()
        held.wait(30)
        raise RuntimeError("canary-of-a-bug")

    monkeypatch.setattr(decide, slow)
    statuses: list[int] = []
    askers = [threading.Thread(target=lambda: statuses.append(ask(deciding, QUESTION).status)) for _ in range(40)]
    for asker in askers:
        asker.start()
    assert begun.acquire(timeout=30)
    until(lambda: statuses.count(503) >= 8, "the questions beyond the bound to be refused")
    assert deciding.post(a_request()).status == 200
    held.set()
    for asker in askers:
        asker.join(30)
    assert sorted(set(statuses)) == [500, 503]
    assert b"canary" not in ask(deciding, QUESTION).body


def test_a_question_that_is_too_large_for_grpc(deciding):
    with pytest.raises(grpc.RpcError) as caught:
        call(deciding, {"facts": {"a": "x" * 300_000}})
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as caught:
        call(deciding, b"\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
