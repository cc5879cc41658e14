"""The language of `--where`: comparisons of a run's facts, combined by and, or, not and parentheses.

    model.depth >= 4 and (model.tying.pattern == block or not training.epochs < 10)

A comparison is a key, an operator and a value: a number, true, false, none, a word, or text in quotes. Nothing is
evaluated as code. Python's own parser would not do: words such as `mnist-01`, `3x3` or `resnet-v1.0`, which names of
runs and datasets contain, are not Python, and its errors do not say what is expected, and where.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from tiedexp.errors import SpecError

Facts = Mapping[str, Any]
Condition = Callable[[Facts], bool]

_MAX_LENGTH = 2000  # characters
_MAX_DEPTH = 50  # of parentheses and nots
_TOKEN = re.compile(r"""\s*(?:(==|!=|<=|>=|<|>|=)|([()])|("[^"]*"|'[^']*')|([^\s()<>=!"']+))""")
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_WORDS = {"true": True, "false": False, "none": None}


def parse_condition(text: str, keys: Collection[str]) -> Condition:
    """Parse an expression.

    Args:
        text: the expression.
        keys: the keys that the runs have.

    Returns:
        A function that says of a run's facts whether the expression holds. A fact that a run lacks is none. Values that
        cannot be ordered (none, or a text and a number) are neither less nor greater than each other.

    Raises:
        SpecError: the expression is not valid, or names a key that no run has.
    """
    if len(text) > _MAX_LENGTH:
        raise SpecError(f"--where: an expression has at most {_MAX_LENGTH:,} characters. Received: {len(text):,}")
    parser = _Parser(text, keys)
    condition = parser.parse_or(0)
    if parser.next is not None:
        raise parser.error("'and', 'or' or the end")
    return condition


class _Parser:
    """Recursive descent: or, and, not, comparison."""

    def __init__(self, text: str, keys: Collection[str]):
        self.text, self.keys = text, keys
        self.tokens = _split(text)
        self.next = self.take_next()

    def take_next(self) -> tuple[str, int] | None:
        """Remove and return the next token and its position; None at the end."""
        return self.tokens.pop(0) if self.tokens else None

    def advance(self, expected: str) -> str:
        """Take the next token; an error says what was expected instead of the end."""
        if self.next is None:
            raise self.error(expected)
        token, self.next = self.next[0], self.take_next()
        return token

    def error(self, expected: str) -> SpecError:
        """An error that says what was expected instead of the next token."""
        at = "the end" if self.next is None else f"'{self.next[0]}' (character {self.next[1] + 1})"
        return SpecError(f"--where: expected {expected} at {at} of: {self.text}")

    def accept(self, word: str) -> bool:
        """Take the next token if it is this word."""
        if self.next is None or self.next[0].lower() != word:
            return False
        self.next = self.take_next()
        return True

    def parse_or(self, depth: int) -> Condition:
        conditions = [self.parse_and(depth)]
        while self.accept("or"):
            conditions.append(self.parse_and(depth))
        return lambda facts: any(condition(facts) for condition in conditions)

    def parse_and(self, depth: int) -> Condition:
        conditions = [self.parse_not(depth)]
        while self.accept("and"):
            conditions.append(self.parse_not(depth))
        return lambda facts: all(condition(facts) for condition in conditions)

    def parse_not(self, depth: int) -> Condition:
        if depth > _MAX_DEPTH:
            raise SpecError(f"--where: more than {_MAX_DEPTH} nested parentheses or nots")
        if self.accept("not"):
            condition = self.parse_not(depth + 1)
            return lambda facts: not condition(facts)
        if self.accept("("):
            condition = self.parse_or(depth + 1)
            if not self.accept(")"):
                raise self.error("')'")
            return condition
        return self.parse_comparison()

    def parse_comparison(self) -> Condition:
        if self.next is not None and self.next[0][0] in "()<>=!\"'":
            raise self.error("a key")
        key = self.advance("a key")
        if key not in self.keys:
            close = difflib.get_close_matches(key, self.keys, n=1)
            hint = f"; did you mean {close[0]}?" if close else f"; the keys are {', '.join(sorted(self.keys))}"
            raise SpecError(f"--where: no run has '{key}'{hint}")
        if self.next is not None and self.next[0] == "=":
            raise SpecError(f"--where: expected '==' instead of '=' (character {self.next[1] + 1}) in: {self.text}")
        if self.next is None or self.next[0] not in _COMPARE:
            raise self.error("one of == != < <= > >=")
        compare = _COMPARE[self.advance("an operator")]
        if self.next is not None and self.next[0] in {*_COMPARE, "=", "(", ")"}:
            raise self.error("a value")
        value = _read_value(self.advance("a value"))

        def holds(facts: Facts) -> bool:
            try:
                return bool(compare(facts.get(key), value))
            except TypeError:
                return False

        return holds


def _split(text: str) -> list[tuple[str, int]]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            raise SpecError(f"--where: '{text[start]}' (character {start + 1}) is not valid here: {text}")
        tokens.append((match.group().strip(), match.end() - len(match.group().strip())))
        at = match.end()
    return tokens


def _read_value(token: str) -> Any:
    if token[0] in "\"'":
        return token[1:-1]
    if token.lower() in _WORDS:
        return _WORDS[token.lower()]
    try:
        return float(token)
    except ValueError:
        return token
