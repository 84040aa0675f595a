from __future__ import annotations

import asyncio
import json

import pytest
from auditspan.instrumentation.guard import FAULTS
from auditspan.instrumentation.serving import exchange
from hooked import Driver, http_scope
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spool_contents import spooled, told_gaps

JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]
PROMPT = "canary-prompt-7f3a"
COMPLETION = "canary-completion-91bc"
SECRET = "sk-canary-secret-55d0"


def start(status=200, headers=JSON, **more):
    return {"type": "http.response.start", "status": status, "headers": headers, **more}


def body(piece, more=False):
    return {"type": "http.response.body", "body": piece, "more_body": more}


def sends(*messages):
    async def application(scope, receive, send):
        for message in messages:
            await send(message)

    return application


def answer(**more):
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "choices": [{"message": {"content": COMPLETION}}],
            "model": "served-7b",
            "usage": {"prompt_tokens": 11, "completion_tokens": 22, "total_tokens": 33},
            **more,
        }
    ).encode()


def chunk(**more):
    return f"data: {json.dumps({'id': 'chatcmpl-1', 'model': 'served-7b', **more})}\n\n".encode()


async def reading(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    whole = answer()
    await send(start(headers=[*JSON, (b"content-length", str(len(whole)).encode())]))
    await send(body(whole))


def request(document, pieces=1):
    data = json.dumps(document).encode()
    size = max(1, -(-len(data) // pieces))
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [
        {"type": "http.request", "body": part, "more_body": index < len(parts) - 1} for index, part in enumerate(parts)
    ]


CHAT = {"messages": [{"role": "user", "content": PROMPT}], "model": "asked-7b"}


def test_a_unary_answer_is_one_record_with_model_and_usage(serve, records):
    serve(
        reading,
        http_scope(headers=[(b"authorization", f"Bearer {SECRET}".encode()), (b"content-length", b"99")]),
        request(CHAT),
    )
    (record,) = records()
    assert record["audit.outcome"] == "success"
    assert record["audit.action"] == record["gen_ai.operation.name"] == "chat"
    assert record["gen_ai.request.model"] == "asked-7b"
    assert record["gen_ai.response.model"] == record["audit.target.id"] == "served-7b"
    assert (record["gen_ai.usage.input_tokens"], record["gen_ai.usage.output_tokens"]) == (11, 22)
    assert record["audit.response.streaming"] is False
    assert record["http.response.body.size"] == len(answer())
    assert record["http.request.body.size"] == len(json.dumps(CHAT))
    assert record["audit.actor.type"] == "credential"
    assert record["client.address"] == "203.0.113.9"
    assert "audit.intent.id" not in record


def test_a_streamed_answer_is_a_start_and_an_outcome(serve, records):
    pieces = [
        chunk(choices=[{"delta": {"content": COMPLETION}}]),
        chunk(choices=[], usage={"prompt_tokens": 4, "completion_tokens": 5}),
        b"data: [DONE]\n\n",
        b"",
    ]
    serve(sends(start(headers=EVENTS), *[body(piece, piece != b"") for piece in pieces]))
    began, ended = records()
    assert (began["audit.outcome"], ended["audit.outcome"]) == ("started", "success")
    assert ended["audit.intent.id"] == began["audit.record.id"] != ended["audit.record.id"]
    assert (ended["gen_ai.usage.input_tokens"], ended["gen_ai.usage.output_tokens"]) == (4, 5)
    assert ended["gen_ai.response.model"] == "served-7b"
    assert ended["audit.response.streaming"] is True
    assert ended["http.response.body.size"] == sum(map(len, pieces))


def test_the_record_is_there_before_the_client_sees_anything(serve, records):
    """The one promise everything rests on: at each message to the client, what must be recorded is."""
    seen = []
    driver = Driver()
    driver.on_send = lambda message: seen.append([record["audit.outcome"] for record in records()])
    serve(sends(start(), body(answer())), driver=driver)
    assert seen == [["success"], ["success"]]

    seen.clear()
    driver = Driver()
    driver.on_send = lambda message: seen.append([record["audit.outcome"] for record in records()[1:]])
    pieces = [body(chunk(), True), body(b"data: [DONE]\n\n", True), body(b"")]
    serve(sends(start(headers=EVENTS), *pieces), driver=driver)
    assert seen == [["started"], ["started"], ["started", "success"], ["started", "success"]]


def test_a_response_of_known_length_ends_with_its_last_byte(serve, records):
    """Frameworks send an empty message after the body: by then the client has everything."""
    seen = []
    driver = Driver()
    driver.on_send = lambda message: seen.append([record["audit.outcome"] for record in records()])
    whole = answer()
    head = start(headers=[*JSON, (b"content-length", str(len(whole)).encode())])
    serve(sends(head, body(whole, True), body(b"")), driver=driver)
    assert seen == [["success"]] * 3
    assert records()[0]["gen_ai.usage.output_tokens"] == 22


def test_no_content_and_no_secret_reaches_the_spool(serve, records, tmp_path):
    scope = {
        "headers": [
            (b"authorization", f"Bearer {SECRET}".encode()),
            (b"cookie", b"session=canary-cookie"),
            (b"content-length", b"999"),
        ],
        "query_string": b"q=canary-query",
    }
    serve(reading, http_scope(**scope), request({**CHAT, "user": "canary-user"}))
    serve(reading, http_scope(**scope), request({**CHAT, "user": "canary-user"}, pieces=7))

    async def raises(scope, receive, send):
        await receive()
        raise ValueError(PROMPT)

    with pytest.raises(ValueError, match=PROMPT):
        serve(raises, http_scope(**scope), request(CHAT))
    serve(sends(start(headers=EVENTS), body(chunk(choices=[COMPLETION]), True), body(chunk(choices=[COMPLETION]))))
    assert len(records()) == 5
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"served-7b" in raw
    assert b"canary" not in raw


@pytest.mark.parametrize("pieces", [1, 2, 3, 50, 10_000])
@pytest.mark.parametrize("prompt", ["short", "x" * 200_000, 'quotes \\" and { braces ] ' * 100, "é\n\t\u4e2d" * 5000])
def test_the_model_is_found_wherever_it_stands(serve, records, pieces, prompt):
    document = {
        "metadata": {"model": "decoy", "deep": [{"model": "decoy"}]},
        "prompt": prompt,
        "note": 'the "model": "decoy" in a text',
        "model": "wanted",
        "stop": ["model", "}"],
        "n": 1,
    }
    serve(reading, http_scope(headers=[(b"content-length", b"9")]), request(document, pieces))
    assert records()[0]["gen_ai.request.model"] == "wanted"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not json",
        b"[" * 200_000,
        b'{"model":' * 50_000,
        b'{"model": 7}',
        b'{"model": null}',
        b'[{"model": "inside an array"}]',
        b"\xff\xfe\x00{",
        b'{"model": "cut',
        b'"model": "bare"',
        b'{"a":"' + b"\\" * 99_999,
    ],
)
@pytest.mark.parametrize("pieces", [1, 3])
def test_a_hostile_body_costs_the_request_nothing(serve, records, data, pieces):
    size = max(1, -(-len(data) // pieces))
    parts = [data[at : at + size] for at in range(0, len(data), size)] or [b""]
    incoming = [{"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts]
    before = dict(FAULTS)
    driver = serve(reading, http_scope(headers=[(b"content-length", b"9")]), incoming)
    assert driver.body == answer()
    assert records()[0].get("gen_ai.request.model") is None
    assert dict(FAULTS) == before


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    kind=st.sampled_from([JSON, EVENTS, [], [(b"content-type", b"text/plain")]]),
    length=st.sampled_from([None, "exact", "short"]),
    status=st.sampled_from([200, 204, 304, 401, 500]),
    method=st.sampled_from(["GET", "POST", "HEAD"]),
    extra=st.sampled_from([None, "early", "trailers", "push"]),
)
def test_the_messages_pass_unchanged_and_in_order(serve, pieces, kind, length, status, method, extra):
    headers = list(kind)
    total = sum(map(len, pieces))
    if length is not None:
        headers.append((b"content-length", str(total if length == "exact" else max(0, total - 1)).encode()))
    messages = [start(status, headers, **({"trailers": True} if extra == "trailers" else {}))]
    if extra == "early":
        messages.insert(0, {"type": "http.response.early_hint", "links": [b"</a>"]})
    if extra == "push":
        messages.append({"type": "http.response.push", "path": "/a", "headers": []})
    messages += [body(piece, index < len(pieces) - 1) for index, piece in enumerate(pieces)]
    if extra == "trailers":
        messages.append({"type": "http.response.trailers", "headers": [], "more_trailers": False})
    driver = serve(sends(*messages), http_scope(method=method))
    assert len(driver.sent) == len(messages)
    assert all(sent is message for sent, message in zip(driver.sent, messages, strict=True))


def test_a_file_sent_by_the_server_is_recorded_before(serve, records, tmp_path):
    artifact = tmp_path / "weights.bin"
    artifact.write_bytes(b"w" * 4321)
    driver = Driver()
    seen = []
    driver.on_send = lambda message: seen.append(len(records()))
    serve(
        sends(start(headers=[]), {"type": "http.response.pathsend", "path": str(artifact)}),
        http_scope("/weights", "GET"),
        driver=driver,
    )
    assert seen == [1, 1]
    assert records()[0]["http.response.body.size"] == 4321
    assert records()[0]["audit.target.id"] == "/weights"


def test_an_exception_is_recorded_and_raised_unchanged(serve, records):
    error = KeyError("x")

    async def raises(scope, receive, send):
        raise error

    with pytest.raises(KeyError) as caught:
        serve(raises)
    assert caught.value is error
    (record,) = records()
    assert (record["audit.outcome"], record["error.type"]) == ("failure", "KeyError")
    assert "http.response.status_code" not in record


def test_an_exception_after_the_start_lets_the_start_go(serve, records):
    """The server closes the connection in its own way; the client sees what it would have seen."""

    async def raises(scope, receive, send):
        await send(start())
        raise OSError

    driver = Driver()
    with pytest.raises(OSError):
        serve(raises, driver=driver)
    assert driver.sent == [start()]
    assert records()[0]["audit.outcome"] == "failure"


def test_an_exception_in_the_middle_of_a_stream(serve, records):
    async def raises(scope, receive, send):
        await send(start(headers=EVENTS))
        await send(body(chunk(), True))
        raise RuntimeError

    driver = Driver()
    with pytest.raises(RuntimeError):
        serve(raises, driver=driver)
    assert len(driver.sent) == 2
    _, ended = records()
    assert (ended["audit.outcome"], ended["error.type"]) == ("failure", "RuntimeError")
    assert ended["http.response.body.size"] == len(chunk())


def test_an_exception_that_a_framework_answers_is_named(serve, records):
    async def application(scope, receive, send):
        try:
            raise ZeroDivisionError
        except ZeroDivisionError:
            await send(start(500))
            await send(body(b"{}"))
            raise

    with pytest.raises(ZeroDivisionError):
        serve(application)
    (record,) = records()
    assert (record["audit.outcome"], record["error.type"]) == ("failure", "ZeroDivisionError")
    assert record["http.response.status_code"] == 500


def test_an_application_that_never_answers(serve, records):
    serve(sends())
    assert records()[0]["audit.outcome"] == "failure"
    assert records()[0]["error.type"] == "incomplete_response"


def test_work_after_the_response_is_not_waited_for(serve, records):
    order = []

    async def application(scope, receive, send):
        await send(start())
        await send(body(answer()))
        order.append(len(records()))
        raise LookupError

    with pytest.raises(LookupError):
        serve(application)
    assert order == [1]
    assert [record["audit.outcome"] for record in records()] == ["success"]


def test_a_client_that_leaves_in_the_middle(serve, records):
    async def application(scope, receive, send):
        await send(start(headers=EVENTS))
        await send(body(chunk(), True))
        while (await receive())["type"] != "http.disconnect":
            pass

    serve(application, incoming=[{"type": "http.request", "body": b""}, {"type": "http.disconnect"}])
    _, ended = records()
    assert ended["audit.outcome"] == "interrupted"
    assert ended["http.response.body.size"] == len(chunk())


def test_a_cancelled_request_is_recorded_at_once(local_recorder, records):
    from auditspan.instrumentation.serving.middleware import AuditMiddleware

    waiting = asyncio.Event()

    async def application(scope, receive, send):
        await send(start(headers=EVENTS))
        waiting.set()
        await asyncio.Event().wait()

    async def main(recorder):
        driver = Driver()
        task = asyncio.create_task(
            AuditMiddleware(application, recorder=recorder)(http_scope(), driver.receive, driver.send)
        )
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main(local_recorder()))
    assert [record["audit.outcome"] for record in records()] == ["started", "interrupted"]


def test_a_request_that_is_torn_down_without_a_loop_to_await(local_recorder, records):
    """A coroutine that is closed must not await; the record is made all the same."""
    from auditspan.instrumentation.serving.middleware import AuditMiddleware
    from auditspan.instrumentation.settings import Mode

    async def application(scope, receive, send):
        await asyncio.Event().wait()

    async def main(recorder):
        driver = Driver()
        request = AuditMiddleware(application, recorder=recorder)(http_scope(), driver.receive, driver.send)
        request.send(None)
        request.close()

    asyncio.run(main(local_recorder(mode=Mode.LOCAL_SYNC)))
    assert [record["audit.outcome"] for record in records()] == ["interrupted"]


def test_a_client_that_waits_for_the_start_before_it_sends_more(serve, records):
    """Full duplex: the start is held for the first piece of the body, but never while the request still comes."""

    class Duplex(Driver):
        async def receive(self):
            if not self.sent:
                raise AssertionError("deadlock: the client sends the rest once it has seen the start")
            return {"type": "http.request", "body": b"", "more_body": False}

    async def application(scope, receive, send):
        await send(start(headers=[]))
        await receive()
        await send(body(b"done"))

    driver = serve(application, http_scope(headers=[(b"transfer-encoding", b"chunked")]), driver=Duplex())
    assert [message["type"] for message in driver.sent] == ["http.response.start", "http.response.body"]
    assert [record["audit.outcome"] for record in records()] == ["started", "success"]


def test_a_bug_in_the_hook_breaks_nothing(serve, records, monkeypatch, caplog):
    def broken(*arguments, **named):
        raise RuntimeError("canary-of-a-bug")

    for target in ("peek_whole", "ResponsePeek"):
        monkeypatch.setattr(exchange, target, broken)
    monkeypatch.setattr(exchange.HttpExchange, "_see_request", broken)
    monkeypatch.setattr("auditspan.instrumentation.serving.access.operation_name", broken)
    before = sum(FAULTS.values())
    driver = serve(reading, http_scope(headers=[(b"content-length", b"9")]), request(CHAT))
    assert driver.body == answer()
    assert sum(FAULTS.values()) >= before + 3
    assert "canary" not in caplog.text
    (record,) = records()
    assert record["audit.outcome"] == "success"
    assert record["audit.target.id"] == "/v1/chat/completions"


def test_a_recorder_that_cannot_be_had_breaks_nothing(monkeypatch):
    from auditspan.instrumentation import guard
    from auditspan.instrumentation.serving import middleware

    def broken():
        raise RuntimeError

    for module in (middleware, guard):
        monkeypatch.setattr(module, "get_recorder", broken)
    driver = Driver()
    asyncio.run(middleware.AuditMiddleware(sends(start(), body(b"{}")))(http_scope(), driver.receive, driver.send))
    assert len(driver.sent) == 2


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "success"), (204, "success"), (302, "success"), (400, "failure"), (401, "denied"), (403, "denied"),
     (404, "failure"), (429, "failure"), (500, "failure"), (503, "failure")],
)  # fmt: skip
def test_the_outcome_follows_the_status(serve, records, status, outcome):
    serve(sends(start(status), body(b"{}")))
    (record,) = records()
    assert record["audit.outcome"] == outcome
    assert record["http.response.status_code"] == status
    assert record.get("error.type") == (str(status) if outcome == "failure" else None)


