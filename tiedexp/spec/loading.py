"""Read a spec from its file and the overrides of the command line, and write it back as text.

All problems of a spec are reported at once, one per line, as `file:line:column: key.path: must be ... Received: ...`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tiedexp.errors import SpecError
from tiedexp.spec.document import (
    MAX_DEPTH,
    Location,
    Node,
    Problem,
    as_error,
    assign,
    merge,
    parse_value,
    read_document,
    resolve_scalar,
    show,
)
from tiedexp.spec.explaining import Explainer
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.text import shorten

MAX_EXTENDS = 16
_MAX_PATH = 1000  # characters shown in a message
_SWEEP_KEYS = ("base", "grid", "zip")

_EXPLAINER = Explainer(ExperimentSpec, extra_keys=("extends",))


def load_spec(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, allow_extends: bool = True
) -> ExperimentSpec:
    """The spec in a YAML file, merged into the files that it extends, with the overrides applied last.

    The path in `extends: other.yaml` is relative to the file that contains it. Mappings are merged; lists and scalars
    are replaced, and so is an optimizer, schedule or pattern of another kind. A relative `dataset.path` is relative to
    the file that contains it, or to the working directory in an override, and is made absolute.

    Args:
        path: the file.
        overrides: `key.path=value`, in the order in which they apply; list items are numbered from 0.
        allow_extends: whether the file can have the key `extends`.

    Raises:
        SpecError: the spec is wrong; one line per problem, in the order of the file.
    """
    problems: list[Problem] = []
    root = load_tree(Path(path), problems, allow_extends)
    root = with_overrides(root, overrides, problems)
    spec, found = check_tree(root)
    problems += found
    if problems or spec is None:
        sources = [str(Path(path)), *(override_location(override).source for override in overrides)]
        raise as_error(in_order(problems, sources))
    return spec


def check_tree(root: Node) -> tuple[ExperimentSpec | None, list[Problem]]:
    """The spec described by a tree of values, or None and the problems."""
    try:
        return ExperimentSpec.model_validate(root.plain()), []
    except ValidationError as error:
        return None, list(_EXPLAINER.explain(error, root))


def dump_spec(spec: ExperimentSpec) -> str:
    """YAML text that `load_spec` reads as an equal spec, provided that `dataset.path`, if any, is absolute."""
    values = spec.model_dump(mode="json", exclude_none=True)
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def build_json_schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a spec's file, with a description of every key.

    A file that extends another can leave out any key, so it is checked by a copy of the schema without required keys.
    """
    whole = ExperimentSpec.model_json_schema()
    definitions = whole.pop("$defs")
    extends = {
        "type": "string",
        "minLength": 1,
        "description": "Another spec that this one changes, as a path relative to this file.",
    }
    child = _as_partial(whole)
    child["properties"] = {"extends": extends, **child["properties"]}
    partials = {f"Partial{name}": _as_partial(shape) for name, shape in definitions.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A tiedexp experiment",
        "description": whole["description"],
        "type": "object",
        "if": {"required": ["extends"]},
        "then": {"$ref": "#/$defs/PartialExperimentSpec"},
        "else": {"$ref": "#/$defs/ExperimentSpec"},
        "$defs": {"ExperimentSpec": whole, **definitions, "PartialExperimentSpec": child, **partials},
    }


def _as_partial(shape: Any) -> Any:
    """A part of the schema without required keys, which refers to other such parts."""
    if isinstance(shape, list):
        return [_as_partial(part) for part in shape]
    if not isinstance(shape, dict):
        return shape
    partial = {key: _as_partial(part) for key, part in shape.items() if key not in ("required", "discriminator")}
    if "$ref" in partial:
        partial["$ref"] = partial["$ref"].replace("#/$defs/", "#/$defs/Partial")
    if "oneOf" in partial:  # an optimizer without a name can be any of them
        partial["anyOf"] = partial.pop("oneOf")
    return partial


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, but text that YAML 1.2 would read as another type is quoted, and grids are block scalars."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        if not all(line.isprintable() for line in text.split("\n")):
            style: str | None = '"'  # the only style with escapes, which e.g. YAML's other line breaks need
        elif resolve_scalar(text) != text:
            style = "'"
        else:
            style = "|" if "\n" in text else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


# From the file and the command line to one tree


