"""Runs that are stopped and resumed give the same bits, or say why they are not resumed."""

from __future__ import annotations

import json
import traceback

import numpy as np
import pytest
from run_checks import Recorder, assert_same_run, assert_same_series, stop_after
from sklearn.datasets import load_digits

from tiedexp.errors import RunError, RunInterruptedError, RunLockedError
from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.run import run_experiment

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


@pytest.mark.parametrize("interrupt_in", [1, 2, 4])
def test_an_interrupted_run_resumes_to_the_same_bits(make_spec, tmp_path, interrupt_in):
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
def test_a_run_stopped_again_and_again_within_its_epochs_gives_the_same_bits(make_spec, tmp_path, case):
    changes = json.loads(json.dumps(WITHIN[case]))
    changes["training"] |= {"epochs": 3, "steps_per_execution": 1}
    straight = run_experiment(make_spec(**changes), root=tmp_path / "straight")
    spec = make_spec(checkpoint={"every_steps": 3}, **changes)
    kept, started = [], []
    for calls in (3, 6, 9, 12, 10_000):
        recorder = Recorder()
        try:
            resumed = run_experiment(spec, root=tmp_path / "cut", should_stop=stop_after(calls), observer=recorder)
        except RunInterruptedError as stopped:
            kept.append(str(stopped).split("; ")[1].partition(" is kept")[0])
        started.append(recorder.events[0])
    assert kept[0] == "the checkpoint of step 2 of 5 of epoch 1"  # it asks before the epoch, the part and each step
    assert started[:2] == ["planned", "resumed after 0 and 2 steps"]
    assert len(kept) >= 3
    assert_same_run(resumed, straight)
    assert_same_series(resumed, straight)


@pytest.mark.parametrize("calls", [-1, 0], ids=["before anything is written", "before the first step"])
def test_a_stop_before_the_first_step_leaves_nothing(make_spec, tmp_path, calls):
    with pytest.raises(RunInterruptedError):
        run_experiment(make_spec(), root=tmp_path, should_stop=stop_after(calls))
    assert list(tmp_path.iterdir()) == []


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


def change_manifest(run, **changes):
    manifest = run.read_json("manifest.json")
    for key, value in changes.items():
        manifest[key] = {**manifest[key], **value} if isinstance(value, dict) else value
    run.write_json("manifest.json", manifest)


def test_another_machine_or_version_is_reported_and_must_be_allowed(cut_off, tmp_path):
    spec, run = cut_off
    threads = run.read_manifest().threads
    change_manifest(run, threads=threads + 6, device="NVIDIA H100", versions={"tensorflow": "2.20.0"})
    differences = (
        f"tensorflow 2.21.0 in place of 2.20.0; device CPU in place of NVIDIA H100; "
        f"threads {threads} in place of {threads + 6}"
    )
    with pytest.raises(RunError, match=rf"after epoch 2 this run resumes with {differences}: .* --allow-inexact"):
        run_experiment(spec, root=tmp_path)
    assert not run.finished
    recorder = Recorder()
    run_experiment(spec, root=tmp_path, observer=recorder, allow_inexact=True)
    assert recorder.events[0] == f"warned: after epoch 2 this run resumes with {differences}"
    (resume,) = run.read_json("manifest.json")["inexact"]
    assert (resume["after_epoch"], len(resume["differences"])) == (2, 3)


def test_a_run_of_a_newer_tiedexp_is_left_alone(cut_off, tmp_path):
    spec, run = cut_off
    change_manifest(run, format=99)
    for path in run.checkpoints.iterdir():
        path.unlink()  # so that there is nothing to resume from either
    with pytest.raises(RunError, match="was written by a newer tiedexp"):
        run_experiment(spec, root=tmp_path)
    assert run.read_json("manifest.json")["format"] == 99


def test_a_run_is_not_resumed_with_other_data(make_spec, tmp_path):
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
    with pytest.raises(RunError, match=r"the data has changed since this run started .* --fresh starts over"):
        run_experiment(spec, root=tmp_path)
    assert {path: path.read_bytes() for path in before} == before
    assert run_experiment(spec, root=tmp_path, fresh=True).finished


def test_a_run_that_another_process_has_started_in_the_meantime_is_left_alone(cut_off, tmp_path):
    """That process may compute with other operations than the model that was built."""
    spec, run = cut_off
    manifest = run.path / "manifest.json"
    before = manifest.read_text()
    manifest.unlink()

    def write():
        manifest.write_text(before)
        return False

    with pytest.raises(RunLockedError, match=r"another process has used .* in the meantime; the same command resumes"):
        run_experiment(spec, root=tmp_path, should_stop=write)
    assert manifest.read_text() == before
    assert not run.inside("failure.json").exists()


def test_a_run_that_another_has_locked_is_left_alone(make_spec, tmp_path):
    spec = make_spec()
    run = locate_run(spec, tmp_path)
    with run.lock(), pytest.raises(RunError, match="is in use by another process"):
        run_experiment(spec, root=tmp_path)
    assert [path.name for path in run.path.iterdir()] == [".lock"]
