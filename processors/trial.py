"""What a new reference must be able to do before it comes into force, beyond being loaded."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Final

from auditspan.errors import AuditSpanError
from auditspan.policy.artifact_files import kind_of, packs_of
from auditspan.policy.codes import code_faults_of, listing_faults
from auditspan.policy.deployment import DEPLOYMENT, unbound_letters
from auditspan.policy.engine import Determination
from auditspan.policy.errors import PolicyError
from auditspan.policy.given_facts import facts_from
from auditspan.policy.reference import ADDRESSES, Reference
from auditspan.policy.screening_list import SCREENING_LISTS

from .determine import Determiner

__all__ = ["try_out"]

_ACTS: Final = ("access", "transfer", "provision", "inventory")
_NAMED_APART: Final = frozenset({ADDRESSES, DEPLOYMENT, *SCREENING_LISTS})


def try_out(reference: Reference, changed: Mapping[str, bytes], concerned: Mapping[str, bytes], instant: int) -> None:
    """Check ``reference`` as a whole.

    Args:
        reference: loaded and compiled.
        changed: artifacts that were not in force before, content by name.
        concerned: those among which packs could ask for a country or group that no fact has.
        instant: of the rules to try, in nanoseconds.

    Raises:
        PolicyError: a pack or table has another name than its content says; a pack asks for a code that no fact has;
            a registry names a list that no rule knows; a letter has an addressee, and nothing says who the exporter is.
        AuditSpanError: the rules cannot judge, or an action that went on against enforcement would not be flagged.
    """
    for name, content in changed.items():
        _check_name(name, content)
    faults = itertools.chain(
        code_faults_of(packs_of(concerned), reference.countries),
        listing_faults(reference.parties, reference.packs.compared),
        unbound_letters(packs_of(changed), reference.exporter),
    )
    for fault in faults:
        raise fault
    try:
        Determiner(reference)  # which has the boundaries of the rules in columns
        tried = [_tried(reference, act, instant) for act in _ACTS]
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise AuditSpanError(
            f"The rules can be loaded, and cannot judge: {error}",
            remedy="Take the last change back: it asks for more than a determination can hold.",
        ) from error
    if not all(determination.verdict.flagged for determination in tried):
        raise AuditSpanError(
            "An action that somebody lets go on against enforcement would not be flagged.",
            remedy="Keep a rule with `when: [break_glass]` and `flag: true`, such as the pack company-policy has.",
        )


def _check_name(name: str, content: bytes) -> None:
    """Lint, test and diff name a pack by its id: under another name it would take the place of another."""
    if name in _NAMED_APART:
        return
    kind, right = kind_of(name, content)
    if kind == "golden":
        raise PolicyError("golden cases are no part of a reference", file=name, remedy="Activate a pack or a table.")
    if name != right:
        raise PolicyError(f"this {kind} is {right}", file=name, line=1, remedy=f"Activate it as {right}.")


def _tried(reference: Reference, act: str, instant: int) -> Determination:
    """An action of which nothing else is known, which somebody let go on, judged and explained."""
    facts = facts_from(reference, {"act": act, "break_glass": True})
    determination = reference.engine().determine([facts], instant)
    reference.explainer().why(determination)
    reference.missing_facts().of(determination)
    return determination
