"""A classified inventory as tables for persons and as a document for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from auditspan.cli.moments import rfc3339
from auditspan.cli.output import console, plain, print_table

if TYPE_CHECKING:
    from auditspan.inventory import ClassifiedItem, Count, Inventory, Total
    from auditspan.policy.accelerator_lines import Margin
    from auditspan.policy.accelerators import Accelerator
    from auditspan.policy.performance import Interval

__all__ = ["document", "print_document", "show"]

_UNDETERMINED: Final = "undetermined"
_UNKNOWN: Final = "unknown"
_MOST_SHOWN: Final = 200
"""Rows of a table for persons; the document holds all."""


def show(
    file: str,
    inventory: Inventory,
    items: Sequence[ClassifiedItem],
    sums: Sequence[Total],
    skipped: int,
    instant: int,
) -> None:
    """Print what was found: items, totals, what is close to a line, what is unknown, what was rejected."""
    day = (rfc3339(instant) or "")[:16].replace("T", " ")
    print_table(
        f"{plain(file)}: {len(items)} items under the rules of {day} UTC",
        ["item", "TPP, density", "ECCN", "nearest line", "where, determination"],
        [_item_row(item) for item in items[:_MOST_SHOWN]],
    )
    if len(items) > _MOST_SHOWN:
        console.print(f"{len(items) - _MOST_SHOWN} further items: --json lists all.")
    print_table(
        "Totals by ECCN and destination",
        ["ECCN", "in a computer", "destination", "items", "accelerators", "TPP together", "flagged"],
        [
            {
                "ECCN": one.eccn or _UNDETERMINED,
                "in a computer": one.computer_eccn,
                "destination": one.destination or _UNKNOWN,
                "items": one.items,
                "accelerators": _count(one.accelerators),
                "TPP together": _count(one.tpp),
                "flagged": one.flagged or "",
            }
            for one in sums
        ],
        lines=False,
    )
    close = [
        {"model": _models(item), "line": _line(margin), "margin": _margin(margin), "citation": margin.line.citation}
        for item in _distinct(items)
        for margin in item.close
    ]
    if close:
        print_table("Close to a line", ["model", "line", "margin", "citation"], close[:_MOST_SHOWN], lines=False)
    unknown = [
        {"item": f"{_models(item)}, {_where(item)}", "unknown": ";\n".join(item.unknown)}
        for item in items
        if item.unknown
    ]
    if unknown:
        print_table("Unknown", ["item", "unknown"], unknown[:_MOST_SHOWN], lines=False)
    if inventory.rejected:
        print_table(
            f"Rejected: {len(inventory.rejected)} rows are not counted above",
            ["place", "what is wrong", "remedy"],
            [
                {"place": r.place, "what is wrong": r.message, "remedy": r.remedy}
                for r in inventory.rejected[:_MOST_SHOWN]
            ],
            lines=False,
        )
    if skipped:
        console.print(f"Without accelerators, and left out: {skipped}.")


def document(
    inventory: Inventory,
    items: Sequence[ClassifiedItem],
    sums: Sequence[Total],
    skipped: int,
    instant: int,
    recorded: int | None,
) -> dict[str, Any]:
    """The same for programs; performance density in thousandths, margins in hundredths of a percent of the line.

    Specifications stand once, and items name them by their index: an inventory has many items of few models. The items
    are made one by one, as `print_document` writes them.
    """
    specifications: dict[Accelerator, tuple[int, tuple[Margin, ...]]] = {}
    for item in items:
        for candidate, one in zip(item.candidates, item.classes, strict=True):
            if candidate.specification is not None:
                specifications.setdefault(candidate.specification, (len(specifications), one.margins))
    return {
        "format": inventory.format,
        "rule_time": rfc3339(instant),
        "specifications": [_specification(one, margins) for one, (_, margins) in specifications.items()],
        "items": (_item_document(item, specifications) for item in items),
        "totals": [
            {
                "eccn": one.eccn,
                "computer_eccn": one.computer_eccn,
                "destination": one.destination,
                "items": one.items,
                "accelerators": _limits(one.accelerators),
                "tpp": _limits(one.tpp),
                "flagged": one.flagged,
            }
            for one in sums
        ],
        "rejected": [{"place": one.place, "message": one.message, "remedy": one.remedy} for one in inventory.rejected],
        "skipped": skipped,
        "recorded": recorded,
    }


def print_document(made: Mapping[str, Any]) -> None:
    """Write a document to standard output without holding the text of all of its items."""
    opening = "{"
    for name, value in made.items():
        sys.stdout.write(f"{opening}\n  {json.dumps(name)}: ")
        opening = ","
        if not isinstance(value, Iterator):
            sys.stdout.write(json.dumps(value, indent=2))
            continue
        between = "[\n"
        for one in value:
            sys.stdout.write(between + json.dumps(one, indent=2))
            between = ",\n"
        sys.stdout.write("[]" if between == "[\n" else "\n]")
    sys.stdout.write("\n}\n")
    sys.stdout.flush()


def _item_row(item: ClassifiedItem) -> dict[str, Any]:
    density = item.performance_density
    judgement = item.judgement
    nearest = item.margins[0] if item.margins else None
    return {
        "item": f"{_count(item.accelerators)} × {_models(item)}\n{_where(item)}",
        "TPP, density": f"{_interval(item.tpp)}{f' ({item.best_type})' if item.best_type else ''}\n{_density(density)}",
        "ECCN": "\n".join([item.eccn or _UNDETERMINED, *item.paragraphs]),
        "nearest line": f"{_line(nearest)}\n{_margin(nearest)}" if nearest else "",
        "where, determination": f"{item.destination or _UNKNOWN}\n"
        f"{_outcome(item)}{' ⚑' if judgement and judgement.flagged else ''}",
    }


def _specification(one: Accelerator, margins: Sequence[Margin]) -> dict[str, Any]:
    return {
        "model": one.model,
        "tpp": _pair(one.tpp),
        "performance_density": _pair(one.performance_density),
        "best_type": one.best.data_type if one.best else None,
        "data_centre": one.data_centre,
        "dram_bandwidth": one.dram_bandwidth,
        "rates": [
            {
                "data_type": rate.data_type,
                "bit_length": rate.bit_length,
                "tops": [float(rate.tops.low), float(rate.tops.high)],
                "source": rate.source,
            }
            for rate in one.rates
        ],
        "margins": [
            {
                "line": margin.line.label,
                "parts": margin.line.parts,
                "side": margin.side,
                "basis_points": margin.basis_points,
                "close": margin.close,
                "citation": margin.line.citation,
            }
            for margin in margins
        ],
    }


def _item_document(
    item: ClassifiedItem, specifications: Mapping[Accelerator, tuple[int, tuple[Margin, ...]]]
) -> dict[str, Any]:
    source = item.item
    judgement = item.judgement
    return {
        "place": source.place,
        "target": source.target,
        "given": {
            "model": source.model,
            "pci_id": source.pci,
            "instance_type": source.instance_type,
            "provider": source.provider,
            "region": source.region,
            "quantity": source.quantity,
            "unit": source.unit,
            "end_user": source.end_user,
            "consignee": source.consignee,
            "serials": source.serials,
        },
        "models": [
            {
                "model": one.name,
                "known_by": one.known_by,
                "specification": specifications[one.specification][0] if one.specification else None,
            }
            for one in item.candidates
        ],
        "accelerators": _limits(item.accelerators),
        "tpp": _pair(item.tpp),
        "performance_density": _pair(item.performance_density),
        "best_type": item.best_type,
        "total_tpp": _limits(item.total_tpp),
        "eccn": item.eccn,
        "computer_eccn": item.computer_eccn,
        "paragraphs": item.paragraphs,
        "close_to": [margin.line.label for margin in item.close],
        "destinations": [
            {"country": one.place.country, "given": one.place.given, "known_by": one.known_by}
            for one in item.destinations
        ],
        "outcome": item.outcome,
        "determination": judgement
        and {
            "text": judgement.text,
            "enforced": judgement.enforced,
            "governing": judgement.governing,
            "flagged": judgement.flagged,
            "rules": judgement.rules,
            "citations": judgement.citations,
            "why": judgement.why,
        },
        "unknown": item.unknown,
        "notes": source.notes,
        "statuses": item.statuses,
    }


def _outcome(item: ClassifiedItem) -> str:
    """The outcome in words, which break where a line is too short."""
    return (item.outcome or "").replace("_", " ").replace("license", "licence")


def _distinct(items: Sequence[ClassifiedItem]) -> list[ClassifiedItem]:
    """One item for each combination of models: a margin belongs to the model."""
    return list({item.candidates: item for item in reversed(items)}.values())[::-1]


def _models(item: ClassifiedItem) -> str:
    return " or ".join(dict.fromkeys(one.name for one in item.candidates)) or _UNKNOWN


def _where(item: ClassifiedItem) -> str:
    return item.item.target or item.item.place


def _count(count: Count) -> str:
    if count.high is None:
        return f"{count.low:,} or more"
    return f"{count.low:,}" if count.low == count.high else f"{count.low:,} to {count.high:,}"


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return _UNKNOWN
    return f"{interval.low:,}" if interval.low == interval.high else f"{interval.low:,} to {interval.high:,}"


def _density(interval: Interval | None) -> str:
    if interval is None:
        return f"density {_UNKNOWN}"
    return f"{interval.low / 1000:.2f} to {interval.high / 1000:.2f}"


def _line(margin: Margin) -> str:
    return f"{margin.line.label} ({margin.line.parts})"


def _margin(margin: Margin) -> str:
    return _UNDETERMINED if margin.side == _UNDETERMINED else f"{margin.basis_points / 100:+.2f} %"


def _limits(count: Count) -> dict[str, int | None]:
    return {"low": count.low, "high": count.high}


def _pair(interval: Interval | None) -> dict[str, int] | None:
    return None if interval is None else {"low": interval.low, "high": interval.high}
