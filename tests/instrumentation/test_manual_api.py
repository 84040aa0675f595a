import asyncio

import pytest
from auditspan.instrumentation import audit
from auditspan.instrumentation.recorder import set_recorder


@pytest.fixture
def api(recorder):
    set_recorder(recorder)
    return audit


def pair(collector, recorder, event_class):
    assert recorder.flush(20)
    started, ended = sorted(collector.of_class(event_class), key=lambda item: item.sequence)
    assert started.attributes["audit.outcome"] == "started"
    assert ended.attributes["audit.intent.id"] == started.attributes["audit.record.id"]
    assert ended.attributes["audit.record.id"] != started.attributes["audit.record.id"]
    assert ended.span.start_time_unix_nano <= ended.span.end_time_unix_nano
    return started.attributes, ended.attributes


def test_record(api, collector, recorder):
    record_id = api.record("model.access", {"audit.action": "chat"}, start_time=5, end_time=6)
    assert recorder.flush(20)
    (found,) = collector.of_class("model.access")
    assert found.attributes["audit.record.id"] == record_id
    assert (found.span.start_time_unix_nano, found.span.end_time_unix_nano) == (5, 6)


def test_transfer_writes_intent_before_and_outcome_after(api, collector, recorder):
    with api.transfer(
        target="s3://m/w", actor="role:x", direction="upload", destination_country="SG", consignee="acme"
    ) as transfer:
        # The intent is at the collector while the action runs, so a kill now cannot hide it.
        assert recorder.flush(20)
        (intent,) = collector.of_class("model.transfer")
        assert intent.attributes["audit.record.id"] == transfer.intent_id
        transfer.set("export_control.artifact.size", 12)
    started, ended = pair(collector, recorder, "model.transfer")
    for attributes in (started, ended):
        assert attributes["audit.target.id"] == "s3://m/w"
        assert attributes["export_control.destination.country"] == "SG"
        assert attributes["export_control.transfer.direction"] == "upload"
    assert ended["audit.outcome"] == "success"
    assert ended["export_control.artifact.size"] == 12
    assert "export_control.artifact.size" not in started


def test_what_the_block_raises_is_recorded_and_raised_on_unchanged(api, collector, recorder):
    error = ValueError("with a secret in it")
    with pytest.raises(ValueError) as caught, api.provision(target="p5", actor="a", quantity=2):
        raise error
    assert caught.value is error
    _, ended = pair(collector, recorder, "accelerator.provision")
    assert (ended["audit.outcome"], ended["error.type"]) == ("failure", "ValueError")
    assert ended["export_control.quantity"] == 2
    assert "secret" not in str(ended)


def test_async_block_and_cancellation(api, collector, recorder):
    async def main(inside):
        async with api.provision(target="p5", actor="a"):
            inside.set()
            await asyncio.Event().wait()

    async def cancelled():
        inside = asyncio.Event()
        task = asyncio.create_task(main(inside))
        await asyncio.wait_for(inside.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    _, ended = pair(collector, recorder, "accelerator.provision")
    assert ended["audit.outcome"] == "interrupted"


def test_async_success_and_denial(api, collector, recorder):
    async def main():
        async with api.transfer(target="t", actor="a", mode="local_sync") as transfer:
            transfer.end_with("denied")
        await api.record_async("model.access", {"audit.action": "chat"})

    asyncio.run(main())
    _, ended = pair(collector, recorder, "model.transfer")
    assert ended["audit.outcome"] == "denied"
    assert collector.actions() == ["chat"]


def test_a_request_its_decision_and_what_names_it(api, collector, recorder):
    api.request(
        request_id="EXP-1", actor="user:7", target="s3://m/w", final_recipient="acme", quantity=4, license="NAC"
    )
    api.decision(
        request_id="EXP-1",
        outcome="approved",
        actor="user:9",
        authority="Export Control Office",
        valid_until="2027-06-30",
        conditions="not to be retrained",
    )
    with api.transfer(target="s3://m/w", actor="role:x", request_id="EXP-1", final_recipient="acme"):
        pass
    with api.provision(target="p5", actor="role:x", request_id="EXP-1"):
        pass
    assert recorder.flush(20)
    (asked,), (decided,) = collector.of_class("export.request"), collector.of_class("export.decision")
    assert asked.attributes["export_control.quantity"] == 4
    assert asked.attributes["export_control.license"] == "NAC"
    assert decided.attributes["export_control.approval.outcome"] == "approved"
    assert decided.attributes["export_control.approval.valid_until"] == "2027-06-30"
    assert decided.attributes["export_control.approving_authority"] == "Export Control Office"
    assert "export_control.final_recipient" not in decided.attributes, "as it was asked for"
    moved = [*collector.of_class("model.transfer"), *collector.of_class("accelerator.provision")]
    assert {one.attributes["export_control.request.id"] for one in [asked, decided, *moved]} == {"EXP-1"}
    with pytest.raises(ValueError):
        api.decision(request_id="EXP-1", outcome="perhaps", actor="user:9", authority="x")
