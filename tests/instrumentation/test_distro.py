"""Under ``opentelemetry-instrument``: the host's telemetry as it was, and the stated policies."""

import shutil
import sys
from pathlib import Path

import pytest

INITIALIZE = """
from opentelemetry.instrumentation.auto_instrumentation import initialize
initialize()
"""


def distro(**more):
    return {"OTEL_PYTHON_DISTRO": "auditspan", "OTEL_PYTHON_CONFIGURATOR": "auditspan", **more}


def test_an_application_that_sets_its_own_provider_still_can(run_python):
    run_python(
        INITIALIZE
        + """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
provider = TracerProvider()
trace.set_tracer_provider(provider)
assert trace.get_tracer_provider() is provider
""",
        **distro(),
    )


def test_the_hosts_sampler_and_exporter_are_as_the_environment_says(run_python, collector):
    process = run_python(
        INITIALIZE
        + """
from opentelemetry import trace
provider = trace.get_tracer_provider()
processors = provider._active_span_processor._span_processors
print(provider.sampler.get_description(), [type(p.span_exporter).__name__ for p in processors])
with trace.get_tracer('host').start_as_current_span('host'):
    from auditspan.instrumentation import audit
    audit.record('model.access', {'audit.action': 'chat'})
""",
        **distro(OTEL_TRACES_EXPORTER="otlp_proto_http", OTEL_TRACES_SAMPLER="always_off"),
    )
    sampler, exporters = process.stdout_text.strip().split(" ", 1)
    assert sampler == "AlwaysOffSampler"
    assert exporters == "['OTLPSpanExporter']"
    assert collector.actions() == ["chat"]
    assert all(item.span.name != "host" for item in collector.received)


def test_exporter_none_leaves_a_provider_without_exporter(run_python):
    run_python(
        INITIALIZE
        + """
from opentelemetry import trace
assert trace.get_tracer_provider()._active_span_processor._span_processors == ()
""",
        **distro(OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="none"),
    )


def test_opentelemetry_instrument_loads_the_distro(run_python, collector):
    command = shutil.which("opentelemetry-instrument", path=str(Path(sys.executable).parent))
    script = "from auditspan.instrumentation import audit; audit.record('model.access', {'audit.action': 'cli'})"
    run_python(f"import os; os.execv({command!r}, [{command!r}, {sys.executable!r}, '-c', {script!r}])", **distro())
    assert collector.actions() == ["cli"]


def test_kill_switch_loads_no_hook_and_records_nothing(run_python, spool):
    run_python(
        INITIALIZE
        + """
import sys
from auditspan.instrumentation import audit
audit.record('model.access', {})
assert 'auditspan.instrumentation.serving.asgi' not in sys.modules
""",
        **distro(AUDITSPAN_DISABLED="true"),
    )
    assert not spool.exists()


@pytest.mark.parametrize(
    "broken", [{"AUDITSPAN_SPOOL_DIRECTORY": "/proc/no/such"}, {"AUDITSPAN_MODE": "fast"}], ids=["spool", "settings"]
)
def test_self_test_failure_continues_by_default_and_refuses_when_told(run_python, broken):
    script = INITIALIZE + "print('served')"
    assert run_python(script, **distro(**broken)).stdout_text == "served\n"
    refused = run_python(script, code=1, **distro(**broken, AUDITSPAN_ON_SELF_TEST_FAILURE="refuse"))
    assert refused.stdout_text == ""


def test_a_spool_that_cannot_be_used_leaves_the_hosts_telemetry_as_it_was(run_python, tmp_path):
    spool = tmp_path / "no-spool"
    spool.touch()
    process = run_python(
        INITIALIZE
        + """
from opentelemetry import trace
processors = trace.get_tracer_provider()._active_span_processor._span_processors
print([type(p.span_exporter).__name__ for p in processors])
""",
        **distro(OTEL_TRACES_EXPORTER="otlp_proto_http", AUDITSPAN_SPOOL_DIRECTORY=str(spool)),
    )
    assert process.stdout_text == "['OTLPSpanExporter']\n"


BROKEN_HOOK = """
import auditspan.instrumentation.distro as distro
from importlib.metadata import EntryPoint
entry = EntryPoint('auditspan_broken', 'auditspan.instrumentation.no_such_hook:X', 'opentelemetry_instrumentor')
d = distro.AuditSpanDistro()
d.configure()
d.load_instrumentor(entry, skip_dep_check=True)
print('served')
"""


def test_import_failure_continues_by_default_and_refuses_when_told(run_python):
    assert run_python(BROKEN_HOOK).stdout_text == "served\n"
    assert run_python(BROKEN_HOOK, code=1, AUDITSPAN_ON_IMPORT_FAILURE="refuse").stdout_text == ""


def test_start_up_ships_what_a_dead_process_left(run_python, collector, spool):
    run_python(
        "import os\nfrom auditspan.instrumentation import audit\n"
        "audit.record('model.access', {'audit.action': 'left'})\nos.kill(os.getpid(), 9)",
        code=-9,
        AUDITSPAN_ENDPOINT="http://127.0.0.1:9",
    )
    process = run_python(INITIALIZE + "import sys; sys.stdin.readline()", wait=False, **distro())
    assert collector.wait_for(lambda it: it.actions() == ["left"])
    process.communicate("\n", timeout=20)
    assert process.returncode == 0


def test_self_test_leaves_nothing_and_says_what_is_wrong(settings, spool):
    from auditspan.instrumentation.self_test import self_test

    assert self_test(settings) == []
    assert list(spool.iterdir()) == []
    spool.chmod(0o777)
    (problem,) = self_test(settings)
    assert "chmod" in problem
