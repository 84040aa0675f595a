"""Every fault of packs, tables and registries at once, each with file, line and remedy.

What is a fault is said by the code that loads them: nothing here says it a second time. A pack that is refused is
mended at the fault, in memory, and loaded again, until nothing more is found. Two things are asked of a pack beyond
what loading asks: that a country code in a condition is one that a fact can have, and that a Country Group exists. A
rule that compares with `EU` would load, and never match.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Final

import jsonschema

from .accelerator_lines import ComputerEccns, Lines
from .accelerators import Accelerators
from .adoptions import adopted_packs
from .artifact_files import kind_of, packs_of
from .clearances import Clearances
from .codes import code_faults, compared, listing_faults
from .conditions import PacksTooLarge
from .countries import Countries, countries_of
from .errors import PolicyError
from .golden import parse_cases
from .licenses import LICENSES, Licenses
from .ownership_rules import ownership_rules
from .pack_text import replaced, value_at, written
from .packs import compile_packs
from .parties import Parties
from .reference import OWNERSHIP_RULES, TABLES
from .regions import Regions
from .tables import Table, parse_table
from .yaml_text import Document, Path, load

__all__ = ["MOST_FAULTS", "Fault", "lint"]

MOST_FAULTS: Final = 100
"""Faults that are looked for in packs."""

_MOST_BYTES: Final = 4_000_000
"""Bytes that are loaded again and again, once for each fault: the larger the packs, or a table, the fewer are found."""

_LAW: Final = "us-ear.yaml"
_ENTRIES: Final = ("definitions", "rules", "obligations", "milestones")
_PLAIN_WHEN: Final = "act == 'transfer'"
_SOUND: Final[dict[str, Any]] = {
    "title": "a title",
    "citations": ["nothing"],
    "status": "unverified",
    "effective": {"from": "2026-01-01"},
    "when": [_PLAIN_WHEN],
}


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One fault: ``line`` from 1, 0 where the whole file is meant."""

    file: str
    line: int
    message: str
    remedy: str

    @classmethod
    def of(cls, error: PolicyError) -> Fault:
        """The fault that an error names."""
        place = f"{error.file}:{error.line}" if error.line else error.file
        return cls(error.file, error.line, error.message.removeprefix(f"{place}: "), error.remedy)

    def to_json(self) -> dict[str, str | int]:
        """As `--json` prints it."""
        return {"file": self.file, "line": self.line, "message": self.message, "remedy": self.remedy}


def lint(files: Sequence[tuple[str, bytes]], beside: Mapping[str, bytes]) -> list[Fault]:
    """The faults of ``files`` (path and content), in order of file and line; at most `MOST_FAULTS` of the packs.

    Args:
        files: packs, tables, registries, adoptions, clearances, files of golden cases.
        beside: the artifacts that they stand beside, sound in themselves; of the same pack or name, a file takes the
            place of one.
    """
    faults: list[Fault] = []
    sorted_out: dict[str, list[tuple[str, str, bytes]]] = {}
    for file, content in files:
        try:
            kind, name = kind_of(file, content)
        except PolicyError as error:
            faults.append(Fault.of(error))
            continue
        sorted_out.setdefault(kind, []).append((name, file, content))
    tables, found = _tables(sorted_out.get("table", []), beside)
    faults += found
    packs = sorted_out.get("pack", [])
    given = {name for name, _, _ in packs}
    others = [(name, text) for name, text in packs_of(beside).items() if name not in given]
    faults += _packs([(file, content) for _, file, content in packs], others)
    countries = countries_of(tables)
    for file, content in ((file, content) for _, file, content in packs):
        try:
            faults += [Fault.of(error) for error in code_faults(load(content, file), countries)]
        except PolicyError:
            continue  # said above
    texts = [*others, *((file, content) for _, file, content in packs)]
    compared_with = compared(load(text, name) for name, text in texts)
    for _, file, content in sorted_out.get("parties", []):
        faults += _first(lambda file=file, content=content: _check_parties(content, file, countries, compared_with))
    names = {str(load(text, name).data["pack"]) for name, text in others}
    names |= {name.removesuffix(".yaml") for name in given}
    for _, file, content in sorted_out.get("adoptions", []):
        faults += [
            Fault(file, fault.line, fault.message, fault.remedy)
            for fault in _first(lambda content=content: adopted_packs(content, names))
        ]
    for _, file, content in sorted_out.get("clearances", []):
        faults += [
            Fault(file, fault.line, fault.message, fault.remedy)
            for fault in _first(lambda content=content: Clearances.of(content))
        ]
    for _, file, content in sorted_out.get("golden", []):
        faults += _first(lambda file=file, content=content: parse_cases(content, file))
    return sorted(set(faults))


