"""A spec's file, and what the command line changes in it, to one `ExperimentSpec`; and back to text.

Every problem of a spec is reported at once, a line each: `file:line:column: key.path: what must be. Received: what is`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tiedexp.errors import SpecError
from tiedexp.spec.document import (
    MAX_DEPTH,
    MAX_PROBLEMS,
    Node,
    PathToValue,
    Place,
    Problem,
    as_error,
    assign,
    merge,
    parse_value,
    read_document,
    resolve_scalar,
    show,
)
from tiedexp.spec.schema import ExperimentSpec

MAX_EXTENDS = 16
_MAX_PATH = 1000  # characters that a message shows
_MAX_DETAILS = 3 * MAX_PROBLEMS  # of pydantic's errors, of which several may be one problem

Shape = Mapping[str, Any]  # a node of the JSON schema


def load_spec(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, allow_extends: bool = True
) -> ExperimentSpec:
    """The spec in a YAML file, with what it extends and then the overrides applied.

    `extends: other.yaml` is relative to the file that says it. Mappings are merged, lists and scalars replaced; an
    optimizer, schedule or pattern of another kind replaces the base's whole. A relative `dataset.path` is seen from the
    file that says it, or from the working directory in an override, and becomes absolute.

    Args:
        path: the file.
        overrides: `key.path=value`, in the order in which they apply; items of a list go by number, from 0.
        allow_extends: whether the file may have the key `extends`.

    Raises:
        SpecError: all that is wrong, a line a problem, in the order of the file.
    """
    problems: list[Problem] = []
    root = _load_tree(Path(path), problems, allow_extends)
    root = _with_absolute_path(_with_overrides(root, overrides, problems), Path.cwd())
    try:
        spec = ExperimentSpec.model_validate(root.plain())
    except ValidationError as error:
        problems += _explain(error, root)
    if problems:
        sources = [str(Path(path)), *(_override_place(override).source for override in overrides)]
        raise as_error(_in_order(problems, sources))
    return spec


def dump_spec(spec: ExperimentSpec) -> str:
    """YAML text that `load_spec` reads as an equal spec (where its `dataset.path`, if any, is absolute)."""
    values = spec.model_dump(mode="json", exclude_none=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def build_json_schema() -> dict[str, Any]:
    """The JSON schema of a spec's file, for editors: draft 2020-12, every key with its meaning.

    A file that extends another may leave out any key, so it is held to a copy of the schema that requires none.
    """
    whole = ExperimentSpec.model_json_schema()
    definitions = whole.pop("$defs")
    extends = {"type": "string", "minLength": 1, "description": "Another spec, relative to this file, to start from."}
    heir = _as_partial(whole)
    heir["properties"] = {"extends": extends, **heir["properties"]}
    partials = {f"Partial{name}": _as_partial(shape) for name, shape in definitions.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A tiedexp experiment",
        "description": whole["description"],
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": "#/$defs/PartialExperimentSpec"},
        "else": {"$ref": "#/$defs/ExperimentSpec"},
        "$defs": {"ExperimentSpec": whole, **definitions, "PartialExperimentSpec": heir, **partials},
    }


def _as_partial(shape: Any) -> Any:
    """A part of the schema without required keys, its references to other such parts."""
    if isinstance(shape, list):
        return [_as_partial(part) for part in shape]
    if not isinstance(shape, dict):
        return shape
    partial = {key: _as_partial(part) for key, part in shape.items() if key not in ("required", "discriminator")}
    if "$ref" in partial:
        partial["$ref"] = partial["$ref"].replace("#/$defs/", "#/$defs/Partial")
    if "oneOf" in partial:  # without its name, an optimizer may be any of them
        partial["anyOf"] = partial.pop("oneOf")
    return partial


class _Dumper(yaml.SafeDumper):
    """PyYAML's, with text quoted where our reader (YAML 1.2) would not take it for text, and grids as blocks."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        if not all(line.isprintable() for line in text.split("\n")):
            style: str | None = '"'  # the only style that can escape, for example, YAML's other line breaks
        elif resolve_scalar(text) != text:
            style = "'"
        else:
            style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


# From the file and the command line to one tree


def _load_tree(path: Path, problems: list[Problem], allow_extends: bool, heirs: tuple[Path, ...] = ()) -> Node:
    """The file's mapping, merged into those that it extends.

    Raises:
        SpecError: one of the files cannot be read or may not be extended; without it, what it says is unknown, and so
            is what is wrong with the rest.
    """
    root, found = read_document(path)
    problems += found
    assert isinstance(root.value, Mapping)
    base = root.value.get("extends")
    root = _with_absolute_path(
        replace(root, value={key: node for key, node in root.value.items() if key != "extends"}), path.parent
    )
    if base is None:
        return root
    heirs = (*heirs, path)
    refusal = _refused_base(base, heirs) if allow_extends else "a spec in this place must stand alone"
    if refusal:
        problems.append(Problem(base.place, f"extends: {refusal}"))
        raise as_error(problems)
    return merge(_load_tree(path.parent / str(base.value), problems, True, heirs), root)


