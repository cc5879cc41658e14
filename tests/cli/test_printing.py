"""What commands print as JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import tiedexp.cli
from tiedexp.cli.printing import format_count, print_json


def refuse(constant):
    raise AssertionError(constant)


def test_json_is_read_back_as_it_was(capsys):
    content = {"path": "r\udcffuns/été\u202e", "values": (1, 2.5, None, True), "nested": [{"a": "b"}]}
    print_json(content)
    out = capsys.readouterr().out
    assert out.isascii()
    assert json.loads(out) == {**content, "values": [1, 2.5, None, True]}


def test_what_json_does_not_have_is_null(capsys):
    print_json({"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}]})
    assert json.loads(capsys.readouterr().out, parse_constant=refuse) == {"a": None, "b": [None, {"c": [None, 1.5]}]}


@pytest.mark.parametrize("path", sorted(Path(tiedexp.cli.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_every_command_prints_json_by_the_same_function(path):
    assert path.name in ("printing.py", "init.py") or "dumps" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("number", "text"), [(0, "0 runs"), (1, "1 run"), (2, "2 runs")])
def test_counts(number, text):
    assert format_count(number, "run") == text
