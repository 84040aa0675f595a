from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import threading

import pytest
from auditspan.instrumentation.recorder import Recorder, set_recorder
from auditspan.instrumentation.settings import InstrumentationSettings
from loopback_collector import LoopbackCollector


@pytest.fixture
def collector():
    server = LoopbackCollector()
    yield server
    server.close()


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def settings(collector, spool):
    return InstrumentationSettings(
        endpoint=collector.endpoint,
        token="tok-123",
        spool_directory=spool,
        backoff_initial=0.01,
        backoff_limit=0.05,
        exit_timeout=5.0,
        adoption_interval=0.2,
        heartbeat_interval=0.0,
    )


@pytest.fixture
def make_recorder(settings):
    made = []

    def make(**changes):
        recorder = Recorder(dataclasses.replace(settings, **changes))
        made.append(recorder)
        return recorder

    yield make
    for recorder in made:
        recorder.close()
    set_recorder(None)


@pytest.fixture
def recorder(make_recorder):
    return make_recorder()


@pytest.fixture
def run_python(collector, spool):
    """Run a script in a process of its own; gives the Popen, with pipes for stdin and stdout."""
    running = []

    def run(script, *arguments, wait=True, code=0, **environment):
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **{name: text for name, text in os.environ.items() if not name.startswith(("AUDITSPAN_", "OTEL_"))},
                "AUDITSPAN_ENDPOINT": collector.endpoint,
                "AUDITSPAN_SPOOL_DIRECTORY": str(spool),
                # What is recorded is with the collector when the process has ended, also on a slow machine.
                "AUDITSPAN_EXIT_TIMEOUT_SECONDS": "20",
                **environment,
            },
        )
        running.append(process)
        if wait:
            process.stdout_text = process.communicate(timeout=60)[0]
            assert process.returncode == code, process.stdout_text
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def access():
    """Attributes of a model access with an action of one's own, to recognise it by."""

    def make(action="chat", **more):
        return {
            "audit.action": action,
            "audit.actor.id": "sha256:9f86d081884c7d659a2feaa0c55ad015",
            "audit.outcome": "success",
            "audit.target.id": "tiny",
            **more,
        }

    return make


@pytest.fixture(autouse=True)
def _no_thread_left():
    before = {thread.ident for thread in threading.enumerate()}
    yield
    for thread in threading.enumerate():
        if thread.ident not in before and thread.name.startswith("auditspan-"):
            thread.join(timeout=10)
            assert not thread.is_alive(), thread.name
