"""Spools whose owner is dead: find them, ship them, remove them.

Whoever gets the stream's lock is its only shipper, so any number of processes may share one spool directory.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from opentelemetry.sdk.resources import Resource

from .faults import note_fault
from .frames import Frame, FrameKind, read_frames
from .settings import InstrumentationSettings
from .shipper import Shipper, ShippingInterrupted, ShippingStopped
from .spool import LOCK_NAME, REFUSED_DIRECTORY, StreamLock, remove_stream
from .spool_reader import Batch, Record, SpoolReader
from .stream import Stream

__all__ = [
    "ShipReport",
    "StreamStatus",
    "adopt",
    "count_refused",
    "has_dead_streams",
    "inspect_spool",
    "ship_spool",
]

_log = logging.getLogger(__name__)
_NEWBORN_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """What the spool holds of one stream."""

    stream: str
    live: bool
    """Whether its process lives and ships by itself."""

    pending: int
    """Records that are not acknowledged yet."""

    size: int
    """Bytes on disk."""


@dataclass(frozen=True, slots=True)
class ShipReport:
    """What ``ship_spool`` did."""

    acknowledged: int
    """Records that the collector acknowledged."""

    refused: int
    """Records that it refused; they are kept in the directory ``refused`` of the spool."""

    damaged: int
    """Places where the spool was torn or damaged; each is told in an ``audit.gap`` record."""

    streams: int
    """Streams that are delivered and removed."""

    live: int
    """Streams left to their living owners."""

    pending: int
    """Records of dead streams that are still in the spool."""


def _stream_directories(spool: Path) -> Iterator[Path]:
    try:
        names = sorted(path.name for path in spool.iterdir())
    except FileNotFoundError:
        return
    for name in names:
        if not name.startswith(".") and name != REFUSED_DIRECTORY and (spool / name / LOCK_NAME).exists():
            yield spool / name


def _sweep_newborn(spool: Path) -> None:
    """Remove what a process left that died before its stream had a name: it holds no record."""
    for directory in spool.glob(".new-*"):
        try:
            if time.time() - directory.stat().st_mtime > _NEWBORN_SECONDS:
                remove_stream(directory)
        except OSError:
            continue


def adopt(
    spool: Path,
    shipper: Shipper,
    own: Callable[[], str | None] = lambda: None,
    on_progress: Callable[[Batch, list[Record]], None] | None = None,
) -> int:
    """Ship every dead stream of the spool; how many are delivered and removed.

    Args:
        spool: the spool directory.
        shipper: sends, and stops when asked to.
        own: id of the caller's own stream, which it ships by itself.
        on_progress: told after each batch; a ``ShippingInterrupted`` from it ends the adoption, which loses nothing.

    Raises:
        ShippingStopped: the shipper was asked to stop.
        CollectorUnavailable: the shipper is not patient.
    """
    done = 0
    _sweep_newborn(spool)
    for directory in _stream_directories(spool):
        if directory.name == own():
            continue
        lock = StreamLock.take(directory / LOCK_NAME)
        if lock is None:
            continue
        try:
            shipper.ship(SpoolReader(directory, live=False), on_progress)
            remove_stream(directory)
            done += 1
        except OSError as error:
            _log.error("The spool stream %s cannot be shipped now (%s); it stays.", directory.name, error)
        except ShippingInterrupted:
            raise
        except Exception as error:  # whatever one stream does to us, the others behind it must reach the collector
            note_fault("adoption", error, f"the spool stream {directory.name} stays")
        finally:
            lock.release()
    return done


def has_dead_streams(spool: Path) -> bool:
    """Whether a dead process has left records in the spool; none that can be read, where the spool cannot.

    It is asked while the host starts, whose own telemetry must not fail for the state of our directory.
    """
    try:
        for directory in _stream_directories(spool):
            lock = StreamLock.take(directory / LOCK_NAME)
            if lock is not None:
                lock.release()
                return True
    except OSError as error:
        _log.error("The audit spool %s cannot be looked into (%s).", spool, error)
    return False


def inspect_spool(spool: Path) -> list[StreamStatus]:
    """Every stream of the spool. Reads only; a stream that its owner removes meanwhile is left out."""
    found = []
    for directory in _stream_directories(spool):
        lock = StreamLock.take(directory / LOCK_NAME)
        if lock is not None:
            lock.release()
        try:
            pending = SpoolReader(directory, live=True).pending()
            size = sum(path.stat().st_size for path in directory.iterdir())
        except FileNotFoundError:
            continue
        found.append(StreamStatus(directory.name, lock is None, pending, size))
    return found


def count_refused(spool: Path) -> int:
    """Records that collectors refused and the spool keeps."""
    return sum(
        isinstance(item, Frame) and item.kind is FrameKind.RECORD
        for path in (spool / REFUSED_DIRECTORY).glob("*.spool")
        for item in read_frames(path.read_bytes())
    )


def ship_spool(
    directory: Path, settings: InstrumentationSettings | None = None, *, timeout: float | None = None
) -> ShipReport:
    """Deliver the spools of dead processes, as ``auditspan spool ship`` does.

    Args:
        directory: the spool directory.
        settings: endpoint and token; from the environment when None.
        timeout: seconds after which it stops waiting for a collector that does not acknowledge; None waits for ever.

    Raises:
        OSError: the spool cannot be read or written.
    """
    chosen = dataclasses.replace(settings or InstrumentationSettings.from_environment(), spool_directory=directory)
    deadline = float("inf") if timeout is None else time.monotonic() + timeout
    never = threading.Event()

    def wait(seconds: float, firm: bool) -> bool:
        left = deadline - time.monotonic()
        never.wait(min(seconds, max(left, 0.0)))
        return time.monotonic() >= deadline

    own = Stream(chosen, Resource.create())

    def tell(reason: str, count: int, stream: str, first: int | None, last: int | None) -> None:
        own.report_gap(reason, count, stream, first, last)
        own.sync()

    shipper = Shipper(chosen, tell, wait)
    streams = 0
    try:
        streams = adopt(directory, shipper, lambda: own.id)
    except ShippingStopped:
        pass
    finally:
        own.close()
        own.release(delivered=False)
    try:
        # The stream of this command, which exists only when it had a gap to tell.
        streams += adopt(directory, shipper) if own.opened_once else 0
    except ShippingStopped:
        pass
    shipper.client.close()
    left = inspect_spool(directory)
    return ShipReport(
        acknowledged=shipper.acknowledged_records,
        refused=shipper.refused_records,
        damaged=shipper.damaged,
        streams=streams,
        live=sum(item.live for item in left),
        pending=sum(item.pending for item in left if not item.live),
    )