def _refused_base(base: Node, heirs: tuple[Path, ...]) -> str:
    """Why the last of the heirs may not extend `base`; nothing if it may."""
    if not isinstance(base.value, str) or not base.value:
        return f"must be the path of another spec. Received: {show(base.plain())}"
    path = heirs[-1].parent / base.value
    if not os.path.isfile(path):  # noqa: PTH113 (pathlib's raises where the name is too long)
        return f"there is no file {path if len(str(path)) <= _MAX_PATH else str(path)[:_MAX_PATH] + ' ...'}"
    if os.path.realpath(path) in map(os.path.realpath, heirs):
        return f"goes in a circle: {' -> '.join(map(str, (*heirs, path)))}"
    return f"the chain is longer than {MAX_EXTENDS} files" if len(heirs) > MAX_EXTENDS else ""


def _with_absolute_path(root: Node, folder: Path) -> Node:
    """The tree with a relative `dataset.path` seen from `folder`."""
    node = root.find(("dataset", "path"))
    if node is None or not isinstance(node.value, str) or not node.value:
        return root
    return assign(root, ("dataset", "path"), replace(node, value=os.path.abspath(folder / node.value)))  # noqa: PTH100


def _with_overrides(root: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    for override in overrides:
        place = _override_place(override)
        keys, equals, text = override.partition("=")
        path = [key.strip() for key in keys.split(".")]
        if not equals or not all(path):
            problems.append(Problem(place, "write key.path=value, for example training.epochs=3"))
        elif len(path) > MAX_DEPTH:
            problems.append(Problem(place, f"goes deeper than {MAX_DEPTH} levels"))
        elif path[0] == "extends":
            problems.append(Problem(place, "only a file can extend another"))
        else:
            try:
                root = assign(root, path, parse_value(text, place))
            except SpecError as error:
                problems += [Problem(place, text.removeprefix(f"{place}: ")) for text in error.problems]
    return root


def _override_place(override: str) -> Place:
    return Place(f"override {show(override)}")


def _in_order(problems: Sequence[Problem], sources: Sequence[str]) -> list[Problem]:
    """Those of the file itself by line, then those of its bases, then those of the overrides (the other sources)."""

    def order(problem: Problem) -> tuple[bool, int, str, int, int]:
        place = problem.place
        rank = sources.index(place.source) if place.source in sources else len(sources)
        is_base = place.line > 0 and rank > 0
        return place.line == 0, is_base or rank, place.source if is_base else "", place.line, place.column

    return sorted(problems, key=order)


# From pydantic's errors to sentences
#
# pydantic reports each branch of a union by itself and names branches in its paths. The JSON schema of the same models
# knows what a place may hold, so the sentences are made from that; of pydantic's errors only place and kind are used.


def _explain(error: ValidationError, root: Node) -> Iterator[Problem]:
    """One problem for each place that is wrong."""
    located = [(details, *_locate(details["loc"], root)) for details in error.errors(include_url=False)[:_MAX_DETAILS]]
    above = {path[:length] for _, path, _ in located for length in range(len(path))}
    named: set[PathToValue] = set()  # places whose key seems to be there, misspelt
    problems: dict[PathToValue, Problem] = {}
    for details, path, _ in located:
        for key in _unknown_keys(details, path, root):
            text, meant = _unknown_key_sentence(key, path, root)
            node = root.find(key)
            place = node.key if node is not None and node.key is not None else _value_place(root, key)
            problems[key] = Problem(place, f"{_dotted(key)}: {text}")
            named.add(meant)
    for details, path, shape in located:
        if details["type"] == "extra_forbidden" or path in problems:
            continue
        if path in above:
            continue  # another branch of a union, whose right branch has its errors further down
        if details["type"] == "missing" or (details["type"] == "union_tag_not_found" and not _is_null(root, path)):
            if "discriminator" in shape:
                path = (*path, shape["discriminator"]["propertyName"])
                shape = {"enum": list(shape["discriminator"]["mapping"])}
            if path not in named:
                is_told = "description" in shape and shape.get("type") != "object"
                wanted = shape["description"].rstrip(".") if is_told else _describe(shape)
                text = f"{_dotted(path)}: this key is missing; it is {wanted[0].lower()}{wanted[1:]}"
                problems[path] = Problem(_value_place(root, path), text)
        elif details["type"] == "union_tag_invalid":
            path = (*path, shape["discriminator"]["propertyName"])
            text = _wrong_value_sentence({"enum": list(shape["discriminator"]["mapping"])}, root.find(path))
            problems[path] = Problem(_value_place(root, path), f"{_dotted(path)}: {text}")
        else:
            is_ours = details["type"] == "tiedexp"
            text = _own_sentence(details, path, root) if is_ours else _wrong_value_sentence(shape, root.find(path))
            problems[path] = Problem(_value_place(root, path), f"{_dotted(path)}: {text}" if path else text)
    yield from problems.values()


def _dotted(path: PathToValue) -> str:
    return ".".join(map(str, path))


def _is_null(root: Node, path: PathToValue) -> bool:
    node = root.find(path)
    return node is not None and node.value is None


def _value_place(root: Node, path: PathToValue) -> Place:
    """Where to look for a value: itself; the key of a mapping; the mapping that lacks it."""
    node = root.find(path)
    if node is not None and not isinstance(node.value, Mapping):
        return node.place
    while node is None:
        path = path[:-1]
        node = root.find(path)
    return node.key or node.place


@cache
def _experiment_shape() -> Shape:
    return ExperimentSpec.model_json_schema()


def _resolved(shape: Shape) -> Shape:
    if "$ref" in shape:
        definition: Shape = _experiment_shape()["$defs"][shape["$ref"].rpartition("/")[2]]
        return definition
    return shape


def _alternatives(shape: Shape) -> list[Shape]:
    """The shapes that a value may have, null left out."""
    parts = [_resolved(part) for part in shape.get("oneOf", shape.get("anyOf", [shape]))]
    return [part for part in parts if part.get("type") != "null"]


def _fitting(shape: Shape, node: Node | None) -> Shape:
    """Of the alternatives, that with the form (mapping or list) and the name of the value."""
    alternatives = _alternatives(shape)
    if "discriminator" in shape and node is not None and isinstance(node.value, Mapping):
        chosen = node.value.get(shape["discriminator"]["propertyName"])
        reference = shape["discriminator"]["mapping"].get(chosen.plain() if chosen else None, "")
        return _resolved({"$ref": reference}) if reference else {}
    if len(alternatives) == 1:
        return alternatives[0]
    form = "array" if node is not None and isinstance(node.value, list) else "object"
    return next((part for part in alternatives if part.get("type") == form), {})


def _locate(loc: PathToValue, root: Node) -> tuple[PathToValue, Shape]:
    """A path in the data and the shape there, from pydantic's path, which also names branches of unions."""
    path: PathToValue = ()
    shape = _experiment_shape()
    was_tag = False
    for step in loc:
        node = root.find(path)
        is_union = "discriminator" in shape or len(_alternatives(shape)) > 1
        if is_union and not was_tag and _is_tag(step, shape, node):
            was_tag = True
            continue
        fitting, was_tag = _fitting(shape, node), False
        if isinstance(step, int):
            items = fitting.get("prefixItems")
            shape = _resolved(items[step] if items and step < len(items) else fitting.get("items", {}))
        else:
            shape = _resolved(fitting.get("properties", {}).get(step, {}))
        path = (*path, step)
    return path, shape


def _is_tag(step: str | int, shape: Shape, node: Node | None) -> bool:
    if "discriminator" in shape:
        return step in shape["discriminator"]["mapping"]
    return isinstance(step, str)


def _unknown_keys(details: ErrorDetails, path: PathToValue, root: Node) -> list[PathToValue]:
    if details["type"] == "extra_forbidden":
        return [path]
    node = root.find(path)
    if details["type"] != "union_tag_not_found" or node is None or not isinstance(node.value, Mapping):
        return []
    known = _keys_at(path, root)
    return [(*path, key) for key in node.value if key not in known]


def _keys_at(path: PathToValue, root: Node) -> list[str]:
    """The keys that a mapping may have; those of all its kinds when it does not say which it is."""
    loc: PathToValue = ()
    shape = _experiment_shape()
    for step in path:
        fitting = _fitting(shape, root.find(loc))
        shape = _resolved(fitting.get("items", {}) if isinstance(step, int) else fitting["properties"][step])
        loc = (*loc, step)
    fitting = _fitting(shape, root.find(path))
    parts = [fitting] if fitting else _alternatives(shape)
    keys = dict.fromkeys(key for part in parts for key in part.get("properties", {}))
    return [*keys, "extends"] if not path else list(keys)


def _unknown_key_sentence(key: PathToValue, path: PathToValue, root: Node) -> tuple[str, PathToValue]:
    """The sentence, and the place that was meant if it seems clear."""
    parent, name = key[:-1], str(key[-1])
    known = _keys_at(parent, root)
    elsewhere = [f"'{_dotted(other)}'" for other in _all_paths() if other[-1] == name and other[:-1] != parent]
    if 1 <= len(elsewhere) <= 2:
        return f"unknown key here; did you mean {_joined(elsewhere)}?", key
    if close := get_close_matches(name, known, n=1):
        return f"unknown key; did you mean '{close[0]}'?", (*parent, close[0])
    return f"unknown key; there are {', '.join(known)}", key


@cache
def _all_paths() -> tuple[PathToValue, ...]:
    """Every key of a spec, by its path."""

    def walk(shape: Shape, path: PathToValue, above: tuple[Shape, ...]) -> Iterator[PathToValue]:
        for part in _alternatives(shape):
            if part not in above:  # a pattern may stand in a pattern, to any depth
                for name, below in part.get("properties", {}).items():
                    yield (*path, name)
                    yield from walk(_resolved(below), (*path, name), (*above, part))

    return tuple(dict.fromkeys(walk(_experiment_shape(), (), ())))


def _own_sentence(details: ErrorDetails, path: PathToValue, root: Node) -> str:
    """What a validator of ours says, with the value where it does not quote it."""
    node = root.find(path)
    value = node.value if node is not None and isinstance(node.value, str | int | float) else details["input"]
    text = details["msg"]
    is_quoted = re.search(rf"(?<!\w){re.escape(str(value))}(?!\w)", text)
    if value is None or isinstance(value, Mapping | list | tuple) or "Received" in text or is_quoted:
        return text
    return f"{text}. Received: {show(value)}" + ("" if node else " (the default)")


def _wrong_value_sentence(shape: Shape, node: Node | None) -> str:
    value = node.plain() if node else None
    text = f"must be {_describe(shape)}. Received: {show(value)}"
    if isinstance(value, str):
        words = [str(word) for part in _alternatives(shape) for word in _words(part)]
        close = get_close_matches(value, words, n=1)
        return f"{text}; did you mean {close[0]}?" if close else text
    if value is None:
        return f"{text}, as is a key with nothing after it"
    wants_text = any(part.get("type") == "string" and not _words(part) for part in _alternatives(shape))
    if wants_text and isinstance(value, int | float):
        return f'{text}; in quotes it is text: "{show(value)}"'
    return text


def _words(shape: Shape) -> list[Any]:
    if "const" in shape:
        return [shape["const"]]
    return list(shape.get("enum", shape.get("discriminator", {}).get("mapping", ())))


def _describe(shape: Shape) -> str:
    """What a value of this shape is, to follow "must be"."""
    if "discriminator" in shape:
        return f"a mapping with the key '{shape['discriminator']['propertyName']}': {_joined(_words(shape))}"
    alternatives = _alternatives(shape)
    if len(alternatives) > 1:
        others = [part for part in alternatives if part.get("type") != "array"]
        described = [_describe(part) for part in others]
        for part in alternatives:
            if part.get("type") == "array":
                items = [_resolved(of) for of in part.get("items", {}).get("anyOf", ())]
                described.append("a list of these" if items == others else _describe(part))
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
            return _describe_list(shape)
        case "object":
            keys = [f"'{key}'" for key in shape.get("required", ())]
            return f"a mapping with the key {_joined(keys)}" if keys else "a mapping"
    if "pattern" in shape:  # its description begins with what the expression means
        return str(shape["description"]).partition(";")[0]
    return "text, not empty" if shape.get("minLength") else "text"


def _describe_list(shape: Shape) -> str:
    items = shape.get("items") or shape["prefixItems"][0]
    count = str(shape["minItems"]) if shape.get("minItems") == shape.get("maxItems", 0) else ""
    some = f"a list of {count} items" if count else "a list of one or more items" if "minItems" in shape else "a list"
    return f"{some}, each {'' if count or 'minItems' in shape else 'item '}{_describe(_resolved(items))}"


def _describe_range(shape: Shape) -> str:
    low, high = shape.get("minimum"), shape.get("maximum")
    above, below = shape.get("exclusiveMinimum"), shape.get("exclusiveMaximum")
    lower = f" from {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
    upper = f"{high:.15g}" if high is not None else f"{below:.15g}" if below is not None else ""
    if low is not None and not upper:
        return f" of at least {low:g}"
    if not upper:
        return lower
    joint = " to " if high is not None and low is not None else " to below " if low is not None else " and "
    if above is not None:
        joint += "at most " if high is not None else "below "
    return lower + joint + upper


def _joined(words: Sequence[Any]) -> str:
    """One, two or three."""
    texts = [str(word) for word in words]
    if len(texts) < 2:
        return "".join(texts)
    separator = ", or " if any(" " in text for text in texts) else " or "
    return ", ".join(texts[:-1]) + separator + texts[-1]
