"""The attributes of an audit record: one place for every name, its type, meaning and source.

``docs/semantic-conventions.md`` is generated from this module. Names come from the OpenTelemetry audit draft where it
has one, from current OpenTelemetry semantic conventions next, and are ours (``export_control.*``) only for what none
has.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

__all__ = [
    "ATTRIBUTES",
    "CLASSES",
    "SCHEMA_VERSION",
    "Approval",
    "Attribute",
    "EventClass",
    "Outcome",
    "class_is_determined",
    "class_may_be_emitted",
]

SCHEMA_VERSION: Final = "1.0.0"
"""Version of these conventions, sent as ``audit.schema.version``."""


class EventClass(StrEnum):
    """What a record is about. The value is the attribute ``audit.event.class``."""

    MODEL_ACCESS = "model.access"
    MODEL_TRANSFER = "model.transfer"
    ACCELERATOR_PROVISION = "accelerator.provision"
    ACCELERATOR_TRANSFER = "accelerator.transfer"
    ACCELERATOR_INVENTORY = "accelerator.inventory"
    EXPORT_REQUEST = "export.request"
    EXPORT_DECISION = "export.decision"
    EXPORT_FINDING = "export.finding"
    OTHER = "other"

    STREAM_OPENED = "audit.stream.opened"
    STREAM_HEARTBEAT = "audit.stream.heartbeat"
    STREAM_CLOSED = "audit.stream.closed"
    GAP = "audit.gap"

    GAP_CLOSED = "audit.gap.closed"
    BATCH = "audit.batch"
    HEARTBEAT = "audit.heartbeat"
    QUARANTINED = "audit.quarantined"
    CONFLICT = "audit.conflict"
    LOG_OPENED = "audit.log.opened"
    LOG_CLOSED = "audit.log.closed"
    CHECKPOINT = "audit.checkpoint"
    REFERENCE_ACTIVATED = "audit.reference.activated"
    KEY_ADDED = "audit.key.added"
    KEY_ROTATED = "audit.key.rotated"
    LEDGER_RECOVERED = "audit.ledger.recovered"
    EVIDENCE_REQUESTED = "evidence.requested"
    EVIDENCE_EXPORTED = "evidence.exported"
    SCREENING_RESCREENED = "screening.rescreened"
    LICENSE_ALLOCATION = "license.allocation"


CLASSES: Final[dict[EventClass, str]] = {
    EventClass.MODEL_ACCESS: "someone asked a model for an inference",
    EventClass.MODEL_TRANSFER: "model weights or another model artifact moved, or were made reachable",
    EventClass.ACCELERATOR_PROVISION: "accelerators were made available to someone to compute on",
    EventClass.ACCELERATOR_TRANSFER: "accelerators changed place or owner",
    EventClass.ACCELERATOR_INVENTORY: "accelerators that someone holds, as counted",
    EventClass.EXPORT_REQUEST: "someone asked to export a controlled item",
    EventClass.EXPORT_DECISION: "an approving authority decided on such a request",
    EventClass.EXPORT_FINDING: "the log found a transfer or a decision that does not agree with its export request",
    EventClass.OTHER: "a span that is no audit record; stored, not judged",
    EventClass.STREAM_OPENED: "first record of a stream: one incarnation of an emitting process",
    EventClass.STREAM_HEARTBEAT: "the stream is alive and says its last sequence number",
    EventClass.STREAM_CLOSED: "last record of a stream that ended in order",
    EventClass.GAP: "records that were lost, with what is known of them; sent by an emitter or found by the log",
    EventClass.GAP_CLOSED: "records that were missing have come after all",
    EventClass.BATCH: "end of a sealed batch: the journal interval it consumed and its counts",
    EventClass.HEARTBEAT: "the log was alive while nothing came",
    EventClass.QUARANTINED: "bytes that could not be read as an audit record, kept as they came",
    EventClass.CONFLICT: "a second, different record under an identity already sealed",
    EventClass.LOG_OPENED: "leaf 0 of a log: binds its id to deployment, journal and partition",
    EventClass.LOG_CLOSED: "end of a log generation, naming its successor",
    EventClass.CHECKPOINT: "one round of signed checkpoints over every open log",
    EventClass.REFERENCE_ACTIVATED: "a new epoch of rule packs, tables and registry came into force",
    EventClass.KEY_ADDED: "a signing key came into use",
    EventClass.KEY_ROTATED: "a signing key was replaced",
    EventClass.LEDGER_RECOVERED: "the deployment goes on for one that lost signed leaves, and says which",
    EventClass.EVIDENCE_REQUESTED: "somebody asked for evidence, on a legal basis",
    EventClass.EVIDENCE_EXPORTED: "an evidence package was exported",
    EventClass.SCREENING_RESCREENED: "a party of stored events is like an entry of a screening list that came later",
    EventClass.LICENSE_ALLOCATION: "what events that need an export license took of one, or why none covers them",
}

DETERMINED: Final = frozenset(
    {
        EventClass.MODEL_ACCESS,
        EventClass.MODEL_TRANSFER,
        EventClass.ACCELERATOR_PROVISION,
        EventClass.ACCELERATOR_TRANSFER,
        EventClass.ACCELERATOR_INVENTORY,
    }
)
"""Classes that are judged under the rule packs."""

_EMITTED: Final = DETERMINED | {
    EventClass.EXPORT_REQUEST,
    EventClass.EXPORT_DECISION,
    EventClass.STREAM_OPENED,
    EventClass.STREAM_HEARTBEAT,
    EventClass.STREAM_CLOSED,
    EventClass.GAP,
}
_EMITTED_PREFIXES: Final = ("license.", "provenance.", "evidence.", "case.")


def class_may_be_emitted(name: str) -> bool:
    """Whether an emitter may send this ``audit.event.class`` (evidence format, section 4)."""
    return name in _EMITTED or name.startswith(_EMITTED_PREFIXES)


def class_is_determined(name: str) -> bool:
    """Whether a record of this class is judged under the rule packs (evidence format, section 6)."""
    return name in DETERMINED


class Outcome(StrEnum):
    """How the recorded action ended. The value is the attribute ``audit.outcome``."""

    STARTED = "started"
    SUCCESS = "success"
    FAILURE = "failure"
    DENIED = "denied"
    INTERRUPTED = "interrupted"
    UNKNOWN = "unknown"


class Approval(StrEnum):
    """What an approving authority decided. The value is the attribute ``export_control.approval.outcome``."""

    APPROVED = "approved"
    DENIED = "denied"
    RETURNED = "returned"


Type = Literal["string", "int", "boolean", "string[]"]
Requirement = Literal["required", "conditionally required", "recommended", "opt-in"]
Place = Literal["span", "resource", "span or resource"]

_AUDIT_DRAFT: Final = "OpenTelemetry audit logging draft"
_OTEL: Final = "OpenTelemetry semantic conventions"
_OURS: Final = "AuditSpan"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its name, where it stands, its type, whether it must be there, its meaning and its source."""

    name: str
    type: Type
    requirement: Requirement
    meaning: str
    source: str
    place: Place = "span"
    example: str = ""


