"""What mkdocs generates while it builds the site: the pictures of the presets, and the reference of the spec's keys."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tiedexp import errors
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.sweep_spec import SweepSpec

# Okabe & Ito's colours, which colour-blind people can tell apart, and two more; larger patterns repeat them.
HUES = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999", "#b38600")
CELL = 20
_Room = tuple[float, int, str]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with each page's text: replaces the markers by what they stand for."""
    for marker, generate in GENERATED.items():
        if marker in markdown:
            markdown = markdown.replace(marker, generate())
    return markdown


def draw_presets() -> str:
    """A card for each preset: its picture at 5x5, free weights, options and meaning."""
    return "\n".join(['<div class="presets">', *map(_draw_card, PRESETS), "</div>"])


def _draw_card(name: str) -> str:
    preset, pattern = PRESETS[name], Pattern.preset(name, 5)
    options = f" ({', '.join(sorted(preset.options))})" if preset.options else ""
    return (
        f'<div class="preset">{draw_pattern(pattern)}<p><strong><code>{name}</code></strong>{escape(options)}: '
        f"{pattern.num_groups} of 25</p><p>{_mark_code(preset.meaning)}</p></div>"
    )


def _mark_code(text: str) -> str:
    """Text as HTML, with words in backticks as code: markdown is not read inside the cards."""
    return re.sub(r"`(.+?)`", r"<code>\1</code>", escape(text))


def draw_pattern(pattern: Pattern) -> str:
    """A pattern as SVG: a colour and a letter for each group, a minus sign in negative cells, zeros left empty."""
    rows, cols = pattern.shape
    parts = []
    for row in range(rows):
        for col in range(cols):
            group, sign = int(pattern.index[row, col]), int(pattern.sign[row, col])
            x, y = col * CELL, row * CELL
            if group < 0 or not sign:
                parts.append(f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="none" stroke="#888"/>')
                continue
            colour = HUES[group % len(HUES)]
            letter = chr(ord("A") + group) if group < 26 else str(group)
            text = f"−{letter}" if sign < 0 else letter
            parts.append(
                f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour}" stroke="#fff"/>'
                f'<text x="{x + CELL / 2}" y="{y + 14}" text-anchor="middle" font-size="10" fill="#000">{text}</text>'
            )
    size = f"-1 -1 {cols * CELL + 2} {rows * CELL + 2}"
    return f'<svg viewBox="{size}" role="img" aria-label="{pattern}">{"".join(parts)}</svg>'


def list_spec_keys() -> str:
    """Tables of every key of a spec, section by section."""
    return "\n".join(_list_tables(ExperimentSpec, "", "###"))


def list_sweep_keys() -> str:
    """A table of every key of a sweep's file."""
    return "\n".join(_table(SweepSpec, ""))


def _list_tables(model: type[BaseModel], prefix: str, heading: str) -> Iterator[str]:
    yield from _table(model, prefix)
    for name, field in model.model_fields.items():
        for inner in _find_models(field.annotation):
            key = f"{prefix}{name}"
            chosen = inner.model_fields.get("name")
            names = get_args(chosen.annotation) if chosen and get_origin(chosen.annotation) is Literal else ()
            title = f"`{key}`" + (f": `{names[0]}`" if names else "")
            about = (inner.__doc__ or "").strip().splitlines()[0]
            yield from ("", f"{heading} {title}", "", about, "")
            yield from _list_tables(inner, f"{key}.", heading)


def _table(model: type[BaseModel], prefix: str) -> Iterator[str]:
    yield from ('<div class="keys" markdown="1">', "")
    yield from ("| Key | Values | Default | Meaning |", "|---|---|---|---|")
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        cells = [f"`{key}`", _show_values(field), _show_default(field), field.description or ""]
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
    yield from ("", "</div>")


def _find_models(annotation: Any) -> list[type[BaseModel]]:
    """The models that a field's values may be; presets with options are described on the page of patterns."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [] if annotation.__name__ == "PatternOptions" else [annotation]
    return [model for inner in get_args(annotation) for model in _find_models(inner)]


def _show_values(field: FieldInfo) -> str:
    """What a field takes, in words: `whole number, 1 to 64`."""
    extra: Any = field.json_schema_extra
    if callable(extra):
        shape: dict[str, Any] = {}
        extra(shape)
        if "enum" in shape:
            return ", ".join(f"`{value}`" for value in shape["enum"])
    return _show_type(field.annotation, field.metadata)


def _show_type(annotation: Any, metadata: Any = ()) -> str:
    if isinstance(annotation, str):
        return "pattern"
    if hasattr(annotation, "__metadata__"):
        return _show_type(get_args(annotation)[0], (*metadata, *annotation.__metadata__))
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if origin in (Union, types.UnionType):
        kinds = [_show_type(inner, metadata) for inner in get_args(annotation) if inner is not type(None)]
        return (", or " if any("," in kind for kind in kinds) else " or ").join(dict.fromkeys(kinds))
    if origin in (tuple, list):
        item = _show_type(get_args(annotation)[0])
        return "list of " + re.sub(r"^(whole number|number|mapping)\b", r"\1s", item)
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "preset with options" if annotation.__name__ == "PatternOptions" else "section"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return words.get(annotation, "value") + (_show_range(metadata) if annotation in (int, float) else "")


def _show_range(metadata: Any) -> str:
    """The bounds in a field's metadata: `, 1 to 64`."""
    bounds = {
        name: f"{getattr(rule, name):g}" if isinstance(getattr(rule, name), float) else getattr(rule, name)
        for rule in _flatten(metadata)
        for name in ("ge", "gt", "le", "lt")
        if getattr(rule, name, None) is not None
    }
    if "ge" in bounds and "le" in bounds:
        return f", {bounds['ge']} to {bounds['le']}"
    words = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    return "".join(f", {words[name].format(bounds[name])}" for name in words if name in bounds)


