from __future__ import annotations

import base64
import hashlib
import io
import re

import pytest
from auditspan.instrumentation.fingerprint import credential_fingerprint
from auditspan.instrumentation.guard import FAULTS
from auditspan.instrumentation.recorder import AuditRefused
from auditspan.instrumentation.transfer import direct, managed
from auditspan.instrumentation.transfer.artifact import TransferSettings
from auditspan.instrumentation.transfer.s3transfer import S3TransferAuditInstrumentor
from aws_parts import ACCESS_KEY, REGION, client
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
from spool_contents import told_gaps

from auditspan.errors import AuditSpanError

CLASS = frozenset({"model.transfer"})
MEBIBYTE = 1 << 20
BIG = b"w" * (11 * MEBIBYTE)
PARTS = TransferConfig(multipart_threshold=5 * MEBIBYTE, multipart_chunksize=5 * MEBIBYTE)
INLINE = TransferConfig(multipart_threshold=5 * MEBIBYTE, multipart_chunksize=5 * MEBIBYTE, use_threads=False)


@pytest.fixture
def hook(local_recorder):
    instrumentor = S3TransferAuditInstrumentor()
    active = []

    def make(settings=None, **changes):
        instrumentor.instrument(recorder=local_recorder(**changes), settings=settings or TransferSettings())
        active.append(instrumentor)

    yield make
    if active:
        instrumentor.uninstrument()


