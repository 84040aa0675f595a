"""What the SQL endpoint lets through: one reading statement over the event stream.

Embedded ClickHouse has no users or grants. ``readonly = 1`` keeps out changes of data and settings, yet it lets through
what reads and writes files or reaches the network: ``INTO OUTFILE``, the function ``file``, ``DESCRIBE url(…)``.
So each statement is first parsed by the engine's own parser, written out again by it in its one normal form, and let
through only when every node of its syntax tree is known to be harmless. Nothing here parses SQL itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from auditspan.store.raw import EscapedText, StatementFailed

__all__ = ["Refused", "Statement", "admit", "refused_functions"]

Run = Callable[[str, Mapping[str, str | EscapedText]], bytes]
"""Runs a statement with parameters, as `auditspan.store.raw.RawReader.run` does."""

READONLY: Final = 164
"""ClickHouse's error code for what a reader may not do."""
_BAD_ARGUMENTS: Final = 36
"""What the engine says of a statement that it parses and has no tree for."""


class Refused(Exception):
    """The statement is not let through. ``code`` and ``name`` are ClickHouse's."""

    def __init__(self, message: str, code: int = READONLY, name: str = "READONLY") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.name = name


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement in the engine's normal form without FORMAT clause, and the format that it asks for, if it does."""

    text: str
    format: str | None


_ROOTS: Final = frozenset(
    {"ExplainQuery", "SelectWithUnionQuery", "ShowColumnsQuery", "ShowIndexesQuery", "ShowTablesQuery"}
)
_NODES: Final = _ROOTS | {
    "ArrayJoin",
    "Asterisk",
    "ColumnsApplyTransformer",
    "ColumnsExceptTransformer",
    "ColumnsListMatcher",
    "ColumnsRegexpMatcher",
    "ColumnsReplaceTransformer",
    "ColumnsReplaceTransformerReplacement",
    "ColumnsTransformerList",
    "DataType",
    "ExpressionList",
    "Function",
    "Identifier",
    "InterpolateElement",
    "Literal",
    "OrderByElement",
    "QualifiedAsterisk",
    "QualifiedColumnsListMatcher",
    "QualifiedColumnsRegexpMatcher",
    "QueryParameter",
    "SampleRatio",
    "SelectIntersectExceptQuery",
    "SelectQuery",
    "Subquery",
    "TableExpression",
    "TableIdentifier",
    "TableJoin",
    "TablesInSelectQuery",
    "TablesInSelectQueryElement",
    "WindowDefinition",
    "WindowListElement",
    "WithElement",
}

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_]*"
_TABLE_STATEMENT: Final = re.compile(
    rf"((?:DESCRIBE TABLE|EXISTS TABLE|SHOW CREATE TABLE) ((?:{_NAME}\.)?{_NAME}))(?:\nFORMAT ({_NAME}))?"
)
"""The reading statements for which the engine gives no syntax tree, in its normal form."""
_SYSTEM_TABLES: Final = frozenset(
    {
        "build_options",
        "columns",
        "data_type_families",
        "databases",
        "formats",
        "functions",
        "numbers",
        "one",
        "settings",
        "table_engines",
        "tables",
        "time_zones",
    }
)
"""What clients and Grafana ask about the server. Others tell of its files or of other people's queries."""

_HARMLESS_TABLE_FUNCTIONS: Final = frozenset(
    {
        "format",
        "generate_series",
        "generateseries",
        "null",
        "numbers",
        "primes",
        "sqlstandardvalues",
        "values",
        "view",
        "zeros",
    }
)
_REACHING_FUNCTIONS: Final = frozenset(
    {
        # They read files, connect to hosts, look into the process, or run a text as a query.
        "catboostevaluate",
        "evalmlmethod",
        "file",
        "getclienthttpheader",
        "getserversetting",
        "globalvariable",
        "hascolumnintable",
        "joinget",
        "joingetornull",
        "logtrace",
        "mergetreepartinfo",
        "showcertificate",
    }
)
_REACHING_PREFIXES: Final = ("__", "addressto", "ai", "filesystem", "naivebayes", "region", "zookeeper")