def load_tree(path: Path, problems: list[Problem], allow_extends: bool = True, children: tuple[Path, ...] = ()) -> Node:
    """The file's mapping, merged into those of the files that it extends.

    Args:
        path: the file.
        problems: list to which problems are added.
        allow_extends: whether the file can have the key `extends`.
        children: the files that extend it, directly or indirectly.

    Raises:
        SpecError: one of the files cannot be read or cannot be extended, so the rest cannot be checked either.
    """
    root, found = read_document(path)
    problems += found
    assert isinstance(root.value, Mapping)
    _refuse_sweep(root.value, path)
    base = root.value.get("extends")
    root = with_absolute_path(
        replace(root, value={key: node for key, node in root.value.items() if key != "extends"}), path.parent
    )
    if base is None:
        return root
    children = (*children, path)
    refusal = (
        _refused_base(base, children)
        if allow_extends
        else "this spec must be self-contained, so it cannot extend another"
    )
    if refusal:
        problems.append(Problem(base.location, f"extends: {refusal}"))
        raise as_error(problems)
    return merge(load_tree(path.parent / str(base.value), problems, True, children), root)


def _refuse_sweep(entries: Mapping[str, Node], path: Path) -> None:
    """Raise a SpecError for the file of a sweep, in which every key would otherwise be an error."""
    if entries.keys().isdisjoint(_SWEEP_KEYS) or not entries.keys().isdisjoint(("dataset", "extends")):
        return
    command = f"tiedexp sweep {shlex.quote(str(path))}"
    text = f"this is a sweep, not the spec of one experiment; run it with `{command}` (--plan only checks it)"
    raise as_error([Problem(Location(str(path), 1, 1), text)])


def _refused_base(base: Node, children: tuple[Path, ...]) -> str:
    """Why the last of the children cannot extend `base`; empty if it can."""
    if not isinstance(base.value, str) or not base.value:
        return f"must be the path of another spec. Received: {show(base.plain())}"
    path = children[-1].parent / base.value
    if not os.path.isfile(path):  # noqa: PTH113 (pathlib raises if the name is too long)
        return f"there is no file {shorten(str(path), _MAX_PATH)}"
    if os.path.realpath(path) in map(os.path.realpath, children):
        return f"the files extend each other in a circle: {' -> '.join(map(str, (*children, path)))}"
    return f"the chain is longer than {MAX_EXTENDS} files" if len(children) > MAX_EXTENDS else ""


def with_absolute_path(root: Node, folder: Path) -> Node:
    """The tree with `dataset.path` made absolute; a relative path is relative to `folder`."""
    node = root.find(("dataset", "path"))
    if node is None or not isinstance(node.value, str) or not node.value:
        return root
    return assign(root, ("dataset", "path"), replace(node, value=os.path.abspath(folder / node.value)))  # noqa: PTH100


def with_overrides(root: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    """The tree with each `key.path=value` applied in order; problems with them are added to `problems`."""
    for override in overrides:
        location = override_location(override)
        keys, equals, text = override.partition("=")
        path = [key.strip() for key in keys.split(".")]
        if not equals or not all(path):
            problems.append(Problem(location, "an override has the form key.path=value, e.g. training.epochs=3"))
        elif len(path) > MAX_DEPTH:
            problems.append(Problem(location, f"the key has more than {MAX_DEPTH} levels"))
        elif path[0] == "extends":
            problems.append(Problem(location, "only a file can use `extends`"))
        else:
            try:
                root = assign(root, path, parse_value(text, location))
            except SpecError as error:
                problems += [Problem(location, text.removeprefix(f"{location}: ")) for text in error.problems]
    return with_absolute_path(root, Path.cwd())


def override_location(override: str) -> Location:
    """The location of an override's value, for messages."""
    return Location(f"override {show(override)}")


def in_order(problems: Sequence[Problem], sources: Sequence[str]) -> list[Problem]:
    """The problems of the file itself by line, then those of the files that it extends, then those of the overrides."""

    def order(problem: Problem) -> tuple[bool, int, str, int, int]:
        location = problem.location
        rank = sources.index(location.source) if location.source in sources else len(sources)
        is_base = location.line > 0 and rank > 0
        return location.line == 0, is_base or rank, location.source if is_base else "", location.line, location.column

    return sorted(problems, key=order)