ATTRIBUTES: dict[str, Attribute] = {}


def _define(
    name: str,
    type: Type,
    requirement: Requirement,
    meaning: str,
    source: str,
    *,
    place: Place = "span",
    example: str = "",
) -> str:
    ATTRIBUTES[name] = Attribute(name, type, requirement, meaning, source, place, example)
    return name


AUDIT_EVENT_CLASS: Final = _define(
    "audit.event.class",
    "string",
    "required",
    "Class of the event; a span without it is stored as `other`.",
    _OURS,
    example="model.access",
)
AUDIT_RECORD_ID: Final = _define(
    "audit.record.id",
    "string",
    "required",
    "Unique id of the record, a UUID.",
    _AUDIT_DRAFT,
    example="0198f2a4-7c1e-7d3a-9f57-0d6b8f0c2a11",
)
AUDIT_ACTOR_ID: Final = _define(
    "audit.actor.id",
    "string",
    "required",
    "Who acted: a fingerprint of the credential, or an id the identity provider gave. Never a secret.",
    _AUDIT_DRAFT,
    example="sha256:9f86d081884c7d659a2feaa0c55ad015",
)
AUDIT_ACTOR_TYPE: Final = _define(
    "audit.actor.type",
    "string",
    "recommended",
    "`credential`, `user`, `service`, `role` or `anonymous`.",
    _AUDIT_DRAFT,
    example="credential",
)
AUDIT_ACTION: Final = _define(
    "audit.action",
    "string",
    "required",
    "What was done, as verb or API operation.",
    _AUDIT_DRAFT,
    example="chat",
)
AUDIT_OUTCOME: Final = _define(
    "audit.outcome",
    "string",
    "required",
    "`started`, `success`, `failure`, `denied`, `interrupted` or `unknown`.",
    _AUDIT_DRAFT,
    example="success",
)
AUDIT_TARGET_ID: Final = _define(
    "audit.target.id",
    "string",
    "required",
    "What was accessed or moved: model, artifact, instance.",
    _AUDIT_DRAFT,
    example="s3://models/frontier-7.safetensors",
)
AUDIT_TARGET_TYPE: Final = _define(
    "audit.target.type",
    "string",
    "recommended",
    "`model`, `model.artifact`, `accelerator`.",
    _AUDIT_DRAFT,
    example="model",
)
AUDIT_SOURCE_ID: Final = _define(
    "audit.source.id",
    "string",
    "recommended",
    "Id of the stream: random, one per incarnation of an emitting process.",
    _AUDIT_DRAFT,
    place="resource",
    example="6f1d2c3b4a5968778695a4b3c2d1e0f0",
)
AUDIT_SEQUENCE_NUMBER: Final = _define(
    "audit.sequence.number",
    "int",
    "recommended",
    "Number of the record in its stream, from 0 without holes.",
    _AUDIT_DRAFT,
    example="41",
)
AUDIT_SCHEMA_VERSION: Final = _define(
    "audit.schema.version",
    "string",
    "recommended",
    "Version of these conventions.",
    _AUDIT_DRAFT,
    place="resource",
    example=SCHEMA_VERSION,
)
AUDIT_INTENT_ID: Final = _define(
    "audit.intent.id",
    "string",
    "conditionally required",
    "On an outcome record: the record id of the intent or start that it completes.",
    _OURS,
    example="0198f2a4-7c1e-7d3a-9f57-0d6b8f0c2a11",
)
AUDIT_GAP_COUNT: Final = _define(
    "audit.gap.count",
    "int",
    "conditionally required",
    "On `audit.gap`: records lost, as far as known.",
    _OURS,
    example="3",
)
AUDIT_GAP_REASON: Final = _define(
    "audit.gap.reason",
    "string",
    "conditionally required",
    "On `audit.gap`: why, such as `disk_full`, `torn_tail`, `oversize`, `rejected`.",
    _OURS,
    example="disk_full",
)
AUDIT_STREAM_LAST_SEQUENCE: Final = _define(
    "audit.stream.last_sequence",
    "int",
    "conditionally required",
    "On `audit.stream.heartbeat` and `audit.stream.closed`: last sequence number before this record.",
    _OURS,
    example="40",
)

