"""A reference is what its bytes are, and a broken part never makes one."""

from __future__ import annotations

import hashlib
import json

import pytest

from auditspan.canonical import canonical_json
from auditspan.policy import PARTIES, PolicyError, Reference


def test_the_digest_is_that_of_the_control_body(reference: Reference) -> None:
    body = reference.to_control_body()
    assert reference.digest == hashlib.sha256(canonical_json(body)).hexdigest()
    assert set(body) == {"number", "artifacts", "software"}
    names = [artifact.name for artifact in reference.artifacts]
    assert names == sorted(names)
    for artifact in reference.artifacts:
        assert artifact.sha256 == hashlib.sha256(artifact.content).hexdigest()
        assert artifact.version and artifact.kind in {"pack", "table", "parties", "addresses"}


def test_loading_the_artifacts_gives_the_same_reference(reference: Reference) -> None:
    again = Reference.load({artifact.name: artifact.content for artifact in reference.artifacts}, reference.number)
    assert again.digest == reference.digest
    assert json.loads(canonical_json(again.to_control_body())) == json.loads(
        canonical_json(reference.to_control_body())
    )


def test_another_registry_or_number_is_another_reference(reference: Reference) -> None:
    assert Reference.packaged(b"parties: []").digest != Reference.packaged(b"parties: [ ]").digest
    assert Reference.packaged(number=2).digest != reference.digest
    with pytest.raises(ValueError, match="numbered from 1"):
        Reference.packaged(number=0)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("accelerators.csv", b"model,tpp\nx,1\n", "the head lacks"),
        ("accelerators.csv", b"\xff\xfe", "not UTF-8"),
        ("countries.csv", None, "the reference lacks it"),
        ("ip_country.mmdb.gz", b"\x1f\x8b rubbish", "MaxMind"),
        ("ip_country.mmdb.gz", b"no database at all", "MaxMind"),
        (PARTIES, b"parties: 3", "parties"),
        (PARTIES, b"\x00", "YAML"),
        ("us-ear.yaml", b"", "None"),
        ("notes.txt", b"hello", "nothing here is read from it"),
    ],
)
def test_a_broken_artifact_is_refused(reference: Reference, name: str, content: bytes | None, says: str) -> None:
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    if content is None:
        del artifacts[name]
    else:
        artifacts[name] = content
    with pytest.raises(PolicyError, match=says) as caught:
        Reference.load(artifacts, 2)
    assert caught.value.file == name and caught.value.remedy


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"Chip,,fp8,-5,10,814,true,1,\n", "tpp is '-5'"),
        (b"Chip,,fp8,1e3,10,814,true,1,\n", "tpp is '1e3'"),
        (b"Chip,,fp8,100,10,0,true,1,\n", "logic_die_mm2 is '0'"),
        (b"Chip,,fp8,100,10,814,maybe,1,\n", "data_centre is 'maybe'"),
        (b"Chip,h100,fp8,100,10,814,true,1,\n", "stands for two models"),
        (b"Chip,fp8\n", "2 cells under 9 columns"),
    ],
)
def test_an_absurd_specification_is_refused_at_its_line(reference: Reference, row: bytes, says: str) -> None:
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    lines = artifacts["accelerators.csv"].count(b"\n")
    artifacts["accelerators.csv"] += row
    with pytest.raises(PolicyError, match=says) as caught:
        Reference.load(artifacts, 2)
    assert caught.value.line == lines + 1
