"""What an item is: model, TPP, paragraph, margin, place, and the determination of holding it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from auditspan.policy.accelerator_lines import Margin
from auditspan.policy.accelerator_names import normal_name
from auditspan.policy.accelerators import Accelerator, InstanceType
from auditspan.policy.countries import Place
from auditspan.policy.given_facts import facts_from
from auditspan.policy.performance import Interval
from auditspan.policy.reference import Reference

from .items import Count, Item

__all__ = ["Candidate", "Classification", "ClassifiedItem", "Classifier", "Destination", "Judgement"]

_MOST_REMEMBERED: Final = 16_384
_CLEAR: Final = frozenset({"no_license_required", "exception"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one piece of evidence says that the item is; ``specification`` is ``None`` where the tables have none."""

    name: str
    specification: Accelerator | None
    known_by: str


@dataclass(frozen=True, slots=True)
class Destination:
    """A country that some evidence names."""

    place: Place
    known_by: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The determination of holding the item in its country, with the rules that govern."""

    text: str
    enforced: str
    governing: str
    flagged: bool
    rules: tuple[str, ...]
    citations: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Classification:
    """What one candidate is: ECCN (``None`` = undetermined), paragraphs of 3A090 that hold, margin to each line."""

    eccn: str | None
    paragraphs: tuple[str, ...]
    margins: tuple[Margin, ...]


@dataclass(frozen=True, slots=True)
class ClassifiedItem:
    """An item with what it is.

    Attributes:
        item: as the file has it.
        candidates: what the evidence says that it is; several where it disagrees.
        classes: what each of them is.
        accelerators: how many.
        tpp, performance_density: of one accelerator, over all candidates; ``None`` where one is unknown.
        best_type: data type that gives the TPP; ``None`` where candidates differ.
        eccn: ``None`` = undetermined.
        computer_eccn: of a computer or assembly that contains it.
        destinations: every country that evidence names.
        judgement: ``None`` where no country is known.
        unknown: what could not be told, in words.
        statuses: how sure the table rows are that it rests on.
    """

    item: Item
    candidates: tuple[Candidate, ...]
    classes: tuple[Classification, ...]
    accelerators: Count
    tpp: Interval | None
    performance_density: Interval | None
    best_type: str | None
    eccn: str | None
    computer_eccn: str | None
    destinations: tuple[Destination, ...]
    judgement: Judgement | None
    unknown: tuple[str, ...]
    statuses: tuple[str, ...]

    @property
    def paragraphs(self) -> tuple[str, ...]:
        """Of 3A090 that hold, such as ``3A090.a.1``, over all candidates."""
        return tuple(dict.fromkeys(one for found in self.classes for one in found.paragraphs))

    @property
    def margins(self) -> tuple[Margin, ...]:
        """To each line, over all candidates, nearest first."""
        return tuple(sorted((m for one in self.classes for m in one.margins), key=lambda m: abs(m.basis_points)))

    @property
    def total_tpp(self) -> Count:
        """TPP of all of them together; unbounded where one is unknown."""
        if self.tpp is None:
            return Count(0, None)
        high = self.accelerators.high
        return Count(self.accelerators.low * self.tpp.low, None if high is None else high * self.tpp.high)

    @property
    def destination(self) -> str | None:
        """The country, or those that evidence names with ``/`` between; ``None`` = unknown."""
        return "/".join(dict.fromkeys(destination.place.given for destination in self.destinations)) or None

    @property
    def outcome(self) -> str | None:
        """The governing outcome, and ``review`` at least where the classification is undetermined: that never clears.

        ``None`` where no country is known.
        """
        if self.judgement is None:
            return None
        cleared = self.eccn is None and self.judgement.governing in _CLEAR
        return "review" if cleared else self.judgement.governing

    @property
    def close(self) -> tuple[Margin, ...]:
        """The lines that it is close to."""
        return tuple(margin for margin in self.margins if margin.close)


class Classifier:
    """Classifies items under one reference at one instant. Not safe for concurrent calls.

    Args:
        reference: packs and tables.
        instant: rule time in nanoseconds.
        destination: country of what the file places nowhere.
    """

    def __init__(self, reference: Reference, instant: int, destination: Place | None = None) -> None:
        self._reference = reference
        self._instant = instant
        self._destination = destination
        self._engine = reference.engine()
        self._explainer = reference.explainer()
        self._classes: dict[Candidate, Classification] = {}
        self._judgements: dict[tuple[object, ...], Judgement] = {}

    def classify(self, item: Item) -> ClassifiedItem | None:
        """The item with what it is; ``None`` for a machine type that nothing says to have accelerators."""
        instance = self._reference.accelerators.instance(item.instance_type)
        if item.presumed and instance is None:
            return None
        candidates = self._candidates(item, instance)
        classes = [self._class(candidate) for candidate in candidates]
        specifications = [candidate.specification for candidate in candidates]
        eccns = {found.eccn for found in classes}
        eccn = eccns.pop() if len(eccns) == 1 else None
        tpp = _hull([one.tpp if one else None for one in specifications])
        best = {one.best.data_type if one and one.best else None for one in specifications}
        destinations = self._destinations(item)
        return ClassifiedItem(
            item=item,
            candidates=candidates,
            classes=tuple(classes),
            accelerators=_accelerators(item, instance),
            tpp=tpp,
            performance_density=_hull([one.performance_density if one else None for one in specifications]),
            best_type=best.pop() if len(best) == 1 else None,
            eccn=eccn,
            computer_eccn=self._reference.computer_eccns.containing(eccn),
            destinations=destinations,
            judgement=self._judge(candidates, destinations, item.end_user),
            unknown=(
                *_unknown_hardware(candidates, classes),
                *_unknown_count(item, instance),
                *_unknown_place(item, destinations),
            ),
            statuses=_statuses(self._reference, candidates, instance),
        )

    def _candidates(self, item: Item, instance: InstanceType | None) -> tuple[Candidate, ...]:
        """What the evidence says that the item is; what only repeats is left out."""
        named = self._reference.accelerators.named
        by_name, by_pci = named(item.model, item.where), named(item.pci)
        found: list[Candidate] = []
        if item.specification is not None:
            found.append(Candidate(item.specification.model, item.specification, "specification in the inventory"))
        if by_name is not None:
            if not (found and found[0].specification and found[0].specification.tpp == by_name.tpp):
                found.append(Candidate(by_name.model, by_name, "name"))
        elif item.model is not None and by_pci is None and not found and not (item.vague and instance):
            found.append(Candidate(item.model, None, "name"))
        if by_pci is not None and by_pci is not by_name:
            found.append(Candidate(by_pci.model, by_pci, "PCI id"))
        elif item.pci is not None and by_pci is None and not found:
            found.append(Candidate(f"PCI {item.pci}", None, "PCI id"))
        if instance is not None:
            repeated = instance.model in (by_name, by_pci) if instance.model else _same_name(instance, item)
            if not repeated:
                found.append(Candidate(instance.accelerator, instance.model, f"instance type {instance.name}"))
        elif item.unit == "instance":
            found.append(Candidate(item.instance_type or "unknown", None, "instance type"))
        return tuple(found)

    def _destinations(self, item: Item) -> tuple[Destination, ...]:
        found: dict[str, Destination] = {}
        if item.country is not None:
            found[item.country.given] = Destination(item.country, "declared in the inventory")
        if item.region is not None:
            place = self._reference.countries.place(self._reference.regions.country(item.provider, item.region))
            if place is not None:
                found.setdefault(place.given, Destination(place, f"cloud region {item.region}"))
        if not found and self._destination is not None:
            found[self._destination.given] = Destination(self._destination, "--destination")
        return tuple(found.values())

    def _class(self, candidate: Candidate) -> Classification:
        known = self._classes.get(candidate)
        if known is None:
            if len(self._classes) >= _MOST_REMEMBERED:
                self._classes.clear()
            facts = facts_from(self._reference, {"act": "inventory", **_given(candidate)})
            verdict = self._engine.determine([facts], self._instant).verdict
            names = (one.id.split("/", 1)[-1] for one in verdict.definitions if one.eccn and one.eccn == verdict.eccn)
            held = tuple(name for name in names if name != verdict.eccn)
            lines, specification = self._reference.accelerator_lines, candidate.specification
            margins = lines.margins(specification, self._instant) if lines and specification else ()
            known = self._classes[candidate] = Classification(verdict.eccn, held, margins)
        return known

    def _judge(
        self, candidates: Sequence[Candidate], destinations: Sequence[Destination], end_user: str | None
    ) -> Judgement | None:
        """The most restrictive determination over all that the evidence names."""
        if not destinations:
            return None
        key = (tuple(candidates), tuple(destinations), end_user)
        known = self._judgements.get(key)
        if known is None:
            if len(self._judgements) >= _MOST_REMEMBERED:
                self._judgements.clear()
            named = sorted({destination.place.country for destination in destinations})
            facts = [
                facts_from(
                    self._reference,
                    {
                        "act": "inventory",
                        "destination_country": destination.place.given,
                        "destination_candidates": named,
                        **(
                            {"destination_subdivision": destination.place.subdivision}
                            if destination.place.subdivision
                            else {}
                        ),
                        **({"end_user_party": end_user} if end_user else {}),
                        **_given(candidate),
                    },
                    self._instant,
                )
                for candidate in candidates
                for destination in destinations
            ]
            found = self._engine.determine(facts, self._instant)
            verdict = found.verdict
            known = self._judgements[key] = Judgement(
                verdict.text,
                verdict.enforced,
                verdict.governing,
                verdict.flagged,
                found.rule_ids,
                self._explainer.citations(found),
                self._explainer.why(found),
            )
        return known


def _given(candidate: Candidate) -> dict[str, object]:
    """The facts of a candidate, as far as they are known."""
    given: dict[str, object] = {"accelerator_model": candidate.name, "item_kind": "accelerator"}
    one = candidate.specification
    if one is None:
        return given
    for name, interval in (("tpp", one.tpp), ("performance_density", one.performance_density)):
        if interval is not None:
            given |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return given | {
        "data_centre": one.data_centre,
        "dram_bandwidth": one.dram_bandwidth,
        "interconnect_bandwidth": one.interconnect_bandwidth,
    }


def _hull(intervals: Sequence[Interval | None]) -> Interval | None:
    known = [interval for interval in intervals if interval is not None]
    if not known or len(known) < len(intervals):
        return None
    return Interval(min(one.low for one in known), max(one.high for one in known))


def _accelerators(item: Item, instance: InstanceType | None) -> Count:
    per_instance = instance.count if instance is not None else None
    quantity = item.quantity
    if item.unit == "instance":
        number = quantity or 1
        if per_instance is None:
            return Count(number, None)
        return Count(number * per_instance, number * per_instance) if per_instance else Count(0, number)
    if item.unit == "accelerator" and quantity is not None:
        return Count(quantity, quantity)
    if per_instance and quantity is None:
        # A node is one instance, and its machine type counts what its labels do not.
        return Count(per_instance, per_instance)
    if per_instance == 0 and quantity is None:
        return Count(0, 1)
    return Count(1, quantity)


def _same_name(instance: InstanceType, item: Item) -> bool:
    return item.model is not None and normal_name(instance.accelerator) == normal_name(item.model)


def _unknown_hardware(candidates: Sequence[Candidate], classes: Sequence[Classification]) -> list[str]:
    found = [
        f"no specification of {candidate.name} ({candidate.known_by})"
        for candidate in candidates
        if candidate.specification is None or candidate.specification.tpp is None
    ]
    if len(candidates) > 1:
        found.append("evidence disagrees: " + ", ".join(f"{one.name} by {one.known_by}" for one in candidates))
    for candidate, one in zip(candidates, classes, strict=True):
        specification = candidate.specification
        if one.eccn is not None or specification is None or specification.tpp is None:
            continue
        if specification.performance_density is None:
            found.append(f"no die area of {candidate.name}: its performance density is unknown")
        found += [
            f"{candidate.name} may lie on either side of {margin.line.label}"
            for margin in one.margins
            if margin.side == "undetermined"
        ]
    return found


def _unknown_count(item: Item, instance: InstanceType | None) -> list[str]:
    if item.unit != "accelerator" and instance is not None and instance.count == 0:
        return [f"{instance.name} has a fraction of an accelerator"]
    if (item.quantity is None and instance is None) or (item.unit == "part" and item.quantity is not None):
        return ["how many accelerators there are: only parts of them are counted"]
    return []


def _unknown_place(item: Item, destinations: Sequence[Destination]) -> list[str]:
    if len(destinations) > 1:
        return ["evidence disagrees: " + ", ".join(f"{one.place.given} by {one.known_by}" for one in destinations)]
    if destinations:
        return []
    return [f"region {item.region} is in no table" if item.region else "no country"]


def _statuses(reference: Reference, candidates: Sequence[Candidate], instance: InstanceType | None) -> tuple[str, ...]:
    found = [reference.accelerators.status for one in candidates if one.specification is not None]
    if instance is not None:
        found.append(instance.status)
    return tuple(sorted(set(found)))