@pytest.fixture
def s3(aws, request):
    made = client("s3", aws)
    made.bucket = f"models-{abs(hash(request.node.name)) % 10**8}"
    made.create_bucket(Bucket=made.bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    return made


def pair(records):
    first, last = records()
    assert first["audit.outcome"] == "started"
    assert last["audit.intent.id"] == first["audit.record.id"]
    assert last["audit.target.type"] == "model.artifact"
    return first, last


def count_calls(s3):
    calls = []
    s3.meta.events.register("before-call.s3", lambda model, **_: calls.append(model.name))
    return calls


@pytest.mark.parametrize("config", [PARTS, INLINE], ids=["threads", "inline"])
def test_an_upload_in_parts_is_one_transfer(hook, s3, records, tmp_path, config):
    hook()
    artifact = tmp_path / "model.safetensors"
    artifact.write_bytes(BIG)
    calls = count_calls(s3)
    at_call = []
    s3.meta.events.register("before-call.s3.CreateMultipartUpload", lambda **_: at_call.append(records()))
    s3.upload_file(str(artifact), s3.bucket, "m/model.safetensors", Config=config)
    assert calls.count("UploadPart") == 3
    assert [[item["audit.outcome"] for item in seen] for seen in at_call] == [["started"]]
    first, last = pair(records)
    assert last["audit.outcome"] == "success"
    assert last["audit.target.id"] == f"s3://{s3.bucket}/m/model.safetensors"
    assert first["export_control.artifact.size"] == last["export_control.artifact.size"] == len(BIG)
    assert last["export_control.transfer.direction"] == last["audit.action"] == "upload"
    assert last["cloud.region"] == REGION
    assert last["audit.actor.id"] == credential_fingerprint(ACCESS_KEY)
    assert s3.head_object(Bucket=s3.bucket, Key="m/model.safetensors")["ContentLength"] == len(BIG)


@pytest.mark.parametrize("own", [None, "eu-central-1"])
def test_a_download_ends_where_this_process_runs(hook, s3, records, tmp_path, own):
    s3.put_object(Bucket=s3.bucket, Key="m", Body=BIG)
    hook(TransferSettings(own_region=own))
    calls = count_calls(s3)
    s3.download_file(s3.bucket, "m", str(tmp_path / "m"), Config=PARTS)
    assert calls.count("GetObject") == 3
    assert (tmp_path / "m").read_bytes() == BIG
    _, last = pair(records)
    assert (last["audit.outcome"], last["export_control.transfer.direction"]) == ("success", "download")
    assert last["export_control.artifact.size"] == len(BIG)
    assert last.get("cloud.region") == own


def test_a_copy_in_parts_is_one_transfer(hook, s3, records):
    s3.put_object(Bucket=s3.bucket, Key="from", Body=BIG)
    hook()
    calls = count_calls(s3)
    s3.copy({"Bucket": s3.bucket, "Key": "from"}, s3.bucket, "to", Config=PARTS)
    assert calls.count("UploadPartCopy") == 3
    _, last = pair(records)
    assert (last["audit.outcome"], last["export_control.transfer.direction"]) == ("success", "copy")
    assert last["audit.target.id"] == f"s3://{s3.bucket}/to"
    assert last["aws.s3.copy_source"] == f"s3://{s3.bucket}/from"


def test_streams_without_a_size_are_transfers_too(hook, s3, records):
    class Pipe(io.RawIOBase):
        left = 3

        def readable(self):
            return True

        def read(self, size=-1):
            self.left -= 1
            return b"x" * 100 if self.left >= 0 else b""

    hook()
    s3.upload_fileobj(Pipe(), s3.bucket, "piped")
    first, last = pair(records)
    assert "export_control.artifact.size" not in first
    assert last["audit.outcome"] == "success"


def test_a_transfer_that_fails_is_recorded_and_raised_unchanged(hook, s3, records, tmp_path):
    hook()
    with pytest.raises(ClientError) as caught:
        s3.download_file(s3.bucket, "absent", str(tmp_path / "x"))
    assert caught.value.response["Error"]["Code"] == "404"
    _, last = pair(records)
    assert (last["audit.outcome"], last["error.type"]) == ("failure", "404")


def test_a_call_that_the_manager_does_not_accept(hook, s3, records, tmp_path):
    hook()
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(ValueError, match="Invalid extra_args"):
        s3.upload_file(str(tmp_path / "x"), s3.bucket, "k", ExtraArgs={"Nonsense": 1})
    assert pair(records)[1]["error.type"] == "ValueError"


def test_an_upload_that_is_cancelled(hook, s3, records):
    from boto3.s3.transfer import create_transfer_manager

    hook()
    slow = TransferConfig(multipart_threshold=5 * MEBIBYTE, max_bandwidth=MEBIBYTE)
    with pytest.raises(KeyboardInterrupt), create_transfer_manager(s3, slow) as manager:
        manager.upload(io.BytesIO(BIG), s3.bucket, "k")
        raise KeyboardInterrupt
    assert pair(records)[1]["audit.outcome"] == "interrupted"


def test_the_subscribers_of_the_caller_are_told_as_before(hook, s3, records):
    from boto3.s3.transfer import create_transfer_manager
    from s3transfer.subscribers import BaseSubscriber

    told = []

    class Mine(BaseSubscriber):
        def on_done(self, future, **kwargs):
            told.append(len(records()))

    hook()
    with create_transfer_manager(s3, PARTS) as manager:
        manager.upload(io.BytesIO(b"small"), s3.bucket, "k", None, [Mine()]).result()
    assert told == [2]
    assert len(records()) == 2


def test_a_call_of_the_callers_own_from_a_worker_thread_is_recorded(hook, s3, records):
    """The calls of a manager are told apart by their object, not by their thread alone."""
    hook()
    done = []

    def progress(count):
        if not done:
            done.append(s3.put_object(Bucket=s3.bucket, Key="side", Body=b"aside"))

    s3.upload_fileobj(io.BytesIO(b"main"), s3.bucket, "main", Callback=progress)
    assert {(item["audit.target.id"].rpartition("/")[2], item["audit.outcome"]) for item in records()} == {
        ("main", "started"), ("main", "success"), ("side", "started"), ("side", "success")
    }  # fmt: skip


def test_direct_calls(hook, s3, records):
    digest = hashlib.sha256(b"weights").digest()
    hook()
    s3.put_object(Bucket=s3.bucket, Key="k", Body=b"weights", ChecksumSHA256=base64.b64encode(digest).decode())
    assert s3.get_object(Bucket=s3.bucket, Key="k")["Body"].read() == b"weights"
    s3.copy_object(Bucket=s3.bucket, Key="k2", CopySource=f"{s3.bucket}/k?versionId=null")
    ends = records()[1::2]
    assert [item["audit.action"] for item in ends] == ["PutObject", "GetObject", "CopyObject"]
    assert [item["export_control.transfer.direction"] for item in ends] == ["upload", "download", "copy"]
    assert {item["audit.outcome"] for item in ends} == {"success"}
    assert ends[0]["export_control.artifact.digest"] == f"sha256:{digest.hex()}"
    assert ends[0]["export_control.artifact.size"] == ends[1]["export_control.artifact.size"] == 7
    assert "cloud.region" not in ends[1]
    assert ends[2]["aws.s3.copy_source"] == f"s3://{s3.bucket}/k"


@pytest.mark.parametrize("end", ["complete", "abort", "elsewhere"])
def test_an_upload_in_parts_by_hand_is_one_transfer(hook, s3, records, end):
    where = {"Bucket": s3.bucket, "Key": "k"}
    if end != "elsewhere":
        hook()
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"p")
    if end == "elsewhere":
        hook()
    if end == "abort":
        s3.abort_multipart_upload(**where, UploadId=upload)
    else:
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    assert pair(records)[1]["audit.outcome"] == ("interrupted" if end == "abort" else "success")


