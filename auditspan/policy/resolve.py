"""From columns of spans to facts: who, what, where, and how each is known.

Work is done once for each distinct value of a column, then once for each distinct combination of what they mean.
Where evidence conflicts, all of it is kept as candidates, and the determination takes the one that restricts most.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from auditspan import semconv
from auditspan.canonical import LARGEST_INTEGER
from auditspan.otlp.columns import DECLARED
from auditspan.otlp.values import key_values

from .accelerator_names import is_part
from .accelerators import Accelerator
from .addresses import AddressCountry
from .countries import Place
from .declarations import DECLARATIONS, NO_PERSON, NOT_DECLARED, complete, declared, exaoperations
from .facts import UNDECLARED, FactSet, FactValue
from .memory import weigh
from .owned_parties import Ownership
from .parties import Party
from .reference import Reference
from .screened_facts import put_screened
from .screening_list import NOBODY, Screened, ScreeningList
from .vocabulary import license_exception

__all__ = ["Aspect", "Codes", "Resolver"]

Codes = npt.NDArray[np.int64]

_MOST_REMEMBERED: Final = 200_000
_MOST_BYTES: Final = 128 * 1024 * 1024
"""Of all values and meanings together, once what is to be judged has been resolved."""
_PER_VALUE: Final = 250
"""Bytes of the places in which a value and its meaning are found."""
_MOST_TYPES: Final = 16
_DECLARED_ELSEWHERE: Final = frozenset({"declared_eccn", "declared_license", "transfer_direction"})
_NATIONALITIES: Final = ("actor_nationality", "end_user_nationality")
_REGISTERED: Final = (*_NATIONALITIES, "chinese_relations", "red_flags")
"""What the registry says and an emitter may declare too."""
_UNRESOLVED: Final = "unresolved"

_ACTS: Final[dict[str | None, tuple[str | None, str | None]]] = {
    semconv.EventClass.MODEL_ACCESS: ("access", "model"),
    semconv.EventClass.MODEL_TRANSFER: ("transfer", "model_weights"),
    semconv.EventClass.ACCELERATOR_PROVISION: ("provision", "accelerator"),
    semconv.EventClass.ACCELERATOR_TRANSFER: ("transfer", "accelerator"),
    semconv.EventClass.ACCELERATOR_INVENTORY: ("inventory", "accelerator"),
}
_DIRECTIONS: Final = frozenset({"upload", "download", "copy", "grant"})
_TOWARDS_THE_USER: Final = frozenset({"download", "grant"})
_ECCN: Final = re.compile(r"^([0-9][A-E][0-9]{3})((?:\.[a-z0-9]{1,8}){0,5})$|^EAR99$", re.IGNORECASE)
_LICENSE: Final = re.compile(r"^[A-Za-z0-9 ./()\-]{1,64}$")
_LONGEST_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class _Hardware:
    """Accelerators as one piece of evidence names them; ``specification`` is ``None`` where the table has none."""

    name: str
    specification: Accelerator | None
    per_unit: int | None


class Aspect:
    """One column, seen as the few things that its values mean.

    A meaning gets a number that stays the same across batches until :meth:`forget`.
    """

    def __init__(self, column: str, meaning: Callable[[Any], Hashable]) -> None:
        self.column = column
        self._meaning = meaning
        self._of_value: dict[Any, int] = {}
        self._numbers: dict[Hashable, int] = {}
        self.meanings: list[Any] = []
        self.bytes = 0
        """What values and meanings take; of meanings that the reference holds, a reference to them."""

    @property
    def size(self) -> int:
        """Values and meanings remembered."""
        return max(len(self._of_value), len(self.meanings))

    def forget(self) -> None:
        """Forgets everything; numbers given before are void."""
        self._of_value.clear()
        self._numbers.clear()
        self.meanings.clear()
        self.bytes = 0

    def codes(self, spans: pa.Table) -> Codes:
        """The number of each row's meaning."""
        if self.column not in spans.column_names:
            return np.full(spans.num_rows, self.number(None), dtype=np.int64)
        array = _dictionary(spans.column(self.column))
        indices = array.indices.fill_null(len(array.dictionary)).to_numpy(zero_copy_only=False).astype(np.int64)
        used, inverse = _distinct(indices, len(array.dictionary) + 1)
        values = array.dictionary.take(pa.array(used[used < len(array.dictionary)])).to_pylist()
        numbers = [self.number(value) for value in values]
        if len(used) > len(values):
            numbers.append(self.number(None))
        return np.array(numbers, dtype=np.int64)[inverse]

    def number(self, value: Any) -> int:
        """The number of what one value means."""
        known = self._of_value.get(value)
        if known is None:
            meaning = self._meaning(value)
            known = self._numbers.setdefault(meaning, len(self.meanings))
            self.bytes += weigh(value) + _PER_VALUE
            if known == len(self.meanings):
                self.meanings.append(meaning)
                self.bytes += weigh(meaning)
            self._of_value[value] = known
        return known


