"""The instrumentor of provisioning through AWS: ``accelerator.provision`` around the calls in ``operations``.

``BaseClient._make_api_call`` is the one function that every call of every client passes, boto3's resources included.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import wrapt
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]

from ... import semconv
from ...semconv import EventClass, Outcome
from ..aws_client import caller_attributes, error_attributes, outcome_of_error
from ..encode import AttributeValue
from ..guard import guarded, recognised
from ..hooked_action import HookedAction
from ..recorder import Recorder
from .operations import OPERATIONS, ProvisioningOperation

__all__ = ["BotocoreAuditInstrumentor"]

_BY_NAME: Final = {(operation.service, operation.operation): operation for operation in OPERATIONS}


class BotocoreAuditInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Records provisioning calls of botocore clients: an intent before the call, the outcome after it.

    botocore is not imported for it. Keyword argument of ``instrument``: ``recorder``.
    """

    _active = False
    _registered = False
    _recorder: Recorder | None = None

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: botocore is hooked when it is imported, so that a process without it carries nothing."""
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        self._recorder = kwargs.get("recorder")
        self._active = True
        if not self._registered:
            self._registered = True
            wrapt.register_post_import_hook(self._wrap, "botocore.client")

    def _uninstrument(self, **kwargs: Any) -> None:
        # The wrapper stays and passes on: another instrumentor's may lie around it.
        self._active = False

    def _wrap(self, module: Any) -> None:
        wrapt.wrap_function_wrapper(module, "BaseClient._make_api_call", self._call)

    def _find(self, client: Any, args: Any, kwargs: Any) -> tuple[ProvisioningOperation, Mapping[str, Any]] | None:
        return recognised(
            "aws.operation", EventClass.ACCELERATOR_PROVISION, self._recorder, None, _operation, client, args, kwargs
        )

    def _call(self, wrapped: Callable[..., Any], client: Any, args: Any, kwargs: Any) -> Any:
        found = self._find(client, args, kwargs) if self._active else None
        if found is None:
            return wrapped(*args, **kwargs)
        operation, parameters = found
        attributes = _attributes(client, operation, parameters)
        action = HookedAction(EventClass.ACCELERATOR_PROVISION, attributes, recorder=self._recorder)
        action.begin()
        try:
            response = wrapped(*args, **kwargs)
        except BaseException as error:  # being interrupted is an outcome too
            special = guarded("aws.refused", None, operation.refused, error, parameters)
            outcome, more = special or (outcome_of_error(error), error_attributes(error))
            action.end(outcome, more)
            raise
        action.end(Outcome.SUCCESS, guarded("aws.given", {}, operation.given, response))
        return response


def _operation(client: Any, args: Any, kwargs: Any) -> tuple[ProvisioningOperation, Mapping[str, Any]] | None:
    """The operation of a call and its parameters, when it is one that is recorded."""
    name = args[0] if args else kwargs.get("operation_name")
    operation = _BY_NAME.get((client.meta.service_model.service_name, name))
    if operation is None:
        return None
    parameters = args[1] if len(args) > 1 else kwargs.get("api_params", {})
    return operation, parameters if isinstance(parameters, Mapping) else {}


def _attributes(
    client: Any, operation: ProvisioningOperation, parameters: Mapping[str, Any]
) -> dict[str, AttributeValue]:
    least: dict[str, AttributeValue] = {
        semconv.AUDIT_ACTION: operation.operation,
        semconv.AUDIT_TARGET_ID: "unknown",
    }
    return {
        **caller_attributes(client),
        **guarded("aws.asked", least, operation.asked, parameters),
        semconv.AUDIT_TARGET_TYPE: "accelerator",
        semconv.RPC_METHOD: f"{operation.service}/{operation.operation}",
    }
