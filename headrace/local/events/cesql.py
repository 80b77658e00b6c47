"""CloudEvents SQL: the expressions of a Trigger's `cesql` filters, compiled once and asked of every event. Pure.

Used by `headrace.local.events.filters`, and by the API to refuse what cannot be read. The grammar is that of the
specification; where it leaves a choice, the one of the Go implementation, which Knative has: NOT and a minus bind
tightest, AND, OR and XOR bind alike and to the right, `LENGTH` counts bytes.
Source: cloudevents/spec cesql/spec.md 1.0; cloudevents/sdk-go sql/v2.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventing.errors import HeadraceError
from headrace.local.events import cesql_functions
from headrace.local.events.cesql_functions import CannotEvaluate, Value, boolean, integer, text, wrapped

Attributes = Mapping[str, Any]
Expression = Callable[[Attributes], Value]
"""What an event's attributes make of it. Raises CannotEvaluate."""

DEEPEST = 50  # brackets, calls and prefixes within each other; the longest that a person writes has five
KEYWORDS = frozenset({"AND", "OR", "XOR", "NOT", "LIKE", "IN", "EXISTS", "TRUE", "FALSE"})
REQUIRED = ("specversion", "id", "source", "type")

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<string>'(?:\\.|''|[^'\\])*' | "(?:\\.|""|[^"\\])*")
    | (?P<operator><=|>=|!=|<>|[()=<>,*/%])
    | (?P<word>[A-Za-z0-9]*[A-Za-z][A-Za-z0-9_]*)
    | (?P<number>[+-]?[0-9]+)
    | (?P<sign>[+-])""",
    re.VERBOSE | re.DOTALL,
)
_INTEGERS: Mapping[str, Callable[[int, int], int]] = {
    "*": operator.mul,
    "/": cesql_functions.quotient,
    "%": cesql_functions.remainder,
    "+": operator.add,
    "-": operator.sub,
}
_ORDERS: Mapping[str, Callable[[int, int], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_COMPARISONS = ("=", "!=", "<>", *_ORDERS)


class InvalidExpression(HeadraceError):
    """The text is no CloudEvents SQL expression."""


@dataclass(frozen=True, slots=True)
class Token:
    """kind: "string", "number", "word", "operator" or "end". text: as written, a keyword in capitals. at: from 0."""

    kind: str
    text: str
    at: int


def matcher(source: str) -> Callable[[Attributes], bool]:
    """Whether an event passes the expression; one that cannot be evaluated, as of a missing attribute, does not.

    Raises InvalidExpression.
    """
    evaluate = _Parser(_tokens(source)).whole()

    def matches(event: Attributes) -> bool:
        try:
            return evaluate(event) is True
        except CannotEvaluate:
            return False

    return matches


def _tokens(source: str) -> list[Token]:
    found, at = [], 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            raise InvalidExpression(f"{source[at : at + 20]!r} at character {at + 1} is neither a word nor an operator")
        kind, word = str(match.lastgroup), match[0]
        if kind == "word" and word.upper() in KEYWORDS:
            kind, word = "operator", word.upper()
        if kind != "space":
            found.append(Token("operator" if kind == "sign" else kind, word, at))
        at = match.end()
    return [*found, Token("end", "the end", at)]


class _Parser:
    """Recursive descent, a method for each level of the grammar, the loosest first."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0

    def whole(self) -> Expression:
        found = self._logic()
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end")
        return found

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _take(self, *operators: str) -> str | None:
        """The next token's text where it is one of these operators, which is then behind us."""
        if self._next.kind == "operator" and self._next.text in operators:
            self._place += 1
            return self._tokens[self._place - 1].text
        return None

    def _expect(self, *operators: str) -> str:
        taken = self._take(*operators)
        if taken is None:
            raise self._unexpected(" or ".join(operators))
        return taken

    def _unexpected(self, expected: str) -> InvalidExpression:
        return InvalidExpression(f"found {self._next.text} at character {self._next.at + 1}; expected {expected}")

    def _logic(self) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise InvalidExpression(f"it is nested deeper than {DEEPEST} levels")
        operands, operators = [self._comparison()], []
        while taken := self._take("AND", "OR", "XOR"):
            operators.append(taken)
            operands.append(self._comparison())
        self._depth -= 1
        return operands[0] if not operators else _logic(operands, operators)

    def _comparison(self) -> Expression:
        found = self._sum()
        while taken := self._take(*_COMPARISONS):
            found = _compared(taken, found, self._sum())
        return found

    def _sum(self) -> Expression:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Expression:
        return self._chain(self._member, "*", "/", "%")

    def _chain(self, operand: Callable[[], Expression], *operators: str) -> Expression:
        first = operand()
        rest = []
        while taken := self._take(*operators):
            rest.append((_INTEGERS[taken], operand()))
        return _calculated(first, rest) if rest else first

    def _member(self) -> Expression:
        """LIKE and IN behind a value, each perhaps with a NOT."""
        found = self._prefixed()
        while self._next.text in ("LIKE", "IN", "NOT") and self._next.kind == "operator":
            negated = self._take("NOT") is not None
            if self._expect("LIKE", "IN") == "LIKE":
                found = _like(found, self._string())
            else:
                self._expect("(")
                found = _in(found, self._list(at_least=1))
            found = _not(found) if negated else found
        return found

    def _prefixed(self) -> Expression:
        self._depth += 1
        if self._depth > DEEPEST:
            raise InvalidExpression(f"it is nested deeper than {DEEPEST} levels")
        if self._take("NOT"):
            found = _not(self._prefixed())
        elif self._take("-"):
            found = _negated(self._prefixed())
        else:
            found = self._atom()
        self._depth -= 1
        return found

    def _atom(self) -> Expression:
        token = self._next
        if token.kind == "string":
            return _literal(self._string())
        if taken := self._take("TRUE", "FALSE"):
            return _literal(taken == "TRUE")
        if self._take("("):
            found = self._logic()
            self._expect(")")
            return found
        if self._take("EXISTS"):
            return _exists(self._name())
        if token.kind == "number":
            self._place += 1
            try:
                return _literal(integer(token.text))
            except CannotEvaluate as e:
                raise InvalidExpression(f"character {token.at + 1}: {e}") from e
        if token.kind != "word":
            raise self._unexpected("a value")
        following = self._tokens[self._place + 1]
        if (following.kind, following.text) == ("operator", "("):
            self._place += 2
            return _called(token.text.upper(), self._list())
        return _attribute(self._name())

    def _list(self, at_least: int = 0) -> list[Expression]:
        """Expressions by commas up to the closing bracket; the opening one is behind us."""
        found: list[Expression] = []
        if at_least == 0 and self._take(")"):
            return found
        while True:
            found.append(self._logic())
            if self._expect(",", ")") == ")":
                return found

    def _string(self) -> str:
        token = self._next
        if token.kind != "string":
            raise self._unexpected("a string in quotes")
        self._place += 1
        quote = token.text[0]
        return token.text[1:-1].replace(f"\\{quote}", quote)

    def _name(self) -> str:
        token = self._next
        if token.kind != "word" or "_" in token.text:
            raise self._unexpected("the name of an attribute")
        self._place += 1
        return token.text.lower()


