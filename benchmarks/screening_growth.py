"""How the cost of screening grows with the list: 1, 4 and 16 times the real one, each in processes of its own.

    python -m benchmarks.screening_growth [--quick] [--json]

A larger list is made of the real one: to its entries come copies whose names are dealt anew from the words of all
names of their kind. So words are as frequent as in the real list, and a common word has 4 and 16 times as many
names, which is harder than a list that brings new words. The same factor makes the same list.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from auditspan.screening.entry_names import names_of
from auditspan.screening.lists import current_list, import_list
from auditspan.screening.screener import Party, open_screener, write_index
from benchmarks.ordinary_names import ordinary_names
from benchmarks.pace import Pace
from benchmarks.real_list import real_list
from benchmarks.report import PAGE, SKIPPED

__all__ = ["FACTORS", "grow", "grown_records", "write_grown"]

FACTORS: Final = (1, 4, 16)
_QUICK_FACTORS: Final = (1, 2)
_NAMES: Final = 2000
_QUICK_NAMES: Final = 500
_KEPT: Final = ("id", "source", "name", "alt_names", "type", "addresses", "programs", "license_requirement", "ids")
"""Fields that a copy keeps: the rest is text that no name is found by, and a file has at most 200 MB."""


def grown_records(records: Sequence[dict[str, Any]], times: int, seed: int = 11) -> Iterator[dict[str, Any]]:
    """``records``, and ``times - 1`` copies of each with other names, ids and no identifiers; always the same."""
    for record in records:
        yield {name: record[name] for name in _KEPT if record.get(name)}
    words: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        for name in _names(record):
            words[record.get("type") or ""] += name.split()
    choose = random.Random(seed)
    for copy in range(1, times):
        for dealt in words.values():
            choose.shuffle(dealt)
        decks = {kind: iter(dealt) for kind, dealt in words.items()}
        for record in records:
            deck = decks[record.get("type") or ""]
            first, *others = (_dealt(deck, name) for name in _names(record))
            made = {name: record[name] for name in _KEPT if record.get(name) and name != "ids"}
            yield made | {"id": f"{record['id']}-{copy}", "name": first, "alt_names": others}


def _dealt(deck: Iterator[str], name: str) -> str:
    """As many words as ``name`` has; ``name`` itself where they make none, as a lone ``&`` would."""
    made = " ".join(next(deck) for _ in name.split())
    return made if names_of(made, ()) else name


def _names(record: dict[str, Any]) -> list[str]:
    return [record["name"], *(record.get("alt_names") or [])]


def write_grown(source: Path, target: Path, times: int) -> int:
    """Writes the list of ``source``, ``times`` as large, as JSON; how many entries it has."""
    with gzip.open(source) if source.suffix == ".gz" else source.open("rb") as file:
        found = json.load(file)
    count = len(found["results"]) * times
    with target.open("w", encoding="utf-8") as out:
        dated = found.get("search_performed_at", "2026-01-01")
        out.write(f'{{"search_performed_at": {json.dumps(dated)}, "total": {count}, "results": [')
        for number, record in enumerate(grown_records(found["results"], times)):
            out.write(",\n" * (number > 0) + json.dumps(record, ensure_ascii=False))
        out.write("]}")
    return count


def _imported(path: Path, folder: Path) -> dict[str, Any]:
    """Imports in this process, which does nothing else."""
    pace = Pace()
    began = time.process_time()
    kept = import_list(path, folder, prepare=write_index)
    seconds = time.process_time() - began
    pace.look()
    return {"entries": kept.entries, "names": kept.names, "cpu_seconds": seconds, "pace": pace.value, **_peak()}


def _screened(folder: Path, names: int) -> dict[str, Any]:
    """Opens the list and screens names first seen, ordinary ones and its own, in this process."""
    pace = Pace()
    began = time.process_time()
    screener = open_screener(folder)
    opened = time.process_time() - began
    ordinary = list(ordinary_names(names))
    listed = [row["names"][0]["name"] for row in screener.entries.select(["names"]).to_pylist() if row["names"]]
    rates = {}
    for kind, asked in (("ordinary", ordinary), ("listed", random.Random(17).sample(listed, names // 2))):
        began = time.process_time()
        for name in asked:
            screener.screen(Party(name))
        rates[f"{kind}_names_per_cpu_second"] = len(asked) / (time.process_time() - began)
        pace.look()
    return {"open_cpu_seconds": opened, **rates, "pace": pace.value, **_peak()}


def _peak() -> dict[str, float]:
    return {"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _in_own_process(step: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.screening_growth", "--step", step, *arguments]
    done = subprocess.run(command, cwd=PAGE.parent.parent, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def grow(source: Path, quick: bool) -> list[dict[str, Any]]:
    """Figures of each factor: ``import`` and ``screen``, each of a process that did only that."""
    found = []
    for times in _QUICK_FACTORS if quick else FACTORS:
        with tempfile.TemporaryDirectory() as folder:
            path, data = Path(folder) / "list.json", Path(folder) / "data"
            write_grown(source, path, times)
            imported = _in_own_process("import", str(path), str(data))
            path.unlink()
            names = _QUICK_NAMES if quick else _NAMES
            screened = _in_own_process("screen", str(data), "--names", str(names))
            kept = current_list(data)
            size = sum(each.stat().st_size for each in (data / kept.digest).rglob("*") if each.is_file()) if kept else 0
        found.append({"times": times, "import": imported, "screen": screened, "kept_mb": size / 1e6})
    return found


def main() -> int:
    """Measure and print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="as every benchmark: this one prints nothing else")
    parser.add_argument("--step", choices=("import", "screen"), help=argparse.SUPPRESS)
    parser.add_argument("--names", type=int, default=_NAMES, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        paths = arguments.paths
        done = _imported(paths[0], paths[1]) if arguments.step == "import" else _screened(paths[0], arguments.names)
        print(json.dumps(done))
        return 0
    path = real_list()
    if path is None:
        return SKIPPED
    print(json.dumps(grow(path, arguments.quick), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
