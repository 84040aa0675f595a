"""A broker's disk becomes full under it and has room again, from outside: a small one, or one that refuses writes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from broker import Broker
from tracer import attach, why_impossible

_BYTES = 64 << 20
_WRITES = "write,writev,pwrite64,pwritev"


class Impossible(Exception):
    """This machine does not permit it."""


class Disk(Protocol):
    """A disk on which one broker keeps everything: with ``launch`` and ``properties`` of `broker.running`."""

    launch: Sequence[str]
    properties: Mapping[str, object]
    starts_while_full: int
    """How often a test starts the broker on the full disk, to see it end again."""

    def fill(self, broker: Broker) -> None: ...

    def make_room(self) -> None: ...

    def close(self) -> None: ...


class SmallDisk:
    """A file system of 64 MB, for the processes that begin with ``launch``; it goes away with the last of them.

    Raises:
        Impossible: nothing may be mounted here.
    """

    starts_while_full = 1

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        own_user = [] if os.geteuid() == 0 else ["--user"]
        script = f'mount -t tmpfs -o size={_BYTES} tmpfs "$1" && echo mounted && exec cat'
        unshare = ["unshare", *own_user, *(["--map-root-user"] if own_user else []), "--mount"]
        try:
            self._holder = subprocess.Popen(
                [*unshare, "sh", "-c", script, "sh", folder],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except FileNotFoundError as error:
            raise Impossible("there is no unshare here") from error
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            _, said = self._holder.communicate()
            raise Impossible(f"no small file system can be mounted here: {said.strip()}")
        inside = ["--preserve-credentials"] if own_user else []
        self.launch = ("nsenter", f"--target={self._holder.pid}", *own_user, "--mount", *inside, "--")
        self.properties = {"log.dirs": folder / "data"}
        self._ballast = Path(f"/proc/{self._holder.pid}/root{folder}/ballast")

    def fill(self, broker: Broker) -> None:
        with self._ballast.open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError as error:
                assert "No space left" in str(error), error

    def make_room(self) -> None:
        self._ballast.unlink()

    def close(self) -> None:
        self._holder.communicate()


class RefusedWrites:
    """The disk there is; once it is full, a tracer refuses every write to the broker's logs as a full disk would.

    Raises:
        Impossible: no process may be traced here.
    """

    launch: Sequence[str] = ()
    properties: Mapping[str, object] = {}
    starts_while_full = 0

    def __init__(self, folder: Path) -> None:
        reason = why_impossible()
        if reason is not None:
            raise Impossible(reason)
        self._seen = folder.with_suffix(".seen")
        self._tracer: subprocess.Popen[str] | None = None

    def fill(self, broker: Broker) -> None:
        assert broker.process is not None
        logs = sorted((broker.folder / "data").glob("*/*.log"))
        self._tracer = attach(broker.process.pid, self._seen, _WRITES, "error=ENOSPC", logs)

    def make_room(self) -> None:
        self.close()

    def close(self) -> None:
        if self._tracer is not None:
            self._tracer.kill()
            self._tracer.communicate()
            self._tracer = None


def fillable(folder: Path, kinds: Sequence[type[SmallDisk] | type[RefusedWrites]]) -> Disk:
    """The first of ``kinds`` that this machine permits, below ``folder``.

    Raises:
        Impossible: it permits none.
    """
    reasons = []
    for kind in kinds:
        try:
            return kind(folder)
        except Impossible as error:
            reasons.append(str(error))
    raise Impossible("; ".join(reasons))
