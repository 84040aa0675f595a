"""``fail_closed``: an answer whose record cannot be written does not leave the server."""

from __future__ import annotations

import json

import pytest
from auditspan.instrumentation.guard import note_loss
from auditspan.instrumentation.stream import Stream
from hooked import Driver, http_scope
from test_exchange import EVENTS, answer, body, chunk, sends, start

CLASS = frozenset({"model.access"})
FULL = {"fail_closed": CLASS, "spool_limit": 1}


def refused(driver):
    head, rest = driver.sent
    assert head["status"] == 503
    assert dict(head["headers"])[b"retry-after"] == b"1"
    assert int(dict(head["headers"])[b"content-length"]) == len(rest["body"])
    return json.loads(rest["body"])["error"]["code"] == "audit_unavailable"


def test_a_unary_answer_is_withheld(serve):
    driver = serve(sends(start(), body(answer())), **FULL)
    assert refused(driver)
    assert b"served-7b" not in driver.body


def test_a_streamed_answer_is_withheld_and_the_application_stops(serve):
    reached = []

    async def application(scope, receive, send):
        await send(start(headers=EVENTS))
        reached.append("after the start")
        await send(body(chunk()))

    driver = serve(application, **FULL)
    assert refused(driver)
    assert reached == []


def test_an_application_that_swallows_the_refusal_cannot_send_either(serve):
    async def application(scope, receive, send):
        for message in (start(), body(answer()), body(answer())):
            try:
                await send(message)
            except OSError:
                continue
        assert (await receive())["type"] == "http.disconnect"

    assert refused(serve(application, **FULL))


@pytest.fixture
def broken(tmp_path):
    """A spool directory that cannot be made."""
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "spool"


def test_while_records_are_being_lost_the_application_is_not_called(serve, local_recorder, broken):
    recorder = local_recorder(fail_closed=CLASS, spool_directory=broken)
    serve(sends(start(), body(answer())), recorder=recorder)
    called = []

    async def application(scope, receive, send):
        called.append(scope)

    assert recorder.lost
    assert refused(serve(application, recorder=recorder))
    assert called == []


def test_what_a_bug_elsewhere_has_cost_refuses_nobody(serve, local_recorder, records, monkeypatch):
    monkeypatch.setattr(Stream, "tell_gaps", lambda self: False)
    recorder = local_recorder(fail_closed=CLASS)
    note_loss("elsewhere", RuntimeError(), recorder)
    assert recorder.lost == 1
    assert serve(sends(start(), body(answer())), recorder=recorder).body == answer()
    assert len(records()) == 1


def test_without_fail_closed_the_answer_goes_and_the_loss_is_counted(serve, local_recorder, broken):
    recorder = local_recorder(spool_directory=broken)
    driver = serve(sends(start(), body(answer())), recorder=recorder)
    assert driver.body == answer()
    assert recorder.lost == 1


def test_a_receipt_that_does_not_come_refuses(serve, records):
    from auditspan.instrumentation.settings import Mode

    driver = serve(sends(start(), body(answer())), mode=Mode.RECEIPT, fail_closed=CLASS, receipt_timeout=0.2)
    assert refused(driver)


def test_a_websocket_is_closed(serve):
    async def application(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        raise AssertionError("accepted without a record")

    driver = serve(
        application,
        {**http_scope(), "type": "websocket"},
        driver=Driver([{"type": "websocket.connect"}]),
        **FULL,
    )
    assert driver.sent == [{"type": "websocket.close", "code": 1013}]


@pytest.mark.parametrize("setting", [{}, {"fail_closed": CLASS}])
def test_with_room_nothing_is_refused(serve, records, setting):
    driver = serve(sends(start(), body(answer())), **setting)
    assert driver.body == answer()
    assert len(records()) == 1


def test_a_bug_that_costs_the_record_refuses(serve, monkeypatch):
    from auditspan.instrumentation import recorder
    from auditspan.instrumentation.serving import middleware

    def bug(*arguments, **named):
        raise TypeError

    with monkeypatch.context() as patch:
        patch.setattr(recorder.Recorder, "record", bug)
        patch.setattr(recorder.Recorder, "record_async", bug)
        assert refused(serve(sends(start(), body(answer())), fail_closed=CLASS))
    with monkeypatch.context() as patch:
        patch.setattr(middleware, "Access", bug)
        assert refused(serve(sends(start(), body(answer())), fail_closed=CLASS))
