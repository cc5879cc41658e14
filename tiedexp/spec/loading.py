"""A spec's file, and what the command line changes in it, to one `ExperimentSpec`; and back to text.

Every problem of a spec is reported at once, a line each: `file:line:column: key.path: what must be. Received: what is`.
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
_MAX_PATH = 1000  # characters that a message shows
_SWEEP_KEYS = ("base", "grid", "zip")

_EXPLAINER = Explainer(ExperimentSpec, extra_keys=("extends",))


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
    root = load_tree(Path(path), problems, allow_extends)
    root = with_overrides(root, overrides, problems)
    spec, found = check_tree(root)
    problems += found
    if problems or spec is None:
        sources = [str(Path(path)), *(override_location(override).source for override in overrides)]
        raise as_error(in_order(problems, sources))
    return spec


def check_tree(root: Node) -> tuple[ExperimentSpec | None, list[Problem]]:
    """The spec that a tree of values makes, or what is wrong with it."""
    try:
        return ExperimentSpec.model_validate(root.plain()), []
    except ValidationError as error:
        return None, list(_EXPLAINER.explain(error, root))


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


def load_tree(path: Path, problems: list[Problem], allow_extends: bool = True, heirs: tuple[Path, ...] = ()) -> Node:
    """The file's mapping, merged into those that it extends.

    Args:
        path: the file.
        problems: added to.
        allow_extends: whether the file may have the key `extends`.
        heirs: the files that extend it.

    Raises:
        SpecError: one of the files cannot be read or may not be extended; without it, what it says is unknown, and so
            is what is wrong with the rest.
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
    heirs = (*heirs, path)
    refusal = _refused_base(base, heirs) if allow_extends else "a spec in this place must stand alone"
    if refusal:
        problems.append(Problem(base.location, f"extends: {refusal}"))
        raise as_error(problems)
    return merge(load_tree(path.parent / str(base.value), problems, True, heirs), root)


def _refuse_sweep(entries: Mapping[str, Node], path: Path) -> None:
    """SpecError if a file is that of a sweep: every key of it would be an error otherwise."""
    if entries.keys().isdisjoint(_SWEEP_KEYS) or not entries.keys().isdisjoint(("dataset", "extends")):
        return
    command = f"tiedexp sweep {shlex.quote(str(path))}"
    text = f"this is a sweep, not the spec of one experiment; run it with `{command}` (--plan only checks it)"
    raise as_error([Problem(Location(str(path), 1, 1), text)])


def _refused_base(base: Node, heirs: tuple[Path, ...]) -> str:
    """Why the last of the heirs may not extend `base`; nothing if it may."""
    if not isinstance(base.value, str) or not base.value:
        return f"must be the path of another spec. Received: {show(base.plain())}"
    path = heirs[-1].parent / base.value
    if not os.path.isfile(path):  # noqa: PTH113 (pathlib's raises where the name is too long)
        return f"there is no file {shorten(str(path), _MAX_PATH)}"
    if os.path.realpath(path) in map(os.path.realpath, heirs):
        return f"goes in a circle: {' -> '.join(map(str, (*heirs, path)))}"
    return f"the chain is longer than {MAX_EXTENDS} files" if len(heirs) > MAX_EXTENDS else ""


def with_absolute_path(root: Node, folder: Path) -> Node:
    """The tree with a relative `dataset.path` seen from `folder`."""
    node = root.find(("dataset", "path"))
    if node is None or not isinstance(node.value, str) or not node.value:
        return root
    return assign(root, ("dataset", "path"), replace(node, value=os.path.abspath(folder / node.value)))  # noqa: PTH100


def with_overrides(root: Node, overrides: Sequence[str], problems: list[Problem]) -> Node:
    """The tree with `key.path=value` applied in turn; what is wrong with one is added to the problems."""
    for override in overrides:
        location = override_location(override)
        keys, equals, text = override.partition("=")
        path = [key.strip() for key in keys.split(".")]
        if not equals or not all(path):
            problems.append(Problem(location, "write key.path=value, for example training.epochs=3"))
        elif len(path) > MAX_DEPTH:
            problems.append(Problem(location, f"goes deeper than {MAX_DEPTH} levels"))
        elif path[0] == "extends":
            problems.append(Problem(location, "only a file can extend another"))
        else:
            try:
                root = assign(root, path, parse_value(text, location))
            except SpecError as error:
                problems += [Problem(location, text.removeprefix(f"{location}: ")) for text in error.problems]
    return with_absolute_path(root, Path.cwd())


def override_location(override: str) -> Location:
    """Where an override's value was written, for messages."""
    return Location(f"override {show(override)}")


def in_order(problems: Sequence[Problem], sources: Sequence[str]) -> list[Problem]:
    """Those of the file itself by line, then those of its bases, then those of the overrides (the other sources)."""

    def order(problem: Problem) -> tuple[bool, int, str, int, int]:
        location = problem.location
        rank = sources.index(location.source) if location.source in sources else len(sources)
        is_base = location.line > 0 and rank > 0
        return location.line == 0, is_base or rank, location.source if is_base else "", location.line, location.column

    return sorted(problems, key=order)
