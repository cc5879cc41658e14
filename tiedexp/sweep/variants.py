"""Reads the file of a sweep and makes its variants, all validated before anything runs."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from tiedexp.errors import SpecError
from tiedexp.experiment.preparation import name_pattern
from tiedexp.keys import look_up
from tiedexp.labels import PATTERN, Setting, make_label
from tiedexp.spec.document import Location, Node, Problem, as_error, assign, read_document, show
from tiedexp.spec.explaining import Explainer
from tiedexp.spec.loading import check_tree, in_order, load_tree, override_location, with_absolute_path, with_overrides
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.sweep_spec import SweepSpec

MAX_VARIANTS = 10_000
MAX_NAME = 60

Settings = Mapping[str, Node]  # values with their locations, by dotted key of the spec

_EXPLAINER = Explainer(SweepSpec)
_RESERVED = {
    "name": "use `list` to name variants",
    "seed": "use `seeds` to set the seeds",
    "extends": "use `base` instead",
}


@dataclass(frozen=True)
class Variant:
    """One experiment of a sweep, apart from its seed.

    Args:
        name: the name of its spec.
        label: how it differs from the other variants, for display.
        settings: what it changes, as plain values by dotted key.
        spec: the experiment.
    """

    name: str
    label: str
    settings: Mapping[str, Any]
    spec: ExperimentSpec


@dataclass(frozen=True)
class Sweep:
    """The content of a sweep's file.

    Args:
        name: the sweep's name.
        text: the text of the file, with the overrides as comments at the top.
        seeds: the seeds that every variant is run with.
        baseline: the name of a variant, or None.
        match: the cost that is made equal by adjusting `model.width`, or None.
        axes: the keys that the variants change.
        variants: the variants, in the order of the file.
    """

    name: str
    text: str
    seeds: tuple[int, ...]
    baseline: str | None
    match: Literal["weights", "macs", "time"] | None
    axes: tuple[str, ...]
    variants: tuple[Variant, ...]


def load_sweep(path: Path, overrides: Sequence[str] = ()) -> Sweep:
    """Read a sweep's file.

    Args:
        path: the file.
        overrides: `key=value`; keys that start with one of the sweep (`seeds`, `baseline`, ...) change the sweep,
            the others change the base experiment.

    Raises:
        SpecError: the sweep or some of its variants are wrong; one line per problem.
    """
    root, problems = read_document(path, needed="`name` and `base`")
    _refuse_experiment(_mapping(root), path)
    own = [text for text in overrides if re.split(r"[.=]", text)[0].strip() in SweepSpec.model_fields]
    root = with_overrides(root, own, problems)
    try:
        spec = SweepSpec.model_validate(root.plain())
    except ValidationError as error:
        raise as_error([*problems, *_EXPLAINER.explain(error, root)]) from None
    base = _load_base(root, path, problems)
    base = with_overrides(base, [text for text in overrides if text not in own], problems)
    named = list(_list_settings(root, problems))
    variants, found = _build_variants(base, named, path)
    problems += found
    if not problems:  # otherwise some variants are not as intended
        problems += [*_find_twins(variants, path), *_check_baseline(spec, variants, root)]
    if problems:
        sources = [str(path), *(override_location(override).source for override in overrides)]
        raise as_error(in_order(problems, sources))
    changes = "".join(f"# {override}\n" for override in overrides)
    return Sweep(
        name=spec.name,
        text=changes + path.read_text(encoding="utf-8"),
        seeds=spec.list_seeds(),
        baseline=spec.baseline,
        match=spec.match,
        axes=tuple(dict.fromkeys(key for _, settings in named for key in settings)),
        variants=tuple(variants),
    )


def _refuse_experiment(entries: Settings, path: Path) -> None:
    """Raise a SpecError for the spec of one experiment, in which every key would otherwise be an error."""
    if entries.keys().isdisjoint(("dataset", "extends")) or not entries.keys().isdisjoint(("base", "grid", "zip")):
        return
    text = f"this is the spec of one experiment, not a sweep; run it with `tiedexp train {shlex.quote(str(path))}`"
    raise as_error([Problem(Location(str(path), 1, 1), text)])


def _load_base(root: Node, path: Path, problems: list[Problem]) -> Node:
    """The tree of the base experiment."""
    node = root.find(("base",))
    assert node is not None
    if isinstance(node.value, Mapping):
        return with_absolute_path(node, path.parent)
    base = path.parent / str(node.value)
    if not base.is_file():
        raise as_error([*problems, Problem(node.location, f"base: there is no file {base}")])
    return load_tree(base, problems)


def _list_settings(root: Node, problems: list[Problem]) -> Iterator[tuple[Node | None, Settings]]:
    """The name, if it has one, and the settings of each variant that is not excluded."""
    rules = _items(root.find(("exclude",)))
    unused = dict(enumerate(rules))
    for name, settings in [*_combine(root, problems), *_list_named(root, problems)] or [(None, {})]:
        plain = {key: node.plain() for key, node in settings.items()}
        hits = [at for at, rule in enumerate(rules) if all(item in plain.items() for item in rule.plain().items())]
        for at in hits:
            unused.pop(at, None)
        if not hits:
            yield name, settings
    problems += [
        Problem(rule.location, f"exclude: no variant matches {show(rule.plain())}") for rule in unused.values()
    ]


def _combine(root: Node, problems: list[Problem]) -> Iterator[tuple[None, Settings]]:
    """All combinations of the values in `grid` and the rows of `zip`."""
    grid, zipped = _mapping(root.find(("grid",))), _mapping(root.find(("zip",)))
    for key, node in (*grid.items(), *zipped.items()):
        _check_key(key, node, problems)
    problems += [
        Problem(node.key or node.location, f"zip: {key} is also in `grid`")
        for key, node in zipped.items()
        if key in grid
    ]
    if not grid and not zipped:
        return
    columns = [[replace(item, key=node.key) for item in _items(node)] for node in zipped.values()]
    rows = [dict(zip(zipped, row, strict=True)) for row in zip(*columns, strict=True)] or [{}]
    if math.prod(len(_items(node)) for node in grid.values()) * len(rows) > MAX_VARIANTS:
        raise SpecError(f"{root.location}: there are more than {MAX_VARIANTS:,} variants")
    for values in product(*([replace(item, key=node.key) for item in _items(node)] for node in grid.values())):
        for row in rows:
            yield None, dict(zip(grid, values, strict=True)) | row


def _list_named(root: Node, problems: list[Problem]) -> Iterator[tuple[Node, Settings]]:
    """The variants in `list`."""
    for item in _items(root.find(("list",))):
        settings = dict(_mapping(item))
        name = settings.pop("name", Node(None, item.location))
        if not isinstance(name.value, str) or not name.value:
            problems.append(Problem(name.location, "list: each variant needs a `name`, which must be text"))
        for key, node in settings.items():
            _check_key(key, node, problems)
        yield name, settings


def _check_key(key: str, node: Node, problems: list[Problem]) -> None:
    first = key.partition(".")[0]
    if not all(key.split(".")):
        problems.append(Problem(node.key or node.location, f"{key}: must be a dotted key, e.g. training.batch_size"))
    elif first in _RESERVED:
        problems.append(Problem(node.key or node.location, f"{key}: cannot be varied; {_RESERVED[first]}"))


def _mapping(node: Node | None) -> Mapping[str, Node]:
    return node.value if node is not None and isinstance(node.value, Mapping) else {}


def _items(node: Node | None) -> list[Node]:
    return node.value if node is not None and isinstance(node.value, list) else []


def _build_variants(
    base: Node, named: Sequence[tuple[Node | None, Settings]], path: Path
) -> tuple[list[Variant], list[Problem]]:
    """The variants, and the problems of those that are invalid; a problem that they share is reported once."""
    keys = dict.fromkeys(key for _, settings in named for key in settings)
    differing = {key for key in keys if len(_values_of(key, named)) > 1}
    variants: list[Variant] = []
    found: dict[Problem, list[str]] = {}
    taken: Counter[str] = Counter()
    for given, settings in named:
        tree, problems = _apply(base, settings)
        location = given.location if given is not None else Location(str(path))
        # A variant without a name gets one from its spec, but the spec needs some name to be validated.
        wanted = str(given.value) if given is not None else "variant"
        spec, more = check_tree(assign(tree, ["name"], Node(wanted, location)))
        problems += more
        shown = (
            wanted if given is not None else ", ".join(f"{key}={show(node.plain())}" for key, node in settings.items())
        )
        for problem in problems:
            found.setdefault(problem, []).append(shown)
        if spec is None:
            continue
        plain = {key: node.plain() for key, node in settings.items()}
        label = wanted if given is not None else _make_label(spec, [key for key in settings if key in differing])
        name = label if given is not None else _make_name(label)
        taken[name] += 1
        if taken[name] > 1 and given is not None:
            found[Problem(location, f"list: two variants have the name {name}")] = []
        if taken[name] > 1:
            name, label = f"{name}-{taken[name]}", f"{label} ({taken[name]})"
        variants.append(Variant(name, label, plain, spec.model_copy(update={"name": name, "seed": 0})))
    in_base = set(_locations(base))
    described = [
        _in_variant(problem, names) if problem.location in in_base and len(names) < len(named) else problem
        for problem, names in found.items()
    ]
    return variants, described


def _make_label(spec: ExperimentSpec, keys: Sequence[str]) -> str:
    """The values of these keys in a few words, e.g. `block d4 batch_size=64`."""

    def find(key: str) -> Setting:
        if key in ("model.tying", PATTERN):
            return name_pattern(spec.model)
        return show(look_up(content, key)).strip("'")

    content = spec.model_dump(mode="json")
    return make_label({PATTERN if key == "model.tying" else key: find(key) for key in keys}) or "base"


def _make_name(label: str) -> str:
    """A label with only the characters that the name of a run can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", label)[:MAX_NAME].strip("-._") or "variant"


