"""The attack matrix in its long form: ``make attack``, or ``python tests/attack [--packages N] [--attacks N]``.

Honest packages of random shape, each made by a seed of its own, must all be valid; copies of them are attacked at
random places, and each attack must be found with its code and at its leaf. A run prints the seed that it begins with;
``--seed`` repeats it, and ``--seed S --packages 1`` a single package. The files of what failed are kept.
"""

from __future__ import annotations

import argparse
import random
import secrets
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import conftest  # noqa: F401 - where the modules of the neighbouring suite are
from auditspan.exporters.evidence.verify import verify_package
from exported import export
from random_attacks import attacked
from random_world import random_world

from auditspan.store.clickhouse import ClickHouseStore

_EVERY = 25
"""Packages between two lines of progress."""
_FALSE_IN = 5
"""One of so many deployments has a determination that was sealed milder."""


def main() -> int:
    """Run, and say what was found; exit status 1 when a promise did not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packages", type=int, default=1_000, help="honest deployments")
    parser.add_argument("--attacks", type=int, default=4, help="attacks on each of their packages")
    parser.add_argument("--seed", type=int, help="of the first; the next ones follow")
    options = parser.parse_args()
    first = secrets.randbelow(2**31) if options.seed is None else options.seed
    print(f"seeds {first} … {first + options.packages - 1}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="attack-"))
    store = ClickHouseStore.embedded(folder / "store")
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    try:
        store.migrate()
        for number in range(options.packages):
            _one(first + number, store, folder, options.attacks, counts)
            if (number + 1) % _EVERY == 0:
                print(f"{number + 1} deployments, {time.monotonic() - begun:.0f} s: {_said(counts)}", flush=True)
    except AssertionError as error:
        print(f"NOT HELD: {error}\nIts files are in {folder}.", file=sys.stderr)
        return 1
    finally:
        store.close()
    shutil.rmtree(folder)
    print(f"The attack matrix held: {_said(counts)}.")
    return 0


def _one(seed: int, store: ClickHouseStore, folder: Path, attacks: int, counts: Counter[str]) -> None:
    made = random_world(seed)
    packages = made.packages(store, folder)
    for package in packages:
        report = verify_package(package, made.trust)
        assert report.verdict == "VALID", f"seed {seed}, {package.name}: {report.faults[:5]}"
        assert report.counts["proven"] == report.counts["leaves"], f"seed {seed}, {package.name}: not all is proven"
        counts["honest packages"] += 1
        counts["determinations made again"] += report.determinations["made_again"]
        for attacked_folder, found in attacked(package, made.world.key, random.Random(seed), folder, attacks):
            seen = verify_package(attacked_folder, made.trust)
            assert found.is_in(seen), f"seed {seed}, {package.name}: {found}, and found was {seen.faults[:5]}"
            counts["attacks"] += 1
    if seed % _FALSE_IN == 0:
        _milder(seed, store, folder / f"{seed}-false", counts)
        packages.append(folder / f"{seed}-false")
    for package in packages:
        shutil.rmtree(package)


def _milder(seed: int, store: ClickHouseStore, folder: Path, counts: Counter[str]) -> None:
    """Somebody with the signing key seals a determination that is milder than the rules are."""
    made = random_world(seed, false=True)
    made.world.store_into(store)
    export(store, made.world, folder, time_from=0, time_to=2**62)
    report = verify_package(folder, made.trust)
    if made.false is None:
        assert report.verdict == "VALID", f"seed {seed}, false: {report.faults[:5]}"
        return
    told = [fault.leaf for fault in report.faults if fault.code == "determination.mismatch"]
    assert made.false in told, f"seed {seed}: leaf {made.false} is milder, and found was {report.faults[:5]}"
    counts["milder determinations"] += 1


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
