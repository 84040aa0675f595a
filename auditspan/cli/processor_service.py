"""``auditspan process``: processors alone, as a member of a group, and the wiring of their parts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack

from prometheus_client import CollectorRegistry

from auditspan.buffers import keep_buffers
from auditspan.cli.health import health_app
from auditspan.cli.keys_in_place import check_signing_key
from auditspan.cli.listening import HttpServer, address_of, bind, told_to_end
from auditspan.cli.reference_sources import own_artifacts
from auditspan.config import Address, Settings
from auditspan.data_directory import DataDirectory
from auditspan.errors import AuditSpanError
from auditspan.journal.kafka import KafkaJournal
from auditspan.journal.kafka_flagged import KafkaFlaggedPublisher
from auditspan.journal.opening import is_kafka, open_journal
from auditspan.ledger.keys import load_salt_key, load_signing_key
from auditspan.ledger.recovery import read_recovery
from auditspan.ledger.signing_key import public_text
from auditspan.ledger.trust import Trust, load_trust
from auditspan.processors.anchor_sources import anchor_plan
from auditspan.processors.pipeline import Pipeline
from auditspan.processors.processor import BatchLimits
from auditspan.processors.signing import SignerPlaces
from auditspan.store.opening import open_store

__all__ = ["run_processors"]

_log = logging.getLogger(__name__)

Ready = Callable[[Mapping[str, str]], None]


def run_processors(directory: DataDirectory, settings: Settings, on_started: Ready) -> None:
    """Run until SIGTERM or SIGINT, then end the batches at hand, within ``processor.drain_seconds``, and leave.

    ``on_started`` is told the endpoint of health and metrics once it answers; whether the process does its work says
    ``/readyz`` there.

    Raises:
        Fenced: another processor owns a log that this one believed to be its own.
        AuditSpanError: something the operator must put right, or what stopped a role.
    """
    _check_shape(directory, settings)
    keep_buffers()
    with ExitStack() as stack:
        key = load_signing_key(directory.signing_key)
        salt_key = load_salt_key(directory.salt_key)
        trust = _trusted(directory, settings)
        check_signing_key(directory, key, trust)
        directory.create()
        bound = stack.enter_context(bind(Address.parse(settings.processor.listen), "Health and metrics"))
        store = open_store(directory, settings)
        stack.callback(store.close)
        journal = open_journal(directory, settings)
        stack.callback(journal.close)
        assert isinstance(journal, KafkaJournal)
        publisher = None
        if settings.processor.flagged_topic:
            publisher = KafkaFlaggedPublisher(settings.journal.url, settings.kafka, settings.processor.flagged_topic)
            stack.callback(publisher.close)
        registry = CollectorRegistry()
        pipeline = Pipeline(
            journal,
            store.reader,
            SignerPlaces(key, directory.signer_state, settings.deployment),
            salt_key=salt_key,
            public_key=public_text(key.public_key()),
            deployment=settings.deployment,
            artifacts=own_artifacts(directory, settings),
            reference_folder=directory.reference,
            registry=registry,
            checkpoint_seconds=settings.processor.checkpoint_seconds,
            heartbeat_seconds=settings.processor.heartbeat_seconds,
            keep_days=settings.journal.keep_days,
            assignment=journal.assignment,
            limits=BatchLimits(
                settings.processor.batch_rows, settings.processor.batch_bytes, settings.processor.batch_seconds
            ),
            publisher=publisher,
            anchors=anchor_plan(settings.anchors, trust),
            keys=trust.keys,
            load_key=lambda: load_signing_key(directory.signing_key),
            recovery=read_recovery(directory.recovered, settings.deployment),
        )
        stack.callback(pipeline.stop, settings.processor.drain_seconds)
        pipeline.start()

        async def run() -> None:
            told = told_to_end()
            server = HttpServer(health_app(pipeline.troubles, registry), bound)
            await server.start()
            try:
                on_started({"health": f"http://{address_of(bound)}"})
                await _until_told(told, pipeline)
                # Still answering: whoever watches sees that it is stopping, not that it is gone.
                await asyncio.to_thread(pipeline.stop, settings.processor.drain_seconds)
            finally:
                await server.stop()

        asyncio.run(run())
        failure = pipeline.failure()
        if isinstance(failure, AuditSpanError):
            raise failure
        if failure is not None:
            raise AuditSpanError(
                f"A processor failed: {failure!r}.",
                remedy="The log says more; what is not sealed is in the journal.",
            ) from failure


async def _until_told(told: asyncio.Event, pipeline: Pipeline) -> None:
    """Return when told to end, or when a role has stopped: nothing must look healthy then."""
    while not told.is_set():
        try:
            await asyncio.wait_for(told.wait(), 0.5)
        except TimeoutError:
            healthy, reason = pipeline.healthy()
            if not healthy:
                _log.critical("This process ends: %s", reason)
                return


def _check_shape(directory: DataDirectory, settings: Settings) -> None:
    if not is_kafka(settings) or settings.store.url == "embedded":
        raise AuditSpanError(
            f"`auditspan process` shares its work with other processes, and journal.url is {settings.journal.url!r}, "
            f"store.url {settings.store.url!r}.",
            remedy="Set journal.url to kafka://HOST:PORT and store.url to http://HOST:PORT, or run everything in one "
            f"process: auditspan up --data {directory.root}",
        )


def _trusted(directory: DataDirectory, settings: Settings) -> Trust:
    trust = load_trust(directory.trust)
    if trust.deployment != settings.deployment:
        raise AuditSpanError(
            f"The keys in {directory.root} are of the deployment {trust.deployment!r}, not of {settings.deployment!r}.",
            remedy="A deployment keeps its name: set `deployment` back, or put the right keys in place.",
        )
    return trust
