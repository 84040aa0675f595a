# ruff: noqa: E501 - the lines of a page are as long as its paragraphs
"""The licence exceptions of the shipped law as a table: ``docs/license-exceptions.md``, made from the pack."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, Final

import yaml

from auditspan.policy.argument import argue
from auditspan.policy.reference import Reference
from auditspan.policy.rule_time import parse_instant
from auditspan.policy.stated_facts import state

_STATED: Final = re.compile(r"'(\w+)' in exception_conditions")
_AT: Final = "2026-11-01"
_NOTIFIED: Final[Mapping[str, Any]] = {
    "act": "export",
    "accelerator_model": "RTX5090",
    "origin_country": "US",
    "destination_country": "CN",
    "end_user_country": "CN",
    "end_user_parent_country": "CN",
    "license": "NAC",
    "exception_conditions": ["purchase_order", "notice_authorized"],
    "notice_date": "2026-09-07",
    "lading_date": "2026-10-01",
}

_HEAD: Final = """\
# Licence exceptions and red flags

Made from the pack `us-ear` by `make docs`; do not edit. None of this is legal advice.

A licence exception (15 CFR part 740) lets an item go without the licence that it would need. An event **relies on** one when it declares it: `export_control.license` is its symbol (`NAC`, also
`License Exception NAC`). It then turns `license_required` into `exception`, and **only when every one of its conditions surely holds**. A condition that is not met, or that nobody knows, leaves the licence required, and the
explanation says which it is. It never lifts a letter to you, an end use or end user rule of part 744, part 746, OFAC's rules, or a red flag.

## What is stated, and what is worked out
| attribute | fact | what it says |
|---|---|---|
| `export_control.license` | `declared_license` | the exception relied on, or a licence number |
| `export_control.exception.conditions` | `exception_conditions` | what the exporter vouches for, in the words of the table below; another word is not read, and then nothing of the list is known |
| `export_control.exception.notice_time` | `exception_notice_date` | the day, in Washington, on which BIS was notified |
| `export_control.lading_time` | `lading_date` | the day on which the goods were laden |
| | `notice_days` | worked out: calendar days from the notice to the lading. Without a day of lading it is not known: the time of the event is the emitter's own, and says when something was recorded rather than when goods left |
| `export_control.red_flags` | `red_flags` | see below |

## What every exception asks for
"""

_AFTER: Final = """\
## Why it applies, or does not
`auditspan policy explain` considers each exception that is relied on, and each that is for such an item and place where something asks for a licence, and says why it applies or does not (section *Exceptions considered*; `exceptions` with `--json`).
An exception that is relied on in vain stands in the sealed explanation of the event as well. An RTX5090, which is 3A090.a and not made for data centres, goes to China with notice a day too short:

```sh
auditspan policy explain --at {at} --facts '{facts}'
```
```text
{said}
```

## Red flags
Red flags of BIS for advanced integrated circuits (15 CFR 732 Supplement No. 3), as a secondary source reports them. **Only six of the eleven are known here**: none of these is no sign that there is none.
One that nobody has cleared up leads to `review` of transfers and renting, whatever else holds. It is declared with the event, or stands in the registry with the party (`red_flags: [vague_address]`).

| `red_flags` | what it is | rule | status |
|---|---|---|---|
"""

_LIMITS: Final = """\

## What is not judged here
- Which exceptions are left for advanced computing is verified as of 2026-07-23 (15 CFR 740.2(a)(9)): NAC and ACA, TMP by 740.9(a)(6) only, RPL, GOV by 740.11(b), TSU by (a) and (c), HBM, ACM, and AIA for 4E091. **LPP is not among them**: its rule is
  unverified for that reason. What is *unverified* above is stated from general knowledge of the sections: have a lawyer read them before you rely on it.
- NAC for Country Groups D:1 and D:4 between 2023-11-17 and 2024-04-04, ACA for transfers within Macau and D:5 and for the Emirates, AIA for hardware and for weights that an allied company stores elsewhere, further parts of GOV, and what was left in the first form of 3A090
  (2022-10-21 to 2023-11-17) are not encoded: the licence stays required.
- An entry of the Entity List that allows an exception is not read: any listed party bars all of them.
- The yearly total of LPP is vouched for by the exporter and not added up. Conditions of use after the export (return, reports, records) are not followed up.
"""


def exceptions_page() -> str:
    """The page."""
    pack = yaml.load(  # texts as they are, dates included
        resources.files("auditspan.policy.data").joinpath("us-ear.yaml").read_bytes(),
        Loader=yaml.BaseLoader,  # noqa: S506 - makes texts of everything, and nothing else
    )
    lines = [_HEAD + "| condition | source | status |\n|---|---|---|"]
    lines += [
        f"| {one['says']} | {'; '.join(one['citations'])} | {one['status']} |" for one in pack["exception_requirements"]
    ]
    lines += ["", "## Each exception"]
    for rule in (rule for rule in pack["rules"] if "exception" in rule):
        lines += _exception(rule)
    facts = json.dumps(_NOTIFIED)
    lines.append(_AFTER.format(at=_AT, facts=facts, said="\n".join(_considered())).rstrip("\n"))
    for rule in pack["rules"]:
        if rule["id"].startswith("us-ear/red-flag-"):
            (word,) = re.findall(r"'(\w+)' in red_flags", str(rule["when"]))
            title = rule["title"].removeprefix("red flag: ")
            lines.append(f"| `{word}` | {title} | `{rule['id']}` | {rule['status']} |")
    return "\n".join(lines) + "\n" + _LIMITS


def _exception(rule: Mapping[str, Any]) -> Iterator[str]:
    yield f"### {rule['exception']}"
    yield (
        f"{rule['title'].strip()} ({'; '.join(rule['citations'])}). From {rule['effective']['from']}; as a whole "
        f"{rule['status']}. Rule `{rule['id']}`; it lifts {', '.join(f'`{one}`' for one in rule['lifts'])}."
    )
    yield ""
    yield "| condition | vouched for as | source | status |"
    yield "|---|---|---|---|"
    for one in rule["requirements"]:
        words = " or ".join(f"`{word}`" for word in _STATED.findall(str(one["when"])))
        notice = "`exception_notice_date`" if "notice_days" in str(one["when"]) else ""
        yield f"| {one['says'].strip()} | {words or notice} | {'; '.join(one['citations'])} | {one['status']} |"
    yield ""


def _considered() -> Iterator[str]:
    reference = Reference.packaged()
    instant = parse_instant(_AT)
    facts = state(reference, _NOTIFIED, instant).facts
    argument = argue(reference, reference.engine().determine([facts], instant))
    for one in argument.exceptions:
        yield f"- {one.why}"
