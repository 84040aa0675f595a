"""The manual API: record what no hook sees.

::

    from auditspan.instrumentation import audit

    audit.record("model.access", {"audit.actor.id": "user:7", "audit.action": "chat", "audit.outcome": "success"})

    with audit.transfer(target="s3://models/frontier-7", actor="role:release", direction="upload") as transfer:
        upload()
        transfer.set("export_control.artifact.size", 20_000_000)

    audit.request(request_id="EXP-7", actor="user:7", target="s3://models/frontier-7", final_recipient="acme")
    audit.decision(request_id="EXP-7", outcome="approved", actor="user:9", authority="Export Control Office")

    async with audit.provision(target="p5.48xlarge", actor="role:ops", quantity=2):
        await start_instances()

A transfer or provision writes an intent (``audit.outcome`` = ``started``) before the block runs and an outcome after
it, which names the intent in ``audit.intent.id``. What the block raises is recorded as a failure and raised on,
unchanged. For a ``fail_closed`` class the block does not run when its intent cannot be recorded: ``AuditRefused``.

Where the class is enforced (``AUDITSPAN_ENFORCE``), the rules in force are asked first, and the block does not run when
they say no: ``ExportRefused``, recorded as ``denied``. ``with audit.break_glass("reason"):`` lets it run all the same,
and what was let through is flagged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from types import TracebackType
from typing import Literal, Self

from .. import semconv
from ..semconv import EventClass, Outcome
from .encode import Attributes, AttributeValue, Parent
from .enforcement.break_glass import break_glass
from .enforcement.enforcer import ExportRefused, permit
from .recorder import AuditRefused, Recorder, RecordId, get_recorder
from .requests import decision, request
from .settings import Mode

__all__ = [
    "Action",
    "AuditRefused",
    "ExportRefused",
    "action",
    "break_glass",
    "decision",
    "provision",
    "record",
    "record_async",
    "request",
    "transfer",
]

_log = logging.getLogger(__name__)


def record(
    event_class: str,
    attributes: Attributes,
    *,
    start_time: int | None = None,
    end_time: int | None = None,
    mode: Mode | str | None = None,
    parent: Parent = None,
) -> RecordId:
    """Record one event with the process's recorder; see ``Recorder.record``."""
    return get_recorder().record(
        event_class, attributes, start_time=start_time, end_time=end_time, mode=mode, parent=parent
    )


async def record_async(
    event_class: str,
    attributes: Attributes,
    *,
    start_time: int | None = None,
    end_time: int | None = None,
    mode: Mode | str | None = None,
    parent: Parent = None,
) -> RecordId:
    """As ``record``, without holding the event loop while the disk or the collector is awaited."""
    return await get_recorder().record_async(
        event_class, attributes, start_time=start_time, end_time=end_time, mode=mode, parent=parent
    )