class Resolver:
    """Resolves the facts of determined rows under one reference. Not safe for concurrent calls."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        parties = reference.parties
        self.aspects: tuple[Aspect, ...] = (
            Aspect("class", lambda value: value),
            Aspect(semconv.AUDIT_ACTOR_ID, parties.of_actor),
            Aspect(semconv.END_USER, lambda value: None if value is None else parties.named(value) or _UNRESOLVED),
            Aspect(semconv.ULTIMATE_PARENT, self._parent_country),
            Aspect(semconv.CONSIGNEE, lambda value: getattr(parties.named(value), "country", None)),
            Aspect(semconv.DESTINATION_COUNTRY, self._declared_place),
            Aspect(semconv.CLOUD_PROVIDER, lambda value: value.strip().lower()[:32] if value else None),
            Aspect(semconv.CLOUD_REGION, self._region),
            Aspect(semconv.HOST_TYPE, self._instance),
            Aspect(semconv.ACCELERATOR_MODEL, self._model),
            Aspect(semconv.CLIENT_ADDRESS, reference.addresses.country),
            Aspect(semconv.ECCN, _eccn),
            Aspect(semconv.LICENSE, _license),
            Aspect(
                semconv.TRANSFER_DIRECTION,
                lambda value: UNDECLARED if value is None else value if value in _DIRECTIONS else None,
            ),
            Aspect(semconv.TRAINING_OPERATIONS, exaoperations),
            Aspect(
                semconv.QUANTITY, lambda value: value if value is not None and 0 <= value <= LARGEST_INTEGER else None
            ),
            Aspect(semconv.WEIGHTS_PUBLISHED, lambda value: value),
            Aspect(semconv.GEN_AI_REQUEST_MODEL, lambda value: value[:_LONGEST_NAME] if value else None),
            Aspect(semconv.GEN_AI_RESPONSE_MODEL, lambda value: value[:_LONGEST_NAME] if value else None),
            Aspect(DECLARED, self._declared),
        )
        if reference.screening is not None:
            self.aspects += self._screening_aspects(reference.screening)

    def _screening_aspects(self, screening: ScreeningList) -> tuple[Aspect, ...]:
        """The columns that name somebody, seen as whom of the screening list that one is like."""
        screening.open()
        parties = self._reference.parties

        def named(value: str | None) -> Screened:
            party = parties.named(value)
            return screening.of_name(value) if party is None else screening.of_party(party, parties)

        return (
            Aspect(semconv.AUDIT_ACTOR_ID, lambda value: screening.of_party(parties.of_actor(value), parties)),
            Aspect(semconv.END_USER, named),
            Aspect(semconv.CONSIGNEE, lambda value: (getattr(parties.named(value), "listings", ()), named(value))),
        )

    def codes(self, spans: pa.Table) -> list[Codes]:
        """One array of numbers for each aspect."""
        return [aspect.codes(spans) for aspect in self.aspects]

    def of_record(self, values: Mapping[str, Any]) -> tuple[int, ...]:
        """The same for one record that is no row: ``values`` by column, of the columns' types."""
        return tuple(aspect.number(values.get(aspect.column)) for aspect in self.aspects)

    def forget_when_large(self) -> bool:
        """Bounds memory: forgets all numbers once they are of too many or too large values. True when it did."""
        few = all(aspect.size < _MOST_REMEMBERED for aspect in self.aspects)
        if few and sum(aspect.bytes for aspect in self.aspects) < _MOST_BYTES:
            return False
        for aspect in self.aspects:
            aspect.forget()
        return True

    def facts(self, numbers: Sequence[int], at: int | None = None) -> list[FactSet]:
        """The facts of one combination of meanings, by their numbers; several candidates where evidence conflicts.

        Args:
            numbers: of the meanings, one for each aspect.
            at: rule time in nanoseconds; without it, what owners make of a party is not known where it depends on it.
        """
        evidence = _Evidence(*(aspect.meanings[number] for aspect, number in zip(self.aspects, numbers, strict=True)))
        facts = FactSet()
        act, item_kind = _ACTS.get(evidence.event_class, (None, None))
        facts.put("class", evidence.event_class, semconv.AUDIT_EVENT_CLASS)
        facts.put("act", act, semconv.AUDIT_EVENT_CLASS)
        facts.put("item_kind", item_kind, semconv.AUDIT_EVENT_CLASS)
        _put_declarations(facts, evidence, item_kind)
        end_user, end_user_known_by = _end_user(evidence)
        parent = _put_parties(facts, self._reference.ownership, at, evidence.actor, end_user, end_user_known_by)
        self._put_screened(facts, evidence, at)
        # Who runs this deployment is the exporter: the sealed reference says who, never the emitter.
        facts.put("exporter", self._reference.exporter_fact, "deployment")
        registered: dict[str, FactValue] = {n: facts.values[n] for n in _REGISTERED if n in facts.values}
        _put_declared(facts, evidence, act)
        destinations = self._destinations(evidence, act, end_user)
        hardware = _hardware(evidence) if item_kind == "accelerator" else [None]
        parents = _parents(evidence, parent)
        facts.put(
            "destination_candidates",
            tuple(sorted({place.country if place else "?" for place, _ in destinations})),
            "evidence",
        )
        candidates = [
            self._candidate(facts, *choice)
            for choice in itertools.product(destinations or [(None, "")], hardware or [None], parents)
        ]
        return candidates + [other for one in candidates for other in _as_registered(one, registered)]

    def _put_screened(self, facts: FactSet, evidence: _Evidence, at: int | None) -> None:
        screening = self._reference.screening
        if screening is None:
            return
        listings, consignee = evidence.consignee_screened
        if listings:
            facts.put("consignee_listings", listings, "party registry")
        # Who uses the item in the end is the actor where nobody else is named.
        end_user = evidence.actor_screened if evidence.end_user is None else evidence.end_user_screened
        for role, screened in (("actor", evidence.actor_screened), ("end_user", end_user), ("consignee", consignee)):
            put_screened(facts, role, screened, screening.version, self._reference.clearances, at)

    @staticmethod
    def _candidate(
        common: FactSet,
        destination: tuple[Place | None, str],
        hardware: _Hardware | None,
        parent: tuple[str | None, str],
    ) -> FactSet:
        facts = common.copy()
        place, known_by = destination
        if place is not None:
            facts.put(
                "destination_country",
                place.country,
                known_by if place.given == place.country else f"{known_by} ({place.given})",
            )
            facts.put("destination_subdivision", place.subdivision, known_by)
        if hardware is not None:
            _put_hardware(facts, hardware)
        facts.put("end_user_parent_country", *parent)
        complete(facts)
        return facts

    def _destinations(
        self, evidence: _Evidence, act: str | None, end_user: Party | None
    ) -> list[tuple[Place | None, str]]:
        """Every distinct country that some evidence names, with that evidence; ``None`` = evidence that names none."""
        place = self._reference.countries.place
        towards_the_user = act == "access" or evidence.direction in _TOWARDS_THE_USER
        named: list[tuple[Place | None, str]] = []
        if evidence.declared is not None:
            declared = evidence.declared
            named.append((None if declared == _UNRESOLVED else declared, semconv.DESTINATION_COUNTRY))
        if evidence.consignee is not None and act == "transfer":
            named.append((place(evidence.consignee), semconv.CONSIGNEE))
        if evidence.region is not None and act != "access":
            named.append(
                (place(self._reference.regions.country(evidence.provider, evidence.region)), semconv.CLOUD_REGION)
            )
        if towards_the_user and evidence.address.kind != "none":
            named.append((place(evidence.address.code), semconv.CLIENT_ADDRESS))
        # Nothing says where it went: a user stands where its party does, but what an operator's own credential fetches
        # or grants may go anywhere, unless the end user is named.
        user_known = act == "access" or (towards_the_user and evidence.end_user is not None)
        if not named and user_known and end_user is not None and end_user.country is not None:
            named.append((place(end_user.country), "party registry"))
        distinct: dict[tuple[str, str | None] | None, tuple[Place | None, str]] = {}
        for item, known_by in named:
            distinct.setdefault(None if item is None else (item.country, item.subdivision), (item, known_by))
        return list(distinct.values())

    def _declared(self, value: bytes | None) -> Hashable:
        """The facts that a run of serialized attributes declares: name, value (None = unreadable), attribute."""
        if value is None:
            return ()
        try:
            found = declared(key_values(value), self._reference.countries)
        except ValueError:
            # Nobody can tell which of them is there: none is known.
            found = {item.fact: (None, name) for name, item in DECLARATIONS.items()}
        return tuple((name, fact, attribute) for name, (fact, attribute) in sorted(found.items()))

    def _declared_place(self, value: str | None) -> Hashable:
        return None if value is None else self._reference.countries.place(value) or _UNRESOLVED

    def _parent_country(self, value: str | None) -> Hashable:
        """Country of a declared ultimate parent: a party of the registry, or a country code."""
        if value is None:
            return None
        party = self._reference.parties.named(value)
        place = None if party is not None else self._reference.countries.place(value)
        return (party.country if party else place.country if place else None) or _UNRESOLVED

    def _region(self, value: str | None) -> Hashable:
        if value is None:
            return None
        known = any(self._reference.regions.country(provider, value) for provider in (None, "aws", "gcp", "azure"))
        return value.strip().lower() if known else _UNRESOLVED

    def _instance(self, value: str | None) -> Hashable:
        """The accelerators of an instance type, or of several with commas between; ``None`` in it for one not known."""
        if value is None:
            return None
        types = value.split(",", _MOST_TYPES)[:_MOST_TYPES]
        found = (self._reference.accelerators.in_instance(name.strip()) for name in types)
        return tuple(dict.fromkeys(None if item is None else _Hardware(*item) for item in found))

    def _model(self, value: str | None) -> Hashable:
        if value is None:
            return None
        found = self._reference.accelerators.named(value)
        # A MIG instance or a time-sliced share: the quantity counts fractions of accelerators.
        return _UNRESOLVED if found is None else _Hardware(found.model, found, 0 if is_part(value) else None)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """The meanings of one combination, in the order of the aspects."""

    event_class: str | None
    actor: Party | None
    end_user: Any
    declared_parent: Any
    consignee: str | None
    declared: Any
    provider: str | None
    region: str | None
    instances: Any
    model: Any
    address: AddressCountry
    eccn: str | None
    license: str | None
    direction: str | None
    exaoperations: int | None
    quantity: int | None
    weights_published: bool | None
    model_asked: str | None
    model_answered: str | None
    declared_facts: tuple[tuple[str, FactValue, str], ...]
    actor_screened: Screened = NOBODY
    end_user_screened: Screened = NOBODY
    consignee_screened: tuple[tuple[str, ...], Screened] = ((), NOBODY)


