"""The rules of who may import whom, checked on the imports themselves."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMPONENTS = ("collectors", "exporters", "instrumentation", "processors")
STANDARD_AND_OPENTELEMETRY_ONLY = [
    ROOT / "auditspan" / "__init__.py",
    ROOT / "auditspan" / "semconv.py",
    ROOT / "auditspan" / "errors.py",
    *sorted((ROOT / "instrumentation").rglob("*.py")),
]
# What the base install declares (pyproject.toml), and what a hook hooks: that is there whenever the hook runs.
BASE_INSTALL = {"opentelemetry", "wrapt", "google"}
HOOKED = {"botocore", "s3transfer", "awscrt", "starlette", "fastapi", "boto3"}

# Inside a function, or for type checkers: `auditspan.decide` needs the pipeline when it is called, and importing the
# package loads none of it (tests/instrumentation/test_import_weight.py).
WHEN_CALLED = {ROOT / "auditspan" / "__init__.py": {"auditspan.policy.decision", "auditspan.policy.snapshot"}}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names that a file imports, with the line; relative imports stay inside a component."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or "", node.lineno


def is_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("component", COMPONENTS)
def test_no_component_imports_another(component: str) -> None:
    others = [f"auditspan.{other}" for other in COMPONENTS if other != component]
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in (ROOT / component).rglob("*.py")
        for name, line in imports(path)
        if any(is_in(name, other) for other in others) or is_in(name, "auditspan.cli")
    ]
    assert not faults


def test_the_core_imports_no_component_and_only_the_cli_wires() -> None:
    core = [path for path in (ROOT / "auditspan").rglob("*.py") if "cli" not in path.relative_to(ROOT).parts]
    assert len(core) > 20
    faults = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in core
        for name, line in imports(path)
        if any(is_in(name, f"auditspan.{component}") for component in (*COMPONENTS, "cli"))
    ]
    assert not faults


@pytest.mark.parametrize("path", STANDARD_AND_OPENTELEMETRY_ONLY, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_serving_process_loads_needs_the_base_install_only(path: Path) -> None:
    import sys

    allowed = set(sys.stdlib_module_names) | BASE_INSTALL | HOOKED
    core = ("auditspan.semconv", "auditspan.errors", "auditspan.canonical", "auditspan.instrumentation")
    faults = [
        f"line {line} imports {name}"
        for name, line in imports(path)
        if name.split(".")[0] not in allowed
        and name != "auditspan"
        and not any(is_in(name, part) for part in core)
        and name not in WHEN_CALLED.get(path, ())
    ]
    assert not faults