@pytest.mark.parametrize("mode", ["local", "local_sync"])
def test_a_record_can_be_awaited_on_the_disk(serve, records, mode):
    from auditspan.instrumentation.settings import Mode

    serve(sends(start(), body(answer())), mode=Mode(mode))
    serve(sends(start(headers=EVENTS), body(chunk(), True), body(b"")))
    assert [record["audit.outcome"] for record in records()] == ["success", "started", "success"]


def test_a_response_that_is_compressed_is_not_read(serve, records):
    serve(sends(start(headers=[*JSON, (b"content-encoding", b"gzip")]), body(b"\x1f\x8b")))
    assert "gen_ai.response.model" not in records()[0]


def test_usage_as_other_interfaces_name_it(serve, records):
    first = b'event: message_start\ndata: {"message":{"model":"m-1","usage":{"input_tokens":25,"output_tokens":1}}}\n\n'
    filler = b'event: d\ndata: {"delta":{"text":"\\"usage\\":{\\"output_tokens\\":99}"}}\n\n' * 400
    last = b'event: message_delta\ndata: {"delta":{},"usage":{"output_tokens":15}}\n\n'
    serve(sends(start(headers=EVENTS), body(first, True), body(filler, True), body(last)))
    ended = records()[1]
    assert (ended["gen_ai.usage.input_tokens"], ended["gen_ai.usage.output_tokens"]) == (25, 15)
    assert ended["gen_ai.response.model"] == "m-1"


def broken(*arguments, **named):
    raise RuntimeError


def test_a_bug_that_costs_the_record_is_a_gap(serve, records, monkeypatch, tmp_path):
    from auditspan.instrumentation import recorder
    from auditspan.instrumentation.serving import middleware

    with monkeypatch.context() as patch:
        patch.setattr(middleware, "Access", broken)
        assert serve(sends(start(), body(answer()))).body == answer()
    assert told_gaps(tmp_path / "spool") == [("hook_fault", 1)]
    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "record", broken)
        assert serve(sends(start(), body(answer()))).body == answer()
    assert told_gaps(tmp_path / "spool", 2) == [("hook_fault", 1)] * 2
    assert records() == []


def test_a_bug_that_costs_no_record_is_no_gap(serve, records, monkeypatch, tmp_path, local_recorder):
    recorder = local_recorder()
    monkeypatch.setattr(exchange.HttpExchange, "_see_request", broken)
    serve(reading, http_scope(headers=[(b"content-length", b"9")]), request(CHAT), recorder=recorder)
    recorder.close()
    assert len(records()) == 1
    assert spooled(tmp_path / "spool", "audit.gap") == []
