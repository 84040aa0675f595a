"""The distribution: what the wheel holds, and what a clean install of it can import."""

import json
import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
HEAVY = ("pyarrow", "chdb", "kafka", "clickhouse_connect", "numpy", "grpc", "pydantic", "cryptography")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def clean_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel and its base dependencies, and nothing of the pipeline."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", str(wheel)]
    subprocess.run(command, check=True, capture_output=True)
    return python


@pytest.fixture(scope="module")
def verifying_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with what an auditor installs: the extra `verify`."""
    folder = tmp_path_factory.mktemp("verify")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"{wheel}[verify]"]
    subprocess.run(command, check=True, capture_output=True)
    return python


def python_files(folder: Path) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in folder.rglob("*.py")}


def test_the_wheel_holds_every_module_under_the_one_name(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = python_files(ROOT / "auditspan")
    for component in ("collectors", "exporters", "instrumentation", "processors"):
        expected |= {f"auditspan/{name}" for name in python_files(ROOT / component)}
    assert expected <= names
    top = {name.split("/")[0] for name in names}
    assert top == {"auditspan", f"auditspan-{SETTINGS['project']['version']}.dist-info"}


def test_the_wheel_holds_its_data(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("auditspan/policy/data", "auditspan/screening/data", "auditspan/store/migrations"):
        data = {str(path.relative_to(ROOT)) for path in (ROOT / folder).iterdir() if path.is_file()}
        assert data <= names
    templates = {path.name for path in (ROOT / "exporters/evidence/templates").iterdir()}
    assert templates and {f"auditspan/exporters/evidence/templates/{name}" for name in templates} <= names
    assert "auditspan/py.typed" in names


def test_a_clean_base_install_imports_the_instrumentation_and_nothing_heavy(clean_python: Path) -> None:
    light = [
        name
        for name in SETTINGS["tool"]["setuptools"]["packages"]
        if name in ("auditspan", "auditspan.semconv") or name.startswith("auditspan.instrumentation")
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {[*light, 'auditspan.instrumentation.distro', 'auditspan.instrumentation.audit']!r}:\n"
        "    importlib.import_module(name)\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([clean_python, "-I", "-c", program], check=True)


def test_the_program_of_a_base_install_says_what_it_needs(clean_python: Path) -> None:
    done = subprocess.run([clean_python.parent / "auditspan", "spool", "status"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and "pip install 'auditspan[pipeline]'" in done.stderr


def test_the_verifier_is_installed_alone(verifying_python: Path, tmp_path: Path) -> None:
    """Packages are verified, determinations made again, with no store, journal or server installed."""
    program = verifying_python.parent / "auditspan"
    listed = subprocess.run(
        [verifying_python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True
    ).stdout
    installed = {re.split(r"[ =@]", line)[0].lower() for line in listed.splitlines()}
    for heavy in ("chdb", "kafka-python", "clickhouse-connect", "starlette", "uvicorn", "grpcio", "pydantic-settings"):
        assert heavy not in installed

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=120)

    frozen = ROOT / "tests" / "exporters" / "evidence" / "frozen" / "format-1"
    done = run("evidence", "verify", frozen / "package", "--trust", frozen / "trust.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("VALID")
    vectors = ROOT / "tests" / "vectors" / "packages"
    with zipfile.ZipFile(vectors / "determination.mismatch.zip") as packed:
        packed.extractall(tmp_path / "package")
    (vector,) = [each for each in json.loads((vectors / "index.json").read_text())
                 if each["package"] == "determination.mismatch.zip"]  # fmt: skip
    keys = [{"algorithm": "Ed25519", "public_key": key, "added_at": "x"} for key in vector["public_keys"]]
    trust = {"version": 1, "deployment": vector["deployment"], "keys": keys}
    (tmp_path / "trust.json").write_text(json.dumps(trust))
    done = run("evidence", "verify", tmp_path / "package", "--trust", tmp_path / "trust.json", "--json")
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["fault_counts"] == vector["fault_counts"]
    # All that the auditor's page asks for.
    valid = (frozen / "package", "--trust", frozen / "trust.json")
    assert run("evidence", "verify", *valid, "--html", tmp_path / "report.html").returncode == 0
    assert "VALID" in (tmp_path / "report.html").read_text()
    printed = run("evidence", "print", *valid, "--out", tmp_path / "records.pdf")
    assert printed.returncode == 0, printed.stderr
    assert (tmp_path / "records.pdf").read_bytes().startswith(b"%PDF")
    assert run("evidence", "diff", frozen / "package", *valid).returncode == 0
    shown = run("keys", "trust", "show", "--trust", tmp_path / "trust.json")
    assert shown.returncode == 0 and "0 of 0 witnesses" in shown.stdout, shown.stderr
    help_of_all = run("--help").stdout
    assert "auditspan[pipeline]" in help_of_all and "evidence" in help_of_all
    for command in (("up", "--data", "x"), ("evidence", "export", "--data", "x", "--out", "y")):
        done = run(*command)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert "pip install 'auditspan[pipeline]'" in done.stderr


def test_every_package_imports_with_the_pipeline(wheel: Path, tmp_path: Path) -> None:
    """The wheel unpacked, so that it is its files and not the checkout's that are imported."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "import importlib, pkgutil, sys\n"
        f"sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "import auditspan\n"
        f"assert auditspan.__file__.startswith({str(tmp_path)!r}), auditspan.__file__\n"
        "names = [module.name for module in pkgutil.walk_packages(auditspan.__path__, 'auditspan.')]\n"
        "assert len(names) > 100, len(names)\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        f"missing = set({SETTINGS['tool']['setuptools']['packages']!r}) - set(names) - {{'auditspan'}}\n"
        "assert not missing, missing\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
