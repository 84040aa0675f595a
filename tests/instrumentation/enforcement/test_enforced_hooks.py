"""The hooks of botocore and s3transfer under enforcement, against a real moto server: what is refused never runs."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from auditspan.instrumentation import audit
from auditspan.instrumentation.audit import ExportRefused
from auditspan.instrumentation.enforcement.settings import WithoutDecision
from auditspan.instrumentation.provisioning import botocore
from auditspan.instrumentation.provisioning.botocore import BotocoreAuditInstrumentor
from auditspan.instrumentation.recorder import AuditRefused
from auditspan.instrumentation.transfer.s3transfer import S3TransferAuditInstrumentor
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

sys.path.insert(0, str(Path(__file__).parents[1]))
from aws_parts import client

H200 = {"ImageId": "ami-12c6146b", "InstanceType": "p5en.48xlarge", "MinCount": 2, "MaxCount": 2}
ORCHID = {"export_control.end_user": "orchid"}
FLAGGED = frozenset({"flagged"})
HONG_KONG = "ap-east-1"
"""Weights that go there are flagged: it counts as China."""


@pytest.fixture(scope="module")
def aws():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def hooked(make):
    """The recorder of ``make``, with both hooks active."""
    active = [BotocoreAuditInstrumentor(), S3TransferAuditInstrumentor()]

    def of(**given):
        make(**given)
        for instrumentor in active:
            if not instrumentor.is_instrumented_by_opentelemetry:
                instrumentor.instrument()

    yield of
    for instrumentor in active:
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


def instances(aws):
    found = client("ec2", aws).describe_instances()["Reservations"]
    return sum(len(reservation["Instances"]) for reservation in found)


@pytest.fixture
def bucket(aws, request):
    s3 = client("s3", aws, region=HONG_KONG)
    name = f"models-{abs(hash(request.node.name)) % 10**9}"
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": HONG_KONG})
    s3.put_object(Bucket=name, Key="there", Body=b"weights")
    return name


def keys(aws, bucket):
    found = client("s3", aws, region=HONG_KONG).list_objects_v2(Bucket=bucket)
    return [item["Key"] for item in found.get("Contents", ())]


def test_h200_for_a_party_headquartered_in_china_is_refused(hooked, aws, records):
    hooked(outcomes=FLAGGED, resource=ORCHID)
    before = instances(aws)
    with pytest.raises(ExportRefused) as caught:
        client("ec2", aws).run_instances(**H200)
    assert instances(aws) == before
    text = str(caught.value)
    for part in (
        "RunInstances of p5en.48xlarge is refused",
        "us-ear/iaas-headquarters",
        "H200 SXM (TPP 15832)",
        "744.6",
    ):
        assert part in text
    (record,) = records()
    assert (record["audit.outcome"], record["host.type"]) == ("denied", "p5en.48xlarge")
    assert "us-ear/iaas-headquarters" in record["export_control.decision.rule_ids"]


def test_it_goes_on_when_only_monitored_and_by_break_glass(hooked, aws, records):
    hooked(classes=frozenset(), resource=ORCHID)
    assert len(client("ec2", aws).run_instances(**H200)["Instances"]) == 2
    hooked(outcomes=FLAGGED, resource=ORCHID)
    with audit.break_glass("drill"):
        assert len(client("ec2", aws).run_instances(**H200)["Instances"]) == 2
    found = sorted(
        (record.get("export_control.break_glass.reason", ""), record["audit.outcome"]) for record in records()
    )
    assert found == [("", "started"), ("", "success"), ("drill", "started"), ("drill", "success")]


def test_what_the_service_raises_is_raised_unchanged_when_it_is_permitted(hooked, aws):
    hooked(outcomes=FLAGGED)
    with pytest.raises(ClientError, match="DryRunOperation"):
        client("ec2", aws).run_instances(**H200, DryRun=True)


WAYS = {
    "managed": lambda s3, bucket, file: s3.upload_file(str(file), bucket, "new"),
    "managed, file object": lambda s3, bucket, file: s3.upload_fileobj(io.BytesIO(b"weights"), bucket, "new"),
    "managed copy": lambda s3, bucket, file: s3.copy({"Bucket": bucket, "Key": "there"}, bucket, "new"),
    "direct": lambda s3, bucket, file: s3.put_object(Bucket=bucket, Key="new", Body=b"weights"),
    "direct copy": lambda s3, bucket, file: s3.copy_object(Bucket=bucket, Key="new", CopySource=f"{bucket}/there"),
    "multipart": lambda s3, bucket, file: s3.create_multipart_upload(Bucket=bucket, Key="new"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_refused_transfer_leaves_no_object(hooked, aws, bucket, records, tmp_path, way):
    hooked(outcomes=FLAGGED, resource=ORCHID)
    s3 = client("s3", aws, region=HONG_KONG)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    with pytest.raises(ExportRefused, match="us-ear/weights-controlled-recipient"):
        WAYS[way](s3, bucket, file)
    assert keys(aws, bucket) == ["there"]
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    (record,) = records("model.transfer")
    assert (record["audit.outcome"], record["audit.target.id"]) == ("denied", f"s3://{bucket}/new")


def test_a_refused_download_writes_nothing_and_a_refused_url_is_not_given_away(hooked, aws, bucket, tmp_path, records):
    hooked(outcomes=frozenset({"review", "flagged"}))
    s3 = client("s3", aws, region=HONG_KONG)
    with pytest.raises(ExportRefused):
        s3.download_file(bucket, "there", str(tmp_path / "here"))
    assert not (tmp_path / "here").exists()
    with pytest.raises(ExportRefused):
        s3.get_object(Bucket=bucket, Key="there")
    with pytest.raises(ExportRefused):
        s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "there"})
    assert [record["audit.outcome"] for record in records("model.transfer")] == ["denied"] * 3


def test_a_transfer_that_is_permitted_moves_and_says_so(hooked, aws, bucket, records, tmp_path):
    hooked()
    s3 = client("s3", aws, region=HONG_KONG)
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    s3.upload_file(str(tmp_path / "model.safetensors"), bucket, "new")
    assert keys(aws, bucket) == ["new", "there"]
    found = records("model.transfer")
    assert [record["audit.outcome"] for record in found] == ["started", "success"]
    assert {record["export_control.decision.outcome"] for record in found} == {"review"}


@pytest.mark.parametrize("closed", [False, True])
def test_without_a_decision_the_hooks_are_open_or_closed(hooked, aws, records, closed):
    without = WithoutDecision.CLOSED if closed else WithoutDecision.OPEN
    hooked(endpoint="http://127.0.0.1:9", without_decision=without, resource=ORCHID)
    before = instances(aws)
    if closed:
        with pytest.raises(ExportRefused, match="not known"):
            client("ec2", aws).run_instances(**H200)
    else:
        assert len(client("ec2", aws).run_instances(**H200)["Instances"]) == 2
    assert instances(aws) == before + (0 if closed else 2)
    assert {record["export_control.decision.failure"] for record in records()} == {"unreachable"}


@pytest.mark.parametrize("closed", [False, True])
def test_a_call_that_a_bug_keeps_from_being_recognised(hooked, aws, monkeypatch, closed):
    def bug(*_):
        raise RuntimeError

    monkeypatch.setattr(botocore, "_operation", bug)
    hooked(without_decision=WithoutDecision.CLOSED if closed else WithoutDecision.OPEN)
    if closed:
        with pytest.raises(AuditRefused):
            client("ec2", aws).run_instances(**H200)
    else:
        assert len(client("ec2", aws).run_instances(**H200)["Instances"]) == 2
