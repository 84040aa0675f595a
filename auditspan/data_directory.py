"""Where a deployment on one machine keeps what: the names of everything below ``--data DIR``."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from auditspan.errors import AuditSpanError

__all__ = ["DataDirectory", "DataDirectoryBusy"]


class DataDirectoryBusy(AuditSpanError):
    """Another process runs on this data directory."""


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Paths below ``root``. Nothing here is opened or made, except by `create` and `lock`."""

    root: Path

    @property
    def signing_key(self) -> Path:
        """The Ed25519 private key of the deployment, PEM, 0600."""
        return self.root / "keys" / "signing.pem"

    @property
    def salt_key(self) -> Path:
        """The 32-byte salt key, 0600."""
        return self.root / "keys" / "salt.key"

    @property
    def trust(self) -> Path:
        """The public keys, for ``evidence verify --trust``."""
        return self.root / "trust.json"

    @property
    def read_token(self) -> Path:
        """The token that reads the store through the SQL endpoint, 0600."""
        return self.root / "read.token"

    @property
    def tokens(self) -> Path:
        """Hashes of the emitters' tokens."""
        return self.root / "tokens.json"

    @property
    def journal(self) -> Path:
        """The SQLite journal."""
        return self.root / "journal" / "journal.sqlite"

    @property
    def store(self) -> Path:
        """The embedded ClickHouse."""
        return self.root / "store"

    @property
    def signer_state(self) -> Path:
        """Last signed size and root of every log: kept outside the store on purpose."""
        return self.root / "signer"

    @property
    def reference(self) -> Path:
        """Artifacts of every reference epoch, by digest."""
        return self.root / "reference"

    @property
    def parties(self) -> Path:
        """The party registry, where the operator puts one."""
        return self.root / "parties.yaml"

    @property
    def settings(self) -> Path:
        """The configuration file that is read when no other is named."""
        return self.root / "auditspan.toml"

    @property
    def endpoints(self) -> Path:
        """Addresses of the running service, JSON."""
        return self.root / "endpoints.json"

    @property
    def control_socket(self) -> Path:
        """Where commands reach the running service."""
        return self.root / "control.sock"

    def create(self) -> None:
        """Make the directories, private to the owner."""
        for folder in (self.root, self.signing_key.parent, self.journal.parent, self.signer_state, self.reference):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> IO[str]:
        """Hold the directory for this process until the returned file is closed or the process ends.

        Raises:
            DataDirectoryBusy: another process holds it.
        """
        handle = (self.root / "lock").open("a+")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            handle.seek(0)
            owner = handle.read().strip() or "unknown"
            handle.close()
            raise DataDirectoryBusy(
                f"Process {owner} already runs on {self.root}.",
                remedy="Stop it, or use another --data directory; the embedded store allows one process per directory.",
            ) from error
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        return handle

    def write_endpoints(self, endpoints: Mapping[str, str | int]) -> None:
        """Say where the service listens, in one step, so that a reader never sees half of it."""
        temporary = self.endpoints.with_suffix(".tmp")
        temporary.write_text(json.dumps(dict(endpoints), indent=2) + "\n")
        temporary.replace(self.endpoints)

    def read_endpoints(self) -> dict[str, str | int]:
        """What a running service wrote.

        Raises:
            AuditSpanError: no service has written it.
        """
        try:
            read: dict[str, str | int] = json.loads(self.endpoints.read_text())
        except (OSError, ValueError) as error:
            raise AuditSpanError(
                f"No service has said where it listens in {self.endpoints}.",
                remedy=f"Start one with: auditspan up --data {self.root}",
            ) from error
        return read
