from __future__ import annotations

import dataclasses

import pytest
from auditspan.instrumentation.enforcement.asking import ask
from auditspan.instrumentation.enforcement.settings import EnforcementSettings
from auditspan.instrumentation.recorder import Recorder, set_recorder
from auditspan.instrumentation.settings import InstrumentationSettings
from decision_service import DecisionService
from epoch_in_force import put_in_force
from opentelemetry.sdk.resources import Resource
from spool_contents import spooled

CLASSES = frozenset({"model.transfer", "accelerator.provision"})


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service that decides, under the packs that ship and a small party registry."""
    folder = tmp_path_factory.mktemp("service")
    put_in_force(folder / "reference")
    with DecisionService(folder) as running:
        # Its threads begin with the first question: before any test counts those that it leaves.
        ask(
            InstrumentationSettings(
                token=running.token, enforcement=EnforcementSettings(endpoint=running.endpoint, timeout=30.0)
            ),
            {"audit.event.class": "model.transfer"},
        )
        yield running


@pytest.fixture
def make(service, tmp_path):
    """Make the process's recorder: ``make(enforcement settings…, recorder={…}, resource={…})``; records stay in the
    spool.
    """
    made = []

    def of(recorder=None, resource=None, **enforcement):
        settings = InstrumentationSettings(
            endpoint="http://127.0.0.1:9",
            token=service.token,
            spool_directory=tmp_path / "spool",
            exit_timeout=0.0,
            heartbeat_interval=0.0,
            enforcement=EnforcementSettings(
                **{"classes": CLASSES, "endpoint": service.endpoint, "timeout": 20.0, **enforcement}
            ),
        )
        made.append(
            Recorder(
                dataclasses.replace(settings, **(recorder or {})),
                resource=Resource(resource) if resource is not None else None,
            )
        )
        set_recorder(made[-1])
        return made[-1]

    yield of
    set_recorder(None)
    for recorder in made:
        recorder.close()


@pytest.fixture
def records(tmp_path):
    """The records of a class so far."""

    def read(event_class="accelerator.provision"):
        return spooled(tmp_path / "spool", event_class) if (tmp_path / "spool").exists() else []

    return read
