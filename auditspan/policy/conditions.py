"""Conditions of rules in three-valued logic (Kleene): true, false, or unknown where a fact that is read is not known.

The leaves are CEL expressions (``cel-expr-python``) in a small grammar: comparisons, ``in``, ``!``, ``size``,
``startsWith``, ``endsWith``, ``contains``. No arithmetic, no macros, no regular expressions, no ``&&`` or ``||``: an
expression takes time linear in its length, and what is combined is combined in YAML (a list = all, ``any:``, ``all:``,
``not:``), where an unknown part is handled exactly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cel_expr_python import cel

from .errors import PolicyError
from .facts import INTERVALS, FactType, FactValue
from .memory import weigh
from .yaml_text import Document, Path

__all__ = ["Compiled", "Compiler", "Condition", "PacksTooLarge", "Truth", "together"]

Truth = bool | None
"""``None`` is unknown."""

Condition = Callable[[Mapping[str, FactValue]], Truth]

_LONGEST: Final = 2_000
_MOST_EXPRESSIONS: Final = 10_000
"""Distinct expressions in all packs together: each takes about 0.1 ms to compile, and up to 100 kB."""
_MOST_BYTES: Final = 100_000_000
"""Of the results remembered of expressions, over all packs, with the values that they rest on."""
_LONGEST_KEY: Final = 4_096
"""Bytes of the values of one result: with longer ones it is worked out each time."""
_PER_RESULT: Final = 150
"""Bytes of a result besides these values."""
_TOKEN: Final = re.compile(
    r"\s+|'[^'\\\n]*'|\d{1,16}|[A-Za-z_][A-Za-z0-9_]*|==|!=|<=|>=|[<>!()\[\],]|\.(?=(?:startsWith|endsWith|contains)\()"
)
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_YET: Final = object()
_WORDS: Final = frozenset({"in", "true", "false", "size", "startsWith", "endsWith", "contains"})
_INTERVAL: Final = re.compile(r"^\s*([a-z_]+)\s*(>=|<=|<|>)\s*(\d{1,15})\s*$")
_CEL_TYPES: Final[dict[FactType, Any]] = {
    "string": cel.Type.STRING,
    "int": cel.Type.INT,
    "bool": cel.Type.BOOL,
    "strings": cel.Type.List(cel.Type.STRING),
}


class PacksTooLarge(PolicyError):
    """All packs together have more different expressions than may be compiled."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition, and the names of the facts that it reads."""

    evaluate: Condition
    reads: frozenset[str]


class _Memory:
    """Results by the few values that an expression reads; all of them together are bounded.

    Engines of several threads share it. Each step is one look-up or one assignment, so that a thread may forget what
    another remembers at any time.
    """

    def __init__(self) -> None:
        self._results: list[dict[tuple[FactValue, ...], Truth]] = []
        self._bytes = 0

    def of_one_expression(self) -> dict[tuple[FactValue, ...], Truth]:
        """Where one expression looks its results up."""
        results: dict[tuple[FactValue, ...], Truth] = {}
        self._results.append(results)
        return results

    def keep(self, results: dict[tuple[FactValue, ...], Truth], key: tuple[FactValue, ...], truth: Truth) -> None:
        """Remember one, and forget all before it when they take too much."""
        size = weigh(key)
        if size > _LONGEST_KEY:
            return
        if self._bytes >= _MOST_BYTES:
            for each in self._results:
                each.clear()
            self._bytes = 0
        results[key] = truth
        self._bytes += size + _PER_RESULT