def _check_parties(
    content: bytes, file: str, countries: Countries, compared_with: Mapping[str, frozenset[str]]
) -> None:
    fault = next(listing_faults(Parties(content, file, countries), compared_with), None)
    if fault is not None:
        raise fault


def _first(load_it: Any) -> list[Fault]:
    try:
        load_it()
    except PolicyError as error:
        return [Fault.of(error)]
    return []


# Tables

_OF_COUNTRIES: Final = ("countries.csv", "country_groups.csv")
_OF_ACCELERATORS: Final = (
    "accelerators.csv",
    "instance_types.csv",
    "accelerator_performance.csv",
    "accelerator_names.csv",
)


def _tables(
    given: Sequence[tuple[str, str, bytes]], beside: Mapping[str, bytes]
) -> tuple[Mapping[str, bytes], list[Fault]]:
    """The tables that can be used, and the faults of those ``given``."""
    sound = dict(beside)
    faults: list[Fault] = []
    # Countries come first: other tables name them.
    for name, file, content in sorted(given, key=lambda one: one[0] != _OF_COUNTRIES[0]):
        found, mended = _table(name, file, content, sound)
        faults += found
        if mended is not None:
            sound[name] = mended
    return sound, faults


def _table(name: str, file: str, content: bytes, sound: Mapping[str, bytes]) -> tuple[list[Fault], bytes | None]:
    """Faults row by row: a faulty row is left out, and the table loaded again. None when it cannot be loaded so."""
    faults: list[Fault] = []
    lines = content.split(b"\n")
    loaded = 0
    while len(faults) < MOST_FAULTS and loaded < _MOST_BYTES:
        loaded += len(content)
        try:
            _load_table(name, file, b"\n".join(lines), sound)
            return faults, b"\n".join(lines)
        except PolicyError as error:
            fault = Fault.of(error)
        if fault.file != file:  # another table names what this one no longer has
            faults.append(Fault(file, 0, f"{fault.file}:{fault.line}: {fault.message}", fault.remedy))
            return faults, None
        faults.append(fault)
        row = fault.line - 1
        if not 0 < row < len(lines) or not lines[row].strip() or lines[row].startswith(b"#") or b"\r" in content:
            return faults, None
        lines[row] = b""
    return faults, None


def _load_table(name: str, file: str, content: bytes, sound: Mapping[str, bytes]) -> None:
    def table(of: str) -> Table:
        return parse_table(content, file, TABLES[of]) if of == name else parse_table(sound[of], of, TABLES[of])

    if name in _OF_ACCELERATORS:
        Accelerators(*(table(of) for of in _OF_ACCELERATORS))
    elif name == "accelerator_lines.csv":
        Lines(table(name))
    elif name == "computer_eccns.csv":
        ComputerEccns(table(name))
    elif name == OWNERSHIP_RULES:
        ownership_rules(table(name))
    elif name == LICENSES:
        Licenses(table(name), Accelerators(*(table(of) for of in _OF_ACCELERATORS)))
    elif name == "cloud_regions.csv":
        Regions(table(name), Countries(*(table(of) for of in _OF_COUNTRIES)))
    else:
        Countries(*(table(of) for of in _OF_COUNTRIES))


# Packs


def _packs(given: Sequence[tuple[str, bytes]], others: Sequence[tuple[str, bytes]]) -> list[Fault]:
    faults: list[Fault] = []
    documents: list[Document] = []
    for file, content in given:
        document = load(content, file)  # it is YAML: what it is was read from it
        found, sound = _by_schema(document)
        faults += found
        if sound is not None:
            documents.append(Document(file, sound, document.lines))
    return faults + _by_loading(documents, others)


def _by_schema(document: Document) -> tuple[list[Fault], Any]:
    """Every fault against the schema, and the pack without its faulty entries; None where it is none without them."""
    text = resources.files("auditspan.policy.data").joinpath("pack.schema.json").read_bytes()
    faults: list[Fault] = []
    sound = document.data
    for error in _all_errors(json.loads(text), document.data):
        path: Path = tuple(error.absolute_path)
        place = "/".join(map(str, path)) or "the file"
        line = document.line(path)
        faults.append(
            Fault(document.file, line, f"{place}: {error.message[:300]}", "Write it as pack.schema.json says.")
        )
        if sound is not None:
            sound = replaced(sound, path[:2], _stub(sound, path[:2])) if _is_entry(path) else None
        if len(faults) >= MOST_FAULTS:
            return faults, None
    return faults, sound