def _put_declarations(facts: FactSet, evidence: _Evidence, item_kind: str | None) -> None:
    for name, value, attribute in (
        ("transfer_direction", evidence.direction, semconv.TRANSFER_DIRECTION),
        ("declared_eccn", evidence.eccn, semconv.ECCN),
        ("declared_license", evidence.license, semconv.LICENSE),
    ):
        facts.put(name, value, "absent" if value == UNDECLARED else attribute)
    if item_kind == "accelerator":
        facts.put("quantity", evidence.quantity, semconv.QUANTITY)
    else:
        facts.put("training_exaoperations", evidence.exaoperations, semconv.TRAINING_OPERATIONS)
        facts.put("weights_published", evidence.weights_published, semconv.WEIGHTS_PUBLISHED)


def _end_user(evidence: _Evidence) -> tuple[Party | None, str]:
    """The party that uses the item: as named, or the actor where nobody is."""
    if evidence.end_user is None:
        return evidence.actor, semconv.AUDIT_ACTOR_ID
    return (None if evidence.end_user == _UNRESOLVED else evidence.end_user), semconv.END_USER


def _put_parties(
    facts: FactSet,
    ownership: Ownership,
    at: int | None,
    actor: Party | None,
    end_user: Party | None,
    end_user_known_by: str,
) -> str | None:
    """Puts what the registry says; returns the country of the end user's parent, one of several candidates."""
    facts.put("actor_known", actor is not None, "party registry")
    for role, party, known_by in (
        ("actor", actor, semconv.AUDIT_ACTOR_ID),
        ("end_user", end_user, end_user_known_by),
    ):
        if party is not None:
            facts.put(f"{role}_party", party.id, known_by)
            for name, value in ownership.facts(role, party, at).items():
                facts.put(name, value, "party registry")
    # Of several countries of a parent each is a candidate.
    facts.known_by.pop("end_user_parent_country", None)
    country = facts.values.pop("end_user_parent_country", None)
    return country if isinstance(country, str) else None