def _flatten(metadata: Any) -> Iterator[Any]:
    for rule in metadata:
        if isinstance(rule, FieldInfo):
            yield from _flatten(rule.metadata)
        else:
            yield rule


def _show_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or field.default in (None, ()):
        return ""
    value = field.default
    shown = str(value).lower() if isinstance(value, bool) else re.sub(r"\.0$", "", str(value))
    return f"`{shown}`"


# The picture of the architecture: where each package stands (column, row), and what it is.
ROOMS = {
    "patterns": (0, 0, "Pattern, presets"),
    "convolution": (0, 1, "planning, methods, C++"),
    "layers": (0, 2, "TiedConv2D"),
    "models": (0, 3, "families, costs"),
    "data": (1, 3, "sources, batches"),
    "spec": (0, 4, "YAML, schema"),
    "training": (1, 4, "steps, checkpoints"),
    "runs": (2, 4, "a run on disk"),
    "experiment": (0.5, 5, "one run"),
    "bench": (0, 6, "times"),
    "sweep": (1, 6, "many runs"),
    "board": (2, 6, "TensorBoard"),
    "compare": (3, 6, "tables, pages"),
    "cli": (1.5, 7, "one file per command"),
}
WIDTH, HEIGHT, GAP_X, GAP_Y = 150, 44, 24, 38


def find_arrows() -> list[tuple[str, str]]:
    """(used, user) for each import of a package in another, without those that follow from the rest."""
    package = Path(__file__).parent.parent / "tiedexp"
    uses = {
        user: {
            used
            for path in (package / user).rglob("*.py")
            for used in re.findall(r"\bfrom tiedexp\.(\w+)", path.read_text(encoding="utf-8"))
            if used in ROOMS and used != user
        }
        for user in ROOMS
    }

    def reaches(user: str, used: str) -> bool:
        return used in uses[user] or any(reaches(between, used) for between in uses[user])

    return [
        (used, user)
        for user in uses
        for used in ROOMS
        if used in uses[user] and not any(reaches(between, used) for between in uses[user] - {used})
    ]


def draw_rooms() -> str:
    """The packages and who uses whom, as SVG."""
    parts = [_draw_arrow(ROOMS[used], ROOMS[user]) for used, user in find_arrows()]
    for name, room in ROOMS.items():
        x, y = _corner(room, 0, 0)
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="5"/>'
            f'<text x="{x + WIDTH / 2}" y="{y + 19}" class="name">{name}</text>'
            f'<text x="{x + WIDTH / 2}" y="{y + 35}">{room[2]}</text>'
        )
    width = max(room[0] for room in ROOMS.values()) * (WIDTH + GAP_X) + WIDTH + 2
    height = max(room[1] for room in ROOMS.values()) * (HEIGHT + GAP_Y) + HEIGHT + 2
    tip = '<marker id="tip" markerWidth="7" markerHeight="6" refX="5" refY="3" orient="auto"><path d="M0,0 7,3 0,6z"/>'
    label = "The packages of tiedexp, from patterns at the top to the command line"
    return (
        f'<div class="rooms"><svg viewBox="-1 -1 {width} {height}" role="img" aria-label="{label}">'
        f"<defs>{tip}</marker></defs>{''.join(parts)}</svg></div>"
    )


def _draw_arrow(used: _Room, user: _Room) -> str:
    if user[1] - used[1] > 2:  # past other rooms: to the right, then down
        points = [_corner(used, WIDTH, HEIGHT / 2), (_corner(user, WIDTH / 2, 0)[0], _corner(used, 0, HEIGHT / 2)[1])]
        points.append(_corner(user, WIDTH / 2, -4))
    else:
        spread = 22 * (used[0] - user[0])  # so that the tips of several arrows do not meet
        points = [_corner(used, WIDTH / 2 - spread / 2, HEIGHT), _corner(user, WIDTH / 2 + spread, -4)]
    line = " ".join(f"{x:g},{y:g}" for x, y in points)
    return f'<polyline points="{line}" marker-end="url(#tip)"/>'


def _corner(room: _Room, right: float, down: float) -> tuple[float, float]:
    """A point of a room, so far to the right of and below its upper left corner."""
    return room[0] * (WIDTH + GAP_X) + right, room[1] * (HEIGHT + GAP_Y) + down


def list_errors() -> str:
    """A table of tiedexp's errors: children are indented below their parents."""
    return "\n".join(["| Error | Exit code | Meaning |", "|---|---|---|", *_list_errors(errors.TiedexpError, 0)])


def _list_errors(kind: type[errors.TiedexpError], depth: int) -> Iterator[str]:
    meaning = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    yield f"| {'&nbsp;' * 4 * depth}`{kind.__name__}` | {kind.exit_code} | {meaning} |"
    for child in kind.__subclasses__():
        yield from _list_errors(child, depth + 1)


def read_security() -> str:
    """The project's SECURITY.md."""
    return (Path(__file__).parent.parent / "SECURITY.md").read_text(encoding="utf-8")


GENERATED = {
    "<!-- security -->": read_security,
    "<!-- rooms -->": draw_rooms,
    "<!-- errors -->": list_errors,
    "<!-- presets -->": draw_presets,
    "<!-- spec-reference -->": list_spec_keys,
    "<!-- sweep-reference -->": list_sweep_keys,
}
