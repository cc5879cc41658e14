"""The names of checkpoint files, which runs of every version share."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

import tiedexp
from tiedexp.files.checkpoint_names import ABOUT, PATTERNS, WEIGHTS, name_checkpoint, parse_checkpoint


@pytest.mark.parametrize(
    ("position", "stem"),
    [((3, 0), "epoch-0003"), ((0, 120), "epoch-0000-step-000120"), ((12345, 1234567), "epoch-12345-step-1234567")],
)
def test_a_name_is_parsed_to_its_position_and_matches_the_patterns(position, stem):
    for suffix, pattern in zip((ABOUT, WEIGHTS), PATTERNS, strict=True):
        assert name_checkpoint(position, suffix) == stem + suffix
        assert parse_checkpoint(stem + suffix, suffix) == position
        assert fnmatch(stem + suffix, pattern)
    assert parse_checkpoint(stem + ABOUT, WEIGHTS) is None


@pytest.mark.parametrize(
    "name", ["epoch-3.json", "epoch-0003-step-1.json", "epoch-0003.json.json", f"epoch-{10**30}.json"]
)
def test_other_names_are_not_checkpoints(name):
    assert parse_checkpoint(name, ABOUT) is None


def test_the_names_are_known_in_one_place():
    package = Path(tiedexp.__file__).parent
    known = [path.name for path in package.rglob("*.py") if "epoch-" in path.read_text(encoding="utf-8")]
    assert known == ["checkpoint_names.py"]
