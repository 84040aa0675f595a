"""A classified inventory as ``accelerator.inventory`` events that a collector has acknowledged."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from auditspan import semconv
from auditspan.cli.reading import existing
from auditspan.errors import AuditSpanError
from auditspan.instrumentation.recorder import AuditRefused, Recorder
from auditspan.instrumentation.settings import InstrumentationSettings, Mode

if TYPE_CHECKING:
    from auditspan.inventory import ClassifiedItem

__all__ = ["event_of", "record_items"]

_CLASS: Final = semconv.EventClass.ACCELERATOR_INVENTORY
_AT_ONCE: Final = 500
"""Records that wait for one acknowledgement together."""


def record_items(items: Sequence[ClassifiedItem], *, data: Path | None, endpoint: str | None, actor: str | None) -> int:
    """Record every item in mode ``receipt``, and return how many the collector has acknowledged: all.

    Args:
        items: what to record.
        data: data directory of a running service, whose collector takes the events.
        endpoint: another collector; ``AUDITSPAN_ENDPOINT`` when neither is given.
        actor: who counted; the user of this process when None.

    Raises:
        AuditSpanError: no service runs there, or a record was not acknowledged. What was written stays in the spool.
    """
    settings = _settings(data, endpoint)
    who = actor or f"user:{_user()}"
    recorder = Recorder(settings)
    done = 0
    try:
        events = iter([event_of(item, who) for item in items])
        while chunk := list(islice(events, _AT_ONCE)):
            asyncio.run(_record(recorder, chunk))
            done += len(chunk)
    except AuditRefused as error:
        raise AuditSpanError(
            f"Not all events were acknowledged: {done} of {len(items)} were. {error.message}",
            remedy=f"What is written waits in {settings.spool_directory}: deliver it with `auditspan spool ship`, and "
            "do not record the same inventory again.",
        ) from error
    finally:
        recorder.close()
    return done


def event_of(item: ClassifiedItem, actor: str) -> dict[str, Any]:
    """The attributes of the event: what the file says; the log finds out for itself what that is.

    The quantity counts accelerators where the model is named, and machines where only their type is. Where only parts
    are counted it is left out, since nobody knows it.
    """
    given = item.item
    # A machine type beside a named model would have each of them counted as so many.
    machine = given.instance_type if given.unit != "accelerator" or len(item.candidates) > 1 else None
    # Parts that nobody counted, on a node whose machine type says how many devices it has: the node is one machine.
    quantity = given.quantity if given.unit != "part" else 1 if machine and given.quantity is None else None
    model = given.model if given.model and not given.vague else given.pci
    if model is None and machine is None:
        model = item.candidates[0].name if item.candidates else given.model
    declared = next((one for one in item.destinations if not one.known_by.startswith("cloud region")), None)
    return {
        semconv.AUDIT_ACTION: "inventory",
        semconv.AUDIT_OUTCOME: semconv.Outcome.SUCCESS.value,
        semconv.AUDIT_ACTOR_ID: actor,
        semconv.AUDIT_ACTOR_TYPE: "user",
        semconv.AUDIT_TARGET_ID: given.target or given.model or given.instance_type or given.pci or given.place,
        semconv.AUDIT_TARGET_TYPE: "accelerator",
        semconv.ACCELERATOR_MODEL: model,
        semconv.HOST_TYPE: machine,
        semconv.QUANTITY: quantity,
        semconv.SERIALS: list(given.serials) or None,
        semconv.CLOUD_PROVIDER: given.provider,
        semconv.CLOUD_REGION: given.region,
        semconv.DESTINATION_COUNTRY: _code(declared) if declared else None,
        semconv.DESTINATION_BASIS: "declared" if declared else "cloud_region" if given.region else None,
        semconv.CONSIGNEE: given.consignee,
        semconv.END_USER: given.end_user,
    }


async def _record(recorder: Recorder, events: Sequence[Mapping[str, Any]]) -> None:
    await asyncio.gather(*(recorder.record_async(_CLASS, event, mode=Mode.RECEIPT) for event in events))


def _settings(data: Path | None, endpoint: str | None) -> InstrumentationSettings:
    environment = {name: value for name, value in os.environ.items() if name != "AUDITSPAN_DISABLED"}
    if data is not None:
        environment["AUDITSPAN_ENDPOINT"] = existing(data).read_endpoints(("otlp_http",))["otlp_http"]
        environment.setdefault("AUDITSPAN_SPOOL_DIRECTORY", str(data / "spool"))
    elif endpoint is not None:
        environment["AUDITSPAN_ENDPOINT"] = endpoint
    # Refused, rather than told as a gap, when the collector does not acknowledge: a person waits for the answer.
    environment["AUDITSPAN_FAIL_CLOSED"] = str(_CLASS)
    settings = InstrumentationSettings.from_environment(environment)
    if not settings.token:
        raise AuditSpanError(
            "There is no token to record with.",
            remedy="Make one with `auditspan token create`, and set AUDITSPAN_TOKEN or AUDITSPAN_TOKEN_FILE.",
        )
    return settings


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _code(destination: Any) -> str:
    return str(destination.place.subdivision or destination.place.given)
