"""Deciding before the act: what the packs in force say of facts, or of a record that is about to be written."""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from auditspan import semconv
from auditspan.canonical import JsonValue
from auditspan.errors import AuditSpanError
from auditspan.otlp.columns import DECLARED
from auditspan.otlp.values import run_of

from .engine import Determination, Engine, more_restrictive
from .explain import Explainer
from .facts import FactSet
from .forked import renew_in_children
from .given_facts import facts_from
from .memory import Memory, weigh
from .packs import Outcome
from .reference import Reference
from .resolve import Resolver
from .rule_time import parse_instant

__all__ = ["Decider", "Decision", "FactsInvalid", "Moment", "instant_of"]

Moment = int | str | datetime.datetime | None
"""A rule time: nanoseconds since 1970 (a decimal text too), ``YYYY-MM-DD[Thh:mm[:ss][offset]]`` (Washington where no
offset is said), a ``datetime`` with a zone, or ``None`` for now.
"""

MOST_FACTS: Final = 1_024
"""Facts or attributes in one question; as many as the log reads of a span (evidence format, section 5)."""
LONGEST_TEXT: Final = 65_536
"""Characters of one value."""

_MOST_REMEMBERED: Final = 4_096
_MOST_BYTES: Final = 64 * 1024 * 1024
"""Of the decisions remembered, with the questions."""
_LONGEST_REMEMBERED: Final = 4_096
"""Characters of a question of declared facts: what is longer nobody asks often."""
_LAST_INSTANT: Final = 2**63 - 1
_CLASS: Final = semconv.AUDIT_EVENT_CLASS
# A number, with letters before it at most: no exception (TMP, ENC), no paragraph (740.13(b)), no NLR.
_LICENSE_NUMBER: Final = re.compile(r"^[A-Za-z]{0,3}[0-9]{5,12}$")
_NANOSECONDS: Final = re.compile(r"^[0-9]{16,19}$")
_REMEDIES: Final[dict[Outcome, str]] = {
    "no_license_required": "",
    "exception": "",
    "review": "Have the export-control officer look at it, or supply the facts that are unknown.",
    "license_required": "Name the licence that covers it in `export_control.license`, or ask the export-control "
    "officer to apply for one.",
    "prohibited": "Do not do it: no licence lifts this. Ask the export-control officer.",
}


class FactsInvalid(AuditSpanError):
    """A question that cannot be answered: an unknown fact, a value of another type, or too much of it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided, under which epoch, and why.

    Attributes:
        governing, enforced, text: the three outcomes; ``governing`` is raised to ``review`` where attributes of a
            record are of the wrong type or too many, as the log does with such a record.
        flagged: a rule that governs says that a controlled destination is involved.
        eccn, destination: what the determination says of them.
        rule_ids: sorted ids of the rules that govern.
        citations: of those rules and of the terms they rest on.
        why: one paragraph; what a confidential directive says is not in it.
        remedy: what to do; empty where nothing stands in the way.
        license: the licence number that the facts name, if it reads like one. No register has confirmed it.
        at: the rule time, nanoseconds since 1970.
        epoch: number of the reference epoch.
        digest: of that epoch, as `audit.reference.activated` seals it (evidence format, section 11).
        age: seconds since it was last known that this epoch is in force; ``None`` where nobody says so.
        document: the facts document as the log would seal it.
    """

    governing: Outcome
    enforced: Outcome
    text: Outcome
    flagged: bool
    eccn: str | None
    destination: str | None
    rule_ids: tuple[str, ...]
    citations: tuple[str, ...]
    why: str
    remedy: str
    license: str | None
    at: int
    epoch: int
    digest: str
    age: float | None = None
    document: bytes = dataclasses.field(default=b"", repr=False)

    def to_json(self) -> dict[str, JsonValue | float]:
        """The decision as ``POST /v1/decide`` answers it."""
        return {
            "governing": self.governing,
            "enforced": self.enforced,
            "text": self.text,
            "flagged": self.flagged,
            "eccn": self.eccn,
            "destination": self.destination,
            "rule_ids": list(self.rule_ids),
            "citations": list(self.citations),
            "why": self.why,
            "remedy": self.remedy,
            "license": self.license,
            "at": str(self.at),
            "epoch": {"number": self.epoch, "digest": self.digest},
            "age_seconds": None if self.age is None else round(self.age, 3),
        }


