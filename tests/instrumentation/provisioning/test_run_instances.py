from __future__ import annotations

import pytest
from auditspan.instrumentation import recorder
from auditspan.instrumentation.fingerprint import credential_fingerprint
from auditspan.instrumentation.guard import FAULTS
from auditspan.instrumentation.provisioning import botocore, operations
from auditspan.instrumentation.provisioning.botocore import BotocoreAuditInstrumentor
from auditspan.instrumentation.recorder import AuditRefused
from aws_parts import ACCESS_KEY, REGION, client
from botocore.exceptions import ClientError, ParamValidationError
from spool_contents import told_gaps

CLASS = frozenset({"accelerator.provision"})
P5 = {"ImageId": "ami-12c6146b", "InstanceType": "p5.48xlarge", "MinCount": 2, "MaxCount": 2}


@pytest.fixture
def hook(local_recorder):
    instrumentor = BotocoreAuditInstrumentor()
    active = []

    def make(**changes):
        instrumentor.instrument(recorder=local_recorder(**changes))
        active.append(instrumentor)

    yield make
    if active:
        instrumentor.uninstrument()


def test_an_intent_before_and_an_outcome_after(hook, aws, records):
    hook()
    ec2 = client("ec2", aws)
    at_call = []
    ec2.meta.events.register("before-send.ec2.RunInstances", lambda **_: at_call.append(records()))
    response = ec2.run_instances(**P5)
    ((intent,),) = at_call
    assert (intent["audit.outcome"], intent["export_control.quantity"]) == ("started", 2)
    _, outcome = records()
    assert outcome["audit.outcome"] == "success"
    assert outcome["audit.intent.id"] == intent["audit.record.id"]
    assert outcome["host.type"] == outcome["audit.target.id"] == "p5.48xlarge"
    assert outcome["cloud.region"] == REGION
    assert outcome["cloud.account.id"] == response["OwnerId"]
    assert outcome["cloud.provider"] == "aws"
    assert outcome["export_control.serials"] == [instance["InstanceId"] for instance in response["Instances"]]
    assert outcome["export_control.quantity"] == len(response["Instances"])
    assert outcome["audit.actor.id"] == credential_fingerprint(ACCESS_KEY)
    assert outcome["rpc.method"] == "ec2/RunInstances"


def test_the_resource_interface_and_launch_templates_pass_too(hook, aws, records):
    import boto3
    from aws_parts import SECRET

    hook()
    ec2 = boto3.resource(
        "ec2", endpoint_url=aws, region_name=REGION, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET
    )
    ec2.meta.client.create_launch_template(
        LaunchTemplateName="frontier", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "p4d.24xlarge"}
    )
    ec2.create_instances(LaunchTemplate={"LaunchTemplateName": "frontier"}, MinCount=1, MaxCount=1)
    intent, outcome = records()
    assert "host.type" not in intent
    assert intent["audit.target.id"] == "frontier"
    assert outcome["host.type"] == "p4d.24xlarge"


def test_fewer_than_asked(hook, aws, records):
    hook()
    given = client("ec2", aws).run_instances(**{**P5, "MinCount": 1, "MaxCount": 5})["Instances"]
    assert len(given) < 5
    assert [record["export_control.quantity"] for record in records()] == [5, len(given)]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [("InsufficientInstanceCapacity", "failure"), ("UnauthorizedOperation", "denied"), ("DryRunOperation", "success")],
)
def test_what_the_service_refuses_is_recorded_and_raised_unchanged(hook, aws, records, code, outcome):
    hook()
    ec2 = client("ec2", aws)
    raised = []

    def refuse(parsed, http_response, **_):
        http_response.status_code = 400
        parsed["Error"] = {"Code": code, "Message": "canary-message"}

    ec2.meta.events.register("after-call.ec2.RunInstances", refuse)
    with pytest.raises(ClientError) as caught:
        ec2.run_instances(**P5)
    raised.append(caught.value)
    assert caught.value.response["Error"]["Code"] == code
    _, last = records()
    assert last["audit.outcome"] == outcome
    assert last.get("error.type") == (None if code == "DryRunOperation" else code)
    assert not any("canary" in str(value) for value in last.values())


