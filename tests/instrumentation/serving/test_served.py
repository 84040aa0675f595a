"""Real servers, started as a user starts them, with the example endpoint that knows nothing of the audit."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from auditspan.instrumentation.fingerprint import credential_fingerprint
from spool_contents import spooled
from waiting import until

EXAMPLES = Path(__file__).parents[3] / "examples"
SCRIPTS = Path(sys.executable).parent
PROMPT = "canary-prompt-of-a-customer"
APP = "inference_endpoint.app:app"


_ports = itertools.count(20_000 + 1_000 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]))
"""Below those that the kernel gives to anybody who asks for a free one, some for each worker."""


def free_port():
    for port in _ports:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Server:
    def __init__(self, command, tmp_path, **environment):
        self.spool = tmp_path / "spool"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        clean = {name: text for name, text in os.environ.items() if not name.startswith(("AUDITSPAN_", "OTEL_"))}
        self.log = tmp_path / "server.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [SCRIPTS / "opentelemetry-instrument", SCRIPTS / command[0]]
                + [part.format(port=self.port) for part in command[1:]],
                cwd=EXAMPLES,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **clean,
                    "OTEL_PYTHON_DISTRO": "auditspan",
                    "OTEL_PYTHON_CONFIGURATOR": "auditspan",
                    "OTEL_SERVICE_NAME": "inference",
                    "AUDITSPAN_ENDPOINT": "http://127.0.0.1:9",
                    "AUDITSPAN_SPOOL_DIRECTORY": str(self.spool),
                    **environment,
                },
            )
        try:
            self._wait_started()
        except BaseException:
            self.kill()
            raise

    def _wait_started(self):
        deadline = time.monotonic() + 120
        with httpx.Client(trust_env=False, timeout=5) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if client.get(f"{self.url}/healthz").status_code == 200:
                        return
                assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.05)

    def records(self):
        return spooled(self.spool, "model.access") if self.spool.exists() else []

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=20)


@pytest.fixture
def start(tmp_path):
    servers = []

    def make(*command, **environment):
        servers.append(Server(command, tmp_path, **environment))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()


UVICORN = ("uvicorn", APP, "--app-dir", ".", "--port", "{port}", "--no-access-log")
KEY = "demo-key-fjord-d0461b8c"


def chat(url, key=KEY, **more):
    document = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 12, **more.pop("body", {})}
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return httpx.post(f"{url}/v1/chat/completions", json=document, headers=headers, timeout=30, **more)


def test_an_unchanged_endpoint_is_recorded(start, tmp_path):
    server = start(*UVICORN)
    unary = chat(server.url, body={"model": "paperwork-4gram"}).json()
    events = [line[6:] for line in chat(server.url, body={"stream": True}).text.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert chat(server.url, key="wrong").status_code == 401
    assert httpx.get(f"{server.url}/openapi.json").status_code == 200
    first, began, ended, denied = server.records()
    assert first["audit.actor.id"] == began["audit.actor.id"] == credential_fingerprint(KEY)
    assert first["audit.outcome"] == "success"
    assert first["gen_ai.request.model"] == "paperwork-4gram"
    assert first["gen_ai.response.model"] == unary["model"]
    assert first["gen_ai.usage.input_tokens"] == unary["usage"]["prompt_tokens"]
    assert first["gen_ai.usage.output_tokens"] == unary["usage"]["completion_tokens"]
    assert first["http.route"] == "/v1/chat/completions"
    assert (began["audit.outcome"], ended["audit.outcome"]) == ("started", "success")
    assert ended["gen_ai.usage.output_tokens"] == json.loads(events[-2])["usage"]["completion_tokens"]
    assert (denied["audit.outcome"], denied["http.response.status_code"]) == ("denied", 401)
    assert denied["audit.actor.id"] == credential_fingerprint("wrong")
    server.kill()
    raw = b"".join(path.read_bytes() for path in server.spool.rglob("*") if path.is_file())
    answer = unary["choices"][0]["message"]["content"]
    assert PROMPT.encode() not in raw
    assert answer.encode() not in raw
    assert KEY.encode() not in raw


def test_what_the_server_believes_of_proxies_is_not_what_is_recorded(start):
    """uvicorn believes ``X-Forwarded-For`` from loopback by default; the record believes nobody by default."""
    server = start(*UVICORN)
    chat(server.url, headers={"x-forwarded-for": "198.51.100.1"})
    assert server.records()[0]["client.address"] == "127.0.0.1"
    server.kill()


def test_a_trusted_proxy_is_believed(start):
    server = start(*UVICORN, AUDITSPAN_TRUSTED_PROXIES="127.0.0.0/8, 10.0.0.0/8")
    chat(server.url, headers={"x-forwarded-for": "6.6.6.6, 198.51.100.1, 10.1.2.3"})
    assert server.records()[0]["client.address"] == "198.51.100.1"
    server.kill()


def test_a_client_that_leaves_is_recorded(start):
    server = start(*UVICORN, INFERENCE_TOKENS_PER_SECOND="40")
    with httpx.stream(
        "POST",
        f"{server.url}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "x"}], "max_tokens": 2000, "stream": True},
        headers={"authorization": f"Bearer {KEY}"},
    ) as response:
        next(response.iter_bytes())
    until(lambda: len(server.records()) >= 2, "the outcome")
    began, ended = server.records()
    assert (began["audit.outcome"], ended["audit.outcome"]) == ("started", "interrupted")


@pytest.mark.crash
@pytest.mark.parametrize(
    "command",
    [
        (*UVICORN, "--workers", "2"),
        ("gunicorn", APP, "--preload", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:{port}"),
        ("gunicorn", APP, "--preload", "-w", "2", "-k", "asgi", "-b", "127.0.0.1:{port}"),
    ],
    ids=["uvicorn-workers", "gunicorn-preload-uvicorn", "gunicorn-preload-asgi"],
)
def test_every_worker_records_and_a_kill_loses_nothing(start, tmp_path, command):
    """A load of unary and streamed requests, each with a key of its own; SIGKILL to all processes in its middle."""
    keys = [f"key-of-request-{number}" for number in range(300)]
    holders = tmp_path / "keys.txt"
    holders.write_text("".join(f"{key} customer\n" for key in keys))
    server = start(*command, INFERENCE_KEYS=str(holders), INFERENCE_TOKENS_PER_SECOND="100")
    seen: dict[str, bytes] = {}
    enough = threading.Event()

    def one(number):
        key = keys[number]
        body = {"messages": [{"role": "user", "content": PROMPT}], "max_tokens": 20, "stream": number % 2 == 0}
        if enough.is_set():
            return
        try:
            with client.stream(
                "POST",
                f"{server.url}/v1/chat/completions",
                json=body,
                headers={"authorization": f"Bearer {key}"},
                timeout=20,
            ) as response:
                # Getting here means that the head of the response has come.
                seen[key] = b"head"
                for piece in response.iter_raw():
                    seen[key] += piece
                if len(seen) >= 40:
                    enough.set()
        except httpx.TransportError:
            pass

    with httpx.Client(trust_env=False) as client, ThreadPoolExecutor(8) as pool:
        load = [pool.submit(one, number) for number in range(len(keys))]
        assert enough.wait(60), server.log.read_text()
        server.kill()
        for request in load:
            request.result()
    records = server.records()
    by_actor = Counter((record["audit.actor.id"], record["audit.outcome"]) for record in records)
    assert len(seen) >= 40
    for key, content in seen.items():
        streamed = int(key.rpartition("-")[2]) % 2 == 0
        actor = credential_fingerprint(key)
        outcomes = {outcome: count for (who, outcome), count in by_actor.items() if who == actor}
        assert outcomes, f"{key} saw {content[:60]!r} and is not recorded"
        assert set(outcomes.values()) == {1}
        if b"[DONE]" in content:
            assert outcomes == {"started": 1, "success": 1}
        elif not streamed:
            assert outcomes == {"success": 1}
        else:
            assert outcomes["started"] == 1
    assert any(len(content) > 4 and b"[DONE]" not in content for content in seen.values())


@pytest.mark.parametrize(
    "command",
    [
        UVICORN,
        (*UVICORN, "--workers", "2"),
        ("gunicorn", APP, "--preload", "-w", "2", "-k", "uvicorn.workers.UvicornWorker", "-b", "127.0.0.1:{port}"),
    ],
    ids=["uvicorn", "uvicorn-workers", "gunicorn-uvicorn"],
)
def test_a_server_that_is_told_to_stop_closes_its_streams(start, command):
    """Unlike one that is killed: without a last record nobody could say that none is missing at the end."""
    server = start(*command)
    for _ in range(4):
        assert chat(server.url).status_code == 200
    server.process.send_signal(signal.SIGTERM)
    server.process.wait(timeout=60)
    opened, closed = (spooled(server.spool, f"audit.stream.{what}") for what in ("opened", "closed"))
    assert len(opened) >= 1
    assert {record["audit.actor.id"] for record in closed} == {record["audit.actor.id"] for record in opened}
    assert len(server.records()) == 4