def instant_of(at: Moment) -> int:
    """``at`` in nanoseconds since 1970.

    Raises:
        FactsInvalid: it is no moment, has no zone, or lies outside 1970 to 2262.
    """
    try:
        if at is None:
            return time.time_ns()
        if isinstance(at, datetime.datetime):
            if at.tzinfo is None:
                raise ValueError("a datetime needs a zone")
            instant = int(at.timestamp()) * 10**9 + at.microsecond * 1_000
        elif isinstance(at, str):
            instant = int(at) if _NANOSECONDS.match(at) else parse_instant(at)
        elif isinstance(at, bool) or not isinstance(at, int):
            raise TypeError(f"{type(at).__name__} is no moment")
        else:
            instant = at
        if not 0 <= instant <= _LAST_INSTANT:
            raise ValueError("outside 1970 to 2262")
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise FactsInvalid(
            f"`at` cannot be used: {error}.", remedy="Write YYYY-MM-DD or YYYY-MM-DDThh:mm, Washington time."
        ) from error
    return instant


class Decider:
    """Decides under one reference. Safe for several threads, which take turns, each for well under 20 ms, and in forked
    children.

    Memory is bounded: a few thousand distinct questions are remembered, no long ones, and some 64 MiB at most with
    their answers; besides those what the resolver and the engine remember, 128 MiB each, whatever is asked.

    Args:
        reference: what judges.
        digest: of its epoch as it was sealed, where another version of the software sealed it.
    """

    def __init__(self, reference: Reference, digest: str | None = None) -> None:
        self.reference = reference
        self.digest = digest or reference.digest
        self._engine: Engine = reference.engine()
        self._explainer: Explainer = reference.explainer()
        self._resolver = Resolver(reference)
        self._remembered = _new_memory()
        self._guard = threading.Lock()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """Decide without the thread of the parent that was deciding: what it was remembering may be half done."""
        if self._guard.locked():
            self._guard = threading.Lock()
            self._resolver = Resolver(self.reference)
            self._remembered = _new_memory()

    def decide(self, facts: Mapping[str, Any], at: Moment = None) -> Decision:
        """What the packs say at ``at``.

        Args:
            facts: declared facts by name (`auditspan.policy.given_facts.facts_from`), or the attributes of a record
                that is about to be written, by their OpenTelemetry names: names with a dot are attributes. These are
                resolved as the log resolves those of the sealed record; attributes that it does not read are ignored.
            at: the rule time.

        Raises:
            FactsInvalid: see there.
        """
        instant = instant_of(at)
        segment = self._engine.segment(instant)
        is_record = _is_record(facts)
        with self._guard:
            if is_record:
                decision = self._of_record(facts, segment, instant)
            else:
                decision = self._of_facts(facts, segment, instant)
        return dataclasses.replace(decision, at=instant)

    def _of_facts(self, given: Mapping[str, Any], segment: int, instant: int) -> Decision:
        # As text, in which true and 1 are not the same.
        question = json.dumps(given, sort_keys=True)
        key = (segment, question)
        known = self._remembered.get(key)
        if known is not None:
            return known
        try:
            facts = facts_from(self.reference, given, instant)
        except FactsInvalid:
            raise
        except AuditSpanError as error:
            raise FactsInvalid(error.message, remedy=error.remedy) from error
        decision = self._decision([facts], instant, demands_review=False)
        return self._remember(key, decision) if len(question) <= _LONGEST_REMEMBERED else decision

    def _of_record(self, attributes: Mapping[str, Any], segment: int, instant: int) -> Decision:
        read, faulty = _read(attributes)
        event_class = read.get(_CLASS)
        if not isinstance(event_class, str) or not semconv.class_is_determined(event_class):
            raise FactsInvalid(
                f"Records of the class {event_class!r} are not judged.",
                remedy=f"Give `{_CLASS}`: {', '.join(sorted(semconv.DETERMINED))}.",
            )
        if self._resolver.forget_when_large():
            self._remembered.clear()
        numbers = self._resolver.of_record({**read, "class": event_class})
        key = (segment, numbers, faulty)
        known = self._remembered.get(key)
        if known is None:
            known = self._remember(
                key, self._decision(self._resolver.facts(numbers, instant), instant, demands_review=faulty)
            )
        return known

    def _remember(self, key: tuple[object, ...], decision: Decision) -> Decision:
        said = (decision.document, decision.why, decision.rule_ids, decision.citations)
        self._remembered.keep(key, decision, weigh(key) + weigh(said))
        return decision

    def _decision(self, candidates: list[FactSet], instant: int, *, demands_review: bool) -> Decision:
        found = self._engine.determine(candidates, instant)
        verdict = found.verdict
        governing = more_restrictive((verdict.governing, "review")) if demands_review else verdict.governing
        declared = found.facts.values.get("declared_license")
        said, closed = _without_confidential(found)
        why = self._explainer.why(said)
        if closed:
            why += f" A confidential directive has its part in this [{', '.join(closed)}]."
        return Decision(
            governing=governing,
            enforced=verdict.enforced,
            text=verdict.text,
            flagged=verdict.flagged,
            eccn=verdict.eccn,
            destination=found.destination,
            rule_ids=found.rule_ids,
            citations=self._explainer.citations(said),
            why=why,
            remedy=_REMEDIES[governing],
            license=declared if isinstance(declared, str) and _LICENSE_NUMBER.match(declared) else None,
            at=instant,
            epoch=self.reference.number,
            digest=self.digest,
            document=found.document_bytes(),
        )