def test_a_dry_run_provisions_nothing(hook, aws, records):
    hook()
    with pytest.raises(ClientError, match="DryRunOperation"):
        client("ec2", aws).run_instances(**P5, DryRun=True)
    assert [(item["audit.action"], item["audit.outcome"], item["export_control.quantity"]) for item in records()] == [
        ("RunInstances (dry run)", "started", 0),
        ("RunInstances (dry run)", "success", 0),
    ]


def test_a_call_that_never_leaves(hook, aws, records):
    hook()
    with pytest.raises(ParamValidationError):
        client("ec2", aws).run_instances(MinCount="two", MaxCount=2)
    assert [item["audit.outcome"] for item in records()] == ["started", "failure"]
    assert records()[1]["error.type"] == "botocore.exceptions.ParamValidationError"


def test_other_calls_are_not_recorded(hook, aws, records):
    hook()
    client("ec2", aws).describe_instances()
    client("sts", aws).get_caller_identity()
    assert records() == []


def test_fail_closed_refuses_before_the_call(hook, aws, broken):
    hook(fail_closed=CLASS, spool_directory=broken)
    assert_refused_before_the_call(aws)


def test_fail_closed_refuses_when_a_bug_costs_the_record(hook, aws, monkeypatch):
    monkeypatch.setattr(recorder.Recorder, "record", bug)
    hook(fail_closed=CLASS)
    with pytest.raises(AuditRefused):
        client("ec2", aws).run_instances(**P5)


def assert_refused_before_the_call(aws):
    ec2 = client("ec2", aws)
    called = []
    ec2.meta.events.register("before-call.ec2.RunInstances", lambda **_: called.append(1))
    with pytest.raises(AuditRefused):
        ec2.run_instances(**P5)
    assert called == []


def bug(*arguments, **named):
    raise RuntimeError


def test_a_bug_in_recognising_the_call_is_a_gap(hook, aws, records, monkeypatch, tmp_path):
    monkeypatch.setattr(botocore, "_operation", bug)
    hook()
    assert len(client("ec2", aws).run_instances(**P5)["Instances"]) == 2
    assert records() == []
    assert told_gaps(tmp_path / "spool") == [("hook_fault", 1)]


def test_fail_closed_refuses_a_call_that_a_bug_keeps_from_being_recognised(hook, aws, monkeypatch):
    monkeypatch.setattr(botocore, "_operation", bug)
    hook(fail_closed=CLASS)
    assert_refused_before_the_call(aws)


def test_a_bug_that_costs_a_record_is_a_gap(hook, aws, monkeypatch, tmp_path):
    monkeypatch.setattr(recorder.Recorder, "record", bug)
    hook()
    assert len(client("ec2", aws).run_instances(**P5)["Instances"]) == 2
    assert sum(count for _, count in told_gaps(tmp_path / "spool", 2)) == 2


def test_otherwise_the_call_goes_on(hook, aws, broken):
    hook(spool_directory=broken)
    assert len(client("ec2", aws).run_instances(**P5)["Instances"]) == 2


def test_a_bug_in_the_hook_breaks_nothing(hook, aws, records, monkeypatch):
    for name in ("asked", "given", "refused"):
        monkeypatch.setattr(operations.Ec2RunInstances, name, bug)
    hook()
    before = sum(FAULTS.values())
    assert len(client("ec2", aws).run_instances(**P5)["Instances"]) == 2
    assert sum(FAULTS.values()) == before + 2
    assert [item["audit.outcome"] for item in records()] == ["started", "success"]


def test_no_secret_is_recorded(hook, aws, records, tmp_path):
    hook()
    client("ec2", aws).run_instances(**P5, UserData="canary-user-data")
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*.spool"))
    assert b"p5.48xlarge" in raw
    assert b"canary" not in raw
    assert ACCESS_KEY.encode() not in raw
