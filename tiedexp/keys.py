"""Dotted keys of nested mappings and lists, e.g. `training.optimizer.name`; items of a list are numbered."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any


def join_key(steps: Iterable[str | int]) -> str:
    """The dotted key of a path of keys and list indices."""
    return ".".join(map(str, steps))


def look_up(content: Any, key: str) -> Any:
    """The value at a dotted key of nested mappings and lists; None if there is none."""
    for step in key.split("."):
        if isinstance(content, list) and step.isdecimal() and int(step) < len(content):
            content = content[int(step)]
        else:
            content = content.get(step) if isinstance(content, Mapping) else None
    return content


def flatten(content: Mapping[str, Any], max_depth: int, whole: Container[str] = ()) -> Iterator[tuple[str, Any]]:
    """Every value of nested mappings, with its dotted key.

    Args:
        content: the outermost mapping.
        max_depth: mappings at this depth or deeper are returned as values, so that no file can exhaust the stack.
        whole: dotted keys whose mappings are returned as values.
    """
    for key, value in content.items():
        if isinstance(value, Mapping) and max_depth > 1 and key not in whole:
            yield from ((f"{key}.{below}", leaf) for below, leaf in flatten(value, max_depth - 1, whole))
        else:
            yield key, value
