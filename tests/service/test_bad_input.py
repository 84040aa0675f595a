"""Every bad input has an outcome of its own, and loses nothing else: neighbours in the same request, other senders."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from final_checks import evidence_holds, prove, settle, stored_once
from reference.derive import payload_of
from reference.requests import SCOPE, delimited, resource, span, varint
from reference.wire import SpanBytes
from running_service import Answer, Service
from sent_spans import Request, an_access, foreign_request, request_of, stream_request
from waiting import until

RESOURCE = resource({"service.name": "gateway"})
DAY = 86_400 * 10**9
H100_TO_CHINA = {
    "audit.event.class": "accelerator.transfer",
    "audit.action": "ship",
    "export_control.accelerator.model": "H100 SXM",
    "export_control.destination.country": "CN",
}


@dataclass
class Plant:
    """A service, what each of its emitters must find sealed in the end, and a good neighbour for every bad input."""

    service: Service
    tokens: dict[str, str]
    expected: dict[str, list[bytes]] = field(default_factory=dict)

    def post(self, body: bytes, emitter: str = "plant", **options: Any) -> Answer:
        """Send, and then something good, which must not suffer."""
        answer = self.service.post(body, self.tokens[emitter], **options)
        good = foreign_request(1)
        assert self.service.post(good.body, self.tokens["good"]).status == 200
        self.expect("good", good.payloads)
        return answer

    def expect(self, emitter: str, payloads: Any) -> None:
        self.expected.setdefault(emitter, []).extend(payloads)

    def taken(self, sending: Request, emitter: str = "plant") -> list[dict[str, Any]]:
        """Send what must be taken as a whole; the headers of its leaves, in its order."""
        answer = self.post(sending.body, emitter)
        assert (answer.status, answer.body) == (200, b"")
        self.expect(emitter, sending.payloads)
        return [self.sealed(payload, emitter) for payload in sending.payloads]

    def sealed(self, payload: bytes, emitter: str = "plant") -> dict[str, Any]:
        """The header of the only leaf with this payload, once it is there."""
        rows = until(
            lambda: self.service.rows(
                "SELECT header FROM auditspan.events WHERE emitter = {e:String} "
                "AND lower(hex(SHA256(payload))) = {p:String}",
                {"e": emitter, "p": hashlib.sha256(payload).hexdigest()},
            ),
            "the leaf",
        )
        assert len(rows) == 1
        header: dict[str, Any] = json.loads(rows[0]["header"])
        return header

    def refused(self, body: bytes, status: int, **options: Any) -> None:
        """Send what must be refused; the last test finds it if something of it was sealed all the same."""
        answer = self.post(body, **options)
        assert answer.status == status, answer
        assert answer.body, "no reason is given"


@pytest.fixture(scope="module")
def plant(module_service: Callable[..., Service]) -> Iterator[Plant]:
    service = module_service(processor__checkpoint_seconds=0.1)
    tokens = {name: service.token(name) for name in ("plant", "good", "other", "revoked")}
    service.revoke("revoked")
    service.start()
    yield Plant(service, tokens)


def good_pair(bad: bytes) -> tuple[Request, list[bytes]]:
    """A bad span between two good ones, in one request."""
    sending = request_of(RESOURCE, [an_access(), bad, an_access()])
    return sending, list(sending.payloads)


def is_good(header: dict[str, Any]) -> bool:
    return header["class"] == "model.access" and header["faults"] == [] and header["determination"] is not None


def test_truncated_protobuf_is_refused_and_its_bytes_are_kept(plant: Plant) -> None:
    whole = foreign_request(3).body
    for cut in (len(whole) - 1, len(whole) // 2, 3):
        body = whole[:cut]
        plant.refused(body, 400)
        kept = payload_of(SpanBytes(b"", b"", body, True))
        plant.expect("plant", [kept])
        header = plant.sealed(kept)
        assert (header["class"], header["faults"]) == ("audit.quarantined", ["request.undecodable"])
        assert header["determination"] == "review"


def test_a_span_cut_short_is_quarantined_and_its_neighbours_are_not(plant: Plant) -> None:
    headers = plant.taken(good_pair(an_access()[:-3])[0])
    assert headers[1]["faults"] == ["span.undecodable"]
    assert headers[1]["class"] == "audit.quarantined"
    assert is_good(headers[0])
    assert is_good(headers[2])


def test_a_resource_sent_twice_hides_nothing(plant: Plant) -> None:
    other = resource({"service.name": "another", "audit.source.id": "hidden"})
    spans = [an_access(), an_access()]
    scope_spans = delimited(1, SCOPE) + b"".join(delimited(2, one) for one in spans)
    twice = delimited(1, delimited(1, RESOURCE) + delimited(2, scope_spans) + delimited(1, other))
    good = foreign_request(2)
    payloads = [payload_of(SpanBytes(RESOURCE + other, SCOPE, one, False)) for one in spans]
    headers = plant.taken(Request(good.body + twice, (*good.payloads, *payloads)))
    assert all(is_good(header) for header in headers[:2])
    assert {(header["class"], *header["faults"]) for header in headers[2:]} == {
        ("audit.quarantined", "request.non_canonical")
    }


def test_a_wrong_content_type_is_refused(plant: Plant) -> None:
    body = foreign_request(1).body
    for content_type in (None, "text/plain", "application/grpc"):
        plant.refused(body, 415, content_type=content_type)
    plant.refused(body, 415, content_encoding="br")
    answer = plant.post(body, content_type="application/json")
    assert answer.status == 400
    kept = payload_of(SpanBytes(b"", b"", body, True))
    plant.expect("plant", [kept])
    assert plant.sealed(kept)["faults"] == ["request.undecodable"]


def test_a_gzip_bomb_is_refused_while_it_unfolds(plant: Plant) -> None:
    bomb = gzip.compress(bytes(512 << 20), 9)
    assert len(bomb) < 1 << 20
    process = plant.service.process
    assert process is not None
    begun = _peak_memory(process.pid)
    plant.refused(bomb, 413, content_encoding="gzip")
    assert _peak_memory(process.pid) - begun < 200 << 20


def _peak_memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) << 10


def test_what_is_no_gzip_is_refused_and_kept(plant: Plant) -> None:
    whole = gzip.compress(foreign_request(20).body)
    for body in (b"no gzip at all", whole[:-9]):
        plant.refused(body, 400, content_encoding="gzip")
        kept = payload_of(SpanBytes(b"", b"", body, True))
        plant.expect("plant", [kept])
        assert plant.sealed(kept)["faults"] == ["request.undecodable"]


def test_ten_thousand_attributes_are_kept_and_reviewed(plant: Plant) -> None:
    many = an_access({f"key-{number}": number for number in range(10_000)})
    headers = plant.taken(good_pair(many)[0])
    assert headers[1]["faults"] == ["attribute.limit"]
    assert headers[1]["determination"] == "review"
    assert is_good(headers[0])
    assert is_good(headers[2])


def test_duplicate_keys_are_all_kept_and_reviewed(plant: Plant) -> None:
    pairs = {"audit.event.class": "model.access", "export_control.destination.country": "DE"}.items()
    twice = span(
        0,
        [*pairs, ("export_control.destination.country", "CN")],
        trace_id=os.urandom(16),
        span_id=os.urandom(8),
        start=time.time_ns(),
    )
    resource_twice = resource([("service.name", "a"), ("service.name", "b")])
    headers = plant.taken(good_pair(twice)[0]) + plant.taken(request_of(resource_twice, [an_access()]))
    assert headers[1]["faults"] == headers[3]["faults"] == ["attribute.duplicate_key"]
    assert headers[1]["determination"] == headers[3]["determination"] == "review"


def test_invalid_utf8_is_quarantined_alone(plant: Plant) -> None:
    bad_name = delimited(1, os.urandom(16)) + delimited(2, os.urandom(8)) + delimited(5, b"\xff\xfe")
    bad_value = an_access() + delimited(9, delimited(1, b"key") + delimited(2, delimited(1, b"\xc3\x28")))
    for bad in (bad_name, bad_value):
        headers = plant.taken(good_pair(bad)[0])
        assert headers[1]["faults"] == ["span.undecodable"]
        assert is_good(headers[0])
        assert is_good(headers[2])
    of_resource = delimited(1, delimited(1, b"service.name") + delimited(2, delimited(1, b"\x80")))
    good = foreign_request(2)
    bad_request = request_of(of_resource, [an_access()])
    headers = plant.taken(Request(good.body + bad_request.body, good.payloads + bad_request.payloads))
    assert [header["faults"] for header in headers] == [[], [], ["span.undecodable"]]


def test_nul_bytes_are_text_like_any_other(plant: Plant) -> None:
    strange = an_access({"audit.target.id": "a\0b", "audit.record.id": "\0", "audit.action": "\0\0", "\0": "\0"})
    (header,) = plant.taken(request_of(resource({"service.name": "x\0y"}), [strange]))
    assert (header["asset"], header["record_id"], header["action"]) == ("a\0b", "\0", "\0\0")
    assert header["faults"] == []
    (row,) = plant.service.rows(
        "SELECT target_id, service_name FROM auditspan.events WHERE record_id = {r:String}", {"r": "\0"}
    )
    assert (row["target_id"], row["service_name"]) == ("a\0b", "x\0y")


def test_nesting_has_no_depth(plant: Plant) -> None:
    value = delimited(1, b"deep")
    for _ in range(200):
        value = delimited(5, delimited(1, value))
    deep = an_access() + delimited(9, delimited(1, b"nested") + delimited(2, value))
    headers = plant.taken(good_pair(deep)[0])
    assert all(is_good(header) for header in headers)


def test_a_back_dated_event_does_not_escape_a_newer_rule(plant: Plant) -> None:
    now = time.time_ns()
    times = {
        "now": now,
        "1970": 1,
        "before the rule": now - 3650 * DAY,
        "2200": 7_258_118_400 * 10**9,
        "2500": 16_725_225_600 * 10**9,
        "the last": 2**64 - 1,
    }
    headers = dict(
        zip(
            times,
            plant.taken(request_of(RESOURCE, [an_access(H100_TO_CHINA, start=start) for start in times.values()])),
            strict=True,
        )
    )
    assert headers["now"]["time_basis"] == "event"
    assert (headers["now"]["determination"], headers["now"]["flagged"]) == ("license_required", True)
    for name, header in headers.items():
        assert header["event_time"] == str(times[name])
        assert (header["determination"], header["flagged"]) == ("license_required", True)
        if name != "now":
            assert (header["time_basis"], header["faults"]) == ("both", ["time.outside_window"])
            assert set(headers["now"]["rule_ids"]) <= set(header["rule_ids"])
    harmless = [an_access({"export_control.destination.country": "US"}, start=start) for start in (1, now)]
    old, new = plant.taken(request_of(RESOURCE, harmless))
    assert old["determination"] == "review"
    assert new["faults"] == []
    (missing,) = plant.taken(request_of(RESOURCE, [an_access(start=0)]))
    assert (missing["time_basis"], missing["faults"]) == ("arrival", ["time.missing"])


def test_an_end_before_the_start_is_said_and_changes_no_determination(plant: Plant) -> None:
    now = time.time_ns()
    good, bad = plant.taken(
        request_of(RESOURCE, [an_access(start=now, end=now), an_access(start=now, end=now - 1)]),
    )
    assert (good["faults"], bad["faults"]) == ([], ["time.end_before_start"])
    assert good["determination"] == bad["determination"]


def test_ids_of_wrong_length_are_quarantined_alone(plant: Plant) -> None:
    wrong: list[dict[str, bytes]] = [
        {"trace_id": b""},
        {"trace_id": os.urandom(15)},
        {"trace_id": os.urandom(32)},
        {"trace_id": bytes(16)},
        {"span_id": b""},
        {"span_id": os.urandom(16)},
        {"span_id": bytes(8)},
    ]
    spans = [an_access(**ids) for ids in wrong]
    headers = plant.taken(request_of(RESOURCE, [an_access(), *spans, an_access()]))
    assert is_good(headers[0])
    assert is_good(headers[-1])
    for header in headers[1:-1]:
        assert (header["class"], header["faults"]) == ("audit.quarantined", ["span.invalid_id"])
        assert header["record_id"] == "position:{}:{}:{}".format(header["log_id"], *header["position"])


def test_a_country_that_does_not_exist_is_reviewed(plant: Plant) -> None:
    strange = ["XX", "", "Deutschland", "de", "\0", "🏴", "C" * 300]
    spans = [an_access(H100_TO_CHINA | {"export_control.destination.country": country}) for country in strange]
    for header in plant.taken(request_of(RESOURCE, [*spans, an_access(H100_TO_CHINA)]))[:-1]:
        assert header["determination"] == "review", header
        assert header["faults"] == []


def test_an_attribute_of_the_wrong_type_counts_as_absent_and_is_reviewed(plant: Plant) -> None:
    strange = [
        an_access({"export_control.destination.country": 49}),
        an_access({"audit.action": ["chat"]}),
        an_access({"export_control.quantity": "8"}),
        an_access({"export_control.weights_published": 1}),
        an_access({"audit.sequence.number": "0"}),
        an_access() + delimited(9, delimited(1, b"audit.target.type")),
    ]
    headers = plant.taken(request_of(RESOURCE, strange))
    assert {tuple(header["faults"]) for header in headers} == {("attribute.wrong_type",)}
    assert {header["determination"] for header in headers} == {"review"}
    assert headers[1]["action"] is None
    (unclassed,) = plant.taken(request_of(RESOURCE, [an_access({"audit.event.class": 7})]))
    assert (unclassed["class"], unclassed["faults"]) == ("other", ["attribute.wrong_type"])
    (unknown,) = plant.taken(request_of(RESOURCE, [an_access({"audit.event.class": "audit.batch"})]))
    assert (unknown["class"], unknown["faults"]) == ("other", ["class.unknown"])
    assert unknown["determination"] == "review"


def test_an_attribute_of_one_megabyte_is_kept_and_the_header_stays_small(plant: Plant) -> None:
    big = "ä" * (1 << 19)
    names = ("audit.target.id", "audit.action", "audit.outcome", "audit.record.id", "export_control.consignee", "other")
    headers = plant.taken(good_pair(an_access({name: big + name for name in names}))[0])
    for name in ("asset", "action", "outcome", "record_id"):
        assert set(headers[1][name]) == {"length", "sha256"}
        assert headers[1][name]["length"] > 1 << 20
    assert headers[1]["payload_length"] > 6 << 20
    assert is_good(headers[0])
    assert is_good(headers[2])


def test_nobody_can_take_the_record_ids_of_another(plant: Plant) -> None:
    mine = stream_request("shared", 0, 3)
    theirs = stream_request("shared", 0, 3)
    assert [header["sequence"] for header in plant.taken(mine)] == [0, 1, 2]
    assert [header["sequence"] for header in plant.taken(theirs, "other")] == [0, 1, 2]
    one = an_access()
    plant.taken(request_of(RESOURCE, [one]))
    copy = request_of(RESOURCE, [one])
    (header,) = plant.taken(copy, "other")
    assert header["faults"] == []
    # The same emitter's own second word under one identity is kept beside the first.
    (conflict,) = plant.taken(stream_request("shared", 1, 1))
    assert (conflict["class"], conflict["faults"]) == ("audit.conflict", ["identity.conflict"])
    (suspect,) = plant.taken(request_of(resource({"service.name": "moved"}), [one]))
    assert suspect["faults"] == ["duplicate_suspect"]


def test_wrong_and_revoked_tokens_leave_nothing_behind(plant: Plant) -> None:
    body = foreign_request(1).body
    for token in (None, "wrong", plant.tokens["revoked"], plant.tokens["plant"] + "x"):
        answer = plant.service.post(body, token)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        with grpc.insecure_channel(plant.service.otlp_grpc) as channel:
            call = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            with pytest.raises(grpc.RpcError) as refused:
                call(body, metadata=[("authorization", f"Bearer {token}")] if token else [], timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    later = plant.service.token("later")
    sending = foreign_request(1)
    assert until(lambda: plant.service.post(sending.body, later).status == 200, "the new token to be known")
    plant.expect("later", sending.payloads)
    plant.service.revoke("later")
    until(lambda: plant.service.post(sending.body, later).status == 401, "the token to be refused")


def test_unknown_fields_and_odd_forms_are_kept(plant: Plant) -> None:
    odd = delimited(4000, b"unknown") + an_access() + varint(4001 << 3) + varint(2**64 - 1)
    (header,) = plant.taken(request_of(RESOURCE, [odd]))
    assert is_good(header)
    group = an_access() + varint(50 << 3 | 3) + varint(50 << 3 | 4)
    headers = plant.taken(good_pair(group)[0])
    assert [header["faults"] for header in headers] == [[], ["span.undecodable"], []]


def test_after_all_of_it_every_neighbour_is_sealed_once_and_the_evidence_is_valid(plant: Plant, tmp_path: Path) -> None:
    last = foreign_request(1)
    plant.taken(last)
    with urllib.request.urlopen(f"{plant.service.otlp_http}/readyz", timeout=10) as answer:
        assert answer.status == 200
    settle(plant.service)
    logs = prove(plant.service)
    for emitter, payloads in plant.expected.items():
        stored_once(logs, emitter, payloads)
    emitters = {header.get("emitter") for sealed in logs.values() for header in sealed.headers}
    assert emitters == {None, *plant.expected}
    evidence_holds(plant.service, tmp_path / "package")