def _new_memory() -> Memory[tuple[object, ...], Decision]:
    return Memory(_MOST_REMEMBERED, _MOST_BYTES)


def _is_record(facts: Mapping[str, Any]) -> bool:
    """Whether ``facts`` are attributes; what cannot be judged at all is refused here."""
    if not isinstance(facts, Mapping):
        raise FactsInvalid("Facts are no mapping of names to values.", remedy="Give an object of facts by name.")
    for name, value in facts.items():
        values = value if isinstance(value, list | tuple) else (value,)
        if not isinstance(name, str) or not all(item is None or isinstance(item, str | int | float) for item in values):
            raise FactsInvalid(
                f"The value of {str(name)[:64]!r} is no text, number, truth value, or list of them.",
                remedy="Nested values say nothing that a rule could read: leave them out.",
            )
        texts = [name, *(item for item in values if isinstance(item, str))]
        if not all(text.isascii() or _is_unicode(text) for text in texts):
            raise FactsInvalid(f"{ascii(name)[:64]} has half a surrogate pair.", remedy="Give Unicode text.")
        if max(map(len, texts)) > LONGEST_TEXT:
            raise FactsInvalid(
                f"The value of {name[:64]!r} is longer than {LONGEST_TEXT} characters.", remedy="Shorten it."
            )
        if len(values) > MOST_FACTS:
            raise FactsInvalid(f"{name[:64]!r} has more than {MOST_FACTS} values.", remedy="Shorten it.")
    named = sum("." in name for name in facts)
    if named and named < len(facts):
        raise FactsInvalid(
            "Declared facts and attributes of a record stand side by side.",
            remedy="Give one or the other: attributes have a dot in their names, facts have none.",
        )
    if not named and len(facts) > MOST_FACTS:
        raise FactsInvalid(f"There are more than {MOST_FACTS} facts.", remedy="Give what the rules can read.")
    return named > 0


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read(attributes: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The columns that the log reads, as it reads them (evidence format, sections 4 and 5); whether it would find a
    fault that demands a review.
    """
    read: dict[str, Any] = {}
    sent = {name: value for name, value in attributes.items() if value is not None}
    faulty = len(sent) > MOST_FACTS
    for name, kind in semconv.READ_FROM_SPAN.items():
        if name not in sent:
            continue
        if _is_of(kind, sent[name]):
            read[name] = sent[name]
        else:
            faulty = True
    run = b"".join(_key_value(name, sent[name]) for name in semconv.READ_FOR_FACTS if name in sent)
    return ({**read, DECLARED: run} if run else read), faulty


def _key_value(name: str, value: Any) -> bytes:
    """An attribute as a part of a run; what the log could not read either becomes one without a value."""
    attribute = KeyValue(key=name)
    if isinstance(value, bool):
        attribute.value.bool_value = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        attribute.value.int_value = value
    elif isinstance(value, str):
        attribute.value.string_value = value
    elif isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        attribute.value.array_value.values.extend(AnyValue(string_value=item) for item in value)
    return run_of(attribute.SerializeToString())


def _is_of(kind: semconv.Type, value: object) -> bool:
    match kind:
        case "string":
            return isinstance(value, str)
        case "boolean":
            return isinstance(value, bool)
        case "int":
            return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
        case _:
            return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _without_confidential(found: Determination) -> tuple[Determination, tuple[str, ...]]:
    """``found`` without what only its addressee may read, and the ids of what was left out."""
    closed = tuple(entry.rule.id for entry in found.verdict.entries if entry.rule.confidential)
    if not closed:
        return found, ()
    entries = tuple(entry for entry in found.verdict.entries if not entry.rule.confidential)
    return dataclasses.replace(found, verdict=dataclasses.replace(found.verdict, entries=entries)), closed
