import subprocess
import sys

import pytest

HEAVY = ("pyarrow", "chdb", "kafka", "clickhouse_connect", "numpy", "grpc", "pydantic", "typer", "cryptography", "yaml")


@pytest.mark.parametrize(
    "statement",
    [
        "import auditspan",
        "import auditspan.semconv, auditspan.errors, auditspan.canonical",
        "import auditspan.instrumentation.audit, auditspan.instrumentation.distro, auditspan.instrumentation.adoption",
        "import auditspan.instrumentation.serving.asgi",
        "import auditspan.instrumentation.provisioning.botocore",
        "import auditspan.instrumentation.transfer.s3transfer",
    ],
)
def test_importing_loads_nothing_of_the_pipeline(statement):
    script = f"import sys\n{statement}\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_import_auditspan_loads_no_opentelemetry_either():
    script = "import sys, auditspan\nprint(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"