def test_signing_a_url_is_the_transfer_and_the_url_is_in_no_record(hook, s3, records, tmp_path):
    hook()
    url = s3.generate_presigned_url("get_object", Params={"Bucket": s3.bucket, "Key": "m"})
    s3.generate_presigned_url(ClientMethod="put_object", Params={"Bucket": s3.bucket, "Key": "m"}, ExpiresIn=5)
    s3.generate_presigned_url("list_buckets")
    s3.generate_presigned_post(s3.bucket, "form")
    read, write, form = records()
    assert (read["audit.action"], read["audit.outcome"]) == ("presign GetObject", "success")
    assert read["export_control.transfer.direction"] == "grant"
    assert "cloud.region" not in read
    assert write["cloud.region"] == REGION
    assert form["audit.target.id"] == f"s3://{s3.bucket}/form"
    raw = b"".join(path.read_bytes() for path in tmp_path.rglob("*.spool"))
    signature = re.search(r"Signature=([^&]+)", url)[1]
    assert signature.encode() not in raw
    assert b"canary" not in raw


def test_only_what_is_chosen_is_recorded(hook, s3, records, tmp_path):
    hook(TransferSettings.from_environment({"AUDITSPAN_TRANSFER_INCLUDE": r"\.safetensors$"}))
    s3.put_object(Bucket=s3.bucket, Key="notes.txt", Body=b"x")
    s3.upload_fileobj(io.BytesIO(BIG), s3.bucket, "log.bin", Config=PARTS)
    s3.generate_presigned_url("get_object", Params={"Bucket": s3.bucket, "Key": "notes.txt"})
    assert records() == []
    s3.put_object(Bucket=s3.bucket, Key="m.safetensors", Body=b"x")
    assert len(records()) == 2


def test_other_calls_are_not_recorded(hook, s3, aws, records):
    hook()
    s3.list_objects_v2(Bucket=s3.bucket)
    s3.delete_object(Bucket=s3.bucket, Key="k")
    client("sts", aws).get_caller_identity()
    assert records() == []


def test_settings_from_the_environment():
    settings = TransferSettings.from_environment({"OTEL_RESOURCE_ATTRIBUTES": "a=b, cloud.region=eu-west-1"})
    assert settings.own_region == "eu-west-1"
    with pytest.raises(AuditSpanError, match="AUDITSPAN_TRANSFER_INCLUDE"):
        TransferSettings.from_environment({"AUDITSPAN_TRANSFER_INCLUDE": "("})


def test_fail_closed_refuses_before_a_byte_moves(hook, s3, broken):
    hook(fail_closed=CLASS, spool_directory=broken)
    calls = count_calls(s3)
    with pytest.raises(AuditRefused):
        s3.upload_fileobj(io.BytesIO(b"x"), s3.bucket, "k")
    with pytest.raises(AuditRefused):
        s3.put_object(Bucket=s3.bucket, Key="k", Body=b"x")
    with pytest.raises(AuditRefused):
        s3.generate_presigned_url("get_object", Params={"Bucket": s3.bucket, "Key": "k"})
    assert calls == []


def bug(*arguments):
    raise RuntimeError


UNRECOGNISED = {
    "operation": (
        (direct.DirectTransfers, "_find"),
        lambda s3: s3.put_object(Bucket=s3.bucket, Key="k", Body=b"x"),
    ),
    "grant": (
        (direct.DirectTransfers, "_grant"),
        lambda s3: s3.generate_presigned_url("get_object", Params={"Bucket": s3.bucket, "Key": "k"}),
    ),
    "form": ((direct.DirectTransfers, "_grant"), lambda s3: s3.generate_presigned_post(s3.bucket, "k")),
    "arguments": ((managed, "_bind"), lambda s3: s3.upload_fileobj(io.BytesIO(b"x"), s3.bucket, "k")),
}


@pytest.mark.parametrize("place", UNRECOGNISED)
def test_a_bug_in_recognising_a_transfer_is_a_gap(hook, s3, monkeypatch, tmp_path, place):
    (owner, name), transfer = UNRECOGNISED[place]
    monkeypatch.setattr(owner, name, bug)
    hook()
    transfer(s3)
    # A managed transfer that goes unrecognised is a direct call as well.
    assert {reason for reason, _ in told_gaps(tmp_path / "spool")} == {"hook_fault"}


@pytest.mark.parametrize("place", UNRECOGNISED)
def test_fail_closed_refuses_a_transfer_that_a_bug_keeps_from_being_recognised(hook, s3, monkeypatch, place):
    (owner, name), transfer = UNRECOGNISED[place]
    monkeypatch.setattr(owner, name, bug)
    hook(fail_closed=CLASS)
    calls = count_calls(s3)
    with pytest.raises(AuditRefused):
        transfer(s3)
    assert calls == []


