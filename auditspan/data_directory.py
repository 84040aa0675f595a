"""Where a deployment on one machine keeps what: the names of everything below ``--data DIR``."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from auditspan.errors import AuditSpanError

__all__ = ["SERVICE", "STORE_SERVICE", "DataDirectory", "DataDirectoryBusy"]

SERVICE: Final = "auditspan up"
"""Purpose for which a service holds its directory."""
STORE_SERVICE: Final = "auditspan store serve"
"""The same of the store as a service of its own."""
_SERVICES: Final = frozenset({SERVICE, STORE_SERVICE})
_POLL: Final = 0.05
_ENDPOINTS: Final = ("otlp_http", "otlp_grpc", "sql")


class DataDirectoryBusy(AuditSpanError):
    """Another process holds this data directory; ``purpose`` says what for, as far as it can be known."""

    def __init__(self, message: str, *, remedy: str, purpose: str) -> None:
        super().__init__(message, remedy=remedy)
        self.purpose = purpose


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
    def journal_key(self) -> Path:
        """The 32-byte key with which collectors vouch for Kafka records; one for all of a deployment, 0600."""
        return self.root / "journal.key"

    @property
    def trust(self) -> Path:
        """The public keys, for ``evidence verify --trust``."""
        return self.root / "trust.json"

    @property
    def read_token(self) -> Path:
        """The token that reads the store through the SQL endpoint, 0600."""
        return self.root / "read.token"

    @property
    def write_token(self) -> Path:
        """The password of the user ``writer`` of `auditspan store serve`, 0600."""
        return self.root / "write.token"

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
    def screening(self) -> Path:
        """Lists of restricted parties that were imported, by digest."""
        return self.root / "screening"

    @property
    def settings(self) -> Path:
        """The configuration file that is read when no other is named."""
        return self.root / "auditspan.toml"

    @property
    def ledger_check(self) -> Path:
        """What the last good `auditspan ledger check` found whole, 0600."""
        return self.root / "ledger-check.json"

    @property
    def restored(self) -> Path:
        """Says that the directory was restored from a backup after which more may have been sealed."""
        return self.root / "restored.json"

    @property
    def recovered(self) -> Path:
        """The signed statement by which this deployment goes on for one that lost signed leaves."""
        return self.root / "recovered.json"

    @property
    def succeeded(self) -> Path:
        """Says that another deployment goes on for this one, which seals nothing more."""
        return self.root / "succeeded.json"

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

    def lock(self, purpose: str = SERVICE, patience: float = 10.0) -> IO[str]:
        """Hold the directory for this process until the returned file is closed or the process ends.

        Waits up to ``patience`` seconds for a holder that will be done soon: one that is no service.

        Raises:
            DataDirectoryBusy: another process holds it.
            AuditSpanError: the directory cannot be written.
        """
        try:
            # Private as what it guards: another user could otherwise hold it and keep the service from starting.
            handle = os.fdopen(os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")
        except OSError as error:
            raise AuditSpanError(
                f"{self.root} cannot be used: {error.strerror}.",
                remedy="Run this as the user that the service runs as, on a directory that it can write.",
            ) from error
        deadline = time.monotonic() + patience
        while not _locked(handle):
            handle.seek(0)
            process, _, held_for = handle.read().strip().partition(" ")
            if held_for in _SERVICES or time.monotonic() >= deadline:
                handle.close()
                raise DataDirectoryBusy(
                    f"Process {process or 'unknown'} ({held_for or 'starting'}) already runs on {self.root}.",
                    remedy="Stop it, or use another --data directory: the embedded store allows one process each.",
                    purpose=held_for,
                )
            time.sleep(_POLL)
        handle.seek(0)
        handle.truncate(0)
        handle.write(f"{os.getpid()} {purpose}")
        handle.flush()
        return handle

    def write_endpoints(self, endpoints: Mapping[str, str]) -> None:
        """Say where the service listens, in one step, so that a reader never sees half of it."""
        temporary = self.endpoints.with_suffix(".tmp")
        temporary.write_text(json.dumps(dict(endpoints), indent=2) + "\n")
        temporary.replace(self.endpoints)

    def read_endpoints(self, names: Sequence[str] = _ENDPOINTS) -> dict[str, str]:
        """What a running service wrote: URLs by ``otlp_http``, ``otlp_grpc`` and ``sql``, of which each has its own.

        Raises:
            AuditSpanError: no service has written it, or something else did.
        """
        try:
            read = json.loads(self.endpoints.read_text())
            if not all(isinstance(read[name], str) for name in names):
                raise TypeError("an address is text")
            return {str(name): str(where) for name, where in read.items()}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AuditSpanError(
                f"No service has said where it listens in {self.endpoints}.",
                remedy=f"Start one with: auditspan up --data {self.root}",
            ) from error


def _locked(handle: IO[str]) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
