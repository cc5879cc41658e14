"""`tiedexp pattern`: the list, the drawing, JSON and bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS


def test_the_list_has_every_preset(tiedexp_cli):
    answer = tiedexp_cli("pattern", "list")
    rows = {line.split()[0]: line.split()[1] for line in answer.out.splitlines()[1:] if line[1:2].isalpha()}
    assert rows.keys() == PRESETS.keys()
    assert (rows["block"], rows["full"], rows["d4"]) == ("9", "25", "6")


def test_the_list_at_a_size_at_which_some_make_no_sense(tiedexp_cli):
    rows = json.loads(tiedexp_cli("pattern", "list", "--size", "2x5", "--json").out)
    groups = {row["name"]: row["groups"] for row in rows}
    assert groups["full"] == 10
    assert groups["rot90"] is None
    assert all(row["meaning"] and row["source"] for row in rows)


def test_show_draws_the_grid_and_says_what_it_saves(tiedexp_cli):
    answer = tiedexp_cli("pattern", "show", "anti_h", "--size", "3")
    assert answer.code == 0, answer.err
    assert [line.split() for line in answer.out.splitlines()[3:6]] == [
        ["A", ".", "-A"],
        ["B", ".", "-B"],
        ["C", ".", "-C"],
    ]
    assert "3 of 9 weights are free, 3.00 times fewer" in answer.out
    assert "symmetries    none" in answer.out
    assert "negated by    flip_h" in answer.out


def test_show_of_a_grid_and_of_options(tiedexp_cli):
    content = json.loads(tiedexp_cli("pattern", "show", "AAB/AAB/CCD", "--json").out)
    assert (content["shape"], content["groups"], content["group_sizes"]) == ([3, 3], 4, [4, 2, 2, 1])
    content = json.loads(tiedexp_cli("pattern", "show", "hashed", "groups=4", "seed=2", "--size", "3x7", "--json").out)
    assert content["grid"] == str(Pattern.preset("hashed", (3, 7), groups=4, seed=2))
    content = json.loads(tiedexp_cli("pattern", "show", "tile", "tile=1x5", "--json").out)
    assert content["digest"] == Pattern.tile((1, 5), (5, 1)).digest


@pytest.mark.parametrize("grid", ["-A .", "-A-B/BA", "-AA", "-a b/b a", "-left right"])
def test_a_grid_that_begins_with_a_minus_is_no_option(tiedexp_cli, grid):
    answer = tiedexp_cli("pattern", "show", grid, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["digest"] == Pattern.parse(grid).digest


@pytest.mark.parametrize("option", ["--sise", "-s"])
def test_a_misspelt_option_is_not_a_grid(tiedexp_cli, option):
    answer = tiedexp_cli("pattern", "show", "block", option)
    assert answer.code == 2
    assert f"No such option: {option}" in answer.err


def test_names_of_many_letters_stay_apart(tiedexp_cli):
    answer = tiedexp_cli("pattern", "show", "full", "--size", "8")
    assert answer.code == 0
    assert "64 of 64 weights are free" in answer.out
    assert " A1 " in answer.out


def test_a_picture(tiedexp_cli):
    assert tiedexp_cli("pattern", "show", "rings", "--png", "rings.png").code == 0
    assert Path("rings.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "blok"], "block"),
        (["show", "foo"], "unknown pattern 'foo'; the presets are full, block,"),
        (["show", "AB/C"], "row 2"),
        (["show", "block", "--size", "5x"], "--size must be a number or ROWSxCOLS"),
        (["show", "block", "blocks"], "an option of a preset must be NAME=VALUE"),
        (["show", "block", "rate=2"], "rate"),
        (["show", "rot90", "--size", "3x5"], "square"),
        (["show", "block", "--png", "no/such.png"], "cannot be written"),
        (["list", "--size", "500"], "a size is a whole number from 1 to 127"),
    ],
)
def test_bad_input(tiedexp_cli, arguments, message):
    answer = tiedexp_cli("pattern", *arguments)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert message in answer.err