USER_ID: Final = _define("user.id", "string", "recommended", "Id of the user where the application says so.", _OTEL)
CLIENT_ADDRESS: Final = _define(
    "client.address",
    "string",
    "recommended",
    "Address of the client; from a forwarded header only when the peer is a trusted proxy.",
    _OTEL,
    example="203.0.113.7",
)
SERVICE_NAME: Final = _define(
    "service.name", "string", "required", "Name of the emitting service.", _OTEL, place="resource"
)
HTTP_REQUEST_METHOD: Final = _define("http.request.method", "string", "recommended", "HTTP method.", _OTEL)
HTTP_ROUTE: Final = _define(
    "http.route", "string", "recommended", "Matched route, or the path when none is known.", _OTEL
)
HTTP_RESPONSE_STATUS_CODE: Final = _define(
    "http.response.status_code", "int", "recommended", "HTTP status as sent to the client.", _OTEL
)
ERROR_TYPE: Final = _define(
    "error.type", "string", "conditionally required", "Class of the error, when one ended the action.", _OTEL
)
GEN_AI_PROVIDER_NAME: Final = _define("gen_ai.provider.name", "string", "recommended", "Provider of the model.", _OTEL)
GEN_AI_OPERATION_NAME: Final = _define(
    "gen_ai.operation.name", "string", "recommended", "`chat`, `text_completion`, `embeddings`.", _OTEL
)
GEN_AI_REQUEST_MODEL: Final = _define(
    "gen_ai.request.model", "string", "recommended", "Model the client asked for.", _OTEL
)
GEN_AI_RESPONSE_MODEL: Final = _define("gen_ai.response.model", "string", "recommended", "Model that answered.", _OTEL)
GEN_AI_USAGE_INPUT_TOKENS: Final = _define(
    "gen_ai.usage.input_tokens", "int", "recommended", "Tokens of the prompt.", _OTEL
)
GEN_AI_USAGE_OUTPUT_TOKENS: Final = _define(
    "gen_ai.usage.output_tokens", "int", "recommended", "Tokens of the completion.", _OTEL
)
STREAMING: Final = _define(
    "audit.response.streaming", "boolean", "recommended", "Whether the response was streamed.", _OURS
)
RESPONSE_BODY_SIZE: Final = _define(
    "http.response.body.size", "int", "recommended", "Bytes of the response body that were handed on.", _OTEL
)
REQUEST_BODY_SIZE: Final = _define("http.request.body.size", "int", "opt-in", "Bytes of the request body.", _OTEL)
CLOUD_PROVIDER: Final = _define("cloud.provider", "string", "recommended", "`aws`, `gcp`, `azure`.", _OTEL)
CLOUD_REGION: Final = _define("cloud.region", "string", "recommended", "Region of the cloud where it happens.", _OTEL)
CLOUD_ACCOUNT_ID: Final = _define("cloud.account.id", "string", "recommended", "Account of the cloud.", _OTEL)
HOST_TYPE: Final = _define("host.type", "string", "recommended", "Instance type, such as `p5.48xlarge`.", _OTEL)
RPC_METHOD: Final = _define("rpc.method", "string", "recommended", "Operation of the API that was called.", _OTEL)