class Compiler:
    """Compiles conditions over declared facts; anything else is refused with file, line and remedy."""

    def __init__(self, facts: Mapping[str, FactType]) -> None:
        self._facts = dict(facts)
        self._environment = cel.NewEnv(variables={name: _CEL_TYPES[type_] for name, type_ in facts.items()})
        self._atoms: dict[str, Compiled] = {}
        self._memory = _Memory()

    def compile(self, document: Document, path: Path, node: Any) -> Compiled:
        """The condition that ``node`` (at ``path`` of ``document``) writes.

        Raises:
            PolicyError: an unknown fact, a wrong type, or an expression outside the grammar.
        """
        if isinstance(node, str):
            return self._atom(document, path, node)
        if isinstance(node, list):
            return _all([self.compile(document, (*path, index), part) for index, part in enumerate(node)])
        ((operator, operand),) = node.items()
        inner = (*path, operator)
        if operator == "not":
            return _not(self.compile(document, inner, operand))
        parts = [self.compile(document, (*inner, index), part) for index, part in enumerate(operand)]
        return _any(parts) if operator == "any" else _all(parts)

    def _atom(self, document: Document, path: Path, text: str) -> Compiled:
        if (known := self._atoms.get(text)) is None:
            if len(self._atoms) >= _MOST_EXPRESSIONS:
                raise PacksTooLarge(
                    f"the packs have more than {_MOST_EXPRESSIONS:,} different expressions",
                    file=document.file,
                    line=document.line(path),
                    remedy="Write what is common once, as a definition.",
                )
            try:
                known = self._atoms[text] = self._compile_atom(text)
            except ValueError as error:
                raise PolicyError(
                    f"the condition {text!r} cannot be used: {error}",
                    file=document.file,
                    line=document.line(path),
                    remedy="Use declared facts, comparisons and `in`; combine with lists, `any:` and `not:`.",
                ) from error
        return known

    def _compile_atom(self, text: str) -> Compiled:
        names = _names(text)
        intervals = names & INTERVALS.keys()
        if intervals:
            return _interval_atom(text)
        if undeclared := sorted(names - self._facts.keys()):
            raise ValueError(f"no such fact: {', '.join(undeclared)}")
        try:
            expression = self._environment.compile(text)
        except RuntimeError as error:
            raise ValueError(str(error).splitlines()[0]) from error
        if expression.return_type() != cel.Type.BOOL:
            raise ValueError("it is not a condition that is true or false")
        return Compiled(_remembering(expression, tuple(sorted(names)), self._memory), frozenset(names))


def _names(text: str) -> set[str]:
    if len(text) > _LONGEST:
        raise ValueError(f"longer than {_LONGEST} characters")
    names: set[str] = set()
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"{text[position : position + 10]!r} is outside the grammar")
        token = match.group()
        if _NAME.fullmatch(token) and token not in _WORDS:
            names.add(token)
        position = match.end()
    return names


def _interval_atom(text: str) -> Compiled:
    match = _INTERVAL.match(text)
    if match is None or match.group(1) not in INTERVALS:
        raise ValueError("an interval is compared alone with one number, as in `tpp >= 4800`")
    name, operator, number = match.group(1), match.group(2), int(match.group(3))
    low_name, high_name = INTERVALS[name]
    compare = {">=": int.__ge__, "<=": int.__le__, "<": int.__lt__, ">": int.__gt__}[operator]

    def evaluate(values: Mapping[str, FactValue]) -> Truth:
        low, high = values.get(low_name), values.get(high_name)
        if not isinstance(low, int) or not isinstance(high, int):
            return None
        at_low, at_high = compare(low, number), compare(high, number)
        return at_low if at_low == at_high else None

    return Compiled(evaluate, frozenset((low_name, high_name)))


def _remembering(expression: Any, names: tuple[str, ...], memory: _Memory) -> Condition:
    """Evaluates by CEL once for each combination of the few values that the expression reads."""
    remembered = memory.of_one_expression()

    def evaluate(values: Mapping[str, FactValue]) -> Truth:
        key = tuple([values.get(name) for name in names])
        # One look-up: another thread may clear between two.
        known: object = remembered.get(key, _NOT_YET)
        if known is not _NOT_YET:
            return known  # type: ignore[return-value]
        truth: Truth = None
        if None not in key:
            data = {
                name: list(value) if isinstance(value, tuple) else value for name, value in zip(names, key, strict=True)
            }
            result = expression.eval(data=data)
            truth = bool(result.value()) if result.type() == cel.Type.BOOL else None
        memory.keep(remembered, key, truth)
        return truth

    return evaluate


def together(parts: Sequence[Compiled]) -> Compiled:
    """The condition that holds when all of ``parts`` do."""
    return _all(parts)


def _reads(parts: Sequence[Compiled]) -> frozenset[str]:
    return frozenset().union(*(part.reads for part in parts))


def _all(parts: Sequence[Compiled]) -> Compiled:
    conditions = [part.evaluate for part in parts]

    def evaluate(values: Mapping[str, FactValue]) -> Truth:
        truth: Truth = True
        for condition in conditions:
            part = condition(values)
            if part is False:
                return False
            if part is None:
                truth = None
        return truth

    return Compiled(evaluate, _reads(parts))


def _any(parts: Sequence[Compiled]) -> Compiled:
    conditions = [part.evaluate for part in parts]

    def evaluate(values: Mapping[str, FactValue]) -> Truth:
        truth: Truth = False
        for condition in conditions:
            part = condition(values)
            if part is True:
                return True
            if part is None:
                truth = None
        return truth

    return Compiled(evaluate, _reads(parts))


def _not(part: Compiled) -> Compiled:
    condition = part.evaluate

    def evaluate(values: Mapping[str, FactValue]) -> Truth:
        truth = condition(values)
        return None if truth is None else not truth

    return Compiled(evaluate, part.reads)
