"""A package that was verified and stays open: for whoever reads on in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditspan.ledger.trust import Trust

from .layout import MANIFEST
from .package import Package, PathRefused
from .report import Report
from .statement import Manifest, ManifestInvalid, open_envelope, parse_manifest
from .verify import verify_package
from .zipped import open_package

__all__ = ["Opened", "open_verified"]

_LARGEST_MANIFEST: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Opened:
    """``manifest`` is there where the verdict is VALID."""

    package: Package
    report: Report
    manifest: Manifest | None


@contextmanager
def open_verified(folder: Path, trust: Trust) -> Iterator[Opened]:
    """Verify a package, and keep it open. Whoever can write to it meanwhile could change it: verify copies of your own.

    Raises:
        AuditSpanError: there is no such folder or file.
    """
    report = verify_package(folder, trust)
    with open_package(folder) as package:
        manifest = _manifest(package, trust, report.package_digest) if report.verdict == "VALID" else None
        yield Opened(package, report, manifest)


def _manifest(package: Package, trust: Trust, digest: str | None) -> Manifest | None:
    """The manifest with this digest."""
    try:
        with package.open(MANIFEST) as file:
            data = file.read(_LARGEST_MANIFEST)
        payload, signers = open_envelope(data, trust.keys)
        same = hashlib.sha256(data).hexdigest() == digest
        return parse_manifest(payload) if signers and same else None
    except (OSError, PathRefused, ManifestInvalid):
        return None