def _as_registered(facts: FactSet, registered: Mapping[str, FactValue]) -> list[FactSet]:
    """``facts`` with what the registry says, where the emitter declares another nationality or nothing that can be
    read: both are judged, and what is unreadable undoes nothing that is known.
    """
    differing = {
        name: value
        for name, value in registered.items()
        if (name in _NATIONALITIES or facts.values.get(name) is None) and facts.values.get(name) != value
    }
    if not differing:
        return []
    other = facts.copy()
    for name, value in differing.items():
        other.put(name, value, "party registry")
    return [other]


def _put_declared(facts: FactSet, evidence: _Evidence, act: str | None) -> None:
    """Facts that only the emitter can know; what it does not declare is known not to have been declared."""
    for name, value, attribute in evidence.declared_facts:
        # A list adds to what the registry says: naming fewer relations does not undo one.
        known = facts.values.pop(name, None)
        facts.known_by.pop(name, None)
        if isinstance(known, tuple) and isinstance(value, tuple):
            facts.put(name, tuple(sorted({*known, *value})), attribute)
        else:
            facts.put(name, value, attribute)
    stated = {name for name, _, _ in evidence.declared_facts}
    models = sorted({name for name in (evidence.model_asked, evidence.model_answered) if name})
    if models and "model" not in stated:
        facts.put("model", models[0] if len(models) == 1 else None, semconv.GEN_AI_REQUEST_MODEL)
        stated.add("model")
    for name, value in NOT_DECLARED.items():
        if name not in stated and name not in facts.values and name not in _DECLARED_ELSEWHERE:
            facts.put(name, value, "absent")
    for name in _NATIONALITIES:
        if name not in stated and name not in facts.values and act in NO_PERSON:
            facts.put(name, "", "absent")


