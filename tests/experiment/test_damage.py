"""Damaged, lost and left-over files of a run that is resumed."""

from __future__ import annotations

import json
import shutil

import pytest
from run_checks import Recorder, assert_same_run, assert_same_series

from tiedexp.errors import RunError, RunInterruptedError
from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.contents import OWN
from tiedexp.spec.loading import load_spec
from tiedexp.training.checkpoint import CheckpointStore, _checksum
from tiedexp.training.selection import BestEpoch

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


@pytest.mark.parametrize("damage", ["torn", "empty", "altered"])
@pytest.mark.parametrize("suffix", [".weights.h5", ".json"])
def test_a_damaged_checkpoint_costs_an_epoch_and_no_bit(make_spec, tmp_path, damage, suffix):
    spec = make_spec(training={"epochs": 3})
    straight = run_experiment(spec, root=tmp_path / "straight")
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=tmp_path / "cut", observer=Recorder(3))
    run = locate_run(spec, tmp_path / "cut")
    path = run.checkpoints / f"epoch-0002{suffix}"
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "torn": content[:middle],
            "empty": b"",
            "altered": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        }[damage]
    )
    recorder = Recorder()
    resumed = run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    named = run.checkpoints / "epoch-0002.json"
    assert recorder.events[:2] == [f"warned: the checkpoint {named} is damaged and is not used", "resumed after 1"]
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def keep_best(monkeypatch, epoch):
    """Make an epoch better than all before it and after it."""
    update = BestEpoch.update
    monkeypatch.setattr(
        BestEpoch, "update", lambda best, *result: update(BestEpoch(), *result) if best.epoch < epoch else best
    )


def damage_best_of_stopped(spec, root, *, stop_in, best):
    """A run that was stopped and whose best checkpoint was damaged."""
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=root, observer=Recorder(stop_in))
    run = locate_run(spec, root)
    (run.checkpoints / f"epoch-000{best}.weights.h5").write_bytes(b"")
    return run


def test_a_damaged_best_checkpoint_is_made_again_from_one_before_it(make_spec, tmp_path, monkeypatch):
    keep_best(monkeypatch, 3)
    spec = make_spec(training={"epochs": 5})
    straight = run_experiment(spec, root=tmp_path / "straight")
    damage_best_of_stopped(spec, tmp_path / "cut", stop_in=4, best=3)
    recorder = Recorder()
    resumed = run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    assert recorder.events[1:3] == ["resumed after 2", "planned"]
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def test_a_best_checkpoint_damaged_after_the_one_that_is_newest(make_spec, tmp_path, monkeypatch):
    """The newest is intact but useless: its best epoch could not be tested."""
    keep_best(monkeypatch, 3)
    spec = make_spec(training={"epochs": 5})
    straight = run_experiment(spec, root=tmp_path / "straight")
    monkeypatch.setattr(CheckpointStore, "prune", lambda store, keep: None)
    damage_best_of_stopped(spec, tmp_path / "cut", stop_in=5, best=3)
    monkeypatch.undo()
    keep_best(monkeypatch, 3)
    recorder = Recorder()
    resumed = run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    lost = "warned: the checkpoint of the best epoch so far, 3, is missing or damaged: the run resumes from an earlier"
    assert recorder.events[1].startswith(lost)
    assert recorder.events[2] == "resumed after 2"
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def test_a_damaged_best_checkpoint_with_no_earlier_one_is_reported_before_training_resumes(
    make_spec, tmp_path, monkeypatch
):
    keep_best(monkeypatch, 1)
    spec = make_spec(training={"epochs": 4})
    straight = run_experiment(spec, root=tmp_path / "straight")
    damage_best_of_stopped(spec, tmp_path / "cut", stop_in=4, best=1)
    recorder = Recorder()
    with pytest.raises(RunError, match=r"epoch-0001.json is missing, .* again with --fresh gives the same result"):
        run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    assert recorder.events[1] == (
        "warned: the checkpoint of the best epoch so far, 1, is missing or damaged, and there is no earlier one: "
        "unless a later epoch is better, the run cannot be tested; --fresh starts over and gives the same result"
    )
    assert_same_run(run_experiment(spec, root=tmp_path / "cut", fresh=True), straight)


def test_what_a_killed_process_left_is_cleaned_up(make_spec, tmp_path):
    spec = make_spec(training={"epochs": 2}, checkpoint={"every_steps": 2})
    run = run_experiment(spec, root=tmp_path)
    (run.path / "result.json").unlink()
    names = sorted(path.name for path in run.checkpoints.iterdir())
    for place in ("epoch-0000.json", "epoch-0001-step-000004.json", "epoch-0001-step-000004.weights.h5"):
        (run.checkpoints / place).write_text("{}")
    (run.path / ".unfinished-77-result.json").write_text("{")
    run_experiment(spec, root=tmp_path)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == names
    assert not list(run.path.glob(".unfinished*"))


@pytest.mark.parametrize("cleared", range(1, len(OWN)))
def test_a_run_that_was_killed_while_it_was_cleared(make_spec, tmp_path, monkeypatch, cleared):
    """It resumes or starts over; both give the same result."""
    spec = make_spec(training={"epochs": 2})
    straight = run_experiment(spec, root=tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr("tiedexp.runs.contents.OWN", OWN[:cleared])
        locate_run(spec, tmp_path / "cut").clear()
    resumed = run_experiment(spec, root=tmp_path / "cut")
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def test_a_lost_manifest_costs_no_checkpoint(cut_off, tmp_path):
    spec, run = cut_off
    (run.path / "manifest.json").unlink()
    before = sorted(path.name for path in run.checkpoints.iterdir())
    with pytest.raises(RunError, match=r"has checkpoints but no manifest.json, .* --fresh starts over"):
        run_experiment(spec, root=tmp_path)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == before
    assert run_experiment(spec, root=tmp_path, fresh=True).finished


def test_a_lost_spec_is_there_again_at_the_end(cut_off, tmp_path):
    spec, run = cut_off
    run.spec.unlink()
    assert load_spec(run_experiment(spec, root=tmp_path).spec) == spec


def test_lost_metrics_are_reported(cut_off, tmp_path):
    spec, run = cut_off
    (run.path / "metrics.jsonl").unlink()
    recorder = Recorder()
    run_experiment(spec, root=tmp_path, observer=recorder)
    assert recorder.events[0] == f"warned: {run.path / 'metrics.jsonl'} has lost some epochs before epoch 2"
    assert [line.epoch for line in run.read_metrics()] == [2, 3, 4]


@pytest.mark.parametrize("file", ["manifest.json", "metrics.jsonl", "epoch-0002.json"])
def test_a_mangled_file_of_a_resumed_run_is_named(cut_off, tmp_path, file):
    spec, run = cut_off
    (path,) = run.path.rglob(file)
    content = json.loads(path.read_text().splitlines()[0] if file == "metrics.jsonl" else path.read_text())
    mangle = {
        "manifest.json": lambda: content.pop("data"),
        "metrics.jsonl": lambda: content.pop("train"),
        "epoch-0002.json": lambda: content["state"].update(best=7),
    }
    mangle[file]()
    if content.pop("checksum", None):  # by somebody who knows about it
        content["checksum"] = _checksum(content)
    path.write_text(json.dumps(content) + "\n")
    with pytest.raises(RunError, match=rf"{file.split('.')[0]}.* is not as tiedexp writes it"):
        run_experiment(spec, root=tmp_path)