def _all_errors(schema: Any, data: Any) -> Iterator[Any]:
    for error in jsonschema.Draft202012Validator(schema).iter_errors(data):
        yield jsonschema.exceptions.best_match([error])


def _by_loading(documents: Sequence[Document], others: Sequence[tuple[str, bytes]]) -> list[Fault]:
    faults: list[Fault] = []
    mended = {document.file: document for document in documents}
    lost: set[str] = set()
    loaded = 0
    while len(faults) < MOST_FAULTS and mended and loaded < _MOST_BYTES:
        texts = {file: written(document.data) for file, document in mended.items()}
        loaded += sum(len(text) for text, _ in texts.values())
        ids = {file: str(document.data.get("pack")) for file, document in mended.items()}
        try:
            compile_packs(_law_first([*others, *((file, text) for file, (text, _) in texts.items())], ids))
            break
        except PolicyError as error:
            fault = Fault.of(error)
            if isinstance(error, PacksTooLarge):
                loaded = _MOST_BYTES  # mending one place does not help
        if fault.file not in mended:
            # A pack that stands beside reads what a file took away.
            faults.append(Fault(documents[0].file, 0, f"{fault.file}:{fault.line}: {fault.message}", fault.remedy))
            break
        document, paths = mended[fault.file], texts[fault.file][1]
        path = paths[fault.line - 1] if fault.line else ()
        if not any(name in fault.message for name in lost):
            faults.append(Fault(fault.file, document.line(path), fault.message, fault.remedy))
        data = _mended(document.data, path, lost, len(faults))
        if data is None:
            del mended[fault.file]
        else:
            mended[fault.file] = Document(document.file, data, document.lines)
    return faults


def _law_first(texts: Sequence[tuple[str, bytes]], ids: Mapping[str, str]) -> list[tuple[str, bytes]]:
    """In the order of a reference: the law, whose terms the others read, and then by name."""
    named = [(f"{ids[file]}.yaml" if file in ids else file, file, text) for file, text in texts]
    return [(file, text) for _, file, text in sorted(named, key=lambda one: (one[0] != _LAW, one[0]))]


def _is_entry(path: Path) -> bool:
    return len(path) >= 2 and path[0] in _ENTRIES


def _mended(data: Any, path: Path, lost: set[str], number: int) -> Any:
    """The pack with the fault at ``path`` taken out; ``lost`` gets the names that go with it. None: it cannot be."""
    if path[:1] == ("exception_requirements",) and len(path) > 1:
        return replaced(data, (*path[:2], "when"), [_PLAIN_WHEN])
    if not _is_entry(path):
        return None
    entry, inside = path[:2], path[2:3]
    if inside == ("when",) and isinstance(value_at(data, path), str):
        return replaced(data, path, _PLAIN_WHEN)
    if inside == ("effective",):
        return replaced(data, (*entry, "effective"), _SOUND["effective"])
    if inside == ("explanation",):
        return replaced(data, (*entry, "explanation"), "nothing")
    if inside == ("id",):
        if sum(each.get("id") == value_at(data, path) for each in data[entry[0]]) == 1:
            lost.add(str(value_at(data, path)))
        return replaced(data, path, f"{data['pack']}/mended.{number}")
    found = value_at(data, entry)
    must_lift = found.get("authority") == "enforcement_policy" or "exception" in found
    if inside in (("lifts",), ("reviews",)) and not must_lift:
        return replaced(data, entry, {key: value for key, value in found.items() if key != inside[0]})
    if inside == ("fact",):
        return replaced(data, path, f"mended_{number}")
    return replaced(data, entry, _stub(data, entry))


def _stub(data: Any, entry: Path) -> dict[str, Any]:
    """An entry that no fault is in, under the names of the one at ``entry`` as far as they can be names."""
    found = value_at(data, entry)
    found = found if isinstance(found, dict) else {}
    if entry[0] == "milestones":
        return {"date": "2026-01-01", **{key: _SOUND[key] for key in ("title", "citations", "status")}}
    pack = data.get("pack")
    identifier = found.get("id")
    sound_id = isinstance(identifier, str) and identifier.startswith(f"{pack}/")
    stub = {"id": identifier if sound_id else f"{pack}/mended-{entry[0]}.{entry[1]}", **_SOUND}
    if entry[0] == "obligations":
        del stub["when"]
        return {**stub, "authority": "proposal", "period": "quarter", "due_days": 0}
    if entry[0] == "rules":
        return {**stub, "authority": "company_policy", "outcome": "review", "explanation": "nothing"}
    fact = found.get("fact")
    return {**stub, "fact": fact if isinstance(fact, str) and fact.isidentifier() else f"mended_{entry[1]}"}
