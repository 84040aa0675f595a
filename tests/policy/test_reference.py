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
    ("table", "row", "says"),
    [
        ("accelerators.csv", b"Chip,0,true,1,\n", "logic_die_mm2 is '0'"),
        ("accelerators.csv", b"Chip,9e9,true,1,\n", "logic_die_mm2 is '9e9'"),
        ("accelerators.csv", b"Chip,814,maybe,1,\n", "data_centre is 'maybe'"),
        ("accelerators.csv", b"Chip,814,true,-1,\n", "dram_bandwidth is '-1'"),
        ("accelerators.csv", b"H100-SXM,814,true,1,\n", "stands for two models"),
        ("accelerators.csv", b"T4,814,true,1,\n", "occurs twice"),
        ("accelerators.csv", b"Chip,814\n", "2 cells under 5 columns"),
        ("accelerator_performance.csv", b"T4,fp8,8,-5,10,dense,x\n", "tops is '-5'"),
        ("accelerator_performance.csv", b"T4,fp8,8,1e3,10,dense,x\n", "tops is '1e3'"),
        ("accelerator_performance.csv", b"T4,fp8,8,0,10,dense,x\n", "tops is '0'"),
        ("accelerator_performance.csv", b"T4,fp8,8,999999999,10,dense,x\n", "tops is '999999999'"),
        ("accelerator_performance.csv", b"T4,fp8,16,100,10,dense,x\n", "bit_length is 16 for fp8"),
        ("accelerator_performance.csv", b"T4,tf32,,100,10,dense,x\n", "whose bit length its name does not say"),
        ("accelerator_performance.csv", b"T4,odd,129,100,10,dense,x\n", "bit_length is 129"),
        ("accelerator_performance.csv", b"T4,fp8,8,100,10,sparse,x\n", "sparsity is 'sparse'"),
        ("accelerator_performance.csv", b"T4,fp8,8,100,10,,x\n", "sparsity is ''"),
        ("accelerator_performance.csv", b"T4,int8,8,100,10,dense,x\n", "int8 of T4 occurs twice"),
        ("accelerator_performance.csv", b"Chip,int8,8,100,10,dense,x\n", "no model 'Chip'"),
        ("accelerator_names.csv", b"product,h100,T4\n", "stands for two models"),
        ("accelerator_names.csv", b"product,chip,Chip\n", "no model 'Chip'"),
        ("accelerator_names.csv", b"pci,2330,T4\n", "is no pci name"),
        ("accelerator_lines.csv", b"heat,1,,,2023-11-17,x,y\n", "quantity is 'heat'"),
        ("accelerator_lines.csv", b"tpp,0,,,2023-11-17,x,y\n", "at is '0'"),
        ("accelerator_lines.csv", b"tpp,1,,,soon,x,y\n", "'soon' is not YYYY-MM-DD"),
    ],
)
def test_an_absurd_specification_is_refused_at_its_line(
    reference: Reference, table: str, row: bytes, says: str
) -> None:
    artifacts = {artifact.name: artifact.content for artifact in reference.artifacts}
    lines = artifacts[table].count(b"\n")
    artifacts[table] += row
    with pytest.raises(PolicyError, match=says) as caught:
        Reference.load(artifacts, 2)
    assert (caught.value.file, caught.value.line) == (table, lines + 1)