DESTINATION_COUNTRY: Final = _define(
    "export_control.destination.country",
    "string",
    "conditionally required",
    "ISO 3166-1 alpha-2 code of the destination, where the emitter knows it.",
    _OURS,
    example="SG",
)
DESTINATION_BASIS: Final = _define(
    "export_control.destination.basis",
    "string",
    "recommended",
    "How the emitter knows the destination: `consignee`, `cloud_region`, `declared`.",
    _OURS,
)
CONSIGNEE: Final = _define("export_control.consignee", "string", "recommended", "Who receives the item.", _OURS)
END_USER: Final = _define(
    "export_control.end_user",
    "string",
    "recommended",
    "Party id of the end user, as in the party registry; on the resource when a whole process acts for one party.",
    _OURS,
    place="span or resource",
)
ULTIMATE_PARENT: Final = _define(
    "export_control.ultimate_parent", "string", "opt-in", "Ultimate parent of the end user.", _OURS
)
ECCN: Final = _define(
    "export_control.eccn",
    "string",
    "opt-in",
    "ECCN as the emitter declares it; the log computes its own where it can.",
    _OURS,
    example="4E091",
)
LICENSE: Final = _define(
    "export_control.license",
    "string",
    "opt-in",
    "Licence number, or the symbol of the licence exception relied on, such as `NAC`.",
    _OURS,
)
APPROVING_AUTHORITY: Final = _define("export_control.approving_authority", "string", "opt-in", "Who approved.", _OURS)
FINAL_RECIPIENT: Final = _define(
    "export_control.final_recipient", "string", "opt-in", "Who holds it in the end.", _OURS
)
REQUEST_ID: Final = _define(
    "export_control.request.id", "string", "opt-in", "Joins request, decision and transfer.", _OURS
)
APPROVAL_OUTCOME: Final = _define(
    "export_control.approval.outcome",
    "string",
    "conditionally required",
    "On `export.decision`: `approved`, `denied`, or `returned` without action.",
    _OURS,
    example="approved",
)
APPROVAL_VALID_UNTIL: Final = _define(
    "export_control.approval.valid_until",
    "string",
    "recommended",
    "On `export.decision`: last day, or time, at which a transfer may begin, ISO 8601; UTC without a zone.",
    _OURS,
    example="2027-06-30",
)
APPROVAL_CONDITIONS: Final = _define(
    "export_control.approval.conditions",
    "string",
    "opt-in",
    "On `export.decision`: conditions of the approval, in words; shown, not judged.",
    _OURS,
)
ARTIFACT_DIGEST: Final = _define(
    "export_control.artifact.digest", "string", "recommended", "Digest of the artifact, `sha256:<hex>`.", _OURS
)
ARTIFACT_SIZE: Final = _define("export_control.artifact.size", "int", "recommended", "Bytes of the artifact.", _OURS)
TRANSFER_DIRECTION: Final = _define(
    "export_control.transfer.direction", "string", "recommended", "`upload`, `download`, `copy` or `grant`.", _OURS
)
ACCELERATOR_MODEL: Final = _define(
    "export_control.accelerator.model", "string", "recommended", "Accelerator model, such as `H100 SXM`.", _OURS
)
QUANTITY: Final = _define("export_control.quantity", "int", "recommended", "How many accelerators or instances.", _OURS)
SERIALS: Final = _define("export_control.serials", "string[]", "opt-in", "Serial numbers or instance ids.", _OURS)
TRAINING_OPERATIONS: Final = _define(
    "export_control.training_operations",
    "string",
    "opt-in",
    "Operations the model was trained with, as decimal exponent text such as `1.2e26`.",
    _OURS,
)
WEIGHTS_PUBLISHED: Final = _define(
    "export_control.weights_published", "boolean", "opt-in", "Whether the weights are published.", _OURS
)