def test_an_upload_whose_end_nobody_will_record_is_a_gap(hook, s3, records, monkeypatch, tmp_path):
    monkeypatch.setattr(direct.DirectTransfers, "_remember", bug)
    hook(fail_closed=CLASS)
    assert s3.create_multipart_upload(Bucket=s3.bucket, Key="k")["UploadId"]
    assert [item["audit.outcome"] for item in records()] == ["started"]
    assert told_gaps(tmp_path / "spool") == [("hook_fault", 1)]


def test_a_manager_that_raises_after_it_told_the_end(local_recorder, records):
    """The call of another transfer of the same artifact stays the manager's, and has no records of its own."""
    transfers = managed.ManagedTransfers(TransferSettings(), local_recorder())
    uri = "s3://models/m"
    seen = []

    class Future:
        meta = None

        def result(self):
            return None

    class Manager:
        client = None

    def upload(fileobj, bucket, key, extra_args=None, subscribers=()):
        subscribers[0].on_done(Future())
        transfers.task(lambda: seen.append(transfers.covers(uri)), None, (), {})
        raise ValueError("told already")

    def covering(fileobj, bucket, key, extra_args=None, subscribers=()):
        with pytest.raises(ValueError, match="told already"):
            transfers.submit(upload, Manager(), (b"x", "models", "m"), {})
        transfers.task(lambda: seen.append(transfers.covers(uri)), None, (), {})
        subscribers[0].on_done(Future())

    covering.__name__ = "upload"
    transfers.submit(covering, Manager(), (b"x", "models", "m"), {})
    transfers.task(lambda: seen.append(transfers.covers(uri)), None, (), {})
    assert seen == [True, True, False]
    assert [item["audit.outcome"] for item in records()] == ["started", "started", "success", "success"]


def test_otherwise_the_transfer_goes_on(hook, s3, broken):
    hook(spool_directory=broken)
    s3.upload_fileobj(io.BytesIO(b"x"), s3.bucket, "k")
    assert s3.get_object(Bucket=s3.bucket, Key="k")["Body"].read() == b"x"


def test_a_bug_in_the_hook_breaks_nothing(hook, s3, records, monkeypatch):
    def broken(*arguments):
        raise RuntimeError

    for name in ("_size_before", "declared_digest", "_error_of", "caller_attributes"):
        monkeypatch.setattr(managed, name, broken)
    hook()
    before = sum(FAULTS.values())
    s3.upload_fileobj(io.BytesIO(b"x"), s3.bucket, "k")
    assert sum(FAULTS.values()) == before + 4
    assert [item["audit.outcome"] for item in records()] == ["started", "success"]


def test_after_uninstrument_nothing_is_recorded(hook, s3, records):
    hook()
    S3TransferAuditInstrumentor().uninstrument()
    s3.put_object(Bucket=s3.bucket, Key="k", Body=b"x")
    assert records() == []
    hook()
    s3.put_object(Bucket=s3.bucket, Key="k", Body=b"x")
    assert len(records()) == 2


def test_the_manager_that_moves_bytes_outside_botocore(hook, s3, aws, records, tmp_path):
    pytest.importorskip("awscrt")
    from boto3.crt import CRTS3Client
    from boto3.session import Session
    from s3transfer.crt import BotocoreCRTRequestSerializer, CRTTransferManager, create_s3_crt_client

    assert CRTS3Client
    hook()
    artifact = tmp_path / "m"
    artifact.write_bytes(BIG)
    session = Session(aws_access_key_id=ACCESS_KEY, aws_secret_access_key="x", region_name=REGION)
    serializer = BotocoreCRTRequestSerializer(
        session._session, {"region_name": REGION, "endpoint_url": aws, "use_ssl": False}
    )
    with CRTTransferManager(create_s3_crt_client(REGION, use_ssl=False), serializer) as manager:
        manager.upload(str(artifact), s3.bucket, "crt").result()
        manager.download(s3.bucket, "crt", str(tmp_path / "back")).result()
    assert (tmp_path / "back").read_bytes() == BIG
    told = [(item["export_control.transfer.direction"], item["audit.outcome"]) for item in records()]
    # The manager's own thread tells of an outcome, maybe after its caller went on to the next transfer.
    assert sorted(told, key=lambda each: each[0] == "download") == [
        ("upload", "started"), ("upload", "success"), ("download", "started"), ("download", "success")
    ]  # fmt: skip
    _, uploaded = [item for item in records() if item["export_control.transfer.direction"] == "upload"]
    assert uploaded["cloud.region"] == REGION
    assert uploaded["audit.actor.id"] == credential_fingerprint(ACCESS_KEY)
