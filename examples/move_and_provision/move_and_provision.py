"""An ordinary day of a platform engineer: put a model artifact into S3, start machines to serve it.

    AWS_ENDPOINT_URL=http://127.0.0.1:5000 python examples/move_and_provision/move_and_provision.py

Plain boto3; the variables ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` are boto3's own.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from pathlib import Path

import boto3
from boto3.s3.transfer import TransferConfig

MEBIBYTE = 1 << 20


def write_artifact(path: Path, mebibytes: int, *, seed: int = 7) -> None:
    """A file of the size of a small model; its content follows from the seed."""
    source = random.Random(seed)
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(source.randbytes(MEBIBYTE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bucket", default="frontier-models")
    parser.add_argument("--key", default="paperwork-4gram/model.safetensors")
    parser.add_argument("--mebibytes", type=int, default=12)
    parser.add_argument("--region", default="ap-east-1", help="where the bucket and the machines are")
    parser.add_argument("--image", default="ami-12c6146b")
    parser.add_argument("--instance-type", default="p5.48xlarge")
    parser.add_argument("--count", type=int, default=2)
    arguments = parser.parse_args()

    s3 = boto3.client("s3", region_name=arguments.region)
    location = {} if arguments.region == "us-east-1" else {"LocationConstraint": arguments.region}
    s3.create_bucket(Bucket=arguments.bucket, **({"CreateBucketConfiguration": location} if location else {}))
    with tempfile.TemporaryDirectory() as folder:
        artifact = Path(folder) / "model.safetensors"
        write_artifact(artifact, arguments.mebibytes)
        parts = TransferConfig(multipart_threshold=5 * MEBIBYTE, multipart_chunksize=5 * MEBIBYTE)
        s3.upload_file(str(artifact), arguments.bucket, arguments.key, Config=parts)
    print(f"uploaded {arguments.mebibytes} MiB to s3://{arguments.bucket}/{arguments.key}")

    ec2 = boto3.client("ec2", region_name=arguments.region)
    answer = ec2.run_instances(
        ImageId=arguments.image,
        InstanceType=arguments.instance_type,
        MinCount=arguments.count,
        MaxCount=arguments.count,
    )
    for instance in answer["Instances"]:
        print(f"started {instance['InstanceType']} {instance['InstanceId']} in {arguments.region}")


if __name__ == "__main__":
    main()
