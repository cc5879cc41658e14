"""The kernel from before training, which a run keeps for pictures."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from run_checks import assert_same_run, read_weights

from tiedexp.experiment.assembly import build_model
from tiedexp.experiment.preparation import plan_model
from tiedexp.experiment.run import run_experiment
from tiedexp.training.weights_file import write_array

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


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
    """It has the name that it has in every checkpoint, and the values that the seed gives a new model."""
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


def test_a_resumed_run_leaves_the_first_kernel_alone(cut_off, tmp_path):
    """It is written when a run starts, and only then."""
    spec, run = cut_off
    run.initial_kernel.write_bytes(b"as it was")
    run_experiment(spec, root=tmp_path)
    assert run.initial_kernel.read_bytes() == b"as it was"
    run_experiment(spec, root=tmp_path, fresh=True)
    assert read_weights(run.initial_kernel).keys() == {"layers/tied_conv2d/vars/0"}


def test_a_run_that_an_older_version_started_resumes_without_its_first_kernel(cut_off, tmp_path):
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