# ---- what the parts of an expression come to ---------------------------------------------------------------------


def _literal(value: Value) -> Expression:
    return lambda event: value


def _attribute(name: str) -> Expression:
    def value(event: Attributes) -> Value:
        found = event.get(name)
        if found is None:
            raise CannotEvaluate(f"the event has no {name}")
        return found if isinstance(found, bool | int) else str(found)

    return value


def _exists(name: str) -> Expression:
    return lambda event: name in REQUIRED or event.get(name) is not None


def _not(of: Expression) -> Expression:
    return lambda event: not boolean(of(event))


def _negated(of: Expression) -> Expression:
    return lambda event: wrapped(-integer(of(event)))


def _logic(operands: Sequence[Expression], operators: Sequence[str]) -> Expression:
    """`a AND b OR c` is `a AND (b OR c)`: from the left, what is decided early ends it."""

    def value(event: Attributes) -> Value:
        turned = False  # by each XOR whose left side is true: the rest counts as its opposite
        for operand, verb in zip(operands, operators, strict=False):
            left = boolean(operand(event))
            if verb == "XOR":
                turned ^= left
            elif left == (verb == "OR"):
                return left ^ turned
        return boolean(operands[-1](event)) ^ turned

    return value


def _compared(verb: str, left: Expression, right: Expression) -> Expression:
    if verb in _ORDERS:
        order = _ORDERS[verb]
        return lambda event: order(integer(left(event)), integer(right(event)))
    wanted = verb == "="

    def value(event: Attributes) -> Value:
        mine, other = left(event), right(event)
        return (cesql_functions.cast_like(mine, other) == other) is wanted

    return value


def _calculated(first: Expression, rest: Sequence[tuple[Callable[[int, int], int], Expression]]) -> Expression:
    def value(event: Attributes) -> Value:
        result = integer(first(event))
        for operate, operand in rest:
            result = wrapped(operate(result, integer(operand(event))))
        return result

    return value


def _like(of: Expression, pattern: str) -> Expression:
    """`%` is any text, `_` any character, a backslash before either takes it at its word."""
    pieces, piece = [], ""
    for part in re.findall(r"\\[%_]|%+|_|.", pattern, re.DOTALL):
        if part[0] == "%":
            pieces.append(piece)
            piece = ""
        else:
            piece += "." if part == "_" else re.escape(part[-1])
    # Each piece in the middle is best where it is first found: tried nowhere else (?>…), so that no text takes long.
    middle = "".join(f"(?>.*?{each})" for each in pieces[1:])
    compiled = re.compile(f"{pieces[0]}{middle}.*{piece}" if pieces else piece, re.DOTALL)
    return lambda event: compiled.fullmatch(text(of(event))) is not None


def _in(of: Expression, choices: Sequence[Expression]) -> Expression:
    def value(event: Attributes) -> Value:
        mine = of(event)
        return any(cesql_functions.cast_like(choice(event), mine) == mine for choice in choices)

    return value


def _called(name: str, arguments: Sequence[Expression]) -> Expression:
    return lambda event: cesql_functions.call(name, [argument(event) for argument in arguments])
