"""YAML text as plain values that remember where they are written.

The scalars are those of the YAML 1.2 core schema (https://yaml.org/spec/1.2.2/#103-core-schema): `1e-3` is a number and
`no` is text. What specs do not need, or what would hide a mistake, is refused: duplicate keys, anchors and aliases,
tags, merge keys and several documents. PyYAML parses the text into events; this module makes values of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from tiedexp.errors import SpecError
from tiedexp.keys import join_key
from tiedexp.patterns.presets import name_pattern_options
from tiedexp.text import shorten

MAX_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_VALUES = 10_000
MAX_PROBLEMS = 100

Scalar = str | int | float | bool | None
PathToValue = tuple[str | int, ...]

_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGERS = {10: re.compile(r"[-+]?[0-9]+"), 8: re.compile(r"0o([0-7]+)"), 16: re.compile(r"0x([0-9a-fA-F]+)")}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_MAX_SHOWN = 60  # characters of a value shown in a message
_MAX_NUMBER = 100  # characters; longer numbers are text, because Python refuses to print very long ones

# For mappings of several kinds: the key that chooses the kind, by the mapping's own key. A child that chooses another
# kind inherits none of the base's options, e.g. sgd's `momentum`, which adamw does not have.
_CHOICES = {"optimizer": "name", "schedule": "name"} | dict.fromkeys(["pattern", *name_pattern_options()], "preset")


@dataclass(frozen=True)
class Location:
    """Where something is written: line and column of a file, counted from 1, or 0 for the command line."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True)
class Problem:
    """What is wrong and where."""

    location: Location
    text: str

    def __str__(self) -> str:
        return f"{self.location}: {self.text}"


@dataclass(frozen=True)
class Node:
    """A value with its location and, if it is in a mapping, the location of its key."""

    value: Scalar | list[Node] | Mapping[str, Node]
    location: Location
    key: Location | None = None

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, Mapping):
            return {key: node.plain() for key, node in self.value.items()}
        if not isinstance(self.value, list):
            return self.value
        return [item.plain() for item in self.value]

    def find(self, path: PathToValue) -> Node | None:
        """The node at a path of keys and list indices, or None if there is none."""
        node = self
        for step in path:
            if isinstance(node.value, Mapping) and step in node.value:
                node = node.value[str(step)]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node


def resolve_scalar(text: str) -> Scalar:
    """The value of plain (unquoted) text in the YAML 1.2 core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > _MAX_NUMBER:
        return text
    for base, integer in _INTEGERS.items():
        if match := integer.fullmatch(text):
            return int(match[match.lastindex or 0], base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITY.fullmatch(text):
        return -math.inf if match[1] == "-" else math.inf
    return math.nan if text in (".nan", ".NaN", ".NAN") else text


def read_document(path: Path, needed: str = "`name` and `dataset`") -> tuple[Node, list[Problem]]:
    """The mapping in a YAML file, and the problems that do not prevent reading the rest, e.g. duplicate keys.

    Args:
        path: the file.
        needed: the keys that it must have, for the message about an empty file.

    Raises:
        SpecError: the file does not exist, or is not a single YAML mapping in UTF-8 within the limits.
    """
    source = str(path)
    text = _read_text(path, source)
    composer = _Composer(text, source)
    root = composer.compose_document()
    if root is None or root.value is None:
        raise SpecError(f"{source}:1:1: the file is empty; it needs at least {needed}")
    if not isinstance(root.value, Mapping):
        raise SpecError(
            f"{root.location}: a spec must be a mapping (lines of `key: value`). Received: {show(root.plain())}"
        )
    return root, composer.problems


def parse_value(text: str, location: Location) -> Node:
    """The value of an override, a YAML scalar or flow collection, all at the same location.

    Raises:
        SpecError: the text is not a single YAML value.
    """
    composer = _Composer(text, "", at=location)
    node = composer.compose_document() or Node(None, location)
    if composer.problems:
        raise as_error(composer.problems)
    return replace(node, key=location)


def as_error(problems: Sequence[Problem]) -> SpecError:
    """One error with all problems, or the first hundred."""
    lines = [str(problem) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(f"there are more problems; these are the first {MAX_PROBLEMS}")
    return SpecError(lines)


def merge(base: Node, child: Node, key: str = "") -> Node:
    """The base's mapping with the child's entries merged into it; any other value of the child replaces the base's."""
    if not isinstance(base.value, Mapping) or not isinstance(child.value, Mapping):
        return child
    choice = _CHOICES.get(key, "")
    if choice in base.value and choice in child.value and base.value[choice].value != child.value[choice].value:
        return child
    merged = dict(base.value)
    for name, node in child.value.items():
        merged[name] = merge(merged[name], node, name) if name in merged else node
    return replace(child, value=merged)


