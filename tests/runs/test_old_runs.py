"""Runs of tiedexp 0.1.0 stay readable: they are listed, shown, compared, evaluated and resumed.

old_runs.tar.gz was written by commit 774fb16. It holds a sweep of two runs on `digits`, which `tiedexp sweep` trained
from the sweep.yaml in it. Afterwards the run of `block` was deleted and trained again by `tiedexp train` of its
spec.yaml, in a process that was killed right after the checkpoint of step 2 of epoch 2.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tiedexp.board.history import RunReader
from tiedexp.compare.listing import list_runs
from tiedexp.compare.reading import read_runs
from tiedexp.compare.table import build_comparison
from tiedexp.experiment.evaluate import evaluate_run
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.sweeps import SweepDirectory
from tiedexp.spec.loading import load_spec

ARCHIVE = Path(__file__).with_name("old_runs.tar.gz")
# Of the run of `full`, and of the run of `block` before it was deleted; another processor may round the losses.
FULL_ACCURACY, FULL_LOSS = 0.21448467966573817, pytest.approx(2.235890146289427, rel=1e-4)
BLOCK_ACCURACY, BLOCK_LOSS = 0.20334261838440112, pytest.approx(2.249948855614463, rel=1e-4)


@pytest.fixture
def study(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "study"


@pytest.fixture
def full(study):
    return SweepDirectory(study).run(SweepDirectory(study).read().runs[0])


@pytest.fixture
def block(study):
    return SweepDirectory(study).run(SweepDirectory(study).read().runs[1])


def test_they_are_listed_and_shown(study):
    block, full = list_runs([study])
    assert (block.state, block.name, block.problem) == ("unfinished", "block", "")
    assert (full.state, full.name, full.problem) == ("finished", "full", "")
    assert block.facts["model.tying.pattern"] == "block"
    assert full.facts["test/accuracy"] == FULL_ACCURACY
    assert full.facts["test/loss"] == FULL_LOSS


def test_they_are_compared(study):
    found = read_runs([study])
    assert (found.unfinished, found.left_out) == (1, ())
    (row,) = build_comparison(found, found.runs).rows
    assert (row.label, row.metric.mean) == ("full", FULL_ACCURACY)


def test_they_are_shown_in_tensorboard(block, full):
    for run, epochs, succeeded in ((block, 1, None), (full, 2, True)):
        history = RunReader(run).read()
        assert (history.epochs, history.succeeded) == (epochs, succeeded)


def test_a_finished_one_is_evaluated(full):
    evaluation, epoch = evaluate_run(full)
    before = full.read_result()
    assert epoch == before.best_epoch
    assert evaluation.confusion == before.test.confusion
    assert evaluation.loss == pytest.approx(before.test.loss, rel=1e-4)


def test_one_that_was_cut_off_is_resumed(block, study):
    spec, lines = load_spec(block.spec, allow_extends=False), block.read_metrics()
    run = run_experiment(spec, root=study, allow_inexact=True)  # the tests may run on any machine
    assert run.path == block.path
    assert (len(lines), run.read_metrics()[0]) == (1, lines[0])
    (inexact,) = run.read_manifest().inexact
    assert (inexact.after_epoch, inexact.after_step) == (1, 2)
    result = run.read_result()
    assert (result.epochs, result.test.accuracy, result.test.loss) == (2, BLOCK_ACCURACY, BLOCK_LOSS)
    found = read_runs([study])
    assert {row.label for row in build_comparison(found, found.runs).rows} == {"full", "block"}