BREAK_GLASS_REASON: Final = _define(
    "export_control.break_glass.reason",
    "string",
    "conditionally required",
    "Why the action went on although enforcement would have refused it, in the words of who decided so.",
    _OURS,
    example="outage 4711, approved by the duty officer",
)
DECISION_OUTCOME: Final = _define(
    "export_control.decision.outcome",
    "string",
    "conditionally required",
    "Governing outcome of the decision that was asked for before the action, where its class is enforced.",
    _OURS,
    example="license_required",
)
DECISION_RULE_IDS: Final = _define(
    "export_control.decision.rule_ids",
    "string[]",
    "conditionally required",
    "Ids of the rules that governed that decision.",
    _OURS,
    example="us-ear/headquarters",
)
DECISION_EPOCH: Final = _define(
    "export_control.decision.epoch",
    "int",
    "conditionally required",
    "Number of the reference epoch under which that decision was made.",
    _OURS,
    example="4",
)
DECISION_FAILURE: Final = _define(
    "export_control.decision.failure",
    "string",
    "conditionally required",
    "Why no decision could be had before the action: `missing`, `stale`, `broken`, `timeout`, `unreachable`, "
    "`denied`, `rejected`, `busy` or `fault`.",
    _OURS,
    example="timeout",
)

# Read for the determination alone: facts that nobody but the emitter can know.
MOVEMENT: Final = _define(
    "export_control.movement",
    "string",
    "opt-in",
    "`export`, `reexport`, `transfer_in_country`, `domestic` or `transit`; follows from origin and destination where "
    "it is left out.",
    _OURS,
)
ORIGIN_COUNTRY: Final = _define(
    "export_control.origin.country",
    "string",
    "opt-in",
    "ISO 3166-1 alpha-2 code of where the item is sent from.",
    _OURS,
)
TRANSIT_COUNTRIES: Final = _define(
    "export_control.transit.countries",
    "string[]",
    "opt-in",
    "Countries that the item passes through, by code.",
    _OURS,
)
LADING_TIME: Final = _define(
    "export_control.lading_time",
    "string",
    "opt-in",
    "Day or time at which the goods were laden, ISO 8601; savings clauses turn on it.",
    _OURS,
)
US_ORIGIN: Final = _define(
    "export_control.us_origin",
    "boolean",
    "opt-in",
    "Made in, or located in, the United States (15 CFR 734.3).",
    _OURS,
)
US_CONTENT: Final = _define(
    "export_control.us_content",
    "int",
    "opt-in",
    "Controlled content of US origin in a foreign-made item, in thousandths of its value (15 CFR 734.4).",
    _OURS,
)
FOREIGN_DIRECT_PRODUCT: Final = _define(
    "export_control.foreign_direct_product",
    "boolean",
    "opt-in",
    "Direct product of US technology or software (15 CFR 734.9).",
    _OURS,
)
ITAR: Final = _define(
    "export_control.itar",
    "boolean",
    "opt-in",
    "Whether the item is under the ITAR (22 CFR 121).",
    _OURS,
)
END_TO_END_ENCRYPTED: Final = _define(
    "export_control.end_to_end_encrypted",
    "boolean",
    "opt-in",
    "Encrypted end to end by the means of 15 CFR 734.18(a)(5).",
    _OURS,
)
STORAGE_COUNTRY: Final = _define(
    "export_control.storage.country",
    "string",
    "opt-in",
    "Where encrypted data are stored on purpose.",
    _OURS,
)
ITEM_FORM: Final = _define(
    "export_control.item_form",
    "string",
    "opt-in",
    "`integrated_circuit` or `computer`.",
    _OURS,
)
AVAILABLE_IN_US: Final = _define(
    "export_control.available_in_us",
    "boolean",
    "opt-in",
    "Commercially available in the United States (91 FR 1684).",
    _OURS,
)
MODEL_NAME: Final = _define(
    "export_control.model",
    "string",
    "opt-in",
    "Name of the model that is moved, as a directive would name it.",
    _OURS,
)
DERIVATIVE: Final = _define(
    "export_control.derivative",
    "boolean",
    "opt-in",
    "The model was made by training another model further (note to 4E091).",
    _OURS,
)
ADDED_OPERATIONS: Final = _define(
    "export_control.added_operations",
    "string",
    "opt-in",
    "Operations added to the model it derives from, such as `3e25`.",
    _OURS,
)
ADDED_PERMILLE: Final = _define(
    "export_control.added_operations.permille",
    "int",
    "opt-in",
    "The same in thousandths of the operations of the model it derives from.",
    _OURS,
)
SYNTHETIC_DATA: Final = _define(
    "export_control.synthetic_data.permille",
    "int",
    "opt-in",
    "Share of the training operations on unpublished data of one generator, in thousandths (note to 4E091).",
    _OURS,
)
US_ORIGIN_TRAINING_DATA: Final = _define(
    "provenance.us_origin.training_data",
    "boolean",
    "opt-in",
    "The model incorporates training data of US origin.",
    _OURS,
)
US_ORIGIN_WEIGHTS: Final = _define(
    "provenance.us_origin.weights",
    "boolean",
    "opt-in",
    "The model incorporates weights of US origin.",
    _OURS,
)
US_ORIGIN_COMPUTE: Final = _define(
    "provenance.us_origin.compute",
    "boolean",
    "opt-in",
    "The model was trained on compute of US origin.",
    _OURS,
)
ACTOR_NATIONALITY: Final = _define(
    "export_control.actor.nationality",
    "string",
    "opt-in",
    "Country of the most recent citizenship or permanent residency of the person who acts (15 CFR 734.13(b)).",
    _OURS,
)
END_USER_NATIONALITY: Final = _define(
    "export_control.end_user.nationality",
    "string",
    "opt-in",
    "The same of the person who receives.",
    _OURS,
)
CHINESE_RELATIONS: Final = _define(
    "export_control.chinese_relations",
    "string[]",
    "opt-in",
    "How the supply chain is tied to Chinese parties: `supplier`, `reseller`, `forwarder`, `financier`, `colocation`.",
    _OURS,
)
KNOWN_END_USES: Final = _define(
    "export_control.known_end_uses",
    "string[]",
    "opt-in",
    "End uses that the exporter knows of, such as `military`, `nuclear`, `supercomputer`.",
    _OURS,
)
KNOWN_VIOLATION: Final = _define(
    "export_control.known_violation",
    "boolean",
    "opt-in",
    "It is known that a violation has occurred or is about to (15 CFR 736.2(b)(10)).",
    _OURS,
)
CERTIFICATIONS: Final = _define(
    "export_control.certifications",
    "string[]",
    "opt-in",
    "Certifications made under 91 FR 1684: `parameters`, `us_orders`, `aggregate_share`, `end_use`, "
    "`know_your_customer`, `laboratory_test`.",
    _OURS,
)
EXCEPTION_CONDITIONS: Final = _define(
    "export_control.exception.conditions",
    "string[]",
    "opt-in",
    "What the exporter states so as to rely on the licence exception in `export_control.license` (15 CFR 740), such as "
    "`purchase_order` for NAC; all words: docs/license-exceptions.md.",
    _OURS,
)
EXCEPTION_NOTICE_TIME: Final = _define(
    "export_control.exception.notice_time",
    "string",
    "opt-in",
    "Day or time, ISO 8601, at which BIS was notified of the export (15 CFR 740.8).",
    _OURS,
)
RED_FLAGS: Final = _define(
    "export_control.red_flags",
    "string[]",
    "opt-in",
    "Red flags for advanced integrated circuits that nobody has cleared up: `first_orders_after_2022`, "
    "`vague_address`, `little_web_presence`, `no_business_case`, `infrastructure_not_confirmed`, "
    "`unusual_intermediary` (15 CFR 732 Supplement 3).",
    _OURS,
)

