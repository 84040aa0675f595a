"""`auditspan keys rotate`: on a running service under load, on a stopped one, killed in between, and beside a copy."""

from __future__ import annotations

import base64
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from final_checks import catch_up
from running_service import Service
from sent_spans import Sent, foreign_request
from waiting import until

from auditspan.ledger.keys import load_signing_key
from auditspan.ledger.rotating import KeyFiles, begin_rotation
from auditspan.ledger.signing_key import key_id, public_bytes
from auditspan.ledger.trust import load_trust


@pytest.fixture
def service(new_service: Callable[..., Service]) -> Iterator[Service]:
    made = new_service()
    made.start()
    yield made


def rotate(service: Service, *options: str, status: int = 0) -> Any:
    return service.run("keys", "rotate", "--data", service.data, *options, status=status)


def verify(service: Service, package: Path, trust: Path, status: int = 0) -> Any:
    return service.run("evidence", "verify", package, "--trust", trust, status=status)


def exported(service: Service, out: Path) -> Path:
    service.run("evidence", "export", "--data", service.data, "--out", out)
    return out


def signing(service: Service) -> str:
    return key_id(load_signing_key(service.directory.signing_key).public_key())


def secrets(service: Service) -> list[bytes]:
    found = []
    for path in service.directory.signing_key.parent.iterdir():
        content = path.read_bytes()
        if path.suffix == ".pem":
            found.append(b"".join(content.splitlines()[1:-1])[20:])
        elif path.name == "salt.key":
            found += [content, content.hex().encode(), base64.b64encode(content), repr(content).encode()[2:-1]]
    assert len(found) >= 5
    return found


@pytest.mark.timeout(600)
def test_under_load_nothing_is_lost_and_every_package_verifies_with_every_trust(
    service: Service, tmp_path: Path
) -> None:
    sender = Sent("gateway", service.token("gateway"))
    enough = threading.Event()

    def send() -> None:
        while not enough.is_set():
            assert sender.deliver(service, foreign_request(5), threading.Event())
            enough.wait(0.02)

    thread = threading.Thread(target=send)
    thread.start()
    trusts, packages, keys = [], [], [signing(service)]
    try:
        for number in range(3):
            catch_up(service)
            trusts.append(shutil.copy(service.directory.trust, tmp_path / f"trust-{number}.json"))
            packages.append(exported(service, tmp_path / f"package-{number}"))
            if number < 2:
                said = rotate(service, "--overlap-hours", "1")
                assert said["in_use"] and (said["from"], said["to"]) == (keys[-1], signing(service))
                keys.append(said["to"])
                until(lambda said=said: sealed_rotations(service) == len(keys) - 1, "the rotation to be sealed")
    finally:
        enough.set()
        thread.join()
    assert len(set(keys)) == 3
    for made, package in enumerate(packages):
        for known, trust in enumerate(trusts):
            report = verify(service, package, trust)
            assert report["verdict"] == "VALID", (made, known, report["faults"])
            assert report["keys"] == [keys[made]]
            by_rotation = [note for note in report["notes"] if "trusted by rotation" in note]
            assert len(by_rotation) == max(made - known, 0)
    catch_up(service)
    assert service.run("ledger", "check", "--data", service.data, "--full")["verdict"] == "WHOLE"
    assert service.run("replay", "--verify", "--data", service.data)["verdict"] == "IDENTICAL"
    text = service.log.read_bytes() + b"".join(
        path.read_bytes() for package in packages for path in package.rglob("*") if path.is_file()
    )
    assert not [secret for secret in secrets(service) if secret in text]


def sealed_rotations(service: Service) -> int:
    return len(service.rows("SELECT leaf_index FROM auditspan.events WHERE class = 'audit.key.rotated'"))


def test_on_a_stopped_service_the_next_start_seals_it(service: Service, tmp_path: Path) -> None:
    catch_up(service)
    old = shutil.copy(service.directory.trust, tmp_path / "old.json")
    service.stop()
    before = signing(service)
    said = rotate(service)
    assert not said["in_use"] and signing(service) == said["to"] != before
    # Nothing vouches for the new key yet, as far as it is signed.
    refused = service.run("evidence", "export", "--data", service.data, "--out", tmp_path / "no", status=1)
    assert "names last" in refused["message"]
    service.start()
    until(lambda: sealed_rotations(service) == 1, "the rotation to be sealed")
    catch_up(service)
    package = exported(service, tmp_path / "package")
    for trust in (old, service.directory.trust):
        assert verify(service, package, trust)["verdict"] == "VALID"


def test_interrupted_between_statement_and_files_it_goes_on(service: Service) -> None:
    catch_up(service)
    files = KeyFiles(service.directory.signing_key, service.directory.trust)
    before = signing(service)
    body = begin_rotation(files, load_trust(files.trust).deployment, time.time_ns(), 3600)
    service.kill()
    service.start()
    assert signing(service) == before
    said = rotate(service)
    assert said["at"] == body["statement"]["at"], "the same rotation"
    assert said["in_use"]
    again = rotate(service)
    assert again["from"] == said["to"], "the next one is another"
    assert [len(load_trust(files.trust).keys), len(load_trust(files.trust).retired_at)] == [3, 2]


def test_a_directory_with_another_key_or_a_retired_one_does_not_start(service: Service, tmp_path: Path) -> None:
    catch_up(service)
    service.stop()
    other = Service(tmp_path / "other")
    other.run("keys", "init", "--data", other.data)
    kept = service.directory.signing_key.read_bytes()
    listen = ("--otlp-http=127.0.0.1:0", "--otlp-grpc=127.0.0.1:0", "--sql=127.0.0.1:0")
    service.directory.signing_key.write_bytes(other.directory.signing_key.read_bytes())
    refused = service.run("up", "--data", service.data, *listen, status=1)
    assert "none of the keys in" in refused["message"]
    # With a trust.json that fits, the control log still says whose it is.
    trust = service.directory.trust.read_bytes()
    service.directory.trust.write_bytes(other.directory.trust.read_bytes())
    refused = service.run("up", "--data", service.data, *listen, status=1)
    assert "is none that the control log" in refused["message"]
    service.directory.signing_key.write_bytes(kept)
    document = json.loads(trust)
    document["keys"][0]["retired_at"] = "2026-01-01T00:00:00Z"
    service.directory.trust.write_text(json.dumps(document))
    refused = service.run("up", "--data", service.data, *listen, status=1)
    assert "is retired" in refused["message"] and "auditspan keys rotate" in refused["remedy"]


def test_nothing_is_made_where_there_is_nothing_to_rotate(tmp_path: Path) -> None:
    made = Service(tmp_path / "data")
    made.run("keys", "init", "--data", made.data)

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in made.data.rglob("*") if path.is_file() and path.name != "lock"}

    before = files()
    refused = rotate(made, status=1)
    assert "has sealed nothing yet" in refused["message"]
    assert files() == before


def test_too_short_an_overlap_is_refused(service: Service) -> None:
    catch_up(service)
    refused = rotate(service, "--overlap-hours", "0.001", status=1)
    assert "too short" in refused["message"]
    assert len(load_trust(service.directory.trust).keys) == 1
    assert public_bytes(load_trust(service.directory.trust).keys[0])