def _locations(node: Node) -> Iterator[Location]:
    """The locations of all keys and values of a tree."""
    yield from (node.location, *([node.key] if node.key else []))
    for below in node.value.values() if isinstance(node.value, Mapping) else _items(node):
        yield from _locations(below)


def _in_variant(problem: Problem, names: Sequence[str]) -> Problem:
    """A problem of the base that only appears together with the settings of some variants."""
    return replace(problem, text=f"{problem.text} (in variant {_some(names, 1)})")


def _apply(base: Node, settings: Settings) -> tuple[Node, list[Problem]]:
    tree, problems = base, []
    for key, node in settings.items():
        try:
            tree = assign(tree, key.split("."), replace(node, key=node.key or node.location))
        except SpecError as error:
            problems += [Problem(node.location, text.removeprefix(f"{node.location}: ")) for text in error.problems]
    return tree, problems


def _values_of(key: str, named: Sequence[tuple[Node | None, Settings]]) -> set[str]:
    return {show(settings[key].plain()) if key in settings else "" for _, settings in named}


def _find_twins(variants: Sequence[Variant], path: Path) -> Iterator[Problem]:
    first: dict[str, str] = {}
    for variant in variants:
        other = first.setdefault(variant.spec.digest, variant.name)
        if other != variant.name:
            text = f"the variants {other} and {variant.name} are the same experiment; remove one"
            yield Problem(Location(str(path), 1, 1), text)


def _check_baseline(spec: SweepSpec, variants: Sequence[Variant], root: Node) -> Iterator[Problem]:
    node = root.find(("baseline",))
    names = [variant.name for variant in variants]
    if node is not None and variants and spec.baseline is not None and spec.baseline not in names:
        yield Problem(
            node.location,
            f"baseline: no variant has the name {show(spec.baseline)}; the variants are {_some(names, 20)}",
        )
    if spec.match is not None and (node := root.find(("match",))) is not None:
        changed = [variant.name for variant in variants if "model.width" in variant.settings]
        if changed:
            text = f"match: adjusts model.width, which {_some(changed)} also {'sets' if len(changed) == 1 else 'set'}"
            yield Problem(node.location, text)


def _some(names: Sequence[str], count: int = 3) -> str:
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more} more" if more > 0 else "")
