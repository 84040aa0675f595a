"""Under which policy an application for a licence is reviewed: presumption of denial, case by case, or approval."""

from __future__ import annotations

from typing import Final

from .engine import Verdict

__all__ = ["review_policy_of"]

_STRICTEST_FIRST: Final = ("presumption_of_denial", "case_by_case", "presumption_of_approval")


def review_policy_of(verdict: Verdict) -> str | None:
    """The policy that a verdict names: its own, or else the strictest of the rules that decide it; None for none."""
    if hasattr(verdict, "review_policy"):
        own: str | None = verdict.review_policy
        return own
    named = {
        entry.rule.review_policy
        for entry in verdict.entries
        if entry.governs and entry.certain and entry.outcome == verdict.governing
    }
    return next((policy for policy in _STRICTEST_FIRST if policy in named), None)
