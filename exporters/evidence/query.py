"""The query of an evidence package (``--where``), evaluated on header fields in whole columns.

Grammar: evidence format, section 14. Export and verifier call the same function, on columns that both parsed from
headers, so what is selected is a property of the sealed leaves and not of a database.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

from auditspan.errors import AuditSpanError

__all__ = ["FIELDS", "Query", "QueryInvalid", "compile_query"]

_TEXT_FIELDS: Final = (
    "class", "record_id", "emitter", "stream", "action", "outcome", "asset", "eccn", "destination", "determination",
    "time_basis",
)  # fmt: skip
FIELDS: Final[dict[str, str]] = {
    **dict.fromkeys(_TEXT_FIELDS, "text"),
    "sequence": "integer",
    "reference_epoch": "integer",
    "event_time": "time",
    "arrival_time": "time",
    "flagged": "boolean",
    "rule_ids": "list",
    "faults": "list",
}
"""The fields that a query may name, and what each holds."""

_LONGEST: Final = 16_384
_DEEPEST: Final = 100
_EXAMPLES: Final = {
    "text": "a text such as 'model.access'",
    "integer": "an integer such as 7",
    "time": "a time such as '2026-11-24T00:00:00Z'",
    "boolean": "true or false",
    "list": "a text such as 'us-ear.744.6'",
}
_HOW: Final = "Write, for example: flagged = true and class = 'model.access'"
_GRAMMAR: Final = r"""
?start: expression
?expression: term (_OR term)*                       -> any_of
?term: factor (_AND factor)*                        -> all_of
?factor: _NOT factor                                -> negation
       | "(" expression ")"
       | NAME OPERATOR literal                      -> compare
       | NAME _IN "(" literal ("," literal)* ")"    -> among
       | NAME _IS _NULL                             -> absent
       | NAME _IS _NOT _NULL                        -> present
       | NAME _CONTAINS literal                     -> contains
