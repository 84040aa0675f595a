"""The golden cases as tables that a lawyer can read: ``docs/determinations.md``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from auditspan.policy.golden import Case, CaseFile, shipped_cases

_OUTCOMES: Final = {
    "no_license_required": "no licence",
    "exception": "exception",
    "review": "review",
    "license_required": "licence",
    "prohibited": "prohibited",
}
_THOUSANDTHS: Final = ("performance_density", "memory_bandwidth_density")
_WORDS: Final = {
    "tpp": "TPP",
    "dram_bandwidth": "DRAM GB/s",
    "interconnect_bandwidth": "transfer rate GB/s",
    "training_exaoperations": "training operations, 10^18",
    "added_exaoperations": "added operations, 10^18",
    "us_content": "US content, thousandths",
    "added_permille": "added operations, thousandths",
    "declared_eccn": "declared ECCN",
    "itar": "ITAR",
    "us_origin": "US origin",
}


def determinations() -> str:
    """The page: one section for each file of cases."""
    files = shipped_cases()
    cases = [case for file in files for case in file.cases]
    reviewed = sum(bool(case.reviewed) for case in cases)
    lines = [
        "# Determinations",
        "",
        "Generated from the golden cases in `tests/golden` by `make docs`; do not edit.",
        "",
        "Each row states facts and a moment, and what the regulations say of them then. The cases were written from "
        "the sources, and every one of them is run against the rules: `auditspan policy test`. "
        f"{len(cases)} cases; a lawyer has confirmed {reviewed} of them.",
        "",
        "- **as of**: a date is its first minute in Washington; a minute is there as well, unless a zone is named.",
        "- **text**: the law as written. **enforced**: without what the authority says that it does not enforce, with "
        "letters that bind. **governs**: the enforced outcome, raised by company policy. ⚑: flagged, since a "
        "controlled destination or party is involved.",
        "- A fact that is *not known* is told as such; what is left out is as [the "
        "vocabulary](semantic-conventions.md) and `auditspan policy explain --list-facts` say.",
        "- **source** names what the case rests on; the determination quotes more.",
        "",
    ]
    for file in files:
        lines += _section(file)
    return "\n".join(lines)


def _section(file: CaseFile) -> Iterator[str]:
    yield f"## {file.title.replace('-', ' ').capitalize() if file.title.islower() else file.title}"
    if file.source:
        yield file.source
    if file.defaults:
        yield f"Unless a case says otherwise: {_facts(file.defaults)}."
    yield ""
    yield "| case | as of | facts | text | enforced | governs | ECCN | source | confirmed |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for case in file.cases:
        yield f"| {' | '.join(_cell(text) for text in _row(case))} |"
    yield ""


def _row(case: Case) -> Iterator[str]:
    expected = case.expected
    yield f"{case.name}. *{case.note}*" if case.note else case.name
    yield case.at
    adopted = f"; adopted: {', '.join(sorted(case.adopted))}" if case.adopted else ""
    yield _facts(case.stated) + adopted
    yield _OUTCOMES[expected["text"]]
    yield _OUTCOMES[expected["enforced"]]
    governs = _OUTCOMES[expected["governing"]] + (" ⚑" if expected["flagged"] else "")
    if policy := expected.get("review_policy"):
        governs += f", {policy.replace('_', ' ')}"
    if shadow := expected.get("shadow"):
        governs += f"; in shadow {_OUTCOMES[shadow]}"
    yield governs
    yield expected["eccn"] or "none"
    yield "; ".join(case.citations) or ", ".join(expected.get("rules", ())) or "none"
    yield {"": "no", "yes": "yes"}.get(case.reviewed, case.reviewed)


def _facts(facts: Any) -> str:
    return "; ".join(
        f"{_WORDS.get(name, name.replace('_', ' '))} {_value(name, value)}" for name, value in facts.items()
    )


def _value(name: str, value: Any) -> str:
    if value is None:
        return "*not known*"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if name in _THOUSANDTHS and isinstance(value, int):
        return f"{value / 1000:g}" if value % 10 == 0 else f"{value / 1000:.3f}"
    return str(value)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
