"""Real botocore against a real moto server, for the hooks of AWS clients."""

from __future__ import annotations

import boto3
from botocore.config import Config

ACCESS_KEY = "AKIADEMOPLATFORM0001"
SECRET = "canary-secret-access-key"
REGION = "ap-southeast-1"


def client(service, endpoint, **more):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=more.pop("region", REGION),
        aws_access_key_id=more.pop("key", ACCESS_KEY),
        aws_secret_access_key=SECRET,
        config=Config(retries={"max_attempts": 1}, **more),
    )