def _parents(evidence: _Evidence, registered: str | None) -> list[tuple[str | None, str]]:
    """Countries of the end user's ultimate parent: as the registry has it, and as declared where that differs."""
    found: list[tuple[str | None, str]] = [(registered, "party registry")] if registered else []
    if evidence.declared_parent is not None and evidence.declared_parent != registered:
        declared = None if evidence.declared_parent == _UNRESOLVED else evidence.declared_parent
        found.append((declared, semconv.ULTIMATE_PARENT))
    return found or [(None, "")]


def _hardware(evidence: _Evidence) -> list[_Hardware | None]:
    """Accelerators as the model and the instance type name them; both where they disagree."""
    instances: tuple[_Hardware | None, ...] = evidence.instances or ()
    model = evidence.model
    found: list[_Hardware | None] = []
    if model is not None:
        of_instance = instances[0].per_unit if len(instances) == 1 and instances[0] else None
        found.append(
            _Hardware(model.name, model.specification, model.per_unit if of_instance is None else of_instance)
            if isinstance(model, _Hardware)
            else None
        )
    found += [instance for instance in instances if instance not in found]
    return found


def _put_hardware(facts: FactSet, hardware: _Hardware) -> None:
    facts.put("accelerator_model", hardware.name, "accelerators table")
    facts.put("accelerators_per_unit", hardware.per_unit, "instance types table")
    specification = hardware.specification
    if specification is None:
        return
    for name, interval in (("tpp", specification.tpp), ("performance_density", specification.performance_density)):
        if interval is not None:
            facts.put(f"{name}_low", interval.low, "accelerators table")
            facts.put(f"{name}_high", interval.high, "accelerators table")
    facts.put("data_centre", specification.data_centre, "accelerators table")
    facts.put("dram_bandwidth", specification.dram_bandwidth, "accelerators table")
    facts.put("interconnect_bandwidth", specification.interconnect_bandwidth, "accelerators table")


def _license(value: str | None) -> str | None:
    """A licence exception by its symbol, or a licence number as it is; ``undeclared`` when absent."""
    if value is None:
        return UNDECLARED
    return (license_exception(value) or value) if _LICENSE.match(value) else None


def _eccn(value: str | None) -> str | None:
    """An ECCN in its usual spelling; ``undeclared`` when absent; unknown when it is none."""
    if value is None:
        return UNDECLARED
    text = value.strip()
    match = _ECCN.match(text) if len(text) <= 64 else None
    if match is None:
        return None
    return f"{match.group(1).upper()}{match.group(2).lower()}" if match.group(1) else "EAR99"


def _dictionary(column: pa.ChunkedArray) -> pa.DictionaryArray:
    if not pa.types.is_dictionary(column.type):
        column = pc.dictionary_encode(column)
    array = column.unify_dictionaries().combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=column.type)
    return array


def _distinct(indices: Codes, size: int) -> tuple[Codes, Codes]:
    """Distinct values of ``indices`` (each below ``size``), sorted, and where each row's stands among them."""
    present = np.zeros(size, dtype=bool)
    present[indices] = True
    used = np.flatnonzero(present)
    position = np.zeros(size, dtype=np.int64)
    position[used] = np.arange(len(used))
    return used, position[indices]
