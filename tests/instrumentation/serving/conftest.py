from __future__ import annotations

import asyncio
import dataclasses

import pytest
from auditspan.instrumentation.recorder import Recorder
from auditspan.instrumentation.serving.middleware import AuditMiddleware
from auditspan.instrumentation.settings import InstrumentationSettings
from hooked import Driver, http_scope
from spool_contents import spooled

UNREACHABLE = "http://127.0.0.1:9"


@pytest.fixture
def local_recorder(tmp_path):
    """Makes recorders whose records stay in the spool."""
    made = []

    def make(**changes):
        settings = InstrumentationSettings(
            endpoint=UNREACHABLE, spool_directory=tmp_path / "spool", exit_timeout=0.0, heartbeat_interval=0.0
        )
        made.append(Recorder(dataclasses.replace(settings, **changes)))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


@pytest.fixture
def records(tmp_path):
    """Reads the model accesses recorded so far."""
    return lambda: spooled(tmp_path / "spool", "model.access") if (tmp_path / "spool").exists() else []


@pytest.fixture
def serve(local_recorder):
    """Runs one request through the middleware around an application."""
    recorders = []

    def run(application, scope=None, incoming=None, *, recorder=None, settings=None, driver=None, **changes):
        if recorder is None:
            if not recorders:
                recorders.append(local_recorder(**changes))
            recorder = recorders[0]
        driver = driver or (Driver() if incoming is None else Driver(incoming))
        middleware = AuditMiddleware(application, recorder=recorder, settings=settings)
        asyncio.run(middleware(scope or http_scope(), driver.receive, driver.send))
        return driver

    return run
