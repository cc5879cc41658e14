"""`tiedexp board` of a real sweep: what TensorBoard answers over HTTP, and what it shows in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant
from tiedexp.spec.schema import ExperimentSpec

ARTIFACTS = Path(__file__).parent.parent / "artifacts"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATTERNS = ("block", "d4", "row", "full")
SEEDS = (0, 1)
RUNS = [f"{pattern} s{seed}" for pattern in PATTERNS for seed in SEEDS]
MEANS = [f"{pattern} {name}" for pattern in PATTERNS for name in ("mean", "mean-std", "mean+std")]
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> SweepDirectory:
    """A trained sweep of four patterns and two seeds."""
    directory = SweepDirectory(tmp_path_factory.mktemp("runs") / "patterns")
    runs = []
    for pattern in PATTERNS:
        for seed in SEEDS:
            spec = ExperimentSpec.model_validate(
                {
                    "name": pattern,
                    "dataset": {"name": "digits", "limit": 200},
                    "model": {"depth": 2, "width": 4, "kernel_size": 5, "tying": {"pattern": pattern}},
                    "training": {
                        "epochs": 2,
                        "batch_size": 16,
                        "optimizer": {"name": "adam", "learning_rate": 0.02},
                    },
                    "seed": seed,
                }
            )
            path = locate_run(spec, directory.path).path.relative_to(directory.path)
            runs.append(PlannedRun(variant=pattern, seed=seed, path=path.as_posix()))
            run_experiment(spec, root=directory.path)
    variants = [Variant(name=name, label=name, settings={"model.tying.pattern": name}, width=4) for name in PATTERNS]
    record = SweepRecord(name="patterns", axes=("model.tying.pattern",), variants=tuple(variants), runs=tuple(runs))
    directory.write(record, "name: patterns\n")
    return directory


class Board:
    """A TensorBoard that has read the whole sweep."""

    def __init__(self, address: str):
        self.address, self.url = address, address.partition("?")[0]

    def read(self, path: str, content: object = None, **query: object):
        data = None if content is None else json.dumps(content).encode()
        url = f"{self.url}data/{path}{'?' * bool(query)}{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(
            urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=20
        ) as answer:
            return json.loads(answer.read())

    def scalars(self, run: str, tag: str) -> dict[int, float]:
        return {step: value for _, step, value in self.read("plugin/scalars/scalars", run=run, tag=tag)}

    def sessions(self) -> list[dict]:
        statuses = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
        query = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": statuses, "colParams": []}
        return self.read("plugin/hparams/session_groups", query)["sessionGroups"]


def wait_for(is_true: Callable[[], object]) -> None:
    """Wait for TensorBoard, which reads in the background and does not say when it is done."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def board(sweep) -> Iterator[Board]:
    """`tiedexp board SWEEP`."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from tiedexp.cli import main; main()", "board", sweep.path, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        said = r"TensorBoard shows the sweep patterns, 8 of 8 runs \(stop it with Ctrl-C\): (http://\S+)\n"
        board = Board(re.fullmatch(said, process.stdout.readline())[1])
        names = {".", *(f"{run}/{split}" for run in RUNS + MEANS for split in SPLITS)}
        names |= {*RUNS, *(f"{pattern} mean" for pattern in PATTERNS)}
        wait_for(lambda: set(board.read("runs")) == names)
        wait_for(lambda: len(board.sessions()) == len(RUNS))
        wait_for(lambda: len(board.read("plugin/scalars/tags")) == len(names) - 1)
        yield board
    finally:
        process.terminate()
        process.communicate(timeout=20)


def metrics_of(sweep: SweepDirectory, pattern: str, split: str, tag: str) -> np.ndarray:
    """The values of a tag, (seeds, epochs)."""
    rows = [run.read_metrics() for planned, run in sweep.runs() if planned.variant == pattern]
    return np.array([[getattr(getattr(line, split), tag) for line in lines] for lines in rows])


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("split", "tag"), [("train", "loss"), ("validation", "accuracy")])
def test_the_synthetic_runs_are_mean_and_deviation(board, sweep, pattern, split, tag):
    values = metrics_of(sweep, pattern, split, tag)
    mean, std = values.mean(axis=0), values.std(axis=0, ddof=1)
    for name, expected in (("mean", mean), ("mean-std", mean - std), ("mean+std", mean + std)):
        shown = board.scalars(f"{pattern} {name}/{split}", tag)
        assert list(shown) == [1, 2]
        np.testing.assert_allclose(list(shown.values()), expected, rtol=1e-5)
    assert board.scalars(f"{pattern} mean/{split}", "seeds") == {1: 2, 2: 2}


def test_the_single_runs_are_as_they_were_written(board, sweep):
    for planned, run in sweep.runs():
        name = f"{planned.variant} s{planned.seed}"
        shown = board.scalars(f"{name}/validation", "accuracy")
        expected = {line.epoch: line.validation.accuracy for line in run.read_metrics()}
        assert shown == pytest.approx(expected)
        assert list(board.scalars(f"{name}/test", "accuracy")) == [run.read_result().best_epoch]


def test_the_test_of_the_mean_is_that_of_all_seeds(board, sweep):
    results = [run.read_result() for planned, run in sweep.runs() if planned.variant == "d4"]
    (step,), (accuracy,) = zip(*board.scalars("d4 mean/test", "accuracy").items(), strict=True)
    assert step == max(result.best_epoch for result in results)
    assert accuracy == pytest.approx(np.mean([result.test.accuracy for result in results]))


def test_the_hparams_tab_has_a_row_a_run_and_what_differs(board, sweep):
    experiment = board.read("plugin/hparams/experiment", {"include_metrics": True})
    domains = {info["name"]: info["domainDiscrete"] for info in experiment["hparamInfos"]}
    manifests = {planned.variant: run.read_manifest() for planned, run in sweep.runs()}
    assert set(domains) == {"pattern", "seed", "unique_weights", "macs_tied"}
    assert domains["pattern"] == list(PATTERNS)
    assert domains["seed"] == ["0", "1"]
    assert domains["unique_weights"] == sorted(manifest.unique_weights for manifest in manifests.values())
    assert [metric["displayName"] for metric in experiment["metricInfos"]] == [
        "test accuracy",
        "validation accuracy",
        "test loss",
    ]
    rows = {row["name"]: row for row in board.sessions()}
    assert set(rows) == set(RUNS)
    for planned, run in sweep.runs():
        row, result = rows[f"{planned.variant} s{planned.seed}"], run.read_result()
        assert row["hparams"]["pattern"] == planned.variant
        assert row["hparams"]["unique_weights"] == manifests[planned.variant].unique_weights
        assert [value["value"] for value in row["metricValues"]] == pytest.approx(
            [result.test.accuracy, result.validation.accuracy, result.test.loss]
        )
        assert [session["status"] for session in row["sessions"]] == ["STATUS_SUCCESS"]


def test_the_layout_has_the_page_of_patterns(board):
    pages = board.read("plugin/custom_scalars/layout")["category"]
    assert [page["title"] for page in pages] == ["patterns compared", "Training"]
    for chart in pages[0]["chart"]:
        (series,) = chart["margin"]["series"]
        tags = board.read("plugin/scalars/tags")["block mean"]
        assert set(series.values()) <= set(tags)
        low, middle, high = (board.scalars("block mean", series[key]) for key in ("lower", "value", "upper"))
        for step in middle:
            assert low[step] <= middle[step] <= high[step]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium, which is not installed (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        # Containers run as root, for which Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 1280, "height": 800})
        browser.close()


def visit(page: Page, url: str) -> None:
    page.goto("about:blank")  # otherwise only the fragment changes, and nothing is loaded
    page.goto(url)
    page.set_default_timeout(30_000)


def keep_picture(page: Page, name: str) -> None:
    """Save a screenshot to the artifacts, once the lines are drawn."""
    page.wait_for_timeout(1500)
    ARTIFACTS.mkdir(exist_ok=True)
    page.screenshot(path=ARTIFACTS / f"{name}.png")


def test_a_browser_lists_all_runs_in_the_hparams_table(board, page):
    visit(page, f"{board.url}#hparams")
    table = page.locator("tf-hparams-table-view")
    for run in RUNS:
        expect(table.get_by_text(run, exact=True)).to_be_visible(timeout=30_000)
    for column in ("pattern", "seed", "unique_weights", "test accuracy"):
        expect(table.get_by_text(column, exact=True)).to_be_visible()
    expect(table.get_by_text("mean")).to_have_count(0)
    keep_picture(page, "hparams")


@pytest.mark.parametrize(("filtered", "runs"), [(" s[01]/validation", RUNS), ("mean.*/validation", MEANS)])
def test_a_browser_draws_the_runs(board, page, filtered, runs):
    visit(page, f"{board.url}?{urllib.parse.urlencode({'runFilter': filtered})}#timeseries")
    names = page.locator("runs-data-table")
    card = page.locator("scalar-card").filter(has_text="accuracy").first
    card.get_by_role("button", name="Toggle full size mode").click(timeout=30_000)
    for run in runs:
        expect(names.get_by_text(f"{run}/validation", exact=True)).to_be_visible(timeout=30_000)
        # A table below the lines has their values at the last step.
        row = card.locator("tb-data-table-content-row").filter(has_text=f"{run}/validation")
        expect(row).to_have_count(1)
        _, value, step, *_ = row.inner_text().split("/validation")[1].split()  # the first is smoothed
        assert step == "2"
        assert float(value) == pytest.approx(board.scalars(f"{run}/validation", "accuracy")[2], abs=1e-3)
    keep_picture(page, f"scalars of {'means' if runs is MEANS else 'runs'}")


def test_a_browser_draws_the_means_with_their_margins(board, page):
    visit(page, board.address)
    charts = page.locator("tf-custom-scalar-margin-chart-card")
    expect(charts).to_have_count(4, timeout=30_000)
    expect(charts.first).to_contain_text("validation accuracy, mean and standard deviation")
    for chart in charts.all():
        expect(chart).to_contain_text("Matches (4)")
    keep_picture(page, "patterns compared")


def test_every_page_shows_something_after_the_first(board, page):
    """TensorBoard finds 73 runs. If more than 40 match its filter, it ticks none."""
    visit(page, board.address)
    for name, shown, count in (
        ("Images", "tf-image-loader img", 2 * len(PATTERNS)),  # the confusion and the kernels of a seed of each
        ("Text", "tf-text-loader", 1 + len(PATTERNS)),  # the table of seeds, and a spec of each
        ("Time Series", "scalar-card", 2),
        ("Custom Scalars", "tf-custom-scalar-margin-chart-card", 4),
    ):
        tab = re.compile(rf"^\s*{name}\s*$", re.IGNORECASE)
        page.locator("[role=tab]").filter(has_text=tab).first.click(timeout=30_000)
        expect(page.locator(f"{shown} >> visible=true").nth(count - 1)).to_be_visible(timeout=30_000)
        if name == "Images":
            keep_picture(page, "images of one seed")
        if name == "Time Series":
            names = page.locator("runs-data-table")
            for pattern in PATTERNS:
                expect(names.get_by_text(f"{pattern} mean/validation", exact=True)).to_be_visible()
            expect(names.get_by_text("block s0")).to_have_count(0)