def assign(node: Node, path: Sequence[str], new: Node, done: tuple[str, ...] = ()) -> Node:
    """The tree with `new` at a dotted path from the command line; missing mappings on the way are created.

    Raises:
        SpecError: the path leads into a scalar, or to a list item that does not exist.
    """
    step, rest = path[0], path[1:]
    where = join_key(done)
    if isinstance(node.value, list):
        if not step.isdecimal() or int(step) >= len(node.value):
            text = f"the list has {len(node.value)} items, numbered from 0. Received: {show(step)}"
            raise SpecError(f"{new.location}: {where}: {text}")
        items = list(node.value)
        items[int(step)] = assign(items[int(step)], rest, new, (*done, step)) if rest else new
        return replace(node, value=items)
    if node.value is not None and not isinstance(node.value, Mapping):
        raise SpecError(
            f"{new.location}: {where}: this is {show(node.value)}, which has no keys; to replace it, use {where}=..."
        )
    entries = dict(node.value or {})
    if not rest:
        if done and _CHOICES.get(done[-1]) == step and step in entries and entries[step].value != new.value:
            entries = {key: entry for key, entry in entries.items() if not entry.location.line}
        entries[step] = new
    else:
        child = entries.get(step, Node({}, new.location, new.location))
        entries[step] = assign(child, rest, new, (*done, step))
    return replace(node, value=entries)


