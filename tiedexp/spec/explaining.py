"""Pydantic's errors as sentences with locations in the file.

Pydantic reports an error for each branch of a union and includes the names of branches in its paths. The JSON schema of
the same model describes what each path can hold, so the sentences are made from the schema; only the paths and types of
pydantic's errors are used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tiedexp.keys import join_key
from tiedexp.spec.document import MAX_PROBLEMS, Location, Node, PathToValue, Problem, show

_MAX_DETAILS = 3 * MAX_PROBLEMS  # of pydantic's errors; several can belong to one problem

_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}

Shape = Mapping[str, Any]  # a node of the JSON schema


class Explainer:
    """Explains what is wrong with a document that a pydantic model rejected.

    Args:
        model: the model.
        extra_keys: keys of the document that are removed before the model sees it, e.g. `extends`.
    """

    def __init__(self, model: type[BaseModel], extra_keys: Sequence[str] = ()):
        self._model = model
        self._extra_keys = extra_keys

    @cached_property
    def _shape(self) -> Shape:
        return self._model.model_json_schema()

    def explain(self, error: ValidationError, root: Node) -> Iterator[Problem]:
        """One problem for each value or key that is wrong."""
        located = [
            (details, *self._locate(details["loc"], root)) for details in error.errors(include_url=False)[:_MAX_DETAILS]
        ]
        above = {path[:length] for _, path, _ in located for length in range(len(path))}
        named: set[PathToValue] = set()  # paths of keys that seem to be present, but misspelt
        problems: dict[PathToValue, Problem] = {}
        for details, path, _ in located:
            for key in self._unknown_keys(details, path, root):
                text, meant = self._unknown_key_sentence(key, path, root)
                node = root.find(key)
                location = node.key if node is not None and node.key is not None else _value_location(root, key)
                problems[key] = Problem(location, f"{join_key(key)}: {text}")
                named.add(meant)
        for details, path, shape in located:
            kind = details["type"]
            if kind == "extra_forbidden" or path in problems:
                continue
            if path in above:
                continue  # from a branch of a union that does not apply; the one that does has errors further down
            is_missing = kind == "missing" or (kind == "union_tag_not_found" and not _is_null(root, path))
            if "discriminator" in shape and (is_missing or kind == "union_tag_invalid"):
                path = (*path, shape["discriminator"]["propertyName"])
                shape = {"enum": list(shape["discriminator"]["mapping"])}
            if is_missing and path in named:
                continue
            if is_missing:
                text = self._missing_key_sentence(shape)
            elif kind == "tiedexp":
                text = _own_sentence(details, path, root)
            else:
                text = self._wrong_value_sentence(shape, root.find(path))
            problems[path] = Problem(_value_location(root, path), f"{join_key(path)}: {text}" if path else text)
        yield from problems.values()

    def _resolved(self, shape: Shape) -> Shape:
        if "$ref" in shape:
            definition: Shape = self._shape["$defs"][shape["$ref"].rpartition("/")[2]]
            return definition
        return shape

    def _alternatives(self, shape: Shape) -> list[Shape]:
        """The shapes that a value can have, other than null."""
        parts = [self._resolved(part) for part in shape.get("oneOf", shape.get("anyOf", [shape]))]
        return [part for part in parts if part.get("type") != "null"]

    def _fitting(self, shape: Shape, node: Node | None) -> Shape:
        """The alternative that has the same form (mapping or list) and the same or default name as the value."""
        alternatives = self._alternatives(shape)
        if "discriminator" in shape and node is not None and isinstance(node.value, Mapping):
            name = shape["discriminator"]["propertyName"]
            chosen = node.value.get(name)
            if chosen is None:
                return next((part for part in alternatives if name not in part.get("required", ())), {})
            reference = shape["discriminator"]["mapping"].get(chosen.plain(), "")
            return self._resolved({"$ref": reference}) if reference else {}
        if len(alternatives) == 1:
            return alternatives[0]
        form = "array" if node is not None and isinstance(node.value, list) else "object"
        return next((part for part in alternatives if part.get("type") == form), {})

    def _locate(self, loc: PathToValue, root: Node) -> tuple[PathToValue, Shape]:
        """The path in the data, and the shape there, for a path of pydantic, which also contains branches of unions."""
        path: PathToValue = ()
        shape = self._shape
        was_tag = False
        for step in loc:
            node = root.find(path)
            is_union = "discriminator" in shape or len(self._alternatives(shape)) > 1
            if is_union and not was_tag and self._is_tag(step, shape, node):
                was_tag = True
                continue
            fitting, was_tag = self._fitting(shape, node), False
            if isinstance(step, int):
                items = fitting.get("prefixItems")
                shape = self._resolved(items[step] if items and step < len(items) else fitting.get("items", {}))
            else:
                others = fitting.get("additionalProperties")
                others = others if isinstance(others, Mapping) else {}
                shape = self._resolved(fitting.get("properties", {}).get(step, others))
            path = (*path, step)
        return path, shape

    def _is_tag(self, step: str | int, shape: Shape, node: Node | None) -> bool:
        if "discriminator" in shape:
            return step in shape["discriminator"]["mapping"]
        return isinstance(step, str)

    def _unknown_keys(self, details: ErrorDetails, path: PathToValue, root: Node) -> list[PathToValue]:
        if details["type"] == "extra_forbidden":
            return [path]
        node = root.find(path)
        if details["type"] != "union_tag_not_found" or node is None or not isinstance(node.value, Mapping):
            return []
        known = self._keys_at(path, root)
        return [(*path, key) for key in node.value if key not in known]

    def _keys_at(self, path: PathToValue, root: Node) -> list[str]:
        """The keys that a mapping can have; if its kind is unknown, those of all kinds."""
        loc: PathToValue = ()
        shape = self._shape
        for step in path:
            fitting = self._fitting(shape, root.find(loc))
            shape = self._resolved(fitting.get("items", {}) if isinstance(step, int) else fitting["properties"][step])
            loc = (*loc, step)
        fitting = self._fitting(shape, root.find(path))
        parts = [fitting] if fitting else self._alternatives(shape)
        keys = dict.fromkeys(key for part in parts for key in part.get("properties", {}))
        return [*keys, *self._extra_keys] if not path else list(keys)

    def _unknown_key_sentence(self, key: PathToValue, path: PathToValue, root: Node) -> tuple[str, PathToValue]:
        """The sentence, and the path that was probably meant, or else the key's own path."""
        parent, name = key[:-1], str(key[-1])
        known = self._keys_at(parent, root)
        elsewhere = [f"'{join_key(other)}'" for other in self._all_paths if other[-1] == name and other[:-1] != parent]
        if 1 <= len(elsewhere) <= 2:
            return f"unknown key here; did you mean {_joined(elsewhere)}?", key
        if close := get_close_matches(name, known, n=1):
            return f"unknown key; did you mean '{close[0]}'?", (*parent, close[0])
        return f"unknown key; the keys here are {', '.join(known)}", key

    @cached_property
    def _all_paths(self) -> tuple[PathToValue, ...]:
        """The path of every key of a spec."""

        def walk(shape: Shape, path: PathToValue, above: tuple[Shape, ...]) -> Iterator[PathToValue]:
            for part in self._alternatives(shape):
                if part not in above:  # patterns can be nested to any depth
                    for name, below in part.get("properties", {}).items():
                        yield (*path, name)
                        yield from walk(self._resolved(below), (*path, name), (*above, part))

        return tuple(dict.fromkeys(walk(self._shape, (), ())))

    def _missing_key_sentence(self, shape: Shape) -> str:
        if "description" in shape and shape.get("type") != "object":
            wanted = re.split(r"\.( (?=[A-Z`])|$)", shape["description"])[0]  # its first sentence
        else:
            wanted = self._describe(shape)
        return f"this key is missing; it is {wanted[0].lower()}{wanted[1:]}"

    def _wrong_value_sentence(self, shape: Shape, node: Node | None) -> str:
        value = node.plain() if node else None
        text = f"must be {self._describe(shape)}. Received: {show(value)}"
        if isinstance(value, str):
            words = [str(word) for part in self._alternatives(shape) for word in _words(part)]
            close = get_close_matches(value, words, n=1)
            return f"{text}; did you mean {close[0]}?" if close else text
        if value is None:
            return f"{text} (a key with nothing after it is null)"
        wants_text = any(part.get("type") == "string" and not _words(part) for part in self._alternatives(shape))
        if wants_text and isinstance(value, int | float):
            return f'{text}; to make it text, put it in quotes: "{show(value)}"'
        return text

    def _describe(self, shape: Shape) -> str:
        """What a value of this shape must be, as a phrase that follows "must be"."""
        if "discriminator" in shape:
            return f"a mapping whose key '{shape['discriminator']['propertyName']}' is {_joined(_words(shape))}"
        alternatives = self._alternatives(shape)
        if len(alternatives) > 1:
            others = [part for part in alternatives if part.get("type") != "array"]
            described = [self._describe(part) for part in others]
            for part in alternatives:
                if part.get("type") == "array":
                    items = [self._resolved(of) for of in part.get("items", {}).get("anyOf", ())]
                    described.append("a list of these" if items == others else self._describe(part))
            return _joined(described)
        shape = alternatives[0]
        if words := _words(shape):
            return _joined(words)
        match shape.get("type"):
            case "integer":
                return "a whole number" + _describe_range(shape)
            case "number":
                return "a finite number" + _describe_range(shape)
            case "boolean":
                return "true or false"
            case "array":
                return self._describe_list(shape)
            case "object":
                keys = [f"'{key}'" for key in shape.get("required", ())]
                return f"a mapping with the key {_joined(keys)}" if keys else "a mapping"
        if "pattern" in shape:  # its description begins with what the pattern means
            return str(shape["description"]).partition(";")[0]
        return "non-empty text" if shape.get("minLength") else "text"

    def _describe_list(self, shape: Shape) -> str:
        items = shape.get("items") or shape.get("prefixItems", [{}])[0]
        fewest, most = shape.get("minItems"), shape.get("maxItems")
        some, each = "a list", "each item"
        if fewest is not None:
            some, each = f"a list of {fewest if fewest == most else 'one or more'} items", "each"
        return f"{some}, {each} {self._describe(self._resolved(items))}" if items else some


