"""`tiedexp compare`, from run directories alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant


@pytest.fixture
def runs(make_run, tmp_path):
    for pattern, accuracy in (("full", 0.9), ("block", 0.85), ("rings", 0.7)):
        for seed in range(3):
            test = accuracy + 0.01 * seed + 0.001 * len(pattern) * seed**2
            make_run(pattern, seed, test=test, validation=accuracy)
    return tmp_path / "runs"


def test_the_table(tiedexp_cli, runs):
    answer = tiedexp_cli("compare", runs)
    assert (answer.code, answer.err) == (0, "")
    lines = answer.out.splitlines()
    for label in ("full", "block", "rings"):
        assert sum(line.split()[:2] == [label, "3"] for line in lines) == 1
    assert "baseline" in answer.out
    assert "Choose a variant by validation/accuracy" in answer.out


def test_a_narrow_window_says_which_columns_it_lacks(tiedexp_cli, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    answer = tiedexp_cli("compare", runs)
    assert answer.code == 0
    (line,) = [line for line in answer.out.splitlines() if line.startswith("Not shown in this narrow window: ")]
    left = line.removeprefix("Not shown in this narrow window: ").partition(".")[0].split(", ")
    assert "Pareto" in left
    assert "Pareto: *" not in answer.out
    monkeypatch.setenv("COLUMNS", "200")
    assert "Not shown" not in tiedexp_cli("compare", runs, "--columns", ",".join(left)).out


@pytest.mark.parametrize(
    ("option", "begin"), [("--md", "| variant |"), ("--csv", "variant,"), ("--latex", "% Rows are sorted by")]
)
def test_the_formats(tiedexp_cli, runs, option, begin):
    answer = tiedexp_cli("compare", runs, option)
    assert answer.code == 0
    assert answer.out.startswith(begin)


def test_json(tiedexp_cli, runs):
    answer = tiedexp_cli("compare", runs, "--json", "--where", "seed < 2 and not model.tying.pattern == rings")
    content = json.loads(answer.out)
    assert [(row["variant"], row["seeds"]) for row in content["rows"]] == [("full", 2), ("block", 2)]
    assert content["rows"][1]["difference"] == pytest.approx(-0.0495)


def test_a_sweep_has_its_labels_and_baseline(tiedexp_cli, runs):
    names = {"full": "all free", "block": "blocks", "rings": "rings"}
    record = SweepRecord(
        name="study",
        baseline="block",
        axes=("model.tying.pattern",),
        variants=tuple(Variant(name=name, label=label, settings={}, width=4) for name, label in names.items()),
        runs=tuple(PlannedRun(variant=name, seed=n, path=f"{name}-abc/seed-{n}") for name in names for n in range(4)),
    )
    SweepDirectory(runs).write(record, "")
    content = json.loads(tiedexp_cli("compare", runs, "--json").out)
    assert content["baseline"] == "blocks"
    assert {row["variant"] for row in content["rows"]} == set(names.values())
    assert any("3 runs are not finished" in note for note in content["notes"])


def test_two_sweeps(tiedexp_cli, make_run, tmp_path):
    for name, depth in (("first", 2), ("second", 4)):
        path = make_run("block", root=tmp_path / name, model__depth=depth)
        variant = Variant(name="block", label="blocks", settings={}, width=4)
        planned = PlannedRun(variant="block", seed=0, path=path.relative_to(tmp_path / name).as_posix())
        record = SweepRecord(name=name, axes=("model.tying.pattern",), variants=(variant,), runs=(planned,))
        SweepDirectory(tmp_path / name).write(record, "")
    answer = tiedexp_cli("compare", tmp_path / "first", tmp_path / "second", "--baseline", "first: blocks", "--md")
    assert (answer.code, answer.err) == (0, "")
    assert "| first: blocks |" in answer.out
    assert "| second: blocks |" in answer.out


def test_selecting_on_the_test_is_warned_of(tiedexp_cli, runs):
    assert "choose by validation/accuracy" in tiedexp_cli("compare", runs, "--sort", "metric").err
    assert tiedexp_cli("compare", runs, "--sort", "selection").err == ""


def test_what_is_left_out_is_named(tiedexp_cli, runs):
    (runs / "full-abc" / "seed-1" / "manifest.json").write_text("{}")
    answer = tiedexp_cli("compare", runs, "--json")
    assert answer.code == 0
    assert answer.err.startswith("warning: left out: ")
    assert "seed-1/manifest.json is not as tiedexp writes it" in answer.err
    json.loads(answer.out)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--md", "--csv"], 2, "use only one of them"),
        (["--where", "seed > 9"], 2, "none of the 9 runs matches"),
        (["--where", "sed == 1"], 2, "did you mean seed?"),
        (["--metric", "test/acuracy"], 2, "--metric test/acuracy"),
        (["--baseline", "ring"], 2, "--baseline ring"),
        (["--sort", "wieghts"], 2, "--sort wieghts"),
        (["--columns", "wieghts"], 2, "--columns wieghts"),
        (["--by", "model.depth"], 2, "--by model.depth"),
        (["--html", "absent/page.html"], 2, "there is no directory absent"),
        (["--html", "."], 2, "the page cannot be written to .: it is a directory"),
        (["--plots", "runs/full-abc/seed-0/result.json"], 2, "the pictures cannot be written to runs/full-abc"),
    ],
)
def test_wrong_input(tiedexp_cli, runs, tmp_path, arguments, code, message):
    before = sorted(tmp_path.rglob("*"))
    answer = tiedexp_cli("compare", runs, *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_picture_that_cannot_be_written(tiedexp_cli, runs, tmp_path):
    (tmp_path / "plots" / "curves.png").mkdir(parents=True)
    answer = tiedexp_cli("compare", runs, "--plots", "plots")
    assert answer.code == 2
    assert "error: the picture cannot be written to plots/curves.png: Is a directory" in answer.err


def test_a_page_of_a_directory_whose_name_is_not_text(tiedexp_cli, runs, tmp_path):
    named = runs.rename(Path(os.fsdecode(bytes(tmp_path) + b"/\xff")))
    answer = tiedexp_cli("compare", named, "--html", "page.html", "--md")
    assert (answer.code, answer.err) == (0, "")
    assert "<h1>tiedexp compare ?</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_no_runs(tiedexp_cli, tmp_path):
    answer = tiedexp_cli("compare", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert "holds no run" in answer.err


def test_a_page_and_pictures_without_tensorflow(runs, tmp_path):
    arguments = ["tiedexp", "compare", str(runs), "--html", "page.html", "--plots", "plots"]
    script = f"""
import sys, tiedexp.cli
sys.argv = {arguments!r}
try:
    tiedexp.cli.main()
except SystemExit as ended:
    assert not ended.code
assert not {{"tensorflow", "keras"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"curves.png", "weights.png", "time.png", "differences.png", "confusion.png"}