literal: TEXT | INTEGER | TRUE | FALSE
OPERATOR: "!=" | "<=" | ">=" | "=" | "<" | ">"
TEXT: "'" /(''|[^'])*/ "'"
INTEGER: /-?[0-9]+\b/
TRUE.2: /true\b/
FALSE.2: /false\b/
_OR.2: /or\b/
_AND.2: /and\b/
_NOT.2: /not\b/
_IN.2: /in\b/
_IS.2: /is\b/
_NULL.2: /null\b/
_CONTAINS.2: /contains\b/
NAME: /[A-Za-z_][A-Za-z0-9_.]*/
%ignore /[ \t\r\n]+/
"""
_ALLOWED: Final = {
    "NAME": "a field",
    "OPERATOR": "= != < <= > >=",
    "TEXT": "'text'",
    "INTEGER": "an integer",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": ",",
    "$END": "the end",
}

_OPERATORS: Final = {
    "=": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}

Evaluate = Callable[[pa.Table], pa.Array]


class QueryInvalid(AuditSpanError):
    """The query cannot be read; the message shows the place and says what is allowed there."""


@dataclass(frozen=True, slots=True)
class Query:
    """A compiled query. ``text`` is what the manifest carries."""

    text: str
    _evaluate: Evaluate

    def select(self, table: pa.Table) -> pa.BooleanArray:
        """Which rows of a table with the header columns of `FIELDS` match; never null."""
        return self._evaluate(table)


def compile_query(text: str) -> Query:
    """Parse and check a query.

    Raises:
        QueryInvalid: it is not in the grammar, names an unknown field, or compares a field with another type.
    """
    if len(text) > _LONGEST:
        raise QueryInvalid(f"The query has {len(text)} characters; {_LONGEST} are allowed.", remedy="Shorten it.")
    try:
        node = _Compile(text).transform(_parser().parse(text))
    except UnexpectedInput as error:
        raise _syntax_error(text, error) from None
    except VisitError as error:
        if isinstance(error.orig_exc, QueryInvalid):
            raise error.orig_exc from None
        raise QueryInvalid("The query cannot be read.", remedy="Write it more simply.") from error
    except RecursionError:
        raise _too_deep() from None
    return Query(text, node.evaluate)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", maybe_placeholders=False)


@dataclass(frozen=True, slots=True)
class _Node:
    evaluate: Evaluate
    depth: int = 1


class _Compile(Transformer[Token, _Node]):
    """Builds one function for each node, from the leaves up."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def any_of(self, nodes: list[_Node]) -> _Node:
        return self._joined(nodes, pc.or_)

    def all_of(self, nodes: list[_Node]) -> _Node:
        return self._joined(nodes, pc.and_)

    def _joined(self, nodes: list[_Node], join: Callable[[Any, Any], Any]) -> _Node:
        def evaluate(table: pa.Table) -> pa.Array:
            result = nodes[0].evaluate(table)
            for node in nodes[1:]:
                result = join(result, node.evaluate(table))
            return result

        return self._deeper(evaluate, *nodes)

    def negation(self, nodes: list[_Node]) -> _Node:
        (inner,) = nodes
        return self._deeper(lambda table: pc.invert(inner.evaluate(table)), inner)

    def _deeper(self, evaluate: Evaluate, *nodes: _Node) -> _Node:
        depth = 1 + max(node.depth for node in nodes)
        if depth > _DEEPEST:
            raise _too_deep()
        return _Node(evaluate, depth)

    def literal(self, tokens: list[Token]) -> Token:
        return tokens[0]

    def compare(self, parts: list[Token]) -> _Node:
        name, operator, literal = parts
        kind = self._kind(name, "compared; use: rule_ids contains 'id'")
        if kind == "boolean" and operator not in ("=", "!="):
            raise self._error(operator, f"{name} is true or false and takes = and != only.")
        value = self._value(name, kind, literal)
        compare = _OPERATORS[str(operator)]
        return _Node(lambda table: pc.fill_null(compare(_column(table, name), value), False))

    def among(self, parts: list[Token]) -> _Node:
        name, *literals = parts
        kind = self._kind(name, "compared; use: rule_ids contains 'id'")
        values = pa.array([self._value(name, kind, literal).as_py() for literal in literals], _types()[kind])
        return _Node(lambda table: pc.fill_null(pc.is_in(_column(table, name), value_set=values), False))

    def absent(self, parts: list[Token]) -> _Node:
        name = self._nullable(parts[0])
        return _Node(lambda table: pc.is_null(_column(table, name)))

    def present(self, parts: list[Token]) -> _Node:
        name = self._nullable(parts[0])
        return _Node(lambda table: pc.is_valid(_column(table, name)))

    def _nullable(self, name: Token) -> Token:
        self._kind(name, "null; an empty one contains nothing")
        return name

    def contains(self, parts: list[Token]) -> _Node:
        name, literal = parts
        if self._known(name) != "list":
            raise self._error(name, f"{name} is no list; only rule_ids and faults have contains.")
        value = self._value(name, "list", literal)

        def evaluate(table: pa.Table) -> pa.Array:
            lists = _column(table, name)
            mask = np.zeros(len(lists), bool)
            hits = pc.filter(
                pc.list_parent_indices(lists), pc.fill_null(pc.equal(pc.list_flatten(lists), value), False)
            )
            mask[hits.to_numpy(zero_copy_only=False)] = True
            return pa.array(mask)

        return _Node(evaluate)

    def _known(self, name: Token) -> str:
        if name not in FIELDS:
            raise self._error(name, f"There is no field {name}. Fields: {', '.join(FIELDS)}.")
        return FIELDS[name]

    def _kind(self, name: Token, never: str) -> str:
        kind = self._known(name)
        if kind == "list":
            raise self._error(name, f"{name} is a list and cannot be {never}.")
        return kind

    def _value(self, name: Token, kind: str, literal: Token) -> pa.Scalar:
        try:
            value = _literal(literal, kind)
            return pa.scalar(value, _types()[kind])
        except (ValueError, OverflowError, pa.ArrowInvalid):
            raise self._error(literal, f"{name} takes {_EXAMPLES[kind]}.") from None

    def _error(self, token: Token, message: str) -> QueryInvalid:
        return QueryInvalid(f"{_pointer(self._text, token.start_pos or 0)}\n{message}", remedy=_HOW)


def _types() -> dict[str, pa.DataType]:
    return {
        "text": pa.string(), "list": pa.string(), "integer": pa.int64(), "time": pa.uint64(), "boolean": pa.bool_(),
    }  # fmt: skip


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    if pa.types.is_dictionary(column.type):
        return column.dictionary_decode()
    return column.cast(pa.uint64()) if FIELDS[name] == "time" else column


def _literal(token: Token, kind: str) -> str | int | bool:
    wanted = {"text": "TEXT", "list": "TEXT", "time": "TEXT", "integer": "INTEGER"}.get(kind)
    if kind == "boolean" and token.type in ("TRUE", "FALSE"):
        return token.type == "TRUE"
    if token.type != wanted:
        raise ValueError(token.type)
    if kind == "integer":
        return int(token[:24])
    text = str(token[1:-1]).replace("''", "'")
    return _nanoseconds(text) if kind == "time" else text


def _nanoseconds(text: str) -> int:
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if moment.year < 1970 or len(text) != len("1970-01-01T00:00:00Z"):
        raise ValueError(text)
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000


def _too_deep() -> QueryInvalid:
    return QueryInvalid(f"The query is nested more than {_DEEPEST} deep.", remedy="Write it with fewer parentheses.")


def _pointer(text: str, place: int) -> str:
    """The line around a place, with a mark below it."""
    start = max(0, place - 40)
    shown = text[start : place + 40].replace("\n", " ").replace("\t", " ")
    return f"The query has an error at character {place + 1}:\n    {shown}\n    {' ' * (place - start)}^"


def _syntax_error(text: str, error: UnexpectedInput) -> QueryInvalid:
    # White space at the end is skipped: what is missing there is missing at the end of the text.
    place: int | None = getattr(error, "pos_in_stream", None)
    if place is None or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        place = len(text)
    if isinstance(error, UnexpectedToken):
        allowed = set(error.accepts)
    elif isinstance(error, UnexpectedCharacters):
        allowed = set(error.allowed or ())
    else:
        allowed = set()
    names = sorted({_ALLOWED.get(name, name.strip("_").lower()) for name in allowed})
    return QueryInvalid(f"{_pointer(text, place)}\nAllowed here: {', '.join(names)}.", remedy=_HOW)