def refused_functions(run: Run) -> frozenset[str]:
    """The functions, in lower case, that no statement may call: every table function this engine has, but a few."""
    listed = run("SELECT lower(name) FROM system.table_functions\nFORMAT TSV", {}).decode().split()
    return (frozenset(listed) - _HARMLESS_TABLE_FUNCTIONS) | _REACHING_FUNCTIONS


def admit(sql: str, run: Run, refused: frozenset[str]) -> Statement:
    """The statement to run for ``sql``, if it may run.

    Raises:
        Refused: it does something other than reading the event stream.
        StatementFailed: it is no SQL, or more than one statement.
    """
    text = run("SELECT formatQuery({statement:String})\nFORMAT RawBLOB", {"statement": sql}).decode()
    about_table = _TABLE_STATEMENT.fullmatch(text)
    if about_table:
        _check_table(about_table[2].split("."))
        return Statement(about_table[1], about_table[3])
    try:
        tree = json.loads(run("SELECT parseQueryToJSON({statement:String})\nFORMAT RawBLOB", {"statement": text}))
    except StatementFailed as error:
        if error.code == _BAD_ARGUMENTS:
            raise Refused(
                "This endpoint lets through SELECT, EXPLAIN, DESCRIBE TABLE, EXISTS and SHOW only."
            ) from error
        raise
    if tree.get("type") not in _ROOTS:
        raise Refused(f"Only reading statements are allowed here, not {tree.get('type')}.")
    if tree.get("out_file"):
        raise Refused("INTO OUTFILE is not allowed here: the result comes as the answer.")
    if tree["type"] == "ExplainQuery":
        tree.pop("settings", None)  # they say what to show
    _check(tree, refused)
    asked = tree.get("format_ast")
    if not asked:
        return Statement(text, None)
    format_name = str(asked["name"])
    without = re.sub(rf"\nFORMAT `?{re.escape(format_name)}`?$", "", text)
    if without == text:
        raise Refused("The FORMAT clause must be the last one.", 73, "UNKNOWN_FORMAT")
    return Statement(without, format_name)


def _check(node: Any, refused: frozenset[str]) -> None:
    """Raise unless ``node`` and everything below it is known to be harmless."""
    if isinstance(node, list):
        for item in node:
            _check(item, refused)
        return
    if not isinstance(node, dict):
        return
    kind, name = node.get("type"), str(node.get("name", ""))
    if kind == "SetQuery":
        raise Refused("SETTINGS inside the statement are not allowed here: send them as URL parameters.")
    if kind is not None and kind not in _NODES:
        raise Refused(f"This endpoint does not allow {kind}.")
    if kind in {"Function", "ColumnsApplyTransformer"}:
        _check_function(str(node.get("func_name", name)), refused)
    if kind == "TableIdentifier" and not node.get("children"):
        _check_table(node.get("name_parts", [name]))
    if kind == "Identifier" and str(node.get("name_parts", [""])[0]).lower() in {"system", "information_schema"}:
        # The right side of IN may be a table and is an ordinary identifier.
        _check_table(node["name_parts"])
    if kind == "QueryParameter" and node.get("param_type") == "Identifier":
        raise Refused("Parameters of type Identifier are not allowed here: write the name into the statement.")
    for below in node.values():
        _check(below, refused)


def _check_function(name: str, refused: frozenset[str]) -> None:
    if name.lower() in refused or name.lower().startswith(_REACHING_PREFIXES):
        raise Refused(f"The function {name} is not allowed here.")


def _check_table(parts: Sequence[str]) -> None:
    match list(parts):
        case [table] if re.fullmatch(_NAME, table):
            return
        case ["auditspan", table] if re.fullmatch(_NAME, table):
            return
        case ["system", table] if table in _SYSTEM_TABLES:
            return
        case [database, table] if database.lower() == "information_schema" and re.fullmatch(_NAME, table):
            return
    raise Refused(f"The table {'.'.join(parts)} cannot be read here; those of the database auditspan can.")
