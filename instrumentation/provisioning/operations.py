"""The cloud operations that make accelerators available: one small class each, as OpenTelemetry's botocore extensions.

A class says what the request asks for and what the response gave; a further operation is a further class in
``OPERATIONS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol

from ... import semconv
from ...semconv import Outcome
from ..aws_client import error_code
from ..encode import AttributeValue

__all__ = ["OPERATIONS", "Ec2RunInstances", "ProvisioningOperation"]

Attributes = dict[str, AttributeValue]


class ProvisioningOperation(Protocol):
    """One operation of one service. Its methods run under a guard: what they raise is counted, and the call goes on."""

    service: ClassVar[str]
    """Name of the service as botocore has it."""

    operation: ClassVar[str]
    """Name of the operation as the service has it."""

    def asked(self, parameters: Mapping[str, Any]) -> Attributes:
        """Attributes of both records, from the request: at least target and quantity."""

    def given(self, response: Mapping[str, Any]) -> Attributes:
        """Attributes of the outcome, from the response."""

    def refused(self, error: BaseException, parameters: Mapping[str, Any]) -> tuple[Outcome, Attributes] | None:
        """The outcome of an error that means something of its own; None for what every operation has."""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


class Ec2RunInstances:
    """``RunInstances``: instances of a type, as many as there are between two numbers.

    Every call is recorded, whatever the type: which types carry accelerators is for the log to know, as of the date.
    """

    service: ClassVar[str] = "ec2"
    operation: ClassVar[str] = "RunInstances"

    def asked(self, parameters: Mapping[str, Any]) -> Attributes:
        """The type, or the launch template that will say it, and the most instances that may come of it."""
        template = parameters.get("LaunchTemplate")
        named = template if isinstance(template, Mapping) else {}
        host = parameters.get("InstanceType")
        target = host or named.get("LaunchTemplateId") or named.get("LaunchTemplateName") or "unknown"
        dry = parameters.get("DryRun") is True
        return {
            semconv.AUDIT_ACTION: "RunInstances (dry run)" if dry else "RunInstances",
            semconv.AUDIT_TARGET_ID: str(target),
            semconv.HOST_TYPE: str(host) if host else None,
            semconv.QUANTITY: 0 if dry else _count(parameters.get("MaxCount")),
        }

    def given(self, response: Mapping[str, Any]) -> Attributes:
        """What was started: types and ids as the service names them."""
        instances = [item for item in response.get("Instances", ()) if isinstance(item, Mapping)]
        types = sorted({str(item["InstanceType"]) for item in instances if item.get("InstanceType")})
        given: Attributes = {
            semconv.QUANTITY: len(instances),
            semconv.SERIALS: [str(item["InstanceId"]) for item in instances if item.get("InstanceId")],
        }
        if types:
            given |= {semconv.HOST_TYPE: ",".join(types), semconv.AUDIT_TARGET_ID: ",".join(types)}
        owner = response.get("OwnerId")
        if isinstance(owner, str) and owner:
            given[semconv.CLOUD_ACCOUNT_ID] = owner
        return given

    def refused(self, error: BaseException, parameters: Mapping[str, Any]) -> tuple[Outcome, Attributes] | None:
        """A dry run that would have worked is answered with the error ``DryRunOperation``."""
        if error_code(error) == "DryRunOperation":
            return Outcome.SUCCESS, {}
        return None


OPERATIONS: Final[tuple[ProvisioningOperation, ...]] = (Ec2RunInstances(),)
"""The operations that are recorded."""