READ_FROM_SPAN: Final[dict[str, Type]] = {
    name: ATTRIBUTES[name].type
    for name in (
        AUDIT_EVENT_CLASS,
        AUDIT_RECORD_ID,
        AUDIT_ACTION,
        AUDIT_OUTCOME,
        AUDIT_TARGET_ID,
        AUDIT_TARGET_TYPE,
        AUDIT_ACTOR_ID,
        AUDIT_ACTOR_TYPE,
        USER_ID,
        CLIENT_ADDRESS,
        GEN_AI_REQUEST_MODEL,
        GEN_AI_RESPONSE_MODEL,
        CLOUD_PROVIDER,
        CLOUD_REGION,
        HOST_TYPE,
        DESTINATION_COUNTRY,
        DESTINATION_BASIS,
        CONSIGNEE,
        END_USER,
        ULTIMATE_PARENT,
        ECCN,
        LICENSE,
        ACCELERATOR_MODEL,
        TRAINING_OPERATIONS,
        TRANSFER_DIRECTION,
        AUDIT_SEQUENCE_NUMBER,
        QUANTITY,
        WEIGHTS_PUBLISHED,
    )
}
"""Attributes the log reads from a span, with their types (evidence format, appendix A).

Part of ``derive_v1``: frozen.
"""

