"""What mkdocs generates while it builds the site: the pictures of the presets, and the reference of the spec's keys."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.sweep_spec import SweepSpec

# Okabe & Ito's colours, which colour-blind people can tell apart, in three shades: enough for most patterns.
HUES = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7", "#999999", "#b38600")
CELL = 20


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
        f"{pattern.num_groups} of 25</p><p>{escape(preset.meaning)}</p></div>"
    )


def draw_pattern(pattern: Pattern) -> str:
    """A pattern as SVG: a colour and a letter for each group, a bar over negative cells, empty cells at zero."""
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
    yield from ("| Key | Values | Default | Meaning |", "|---|---|---|---|")
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        cells = [f"`{key}`", _show_values(field), _show_default(field), field.description or ""]
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


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
        return " or ".join(dict.fromkeys(kinds))
    if origin in (tuple, list):
        return f"list of {_show_type(get_args(annotation)[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "preset with options" if annotation.__name__ == "PatternOptions" else "section"
    words = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    return words.get(annotation, "value") + (_show_range(metadata) if annotation in (int, float) else "")


def _show_range(metadata: Any) -> str:
    """The bounds in a field's metadata: `, 1 to 64`."""
    bounds = {
        name: getattr(rule, name)
        for rule in _flatten(metadata)
        for name in ("ge", "gt", "le", "lt")
        if getattr(rule, name, None) is not None
    }
    low = bounds.get("ge", bounds.get("gt"))
    high = bounds.get("le", bounds.get("lt"))
    above, below = "above " if "gt" in bounds else "", "below " if "lt" in bounds else ""
    if low is not None and high is not None:
        return f", {above}{low} to {below}{high}"
    if low is not None:
        return f", {above}{low}" if above else f", {low} or more"
    return "" if high is None else f", {below or 'at most '}{high}"


def _flatten(metadata: Any) -> Iterator[Any]:
    for rule in metadata:
        if isinstance(rule, FieldInfo):
            yield from _flatten(rule.metadata)
        else:
            yield rule


def _show_default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or field.default is None:
        return ""
    value = field.default
    shown = str(value).lower() if isinstance(value, bool) else re.sub(r"\.0$", "", str(value))
    return f"`{shown}`"


# The picture of the architecture: where each package stands (column, row), what it is, and who uses whom.
ROOMS = {
    "patterns": (0, 0, "Pattern, presets"),
    "convolution": (0, 1, "planning, methods, C++"),
    "layers": (0, 2, "TiedConv2D"),
    "models": (0, 3, "families, costs"),
    "spec": (1, 3, "YAML, schema"),
    "data": (2, 3, "sources, batches"),
    "training": (3, 3, "steps, checkpoints"),
    "runs": (4, 3, "a run on disk"),
    "experiment": (2, 4, "one run"),
    "sweep": (2, 5, "many runs"),
    "bench": (1, 5, "times"),
    "compare": (3, 5, "tables, pages"),
    "board": (4, 5, "TensorBoard"),
    "cli": (2, 6, "one file per command"),
}
USES = """
    convolution patterns, layers convolution, models layers, spec patterns, experiment models, experiment spec,
    experiment data, experiment training, experiment runs, sweep experiment, bench experiment, compare runs, board runs,
    cli sweep, cli bench, cli compare, cli board
"""
WIDTH, HEIGHT, GAP_X, GAP_Y = 138, 44, 18, 34


def draw_rooms() -> str:
    """The packages and who uses whom, as SVG."""
    parts = []
    for pair in USES.split(","):
        user, used = ROOMS[pair.split()[0]], ROOMS[pair.split()[1]]
        spread = 20 * (used[0] - user[0])  # so that the tips of several lines do not meet
        passes_by = user[1] - used[1] > 1 and user[0] > used[0]  # other rooms below
        start = (WIDTH, HEIGHT / 2) if passes_by else (WIDTH / 2 - spread / 2, HEIGHT)
        ends = (*_corner(used, *start), *_corner(user, WIDTH / 2 + spread, -4))
        parts.append('<line x1="{}" y1="{}" x2="{}" y2="{}" marker-end="url(#tip)"/>'.format(*ends))
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
        f'<svg class="rooms" viewBox="-1 -1 {width} {height}" role="img" aria-label="{label}">'
        f"<defs>{tip}</marker></defs>{''.join(parts)}</svg>"
    )


def _corner(room: tuple[int, int, str], right: float, down: float) -> tuple[float, float]:
    """A point of a room, so far to the right of and below its upper left corner."""
    return room[0] * (WIDTH + GAP_X) + right, room[1] * (HEIGHT + GAP_Y) + down


def read_security() -> str:
    """The project's SECURITY.md."""
    return (Path(__file__).parent.parent / "SECURITY.md").read_text(encoding="utf-8")


GENERATED = {
    "<!-- security -->": read_security,
    "<!-- rooms -->": draw_rooms,
    "<!-- presets -->": draw_presets,
    "<!-- spec-reference -->": list_spec_keys,
    "<!-- sweep-reference -->": list_sweep_keys,
}
