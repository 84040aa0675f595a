"""Writes ``tests/vectors/packages``: valid packages, and for each code of a fault the smallest attack that shows it.

    python tests/exporters/evidence/write_package_vectors.py [--all]

For whoever writes another verifier. What is there stays as it is, since it must verify for ever: only what is missing
is written. With ``--all`` everything is, where the format changed.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "ledger"))

from anchored import Vouchers
from auditspan.exporters.evidence.verify import verify_package
from cryptography.hazmat.primitives.serialization import Encoding
from exported import export
from falsified import falsify
from falsified_keys import KEYS, trusting
from falsified_recovery import recovered_world, recovery
from prepared import Prepared, Workshop
from sealed_world import DEPLOYMENT, SECOND, T0, varied_world

from auditspan.ledger.trust import Trust
from auditspan.store.clickhouse import ClickHouseStore

TARGET = Path(__file__).parents[2] / "vectors" / "packages"
_DATE = (2026, 11, 27, 0, 0, 0)


def main(anew: bool) -> None:
    """Write what is missing, or all."""
    for path in TARGET.iterdir() if anew and TARGET.is_dir() else ():
        path.unlink()
    index = TARGET / "index.json"
    kept = {one["package"]: one for one in json.loads(index.read_text())} if index.exists() else {}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world = varied_world("vectors")
        store = ClickHouseStore.embedded(folder / "store")
        try:
            store.migrate()
            packages = made(folder, store, world)
            workshop = Workshop(folder / "prepared", packages, world)
            (folder / "prepared").mkdir()
            vouchers = Vouchers(folder / "vouchers")
            falsify(workshop, store, vouchers)
            recovered, _ = recovered_world("recovered", recovery(KEYS[4], KEYS[0]))
            recovered.store_into(store)
            export(store, recovered, folder / "recovered")
        finally:
            store.close()
        TARGET.mkdir(parents=True, exist_ok=True)
        wanted = {"valid": (packages["later"], world.trust)}
        wanted["valid-anchored"] = workshop.folder / "anchored", vouchers.trust(varied_world("anchored"))
        wanted["valid-recovered"] = folder / "recovered", trusting(0)
        for code, prepared in sorted(smallest(list(workshop)).items()):
            wanted[code] = prepared.folder, prepared.trust
        entries = [kept.get(f"{name}.zip") or entry(name, *made) for name, made in wanted.items()]
        index.write_text(json.dumps(entries, indent=1) + "\n")


def made(folder: Path, store: ClickHouseStore, world: Any) -> dict[str, Path]:
    """The honest packages that attacks begin with."""
    world.store_into(store)
    wanted: dict[str, dict[str, Any]] = {
        "all": {"time_from": 0, "time_to": T0 + 10_000 * SECOND},
        "flagged": {"where": "flagged = true"},
        "later": {"where": "flagged = true", "previous": folder / "all"},
        "last minute": {"time_from": T0 + 110 * SECOND, "time_to": T0 + 10_000 * SECOND},
        "other": {},
    }
    for name, options in wanted.items():
        of = world
        if name == "other":
            of = varied_world("vectors-other")
            of.store_into(store)
        export(store, of, folder / name, **options)
    return {name: folder / name for name in wanted}


def smallest(prepared: list[Prepared]) -> dict[str, Prepared]:
    """By code, the package with the fewest other codes, and of those the smallest, that holds files alone."""
    found: dict[str, tuple[tuple[int, int], Prepared]] = {}
    for one in prepared:
        # One that is a zip file itself cannot be packed as another.
        if not one.folder.is_dir() or not all(
            path.is_file() and not path.is_symlink() for path in one.folder.rglob("*") if not path.is_dir()
        ):
            continue
        counts = verify_package(one.folder, one.trust).fault_counts
        size = sum(path.stat().st_size for path in one.folder.rglob("*") if path.is_file())
        for code in counts:
            rank = len(counts), size
            if code not in found or rank < found[code][0]:
                found[code] = rank, one
    return {code: one for code, (_, one) in found.items()}


def entry(name: str, package: Path, trust: Trust) -> dict[str, Any]:
    """Pack a package, and say what a verifier must find in it."""
    report = verify_package(package, trust)
    with zipfile.ZipFile(TARGET / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(path for path in package.rglob("*") if path.is_file()):
            packed.writestr(zipfile.ZipInfo(path.relative_to(package).as_posix(), _DATE), path.read_bytes(),
                            zipfile.ZIP_DEFLATED)  # fmt: skip
    return {
        "package": f"{name}.zip",
        "deployment": DEPLOYMENT,
        **trusted(trust),
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "fault_counts": report.fault_counts,
        "leaves": sorted({(fault.code, *fault.leaf) for fault in report.faults if fault.leaf is not None}),
        "counts": report.counts,
    }


def trusted(trust: Trust) -> dict[str, Any]:
    """Public keys alone, or the whole trust.json where somebody vouches."""
    keys = [base64.b64encode(key.public_bytes_raw()).decode() for key in trust.keys]
    if not (trust.witnesses or trust.timestamp_authorities or trust.policy.demands):
        return {"public_keys": keys}
    authorities = [
        {"name": one.name, "certificates": [root.public_bytes(Encoding.PEM).decode() for root in one.roots]}
        for one in trust.timestamp_authorities
    ]
    return {
        "trust": {
            "version": 2,
            "deployment": trust.deployment,
            "keys": [{"algorithm": "Ed25519", "public_key": key, "added_at": "2026-11-27T00:00:00Z"} for key in keys],
            "witnesses": [witness.vkey for witness in trust.witnesses],
            "timestamp_authorities": authorities,
            "policy": {
                "witnesses": trust.policy.witnesses,
                "timestamp_authorities": trust.policy.timestamp_authorities,
            },
        }
    }


if __name__ == "__main__":
    main("--all" in sys.argv[1:])