def _is_null(root: Node, path: PathToValue) -> bool:
    node = root.find(path)
    return node is not None and node.value is None


def _value_location(root: Node, path: PathToValue) -> Location:
    """Where a value is; for a mapping, where its key is; for a missing value, where the mapping without it is."""
    node = root.find(path)
    if node is not None and not isinstance(node.value, Mapping):
        return node.location
    while node is None:
        path = path[:-1]
        node = root.find(path)
    return node.key or node.location


def _own_sentence(details: ErrorDetails, path: PathToValue, root: Node) -> str:
    """The message of one of our own validators, with the value unless the message quotes it already."""
    node = root.find(path)
    value = node.value if node is not None and isinstance(node.value, str | int | float) else details["input"]
    text = details["msg"]
    is_quoted = re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", text)
    if value is None or isinstance(value, Mapping | list | tuple) or "Received" in text or is_quoted:
        return text
    return f"{text}. Received: {show(value)}" + ("" if node else " (the default)")


def _words(shape: Shape) -> list[Any]:
    if "const" in shape:
        return [shape["const"]]
    return list(shape.get("enum", shape.get("discriminator", {}).get("mapping", ())))


def _describe_range(shape: Shape) -> str:
    if "minimum" in shape and "maximum" in shape:
        return f" from {shape['minimum']:g} to {shape['maximum']:.15g}"
    bounds = [f"{word} {shape[key]:.15g}" for key, word in _BOUNDS.items() if key in shape]
    of = " of" if bounds and bounds[0].startswith("at ") else ""
    return f"{of} {' and '.join(bounds)}" if bounds else ""


def _joined(words: Sequence[Any]) -> str:
    """The words as `one, two or three`."""
    texts = [str(word) for word in words]
    if len(texts) < 2:
        return "".join(texts)
    separator = ", or " if any(" " in text for text in texts) else " or "
    return ", ".join(texts[:-1]) + separator + texts[-1]
