"""Whole runs, as `tiedexp train` does them: what is on disk afterwards."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from run_checks import Recorder

from tiedexp.errors import DatasetError
from tiedexp.experiment.evaluate import evaluate_run
from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.loading import load_spec

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


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


def test_another_seed_is_another_run(make_spec, tmp_path):
    runs = [run_experiment(make_spec(seed=seed, training={"epochs": 1}), root=tmp_path) for seed in (0, 1)]
    assert runs[0].path.parent == runs[1].path.parent
    assert runs[0].path != runs[1].path
    losses = [run.read_metrics()[0].train.loss for run in runs]
    assert losses[0] != losses[1]


def test_early_stopping(make_spec, tmp_path):
    spec = make_spec(training={"epochs": 30, "early_stopping": {"patience": 1, "min_delta": 1.0}})
    result = run_experiment(spec, root=tmp_path).read_result()
    assert (result.epochs, result.stopped_early) == (2, True)


def test_without_validation_the_last_epoch_is_tested(make_spec, tmp_path):
    spec = make_spec(dataset={"validation": 0}, training={"epochs": 2})
    recorder = Recorder()
    run = run_experiment(spec, root=tmp_path, observer=recorder)
    result = run.read_result()
    assert recorder.sizes["validation"] == 0
    assert (result.best_epoch, result.validation) == (2, None)
    assert run.read_metrics()[0].validation is None


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
