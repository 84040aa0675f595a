"""Records of export requests and of decisions on them: people's acts, which no hook sees."""

from __future__ import annotations

from .. import semconv
from ..semconv import Approval, EventClass, Outcome
from .encode import Attributes, AttributeValue
from .recorder import Recorder, RecordId, get_recorder
from .settings import Mode

__all__ = ["decision", "request"]


def request(
    *,
    request_id: str,
    actor: str,
    target: str,
    final_recipient: str | None = None,
    consignee: str | None = None,
    end_user: str | None = None,
    destination_country: str | None = None,
    license: str | None = None,
    artifact_digest: str | None = None,
    model: str | None = None,
    accelerator_model: str | None = None,
    quantity: int | None = None,
    attributes: Attributes | None = None,
    mode: Mode | str | None = None,
    recorder: Recorder | None = None,
) -> RecordId:
    """Record that somebody asks to export a controlled item (``export.request``).

    Args:
        request_id: joins the request with its decision and its transfers; of a request system, or a new UUID.
        actor: who asks; never a secret.
        target: what is to be exported: an artifact, a folder of them, or a name of the item.
        final_recipient: who is to hold it in the end: a party id of the registry, or a name.
        consignee: who is to receive it first.
        end_user: who is to use it.
        destination_country: ISO 3166-1 alpha-2.
        license: licence or exception that is asked for.
        artifact_digest: ``sha256:<hex>`` of the artifact.
        model: name of the model.
        accelerator_model: such as ``H100 SXM``.
        quantity: how many; of accelerators, or of transfers of an artifact.
        attributes: further attributes, of ``auditspan.semconv``; they win over the arguments.
        mode: durability of the record.
        recorder: the process's when None.

    Raises:
        AuditRefused: as ``Recorder.record`` does.
    """
    said: dict[str, AttributeValue] = {
        **_item(target, artifact_digest, model, accelerator_model, quantity),
        **_recipients(final_recipient, consignee, end_user, destination_country),
        semconv.AUDIT_ACTION: "request",
        semconv.AUDIT_OUTCOME: Outcome.SUCCESS.value,
        semconv.AUDIT_ACTOR_ID: actor,
        semconv.REQUEST_ID: request_id,
        semconv.LICENSE: license,
        **(attributes or {}),
    }
    return (recorder or get_recorder()).record(EventClass.EXPORT_REQUEST, said, mode=mode)


def decision(
    *,
    request_id: str,
    outcome: Approval | str,
    actor: str,
    authority: str,
    target: str | None = None,
    final_recipient: str | None = None,
    consignee: str | None = None,
    end_user: str | None = None,
    destination_country: str | None = None,
    license: str | None = None,
    artifact_digest: str | None = None,
    model: str | None = None,
    accelerator_model: str | None = None,
    quantity: int | None = None,
    valid_until: str | None = None,
    conditions: str | None = None,
    attributes: Attributes | None = None,
    mode: Mode | str | None = None,
    recorder: Recorder | None = None,
) -> RecordId:
    """Record what an approving authority decided on a request (``export.decision``).

    It counts where this process's token is that of an emitter which the deployment lets decide
    (``requests.approving_emitters``). What is left out was decided as it was asked for.

    Args:
        request_id: of the request.
        outcome: ``approved``, ``denied``, or ``returned`` without action.
        actor: the person who decided; never a secret, and not who asked.
        authority: in whose name: an office of the company, or an agency.
        target: the item that was decided on.
        final_recipient: who may hold it in the end.
        consignee: who may receive it first.
        end_user: who may use it.
        destination_country: ISO 3166-1 alpha-2.
        license: number of the licence, or the exception, under which it may go.
        artifact_digest: ``sha256:<hex>`` of the artifact.
        model: name of the model.
        accelerator_model: such as ``H100 SXM``.
        quantity: how many at most, over all transfers of the request.
        valid_until: last day, or time, at which a transfer may begin, ISO 8601; UTC without a zone.
        conditions: in words; they are shown, and not judged.
        attributes: further attributes, of ``auditspan.semconv``; they win over the arguments.
        mode: durability of the record.
        recorder: the process's when None.

    Raises:
        ValueError: ``outcome`` is none of the three.
        AuditRefused: as ``Recorder.record`` does.
    """
    said: dict[str, AttributeValue] = {
        **_item(target, artifact_digest, model, accelerator_model, quantity),
        **_recipients(final_recipient, consignee, end_user, destination_country),
        semconv.AUDIT_ACTION: "decide",
        semconv.AUDIT_OUTCOME: Outcome.SUCCESS.value,
        semconv.AUDIT_ACTOR_ID: actor,
        semconv.REQUEST_ID: request_id,
        semconv.APPROVAL_OUTCOME: Approval(outcome).value,
        semconv.APPROVING_AUTHORITY: authority,
        semconv.LICENSE: license,
        semconv.APPROVAL_VALID_UNTIL: valid_until,
        semconv.APPROVAL_CONDITIONS: conditions,
        **(attributes or {}),
    }
    return (recorder or get_recorder()).record(EventClass.EXPORT_DECISION, said, mode=mode)


def _item(
    target: str | None, digest: str | None, model: str | None, accelerator: str | None, quantity: int | None
) -> dict[str, AttributeValue]:
    return {
        semconv.AUDIT_TARGET_ID: target,
        semconv.ARTIFACT_DIGEST: digest,
        semconv.MODEL_NAME: model,
        semconv.ACCELERATOR_MODEL: accelerator,
        semconv.QUANTITY: quantity,
    }


def _recipients(
    final_recipient: str | None, consignee: str | None, end_user: str | None, country: str | None
) -> dict[str, AttributeValue]:
    return {
        semconv.FINAL_RECIPIENT: final_recipient,
        semconv.CONSIGNEE: consignee,
        semconv.END_USER: end_user,
        semconv.DESTINATION_COUNTRY: country,
    }