class Action:
    """An action with an intent before and an outcome after: a context manager, sync and async, for one use.

    Args:
        event_class: class of both records.
        attributes: attributes of both records.
        recorder: the process's when None.
        mode: durability of both records; that of the class when None.
    """

    def __init__(
        self,
        event_class: str,
        attributes: Attributes,
        *,
        recorder: Recorder | None = None,
        mode: Mode | str | None = None,
    ) -> None:
        self._class = event_class
        self._attributes: dict[str, AttributeValue] = dict(attributes)
        self._given = recorder
        self._mode = mode
        self._outcome = Outcome.SUCCESS
        self._start = 0
        self.intent_id: RecordId | None = None
        """Record id of the intent; None before the block."""

    @property
    def _recorder(self) -> Recorder:
        return self._given if self._given is not None else get_recorder()

    def set(self, name: str, value: AttributeValue) -> None:
        """Add an attribute to the outcome, such as what is only known afterwards."""
        self._attributes[name] = value

    def end_with(self, outcome: Outcome | str) -> None:
        """The outcome when the block does not raise, such as ``denied``; ``success`` otherwise."""
        self._outcome = Outcome(outcome)

    def _intent(self) -> dict[str, AttributeValue]:
        self._start = time.time_ns()
        return {**self._attributes, semconv.AUDIT_OUTCOME: Outcome.STARTED.value}

    def _end(self, error: BaseException | None) -> dict[str, AttributeValue]:
        attributes = {**self._attributes, semconv.AUDIT_INTENT_ID: self.intent_id}
        if error is None:
            attributes[semconv.AUDIT_OUTCOME] = self._outcome.value
        else:
            interrupted = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit | GeneratorExit)
            attributes[semconv.AUDIT_OUTCOME] = (Outcome.INTERRUPTED if interrupted else Outcome.FAILURE).value
            attributes[semconv.ERROR_TYPE] = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix(
                "builtins."
            )
        return attributes

    def _outcome_refused(self, error: AuditRefused) -> None:
        # The action has happened: refusing it now would only hide its result. The intent stands without an outcome.
        _log.error("The outcome of a %s could not be recorded: %s", self._class, error)

    def _permit(self) -> None:
        """Ask whether it may happen; a refusal is recorded by the caller."""
        self._attributes |= permit(self._class, self._attributes, self._recorder)

    def _denied(self, refusal: ExportRefused) -> dict[str, AttributeValue]:
        return {**self._attributes, **refusal.attributes, semconv.AUDIT_OUTCOME: Outcome.DENIED.value}

    def __enter__(self) -> Self:
        """Ask where the class is enforced, and write the intent.

        Raises:
            ExportRefused: it may not happen.
            AuditRefused: as ``Recorder.record`` does.
        """
        try:
            self._permit()
        except ExportRefused as refusal:
            try:
                self._recorder.record(self._class, self._denied(refusal), mode=self._mode)
            except AuditRefused as unrecorded:
                _log.error("The refusal of a %s could not be recorded: %s", self._class, unrecorded)
            raise
        self.intent_id = self._recorder.record(self._class, self._intent(), mode=self._mode)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write the outcome; never hides or changes what the block raised."""
        try:
            self._recorder.record(self._class, self._end(error), start_time=self._start, mode=self._mode)
        except AuditRefused as refused:
            self._outcome_refused(refused)

    async def __aenter__(self) -> Self:
        """As ``__enter__``, off the event loop."""
        try:
            await asyncio.to_thread(self._permit)
        except ExportRefused as refusal:
            try:
                await self._recorder.record_async(self._class, self._denied(refusal), mode=self._mode)
            except AuditRefused as unrecorded:
                _log.error("The refusal of a %s could not be recorded: %s", self._class, unrecorded)
            raise
        self.intent_id = await self._recorder.record_async(self._class, self._intent(), mode=self._mode)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """As ``__exit__``, off the event loop."""
        try:
            await self._recorder.record_async(self._class, self._end(error), start_time=self._start, mode=self._mode)
        except AuditRefused as refused:
            self._outcome_refused(refused)


def action(
    event_class: str,
    attributes: Attributes,
    *,
    mode: Mode | str | None = None,
    recorder: Recorder | None = None,
) -> Action:
    """An intent before and an outcome after, for any class."""
    return Action(event_class, attributes, mode=mode, recorder=recorder)


def transfer(
    *,
    target: str,
    actor: str,
    direction: Literal["upload", "download", "copy", "grant"] | None = None,
    destination_country: str | None = None,
    consignee: str | None = None,
    final_recipient: str | None = None,
    request_id: str | None = None,
    attributes: Attributes | None = None,
    mode: Mode | str | None = None,
    recorder: Recorder | None = None,
) -> Action:
    """A ``model.transfer``: weights or another model artifact move, or are made reachable.

    Args:
        target: the artifact, such as ``s3://models/frontier-7.safetensors``.
        actor: who moves it; never a secret (see ``credential_fingerprint``).
        direction: which way.
        destination_country: ISO 3166-1 alpha-2, where known.
        consignee: who receives it, where known.
        final_recipient: who holds it in the end, where known.
        request_id: of the export request that was decided on.
        attributes: further attributes, of ``auditspan.semconv``; they win over the arguments.
        mode: durability of both records.
        recorder: the process's when None.
    """
    return Action(
        EventClass.MODEL_TRANSFER,
        {
            semconv.AUDIT_ACTION: direction or "transfer",
            semconv.AUDIT_ACTOR_ID: actor,
            semconv.AUDIT_TARGET_ID: target,
            semconv.AUDIT_TARGET_TYPE: "model.artifact",
            semconv.TRANSFER_DIRECTION: direction,
            semconv.DESTINATION_COUNTRY: destination_country,
            semconv.DESTINATION_BASIS: "declared" if destination_country else None,
            semconv.CONSIGNEE: consignee,
            semconv.FINAL_RECIPIENT: final_recipient,
            semconv.REQUEST_ID: request_id,
            **(attributes or {}),
        },
        mode=mode,
        recorder=recorder,
    )


def provision(
    *,
    target: str,
    actor: str,
    accelerator_model: str | None = None,
    quantity: int | None = None,
    cloud_region: str | None = None,
    destination_country: str | None = None,
    end_user: str | None = None,
    request_id: str | None = None,
    attributes: Attributes | None = None,
    mode: Mode | str | None = None,
    recorder: Recorder | None = None,
) -> Action:
    """An ``accelerator.provision``: accelerators are made available to someone.

    Args:
        target: the instance, node group or instance type.
        actor: who provisions; never a secret.
        accelerator_model: such as ``H100 SXM``.
        quantity: how many.
        cloud_region: region of the cloud.
        destination_country: ISO 3166-1 alpha-2, where known.
        end_user: party id of whoever computes on them.
        request_id: of the export request that was decided on.
        attributes: further attributes, of ``auditspan.semconv``; they win over the arguments.
        mode: durability of both records.
        recorder: the process's when None.
    """
    return Action(
        EventClass.ACCELERATOR_PROVISION,
        {
            semconv.AUDIT_ACTION: "provision",
            semconv.AUDIT_ACTOR_ID: actor,
            semconv.AUDIT_TARGET_ID: target,
            semconv.AUDIT_TARGET_TYPE: "accelerator",
            semconv.ACCELERATOR_MODEL: accelerator_model,
            semconv.QUANTITY: quantity,
            semconv.CLOUD_REGION: cloud_region,
            semconv.DESTINATION_COUNTRY: destination_country,
            semconv.DESTINATION_BASIS: "declared" if destination_country else None,
            semconv.END_USER: end_user,
            semconv.REQUEST_ID: request_id,
            **(attributes or {}),
        },
        mode=mode,
        recorder=recorder,
    )