def show(value: Any) -> str:
    """A value as messages show it: on one line, in YAML's notation, shortened if long."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else "-.inf" if value < 0 else ".inf"
    if isinstance(value, Mapping):
        text = "{" + ", ".join(f"{key}: {show(item)}" for key, item in value.items()) + "}"
    elif isinstance(value, list | tuple):
        text = "[" + ", ".join(map(show, value)) + "]"
    else:
        text = repr(value)
    return shorten(text, _MAX_SHOWN)


def _read_text(path: Path, source: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SpecError(f"{source}: there is no such file") from None
    except IsADirectoryError:
        raise SpecError(f"{source}: is a directory; a spec is a YAML file") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise SpecError(f"{source}: is larger than {MAX_BYTES // 1024} KiB; a spec is a page or two of text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, len(before) - (before.rfind(b"\n") + 1) + 1
        raise SpecError(f"{source}:{line}:{column}: is not UTF-8 text (byte 0x{data[error.start]:02x})") from None


class _Composer:
    """Makes nodes of the events of one document."""

    def __init__(self, text: str, source: str, at: Location | None = None):
        self.problems: list[Problem] = []
        self._source = source
        self._at = at
        self._values = 0
        try:
            self._loader = yaml.SafeLoader(text)
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            location = Location(source, before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
            code = error.character if isinstance(error.character, int) else ord(error.character)
            raise SpecError(f"{at or location}: YAML does not allow the character U+{code:04X}") from None

    def compose_document(self) -> Node | None:
        """The root, or None if there is no document."""
        try:
            self._next()  # the stream's start
            if isinstance(self._next(), yaml.StreamEndEvent):
                return None
            root = self._compose(self._next(), depth=1)
            self._next()  # the document's end
            following = self._next()
            if not isinstance(following, yaml.StreamEndEvent):
                raise self._refusal(following.start_mark, "a second document starts here; a spec is a single document")
        finally:
            self._loader.dispose()
        return root

    def _next(self) -> yaml.Event:
        try:
            event: yaml.Event = self._loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            raise self._refusal(error.problem_mark or error.context_mark, _syntax_sentence(error)) from None
        except (ValueError, OverflowError):  # an escape such as \UFFFFFFFF, or a version of thousands of digits
            raise self._refusal(self._loader.get_mark(), "YAML has no such number or character") from None
        return event

    def _locate_mark(self, mark: Any) -> Location:
        return self._at or Location(self._source, mark.line + 1, mark.column + 1)

    def _refusal(self, mark: Any, text: str) -> SpecError:
        return as_error([*self.problems, Problem(self._locate_mark(mark), text)])

    def _compose(self, event: yaml.Event, depth: int) -> Node:
        self._check_plain(event)
        location = self._locate_mark(event.start_mark)
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._refusal(event.start_mark, f"there are more than {MAX_VALUES:,} keys and values")
        if depth > MAX_DEPTH:
            raise self._refusal(event.start_mark, f"lists and mappings are nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._compose_entries(depth), location)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node([self._compose(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)], location)
        assert isinstance(event, yaml.ScalarEvent)
        if any("\ud800" <= character <= "\udfff" for character in event.value):
            raise self._refusal(event.start_mark, "the text contains half a surrogate pair, which is not a character")
        return Node(resolve_scalar(event.value) if event.style is None else event.value, location)

    def _compose_entries(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for event in self._until(yaml.MappingEndEvent):
            key = self._compose(event, depth + 1)
            if key.value == "<<" and getattr(event, "style", "") is None:
                raise self._refusal(event.start_mark, "specs do not allow merge keys (<<); use `extends` to inherit")
            node = replace(self._compose(self._next(), depth + 1), key=key.location)
            if not isinstance(key.value, str):
                self.problems.append(Problem(key.location, f"a key must be text. Received: {show(key.plain())}"))
            elif key.value in entries:
                first = entries[key.value].key
                at = f", first on line {first.line}" if first and first.line else ""
                self.problems.append(Problem(key.location, f"the key '{key.value}' is given twice{at}"))
            else:
                entries[key.value] = node
        return entries

    def _until(self, end: type[yaml.Event]) -> Iterable[yaml.Event]:
        while not isinstance(event := self._next(), end):
            yield event

    def _check_plain(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            text = "specs do not allow anchors and aliases (& and *); repeat the value, or put the text in quotes"
            raise self._refusal(event.start_mark, text)
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            text = f"specs do not allow tags ({shown}); remove it, or put the text in quotes"
            raise self._refusal(event.start_mark, text)


# A part of each message of PyYAML, and the sentence that replaces the message.
_SYNTAX_SENTENCES = (
    (r"character '\t' that cannot start", "a tab cannot indent YAML; use spaces"),
    ("that cannot start any token", "text cannot start with this character; put it in quotes"),
    (
        "mapping values are not allowed",
        "a ': ' is not allowed here; indent the line like its neighbours, or put the text in quotes",
    ),
    ("sequence entries are not allowed", "a '- ' is not allowed here; start the list on a new line"),
    ("expected <block end>", "the indentation of this line does not match the lines above it"),
    ("could not find expected ':'", "a ':' is missing; lines have the form `key: value`"),
    ("expected ',' or ']'", "a ',' or ']' is missing before this, in the list that starts {context}"),
    ("expected ',' or '}'", "a ',' or '}' is missing before this, in the mapping that starts {context}"),
    ("expected the node content", "a value is missing here, or a [ or { before it is not closed"),
    ("expected '<document start>'", "this is outside the mapping; check the indentation and the quotes above it"),
    ("found unexpected end of stream", "the quote that starts {context} is not closed"),
    ("found unexpected document separator", "the quote that starts {context} is not closed"),
    ("found unknown escape character", "unknown escape in double quotes; use single quotes, or two backslashes"),
    (
        "expected alphabetic or numeric",
        "text cannot start with & or *, which YAML reserves for aliases; put it in quotes",
    ),
)


def _syntax_sentence(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or ""
    mark = error.context_mark
    context = f"on line {mark.line + 1}" if mark else "above"
    for part, sentence in _SYNTAX_SENTENCES:
        if part in problem:
            return sentence.replace("{context}", context)
    return f"this is not valid YAML: {problem}"
