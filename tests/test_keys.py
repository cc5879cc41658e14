"""Dotted keys, and texts that are cut."""

from __future__ import annotations

from tiedexp.keys import flatten, join_key, look_up
from tiedexp.text import shorten

SPEC = {"name": "a", "model": {"depth": 4, "tying": {"pattern": {"preset": "tile"}, "layers": [1, 3]}}}


def test_a_value_by_its_key() -> None:
    assert look_up(SPEC, "model.depth") == 4
    assert look_up(SPEC, "model.tying.layers.1") == 3
    assert look_up(SPEC, "model.tying") == SPEC["model"]["tying"]  # type: ignore[index]
    for absent in ("model.width", "model.tying.layers.2", "model.tying.layers.first", "name.a", "model.depth.0", ""):
        assert look_up(SPEC, absent) is None, absent


def test_all_values_by_their_keys() -> None:
    flat = dict(flatten(SPEC, max_depth=8))
    assert flat == {"name": "a", "model.depth": 4, "model.tying.pattern.preset": "tile", "model.tying.layers": [1, 3]}
    assert all(look_up(SPEC, key) == value for key, value in flat.items())


def test_some_mappings_are_values() -> None:
    assert dict(flatten(SPEC, 8, whole=("pattern",)))["model.tying.pattern"] == {"preset": "tile"}
    assert dict(flatten(SPEC, max_depth=1)) == SPEC
    assert dict(flatten(SPEC, max_depth=2)) == {
        "name": "a",
        "model.depth": 4,
        "model.tying": look_up(SPEC, "model.tying"),
    }


def test_a_path_as_a_key() -> None:
    assert join_key(("model", "tying", "layers", 1)) == "model.tying.layers.1"
    assert join_key(()) == ""


def test_a_text_that_is_cut_has_the_length() -> None:
    assert shorten("pattern", 7) == "pattern"
    assert shorten("patterns", 7) == "patter…"
