"""What a case asks, in words: who it is about, what is not known, what to do, and whether the registry now knows it.

The store groups events into cases by `(subject, question)`: migration ``0005_cases`` and
``docs/decisions/0010-cases.md`` say how. What rescreening found is a case too (migration ``0008_rescreened``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from .countries import COUNTRIES, GROUPS, countries_of
from .facts import BASE_FACTS
from .parties import Parties

__all__ = [
    "EVERYONE",
    "REGISTRY_ARTIFACTS",
    "answered",
    "listed_step",
    "next_step",
    "question_text",
    "registry",
    "subject_text",
]

EVERYONE: Final = "everyone"
"""The subject of a case that takes together what is beyond the day's budget."""
REGISTRY_ARTIFACTS: Final = ("parties.yaml", COUNTRIES, GROUPS)
"""The artifacts of a reference epoch that `registry` reads."""

_QUESTIONS: Final = {
    "actor_party": ("who the actor is", "find out whose credential {who} is, and add it to that party in the registry"),
    "end_user_party": (
        "who the end user is",
        "find out for whom {who} acts, and add that party, by the name it is given, to the registry",
    ),
    "country": ("country of the party", "add the country of {who} to the party registry"),
    "parent_country": (
        "country of the ultimate parent",
        "add the country of the ultimate parent of {who} to the party registry; `ultimate_parent: self` if it has none",
    ),
    "blocked_ownership": (
        "what blocked persons own of the party",
        "add the owners of {who} with their shares to the party registry, until less than half of it is anybody's",
    ),
    "listed_ownership": (
        "what listed parties own of the party",
        "add the owners of {who} with their shares to the party registry, until less than half of it is anybody's",
    ),
    "nationality": ("nationality", "add the nationality of {who} to the party registry"),
    "destination_country": (
        "destination",
        "let the emitter declare `export_control.destination.country`, or find out where {who} calls from",
    ),
    "accelerator_model": (
        "which accelerator",
        "let the emitter name a model or instance type that is in the accelerators table, or add that one to it",
    ),
    "country_groups": ("Country Groups of that date", "determine by hand: the tables do not reach back so far"),
    "weights_published": (
        "whether the weights are published",
        "let the emitter declare `export_control.weights_published`",
    ),
    "training_exaoperations": (
        "operations of training",
        "let the emitter declare `export_control.training_operations` of the model",
    ),
    "exporter": (
        "which company runs this deployment",
        "set `policy.exporter` to the party id of the company that runs this deployment, and start it again: a letter "
        "may be addressed to it",
    ),
    "more": ("several facts", "complete the party registry: the members of the case say what is missing of whom"),
}
_LISTED: Final = "listed:"
_TABLE: Final = "{what}, not known well enough"
_TABLE_STEP: Final = "get the specification of the accelerator from its maker, and correct the accelerators table"


def subject_text(subject: str, grouped: int = 0) -> str:
    """Who or what a case is about; ``grouped``: how many members have no case of their own."""
    kind, _, name = subject.partition(":")
    if subject == EVERYONE:
        return f"{grouped:,} parties and others together"
    if kind == "emitter":
        return f"{grouped:,} unknown actors at {name}" if grouped else f"emitter {name}"
    return f"unknown actor {name}" if kind == "actor" else f"{kind} {name}"


def question_text(question: str) -> str:
    """What is not known."""
    if question in _QUESTIONS:
        return _QUESTIONS[question][0]
    if question.startswith(_LISTED):
        return f"whether it stands on a list, as {question.removeprefix(_LISTED)}"
    kind, colon, name = question.partition(":")
    if colon:
        return f"faulty record: {name}" if kind == "fault" else f"rule {name} asks for a review"
    plain = question.replace("_", " ")
    return _TABLE.format(what=plain) if _of_the_table(question) else plain


def next_step(subject: str, question: str, grouped: int = 0) -> str:
    """What somebody can do so that no event joins the case any more."""
    _, _, name = subject.partition(":")
    who = "each of them" if subject == EVERYONE or grouped else name
    if question.startswith("fault:"):
        return f"correct what {who} sends: its records are faulty"
    if question.startswith("rule:"):
        return f"review what {who} did, as the rule says"
    step = _QUESTIONS[question][1] if question in _QUESTIONS else None
    if step is None:
        step = _TABLE_STEP if _of_the_table(question) else "find out {what} of {who}, and let the emitter declare it"
    return step.format(who=who, what=question_text(question))


def listed_step(likeness: Mapping[str, Any], transfers: int, stop: Sequence[str]) -> str:
    """What to do about a likeness that rescreening found; ``stop``: what General Prohibition 10 forbids meanwhile.

    Args:
        likeness: columns of the view ``auditspan.rescreened``.
        transfers: completed ones.
        stop: verbs.
    """
    who = f"{likeness['whose']} {likeness['name']}" if likeness["whose"] else likeness["name"]
    entry = f"{likeness['list']} {likeness['entry_id']}"
    if who:
        country = f" --country {likeness['country']}" if likeness["country"] else ""
        step = (
            f"find out whether {who} is {likeness['listed_as']} ({entry}); where it is somebody else, clear the hit: "
            f"auditspan screen clear{country}"
        )
    else:
        step = (
            f"more names than are kept apart are like {likeness['listed_as']} ({entry}): clear those that are somebody "
            "else, and rescreen; this case stays"
        )
    if not transfers:
        return step
    done = f"{transfers:,} transfer{'' if transfers == 1 else 's'} completed"
    return (
        f"stop: {done}; until it is known who that is nobody may {', '.join(stop[:-1])} or {stop[-1]} what was "
        f"transferred (General Prohibition 10, 15 CFR 736.2(b)(10)). Then {step}"
    )


def answered(parties: Parties, subject: str, question: str) -> bool:
    """Whether the registry ``parties`` knows what is asked: then no further event joins. Facts of others: never."""
    kind, _, name = subject.partition(":")
    if kind == "actor":
        return question == "actor_party" and parties.of_actor(name) is not None
    party = parties.by_id(name) if kind == "party" else None
    if party is None:
        return False
    if question == "country":
        return party.country is not None
    return question == "parent_country" and party.parent is not None and party.parent.country is not None


def registry(artifacts: Mapping[str, bytes]) -> Parties:
    """The party registry of an epoch, from its `REGISTRY_ARTIFACTS`.

    Raises:
        PolicyError: this version of the software cannot read them.
        KeyError: one is missing.
    """
    parties = REGISTRY_ARTIFACTS[0]
    return Parties(artifacts[parties], parties, countries_of(artifacts))


def _of_the_table(question: str) -> bool:
    fact = BASE_FACTS.get(question) or BASE_FACTS.get(f"{question}_low")
    return fact is not None and "accelerators table" in fact.source
