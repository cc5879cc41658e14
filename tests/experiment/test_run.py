"""Whole runs, as `tiedexp train` does them: what is on disk, what happens when they are cut off or fail."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from tiedexp.errors import DatasetError, RunError, RunInterruptedError, RunLockedError, TiedexpError
from tiedexp.experiment.assembly import build_model
from tiedexp.experiment.evaluate import evaluate_run
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run, plan_model
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.directory import _OWN, RunDirectory
from tiedexp.spec.loading import load_spec
from tiedexp.training.checkpoint import CheckpointStore, _checksum
from tiedexp.training.selection import BestEpoch
from tiedexp.training.weights_file import write_array

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


def merge(base, changes):
    return {**base, **changes}


class Recorder(RunObserver):
    """Notes what it is told; interrupts like Ctrl-C in the epoch it was asked to."""

    def __init__(self, interrupt_in=None):
        self.interrupt_in, self.events, self.sizes = interrupt_in, [], None

    def planned(self, plan, run, device, dataset, sizes):
        self.events.append("planned")
        self.sizes = dict(sizes)

    def resumed(self, epochs_done, steps_done):
        self.events.append(f"resumed after {epochs_done}" + (f" and {steps_done} steps" if steps_done else ""))

    def warned(self, text):
        self.events.append(f"warned: {text}")

    def epoch_begins(self, epoch, num_steps):
        self.epoch = epoch

    def progressed(self, progress):
        if self.epoch == self.interrupt_in:
            raise KeyboardInterrupt

    def epoch_ends(self, line):
        self.events.append(line.epoch)

    def finished(self, run, result):
        self.events.append("finished")


def read_weights(path):
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return arrays


def without_times(run):
    """The lines of metrics.jsonl, less what a clock says."""
    times = {"seconds": 1.0, "first_of_process": False, "time": None}
    lines = []
    for line in run.read_metrics():
        splits = {name: without_speed(getattr(line, name)) for name in ("train", "validation")}
        lines.append(line.model_copy(update={**times, **splits}))
    return lines


def without_speed(split):
    return None if split is None else split.model_copy(update={"images_per_second": 1.0})


def assert_same_run(ours, theirs):
    """To the bit, but for times."""
    assert without_times(ours) == without_times(theirs)
    times = {"seconds": 1.0, "epoch_seconds": None}
    results = [run.read_result().model_copy(update=times) for run in (ours, theirs)]
    assert results[0] == results[1]
    initial = [read_weights(run.initial_kernel) for run in (ours, theirs)]
    np.testing.assert_equal(initial[0], initial[1])
    names = [sorted(path.name for path in run.checkpoints.iterdir()) for run in (ours, theirs)]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith(".h5"):
            weights = read_weights(ours.checkpoints / name), read_weights(theirs.checkpoints / name)
            assert weights[0].keys() == weights[1].keys()
            for key in weights[0]:
                np.testing.assert_array_equal(weights[0][key], weights[1][key])


def read_series(run):
    """(directory, tag, step, value) of all that TensorBoard shows, in the order of the files.

    Values are None where runs may differ: times, and the text of the spec, which says when checkpoints are written.
    """
    found = []
    for directory in (".", "train", "validation", "test"):
        for path in sorted((run.tensorboard / directory).glob("events*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    content = None if value.tag in ("images_per_second", "spec") else value.tensor.SerializeToString()
                    found.append((directory, value.tag, event.step, content))
    return found


def assert_same_series(ours, theirs):
    assert read_series(ours) == read_series(theirs)


def test_a_run_leaves_what_is_promised(make_spec, tmp_path):
    spec, recorder = make_spec(), Recorder()
    run = run_experiment(spec, root=tmp_path, observer=recorder)
    assert run.path == tmp_path / f"small-{spec.digest}" / "seed-0"
    assert recorder.events == ["planned", 1, 2, 3, "finished"]
    assert recorder.sizes == {"train": 270, "validation": 30, "test": 300}

    assert load_spec(run.spec) == spec
    lines, result, manifest = run.read_metrics(), run.read_result(), run.read_manifest()
    assert [line.epoch for line in lines] == [1, 2, 3]
    assert [line.step for line in lines] == [5, 10, 15]
    assert lines[0].learning_rate == pytest.approx(0.01 * 4 / 5)
    assert lines[2].train.loss < lines[0].train.loss

    best = max(lines, key=lambda line: (line.validation.accuracy, -line.validation.loss))
    assert result.best_epoch == best.epoch
    assert result.validation.accuracy == best.validation.accuracy
    assert result.validation.loss == pytest.approx(best.validation.loss, rel=1e-5)
    assert result.test.images == 300
    assert (result.epochs, result.stopped_early) == (3, False)

    assert manifest.versions["tensorflow"].startswith("2.21")
    assert manifest.pattern == "point"
    assert manifest.patterns.keys() == {"conv_1", "conv_2"}
    assert manifest.unique_weights == 5 * 4 + 8 + 5 * 4 * 8 + 16 + 9 * 10
    assert len(manifest.data.fingerprint) == 16
    assert manifest.threads >= 1
    kept = {path.name for path in run.checkpoints.iterdir()}
    epochs = {3, 2, best.epoch}
    assert kept == {f"epoch-000{epoch}.{ending}" for epoch in epochs for ending in ("json", "weights.h5")}
    assert sorted(path.name for path in run.tensorboard.iterdir() if path.is_dir()) == ["test", "train", "validation"]


@pytest.mark.parametrize(
    ("model", "name", "shape"),
    [
        ({}, "layers/tied_conv2d/vars/0", (5, 1, 4)),  # point, 3x3
        ({"tying": None}, "layers/conv2d/vars/0", (3, 3, 1, 4)),
        ({"tying": {"pattern": "point", "layers": "last"}}, "layers/tied_conv2d/vars/0", (5, 4, 8)),
        ({"family": "resnet", "depth": 8}, "layers/tied_conv2d/vars/0", (5, 1, 4)),
        ({"tying": None, "family": "resnet", "depth": 8}, "layers/conv2d/vars/0", (3, 3, 1, 4)),
    ],
)
def test_the_first_kernel_is_kept_as_it_was_before_the_first_step(make_spec, tmp_path, model, name, shape):
    """Under the name that it has in every checkpoint, with the values that the seed gives a new model."""
    spec = make_spec(model=model, training={"epochs": 1}, seed=3)
    run = run_experiment(spec, root=tmp_path)
    kept = read_weights(run.initial_kernel)
    assert {key: (values.shape, values.dtype) for key, values in kept.items()} == {name: (shape, np.float32)}

    keras.utils.set_random_seed(3)
    fresh = build_model(plan_model(spec, (8, 8, 1), 10))
    fresh.save_weights(tmp_path / "fresh.weights.h5")
    np.testing.assert_array_equal(kept[name], read_weights(tmp_path / "fresh.weights.h5")[name])
    learnt = read_weights(run.checkpoints / "epoch-0001.weights.h5")[name]
    assert learnt.shape == shape
    assert np.abs(learnt - kept[name]).max() > 1e-3


def test_a_kernel_too_large_for_a_picture_is_not_kept(make_spec, tmp_path, monkeypatch):
    monkeypatch.setattr("tiedexp.experiment.run.MAX_VALUES", 19)
    assert not run_experiment(make_spec(training={"epochs": 1}), root=tmp_path / "few").initial_kernel.exists()
    monkeypatch.setattr("tiedexp.experiment.run.MAX_VALUES", 20)
    assert run_experiment(make_spec(training={"epochs": 1}), root=tmp_path / "many").initial_kernel.exists()


def test_a_run_that_goes_on_leaves_the_first_kernel_alone(cut_off, tmp_path):
    """It is written when a run begins, and only then."""
    spec, run = cut_off
    run.initial_kernel.write_bytes(b"as it was")
    run_experiment(spec, root=tmp_path)
    assert run.initial_kernel.read_bytes() == b"as it was"
    run_experiment(spec, root=tmp_path, fresh=True)
    assert read_weights(run.initial_kernel).keys() == {"layers/tied_conv2d/vars/0"}


def test_a_run_that_an_older_version_began_goes_on_without_its_first_kernel(cut_off, tmp_path):
    spec, run = cut_off
    run.initial_kernel.unlink()
    assert run_experiment(spec, root=tmp_path).finished
    assert not run.initial_kernel.exists()


@pytest.mark.parametrize("moment", ["before", "in the middle", "after"])
def test_a_run_that_was_killed_at_its_first_kernel(make_spec, tmp_path, monkeypatch, moment):
    class KilledError(BaseException):
        pass

    def write(path, name, values):
        if moment == "after":
            write_array(path, name, values)
        elif moment == "in the middle":
            path.with_name(f".unfinished-1-{path.name}").write_bytes(b"half")
        raise KilledError

    spec = make_spec(training={"epochs": 1})
    straight = run_experiment(spec, root=tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr("tiedexp.experiment.run.write_array", write)
        with pytest.raises(KilledError):
            run_experiment(spec, root=tmp_path / "cut")
    resumed = run_experiment(spec, root=tmp_path / "cut")
    assert_same_run(resumed, straight)
    assert not list(resumed.path.glob(".unfinished-*"))


def test_a_finished_run_is_not_run_again_unless_fresh(make_spec, tmp_path):
    spec = make_spec(training={"epochs": 1})
    run = run_experiment(spec, root=tmp_path)
    before = run.read_result()
    again, fresh = Recorder(), Recorder()
    run_experiment(spec, root=tmp_path, observer=again)
    assert again.events == ["finished"]
    assert run.read_result() == before
    run_experiment(spec, root=tmp_path, observer=fresh, fresh=True)
    assert fresh.events == ["planned", 1, "finished"]
    assert run.read_result().test == before.test


@pytest.mark.parametrize("interrupt_in", [1, 2, 4])
def test_an_interrupted_run_goes_on_to_the_same_bits(make_spec, tmp_path, interrupt_in):
    spec = make_spec(training={"epochs": 4, "early_stopping": {"patience": 9}})
    straight = run_experiment(spec, root=tmp_path / "straight")

    with pytest.raises(RunInterruptedError) as stopped:
        run_experiment(spec, root=tmp_path / "cut", observer=Recorder(interrupt_in))
    kept = f"the checkpoint of epoch {interrupt_in - 1} is kept" if interrupt_in > 1 else "no epoch was complete"
    assert f"interrupted in epoch {interrupt_in}; {kept}" in str(stopped.value)
    recorder = Recorder()
    resumed = run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    assert recorder.events[0] == ("planned" if interrupt_in == 1 else f"resumed after {interrupt_in - 1}")

    assert_same_run(resumed, straight)
    # Which epochs have the time of compiling in theirs, and so do not count as what an epoch takes.
    lines = resumed.read_metrics()
    assert [line.epoch for line in lines if line.first_of_process] == sorted({1, interrupt_in})
    others = [line.seconds for line in lines if line.epoch not in (1, interrupt_in)]
    assert resumed.read_result().epoch_seconds == pytest.approx(sum(others) / len(others), abs=1e-4)


def stop_after(calls):
    """Says yes once the training was asked so often."""
    remaining = iter(range(1 + calls))  # once before anything is written
    return lambda: next(remaining, None) is None


WITHIN = {
    "adam": {"training": {"optimizer": {"name": "adam", "learning_rate": 0.01}, "early_stopping": {"patience": 9}}},
    "sgd": {
        "model": {"family": "resnet", "depth": 8, "dropout": 0.3},
        "training": {
            "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3},
            "augmentation": {"flip": "both"},
            "gradient_clipping": 1.0,
        },
        "tensorboard": {"histograms": True},
    },
    "float16": {"training": {"precision": "mixed_float16", "optimizer": {"name": "lion", "learning_rate": 1e-3}}},
}


@pytest.mark.parametrize("case", WITHIN)
def test_a_run_stopped_again_and_again_within_its_epochs_comes_to_the_same_bits(make_spec, tmp_path, case):
    changes = json.loads(json.dumps(WITHIN[case]))
    changes["training"] |= {"epochs": 3, "steps_per_execution": 1}
    straight = run_experiment(make_spec(**changes), root=tmp_path / "straight")
    spec = make_spec(checkpoint={"every_steps": 3}, **changes)
    kept, begun = [], []
    for calls in (3, 6, 9, 12, 10_000):
        recorder = Recorder()
        try:
            resumed = run_experiment(spec, root=tmp_path / "cut", should_stop=stop_after(calls), observer=recorder)
        except RunInterruptedError as stopped:
            kept.append(str(stopped).split("; ")[1].partition(" is kept")[0])
        begun.append(recorder.events[0])
    assert kept[0] == "the checkpoint of step 2 of 5 of epoch 1"  # it asks before the epoch, the part and each step
    assert begun[:2] == ["planned", "resumed after 0 and 2 steps"]
    assert len(kept) >= 3
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def test_checkpoints_within_an_epoch_are_two_and_gone_at_its_end(make_spec, tmp_path):
    class Watcher(Recorder):
        def progressed(self, progress):
            names = sorted(path.stem for path in run.checkpoints.glob("*.json"))
            self.events.append((self.epoch, progress.step, [name.removeprefix("epoch-") for name in names]))

    spec = make_spec(training={"epochs": 2, "steps_per_execution": 1}, checkpoint={"every_steps": 1})
    run = locate_run(spec, tmp_path)
    watcher = Watcher()
    run_experiment(spec, root=tmp_path, observer=watcher)
    seen = [event for event in watcher.events if isinstance(event, tuple)]
    assert seen[4] == (1, 5, ["0000-step-000003", "0000-step-000004"])
    assert seen[5] == (2, 1, ["0001"])
    assert seen[9] == (2, 5, ["0001", "0001-step-000003", "0001-step-000004"])
    assert {path.name for path in run.checkpoints.glob("*.json")} == {"epoch-0001.json", "epoch-0002.json"}


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


def test_what_a_kill_before_the_clearing_up_left_is_cleared_up(make_spec, tmp_path):
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


def keep_best(monkeypatch, epoch):
    """That epoch is better than all before it, and stays the best."""
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
    """The newest is whole, but of no use: its best epoch could not be tested."""
    keep_best(monkeypatch, 3)
    spec = make_spec(training={"epochs": 5})
    straight = run_experiment(spec, root=tmp_path / "straight")
    monkeypatch.setattr(CheckpointStore, "prune", lambda store, keep: None)
    damage_best_of_stopped(spec, tmp_path / "cut", stop_in=5, best=3)
    monkeypatch.undo()
    keep_best(monkeypatch, 3)
    recorder = Recorder()
    resumed = run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    lost = "warned: the checkpoint of the best epoch so far, 3, is missing or damaged: the run goes on from before it"
    assert recorder.events[1].startswith(lost)
    assert recorder.events[2] == "resumed after 2"
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def test_a_damaged_best_checkpoint_with_none_before_it_is_told_before_the_training_goes_on(
    make_spec, tmp_path, monkeypatch
):
    keep_best(monkeypatch, 1)
    spec = make_spec(training={"epochs": 4})
    straight = run_experiment(spec, root=tmp_path / "straight")
    damage_best_of_stopped(spec, tmp_path / "cut", stop_in=4, best=1)
    recorder = Recorder()
    with pytest.raises(RunError, match=r"epoch-0001.json is missing, .* again, with --fresh, comes to the same"):
        run_experiment(spec, root=tmp_path / "cut", observer=recorder)
    assert recorder.events[1] == (
        "warned: the checkpoint of the best epoch so far, 1, is missing or damaged, and there is none before it: "
        "unless a later epoch is better, the run cannot be tested; --fresh starts over, and comes to the same"
    )
    assert_same_run(run_experiment(spec, root=tmp_path / "cut", fresh=True), straight)


def change_manifest(run, **changes):
    manifest = run.read_json("manifest.json")
    for key, value in changes.items():
        manifest[key] = merge(manifest[key], value) if isinstance(value, dict) else value
    run.write_json("manifest.json", manifest)


def test_another_machine_or_version_is_told_and_must_be_allowed(cut_off, tmp_path):
    spec, run = cut_off
    threads = run.read_manifest().threads
    change_manifest(run, threads=threads + 6, device="NVIDIA H100", versions={"tensorflow": "2.20.0"})
    differences = (
        f"tensorflow 2.21.0 in place of 2.20.0; device CPU in place of NVIDIA H100; "
        f"threads {threads} in place of {threads + 6}"
    )
    with pytest.raises(RunError, match=rf"after epoch 2 this run goes on with {differences}: .* --allow-inexact goes"):
        run_experiment(spec, root=tmp_path)
    assert not run.finished
    recorder = Recorder()
    run_experiment(spec, root=tmp_path, observer=recorder, allow_inexact=True)
    assert recorder.events[0] == f"warned: after epoch 2 this run goes on with {differences}"
    (went_on,) = run.read_json("manifest.json")["inexact"]
    assert (went_on["after_epoch"], len(went_on["differences"])) == (2, 3)


def test_a_run_of_a_newer_tiedexp_is_left_alone(cut_off, tmp_path):
    spec, run = cut_off
    change_manifest(run, format=99)
    for path in run.checkpoints.iterdir():
        path.unlink()  # so that there is nothing to go on from either
    with pytest.raises(RunError, match="was written by a newer tiedexp"):
        run_experiment(spec, root=tmp_path)
    assert run.read_json("manifest.json")["format"] == 99


def test_the_events_of_an_epoch_are_on_disk_before_its_checkpoint(make_spec, tmp_path, monkeypatch):
    order, fsync, replace = [], os.fsync, os.replace

    def note_sync(descriptor):
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().parent.name)
        fsync(descriptor)

    def note_rename(source, target):
        order.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "replace", note_rename)
    run_experiment(make_spec(training={"epochs": 2}), root=tmp_path)
    first, second = order.index("epoch-0001.weights.h5"), order.index("epoch-0002.weights.h5")
    end = order.index("result.json")
    assert {"train", "validation"} <= set(order[:first])
    assert {"train", "validation"} <= set(order[first:second])
    assert {"test"} <= set(order[second:end])


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


@pytest.mark.parametrize("cleared", range(1, len(_OWN)))
def test_a_run_that_was_killed_while_it_was_cleared(make_spec, tmp_path, monkeypatch, cleared):
    """It goes on or starts over; either way it comes to the same."""
    spec = make_spec(training={"epochs": 2})
    straight = run_experiment(spec, root=tmp_path / "straight")
    shutil.copytree(tmp_path / "straight", tmp_path / "cut")
    with monkeypatch.context() as patch:
        patch.setattr("tiedexp.runs.directory._OWN", _OWN[:cleared])
        locate_run(spec, tmp_path / "cut").clear()
    resumed = run_experiment(spec, root=tmp_path / "cut")
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


def test_lost_metrics_are_told(cut_off, tmp_path):
    spec, run = cut_off
    (run.path / "metrics.jsonl").unlink()
    recorder = Recorder()
    run_experiment(spec, root=tmp_path, observer=recorder)
    assert recorder.events[0] == f"warned: {run.path / 'metrics.jsonl'} has lost some epochs before epoch 2"
    assert [line.epoch for line in run.read_metrics()] == [2, 3, 4]


@pytest.mark.parametrize("calls", [-1, 0], ids=["before anything is written", "before the first step"])
def test_a_stop_before_the_first_step_leaves_nothing(make_spec, tmp_path, calls):
    with pytest.raises(RunInterruptedError):
        run_experiment(make_spec(), root=tmp_path, should_stop=stop_after(calls))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_another_process_began_meanwhile_is_left_alone(cut_off, tmp_path):
    """It may compute with other operations than the model that was built."""
    spec, run = cut_off
    manifest = run.path / "manifest.json"
    before = manifest.read_text()
    manifest.unlink()

    def write():
        manifest.write_text(before)
        return False

    with pytest.raises(RunLockedError, match=r"another process was in .* meanwhile; the same command goes on"):
        run_experiment(spec, root=tmp_path, should_stop=write)
    assert manifest.read_text() == before
    assert not run.inside("failure.json").exists()


def test_a_stop_in_an_evaluation(make_spec, tmp_path):
    """In the validation of an epoch all its steps are kept, in the test all of the training."""
    spec = make_spec(training={"epochs": 1})
    straight = run_experiment(spec, root=tmp_path / "straight")
    asked = []

    def stop_in(name):
        return lambda: any(frame.name == name for frame in traceback.extract_stack())

    def stop_in_validation():
        asked.append(stop_in("_metrics_line")())
        return any(asked)

    with pytest.raises(RunInterruptedError, match="interrupted in epoch 1; the checkpoint of step 5 of 5 of epoch 1"):
        run_experiment(spec, root=tmp_path / "cut", should_stop=stop_in_validation)
    with pytest.raises(RunInterruptedError, match="interrupted in the test; the checkpoint of epoch 1 is kept"):
        run_experiment(spec, root=tmp_path / "cut", should_stop=stop_in("_test"))
    assert_same_run(run_experiment(spec, root=tmp_path / "cut"), straight)


def test_a_run_cut_off_in_its_last_evaluation_is_finished_by_the_next(make_spec, tmp_path):
    spec = make_spec(training={"epochs": 2})
    run = run_experiment(spec, root=tmp_path)
    result = run.read_result()
    (run.path / "result.json").unlink()
    recorder = Recorder()
    run_experiment(spec, root=tmp_path, observer=recorder)
    assert recorder.events == ["resumed after 2", "planned", "finished"]
    assert run.read_result().test == result.test


@pytest.fixture
def cut_off(make_spec, tmp_path):
    """A run of four epochs, stopped in its third."""
    spec = make_spec(training={"epochs": 4})
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=tmp_path, observer=Recorder(3))
    return spec, locate_run(spec, tmp_path)


def test_a_run_does_not_go_on_with_other_data(make_spec, tmp_path):
    digits = load_digits()
    images = digits.images[:300].astype("uint8") * 15
    path = tmp_path / "mine.npz"
    np.savez(path, x_train=images, y_train=digits.target[:300])
    spec = make_spec(dataset={"name": "npz", "path": str(path)})
    with pytest.raises(RunInterruptedError):
        run_experiment(spec, root=tmp_path, observer=Recorder(2))
    run = locate_run(spec, tmp_path)
    images[0, 0, 0] ^= 1
    np.savez(path, x_train=images, y_train=digits.target[:300])
    before = {path: path.read_bytes() for path in run.path.rglob("*.*") if path.name != ".lock" and path.is_file()}
    with pytest.raises(RunError, match=r"the data has changed since this run began .* --fresh starts over"):
        run_experiment(spec, root=tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert run_experiment(spec, root=tmp_path, fresh=True).finished


@pytest.mark.parametrize("file", ["manifest.json", "metrics.jsonl", "epoch-0002.json"])
def test_a_mangled_file_of_a_run_that_goes_on_is_named(cut_off, tmp_path, file):
    spec, run = cut_off
    (path,) = run.path.rglob(file)
    content = json.loads(path.read_text().splitlines()[0] if file == "metrics.jsonl" else path.read_text())
    mangle = {
        "manifest.json": lambda: content.pop("data"),
        "metrics.jsonl": lambda: content.pop("train"),
        "epoch-0002.json": lambda: content["state"].update(best=7),
    }
    mangle[file]()
    if content.pop("checksum", None):  # by somebody who knows of it
        content["checksum"] = _checksum(content)
    path.write_text(json.dumps(content) + "\n")
    with pytest.raises(RunError, match=rf"{file.split('.')[0]}.* is not as tiedexp writes it"):
        run_experiment(spec, root=tmp_path)


def test_the_directory_of_prepared_data_is_in_the_manifest(make_spec, tmp_path, monkeypatch, shared_data):
    monkeypatch.setenv("TFDS_DATA_DIR", os.path.relpath(shared_data / "tfds"))
    spec = make_spec(dataset={"name": "mnist"}, training={"epochs": 1, "steps_per_epoch": 1})
    run = run_experiment(spec, root=tmp_path / "runs")
    assert run.read_manifest().data.data_dir == str((shared_data / "tfds").resolve())
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert evaluate_run(run)[0].images == 300
    moved = RunDirectory(run.path.rename(tmp_path / "moved"))
    with pytest.raises(DatasetError, match=r"trained on data in .*tfds; --data-dir reads it"):
        evaluate_run(moved)  # a stranger's directory is told, not opened
    assert evaluate_run(moved, data_dir=shared_data / "tfds")[0].images == 300


def test_embedded_data_comes_from_no_directory(make_spec, tmp_path):
    run = run_experiment(make_spec(training={"epochs": 1}), root=tmp_path, data_dir=tmp_path)
    assert run.read_manifest().data.data_dir is None


def test_another_seed_is_another_run(make_spec, tmp_path):
    runs = [run_experiment(make_spec(seed=seed, training={"epochs": 1}), root=tmp_path) for seed in (0, 1)]
    assert runs[0].path.parent == runs[1].path.parent
    assert runs[0].path != runs[1].path
    losses = [run.read_metrics()[0].train.loss for run in runs]
    assert losses[0] != losses[1]


def test_a_loss_that_is_no_number_fails_the_run_and_keeps_the_last_checkpoint(make_spec, tmp_path):
    """The rate grows by 1e30 in the second epoch."""
    from tiedexp.training import optimizers

    spec = make_spec(
        training={
            "optimizer": {"name": "sgd", "learning_rate": 0.01},
            "schedule": {"name": "constant", "warmup_epochs": 0},
        }
    )
    build = optimizers.build_schedule

    def explode(*arguments, **options):
        return build("step", 0.01, steps_per_epoch=5, epochs=3, drop_epochs=(1,), factor=1e30)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimizers, "build_schedule", explode)
        with pytest.raises(RunError) as failed:
            run_experiment(spec, root=tmp_path)
    message = str(failed.value)
    assert message.startswith("epoch 2: the loss became")
    assert "the checkpoint of epoch 1 is kept" in message
    assert "the same spec would fail again, so change it: a smaller learning_rate" in message
    assert "goes on" not in message
    (run,) = tmp_path.glob("*/seed-0")
    assert not (run / "result.json").exists()
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1]


@pytest.mark.parametrize(
    ("rate", "message"), [(float("inf"), "the weights of '"), (1e24, "the model's outputs are not finite")]
)
def test_an_epoch_whose_last_step_ruins_the_model_is_no_checkpoint(make_spec, tmp_path, monkeypatch, rate, message):
    """The loss of that step was still a number."""
    from keras.optimizers.schedules import LearningRateSchedule

    from tiedexp.training import optimizers

    class Explode(LearningRateSchedule):
        def __call__(self, step):
            return tf.where(tf.cast(step, tf.int64) == 9, rate, 0.01)

    monkeypatch.setattr(optimizers, "build_schedule", lambda *arguments, **options: Explode())
    spec = make_spec(training={"optimizer": {"name": "sgd", "momentum": 0.0}, "schedule": {"warmup_epochs": 0}})
    with pytest.raises(RunError) as failed:
        run_experiment(spec, root=tmp_path)
    assert str(failed.value).startswith(f"epoch 2: {message}")
    assert "the checkpoint of epoch 1 is kept" in str(failed.value)
    (run,) = tmp_path.glob("*/seed-0")
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["epoch-0001.json", "epoch-0001.weights.h5"]
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 1


def test_a_test_without_finite_outputs_is_a_message(make_spec, tmp_path, monkeypatch):
    spec = make_spec(training={"epochs": 1})
    run = run_experiment(spec, root=tmp_path)
    (run.path / "result.json").unlink()
    monkeypatch.setattr(
        "tiedexp.metrics.Predictor.__call__",
        lambda self, batches: (np.full((4, 10), np.inf), np.zeros(4, dtype=int)),
    )
    with pytest.raises(RunError, match="the test of epoch 1: the model's outputs are not finite numbers for 4 of 4"):
        run_experiment(spec, root=tmp_path)
    assert not run.finished


OUT_OF_MEMORY = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nwith shape [9]")
UNDETERMINED = tf.errors.UnimplementedError(None, None, "Deterministic thing is not available.\nSet another")


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("build_model", OUT_OF_MEMORY, "^the device ran out of memory"),
        ("load_splits", OUT_OF_MEMORY, "^the device ran out of memory"),
        ("compute_loss_and_accuracy", OUT_OF_MEMORY, "^epoch 1: the device ran out of memory"),
        ("compute_loss_and_accuracy", UNDETERMINED, r"not available.; training.deterministic=false does without"),
        ("compute_evaluation", tf.errors.InternalError(None, None, "it broke"), "^TensorFlow cannot go on: it broke$"),
    ],
)
def test_what_tensorflow_cannot_do_is_a_message(make_spec, tmp_path, monkeypatch, where, error, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(f"tiedexp.experiment.run.{where}", fail)
    with pytest.raises(RunError, match=message):
        run_experiment(make_spec(training={"epochs": 1}), root=tmp_path)


def test_an_evaluation_that_tensorflow_cannot_do_is_a_message(make_spec, tmp_path, monkeypatch):
    run = run_experiment(make_spec(training={"epochs": 1}), root=tmp_path)

    def fail(*arguments):
        raise OUT_OF_MEMORY

    monkeypatch.setattr("tiedexp.metrics.Predictor.__call__", fail)
    with pytest.raises(RunError, match="the device ran out of memory"):
        evaluate_run(run)


def test_early_stopping(make_spec, tmp_path):
    spec = make_spec(training={"epochs": 30, "early_stopping": {"patience": 1, "min_delta": 1.0}})
    result = run_experiment(spec, root=tmp_path).read_json("result.json")
    assert (result.epochs, result.stopped_early) == (2, True)


def test_without_validation_the_last_epoch_is_tested(make_spec, tmp_path):
    spec = make_spec(dataset={"validation": 0}, training={"epochs": 2})
    recorder = Recorder()
    run = run_experiment(spec, root=tmp_path, observer=recorder)
    result = run.read_result()
    assert recorder.sizes["validation"] == 0
    assert (result.best_epoch, result.validation) == (2, None)
    assert run.read_metrics()[0].validation is None


def test_missing_data_is_an_error_before_anything_is_made(make_spec, tmp_path):
    spec = make_spec(dataset={"name": "mnist"})
    with pytest.raises(DatasetError, match="tiedexp data prepare mnist"):
        run_experiment(spec, root=tmp_path / "runs", data_dir=tmp_path / "data")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": {"validation": 299}}, "validation"),
        ({"training": {"devices": 7, "batch_size": 49}}, "`training.devices` is 7, but there is 1 CPU"),
    ],
)
def test_what_cannot_be_meant_is_an_error_before_anything_is_made(make_spec, tmp_path, changes, message):
    with pytest.raises(TiedexpError, match=message):
        run_experiment(make_spec(**changes), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_another_has_locked_is_left_alone(make_spec, tmp_path):
    spec = make_spec()
    run = locate_run(spec, tmp_path)
    with run.lock(), pytest.raises(RunError, match="is in use by another process"):
        run_experiment(spec, root=tmp_path)
    assert [path.name for path in run.path.iterdir()] == [".lock"]


EVERYTHING = {
    "resnet": {
        "model": {
            "family": "resnet",
            "depth": 8,
            "widen": 2,
            "kernel_size": 5,
            "tying": {"pattern": {"preset": "hashed", "groups": 4}, "layers": [2, 3, 6], "gradient": "mean"},
        },
        "training": {
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "nesterov": True, "weight_decay": 1e-3},
            "schedule": {"name": "step", "epochs": [1], "warmup_epochs": 0},
            "label_smoothing": 0.1,
            "gradient_clipping": 1.0,
            "augmentation": {"flip": "both"},
        },
        "tensorboard": {"histograms": True},
    },
    "float16": {
        "model": {"tying": {"pattern": ["AB./CD./...", "cross"], "layers": "all"}},
        "training": {
            "optimizer": {"name": "adamw", "weight_decay": 0.0},
            "schedule": {"name": "exponential", "warmup_epochs": 0.5},
            "precision": "mixed_float16",
            "steps_per_execution": 2,
        },
    },
    "jit": {
        "model": {"tying": None},
        "training": {
            "optimizer": {"name": "lion", "learning_rate": 1e-3},
            "schedule": {"name": "constant"},
            "jit": True,
        },
    },
}


@pytest.mark.parametrize("case", EVERYTHING)
def test_every_part_of_the_spec_runs(make_spec, tmp_path, case):
    changes = json.loads(json.dumps(EVERYTHING[case]))
    changes["training"] |= {"epochs": 2, "steps_per_epoch": 2}
    run = run_experiment(make_spec(**changes), root=tmp_path)
    assert [line.step for line in run.read_metrics()] == [2, 4]
    assert 0.0 <= run.read_result().test.accuracy <= 1.0
