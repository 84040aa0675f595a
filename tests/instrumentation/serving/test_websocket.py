from __future__ import annotations

import pytest
from hooked import Driver, http_scope

CONNECT = {"type": "websocket.connect"}
ACCEPT = {"type": "websocket.accept"}


def scope(**more):
    plain = {key: value for key, value in http_scope("/v1/realtime", **more).items() if key != "method"}
    return {**plain, "type": "websocket"}


def talk(*messages, until="websocket.disconnect"):
    async def application(scope, receive, send):
        await receive()
        for message in messages:
            await send(message)
        while until is not None and (await receive())["type"] != until:
            pass

    return application


def text(content):
    return {"type": "websocket.send", "text": content}


def test_a_connection_is_one_access(serve, records):
    seen = []
    driver = Driver(
        [CONNECT, {"type": "websocket.receive", "text": "canary-in"}, {"type": "websocket.disconnect", "code": 1000}]
    )
    driver.on_send = lambda message: seen.append([record["audit.outcome"] for record in records()])
    serve(
        talk(ACCEPT, text("canary-é"), text("more")),
        scope(query_string=b"model=realtime-1&token=canary"),
        driver=driver,
    )
    assert driver.sent == [ACCEPT, text("canary-é"), text("more")]
    assert seen[0] == ["started"]
    began, ended = records()
    assert ended["audit.outcome"] == "success"
    assert ended["audit.intent.id"] == began["audit.record.id"]
    assert ended["audit.target.id"] == "realtime-1"
    assert ended["http.response.body.size"] == len("canary-é".encode()) + 4
    assert ended["http.request.body.size"] == 9
    assert not any("canary" in str(value) for value in {**began, **ended}.values())


def test_a_connection_that_breaks(serve, records):
    serve(talk(ACCEPT), scope(), driver=Driver([CONNECT, {"type": "websocket.disconnect", "code": 1006}]))
    assert [record["audit.outcome"] for record in records()] == ["started", "interrupted"]


def test_a_connection_the_application_closes_is_recorded_before(serve, records):
    seen = []
    driver = Driver([CONNECT])
    driver.on_send = lambda message: seen.append(len(records()))
    serve(talk(ACCEPT, {"type": "websocket.close", "code": 1000}, until=None), scope(), driver=driver)
    assert seen == [1, 2]
    assert records()[1]["audit.outcome"] == "success"


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"type": "websocket.close", "code": 1008}], 403),
        (
            [
                {"type": "websocket.http.response.start", "status": 401, "headers": []},
                {"type": "websocket.http.response.body", "body": b"no"},
            ],
            401,
        ),
    ],
)
def test_a_connection_that_is_denied(serve, records, messages, status):
    serve(talk(*messages, until=None), scope(), driver=Driver([CONNECT]))
    (record,) = records()
    assert (record["audit.outcome"], record["http.response.status_code"]) == ("denied", status)


def test_an_exception_is_recorded_and_raised_unchanged(serve, records):
    async def application(scope, receive, send):
        await send(ACCEPT)
        raise LookupError

    with pytest.raises(LookupError):
        serve(application, scope(), driver=Driver([CONNECT]))
    assert [record["audit.outcome"] for record in records()] == ["started", "failure"]
    assert records()[1]["error.type"] == "LookupError"
