"""`tiedexp bench`."""

from __future__ import annotations

import json

import pytest


def test_prints_a_table(tiedexp_cli):
    done = tiedexp_cli("bench", "row", "AAB/CCB", "--kernel-size", "3", "--shape", "2,8,8,4,4", "--rounds", "2")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "row, 3 of 9 weights free, 2x8x8x4->4, forward" in done.out
    assert "AAB/CCB, 3 of 6 weights free, 2x8x8x4->4, step" in done.out
    assert "Medians of 2 rounds in turns" in done.out


def test_json_and_plot(tiedexp_cli, tmp_path):
    plot = tmp_path / "speed.png"
    options = ["--shape", "2,8,8,4,4", "--shape", "2,6,6,4,4", "--rounds", "1", "--plot", str(plot), "--json"]
    done = tiedexp_cli("bench", "hashed:groups=4,seed=1", *options, "--kernel-size", "3")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["rounds"] == 1
    assert {row["shape"] for row in document["rows"]} == {"2x8x8x4->4", "2x6x6x4->4"}
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_model(tiedexp_cli, small_spec):
    done = tiedexp_cli("bench", "--model", str(small_spec), "--rounds", "1", "--json")
    assert done.code == 0, done.err
    assert {row["method"] for row in json.loads(done.out)["rows"]} == {"untied", "expand", "factored", "auto"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["blok"], "blok"),
        (["hashed:groups=99"], "groups"),
        (["block", "--shape", "1,2,3"], "--shape is BATCH,ROWS,COLS,CHANNELS,FILTERS, as 64,16,16,64,64."),
        (["block", "--shape", "1,0,3,4,5"], "--shape is"),
        (["block", "--model", "x.yaml"], "--model times the model of a spec: it takes no PATTERN"),
        (["--model", "missing.yaml"], "missing.yaml"),
    ],
)
def test_bad_input(tiedexp_cli, arguments, message):
    done = tiedexp_cli("bench", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
