"""`tiedexp bench`."""

from __future__ import annotations

import json

import pytest

from tiedexp.bench.rows import build_rows
from tiedexp.bench.timing import Timing
from tiedexp.cli.bench import _show
from tiedexp.patterns.grid import Pattern


def test_prints_a_table(tiedexp_cli):
    done = tiedexp_cli("bench", "row", "AAB/CCB", "--kernel-size", "3", "--shape", "2,8,8,4,4", "--rounds", "2")
    assert done.code == 0, done.err
    assert done.err == ""
    assert "row, 3 of 9 weights free, 2x8x8x4->4, forward" in done.out
    assert "AAB/CCB, 3 of 6 weights free, 2x8x8x4->4, step" in done.out
    assert "ms: the median of 2 rounds" in done.out


def test_the_table_says_what_its_ratios_are(monkeypatch, capsys):
    """They are medians of ratios, so they may differ from those of the medians beside them."""
    monkeypatch.setenv("COLUMNS", "80")
    timings = {"Conv2D": Timing((10.0, 100.0, 20.0)), "auto": Timing((5.0, 25.0, 20.0)), "expand": Timing((5.0,) * 3)}
    computed = {"Conv2D": "5x5", "auto": "native | expand | native", "expand": "expand"}
    pattern = Pattern.preset("block", 5)
    rows = list(build_rows("block", pattern, "128x112x112x128->128", "step", timings, computed, reference="Conv2D"))
    _show(rows, 2, 3)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["expand", "auto", "Conv2D"]
    assert lines[3].split()[-5:] == ["20.00", "2.00", "1.50", "to", "3.00"]
    text = " ".join(" ".join(lines[-4:]).split())
    assert text.startswith(
        "ms: the median of 3 rounds on 2 threads; in each round, the methods take turns. Speed-up: over Conv2D in"
    )
    assert "it can differ from the ratio of the median times" in text
    assert all(len(line) <= 80 for line in lines)


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
        (["block", "--shape", "1,2,3"], "--shape must be BATCH,ROWS,COLS,CHANNELS,FILTERS, e.g. 64,16,16,64,64."),
        (["block", "--shape", "1,0,3,4,5"], "--shape must be"),
        (["block", "--model", "x.yaml"], "--model times the model of a spec, so it cannot be combined with PATTERN"),
        (["--model", "missing.yaml"], "missing.yaml"),
        (["foo"], "unknown pattern 'foo'; the presets are full, block,"),
        (["blok:blocks=2"], "unknown pattern 'blok'; did you mean block?"),
        (["--plot", "no/such.png"], "the picture cannot be written to no/such.png: there is no directory no"),
        (["--plot", "."], "the picture cannot be written to .: it is a directory"),
    ],
)
def test_bad_input(tiedexp_cli, monkeypatch, arguments, message):
    """All of it is noticed before anything is measured, even before TensorFlow is loaded."""
    monkeypatch.setattr("tiedexp.backend.quiet_tensorflow", lambda: pytest.fail("TensorFlow is loaded"))
    done = tiedexp_cli("bench", *arguments)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