READ_FROM_RESOURCE: Final[dict[str, Type]] = {
    name: ATTRIBUTES[name].type for name in (AUDIT_SOURCE_ID, SERVICE_NAME, END_USER)
}
"""Attributes the log reads from a resource (evidence format, appendix A).

Part of ``derive_v1``: frozen.
"""

READ_FOR_FACTS: Final[tuple[str, ...]] = (
    MOVEMENT,
    ORIGIN_COUNTRY,
    TRANSIT_COUNTRIES,
    LADING_TIME,
    US_ORIGIN,
    US_CONTENT,
    FOREIGN_DIRECT_PRODUCT,
    ITAR,
    END_TO_END_ENCRYPTED,
    STORAGE_COUNTRY,
    ITEM_FORM,
    AVAILABLE_IN_US,
    MODEL_NAME,
    DERIVATIVE,
    ADDED_OPERATIONS,
    ADDED_PERMILLE,
    SYNTHETIC_DATA,
    US_ORIGIN_TRAINING_DATA,
    US_ORIGIN_WEIGHTS,
    US_ORIGIN_COMPUTE,
    ACTOR_NATIONALITY,
    END_USER_NATIONALITY,
    CHINESE_RELATIONS,
    KNOWN_END_USES,
    KNOWN_VIOLATION,
    CERTIFICATIONS,
    EXCEPTION_CONDITIONS,
    EXCEPTION_NOTICE_TIME,
    RED_FLAGS,
    BREAK_GLASS_REASON,
)
"""Attributes of a span that are read for the determination alone, whatever their type: one that cannot be read makes
its fact unknown, and is no fault of the record. Not part of ``derive_v1``."""
