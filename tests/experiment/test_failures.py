"""What stops a run, and the message that it gives."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tiedexp.errors import DatasetError, RunError, TiedexpError
from tiedexp.experiment.evaluate import evaluate_run
from tiedexp.experiment.run import run_experiment

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


def test_a_loss_that_is_nan_fails_the_run_and_keeps_the_last_checkpoint(make_spec, tmp_path):
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
    assert "resumes" not in message
    (run,) = tmp_path.glob("*/seed-0")
    assert not (run / "result.json").exists()
    assert [json.loads(line)["epoch"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1]


@pytest.mark.parametrize(
    ("rate", "message"), [(float("inf"), "the weights of '"), (1e24, "the model's outputs contain NaN or infinity")]
)
def test_an_epoch_whose_last_step_ruins_the_model_is_not_saved(make_spec, tmp_path, monkeypatch, rate, message):
    """The loss of that step is still finite."""
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
    with pytest.raises(RunError, match="the test of epoch 1: the model's outputs contain NaN or infinity for 4 of 4"):
        run_experiment(spec, root=tmp_path)
    assert not run.finished


OUT_OF_MEMORY = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor\nwith shape [9]")


BROKEN = tf.errors.InternalError(None, None, "it broke")
UNDETERMINED = tf.errors.UnimplementedError(None, None, "Deterministic thing is not available.\nSet another")


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("assembly.build_model", OUT_OF_MEMORY, "^the device ran out of memory"),
        ("assembly.load_images", OUT_OF_MEMORY, "^the device ran out of memory"),
        ("run.compute_loss_and_accuracy", OUT_OF_MEMORY, "^epoch 1: the device ran out of memory"),
        ("run.compute_loss_and_accuracy", UNDETERMINED, r"not available.; training.deterministic=false disables this"),
        (
            "run.compute_evaluation",
            tf.errors.InternalError(None, None, "it broke"),
            "^TensorFlow cannot continue: it broke$",
        ),
    ],
)
def test_what_tensorflow_cannot_do_is_a_message(make_spec, tmp_path, monkeypatch, where, error, message):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(f"tiedexp.experiment.{where}", fail)
    with pytest.raises(RunError, match=message):
        run_experiment(make_spec(training={"epochs": 1}), root=tmp_path)


def test_an_evaluation_that_tensorflow_cannot_do_is_a_message(make_spec, tmp_path, monkeypatch):
    run = run_experiment(make_spec(training={"epochs": 1}), root=tmp_path)

    def fail(*arguments):
        raise OUT_OF_MEMORY

    monkeypatch.setattr("tiedexp.metrics.Predictor.__call__", fail)
    with pytest.raises(RunError, match="the device ran out of memory"):
        evaluate_run(run)


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
def test_an_impossible_spec_is_an_error_before_anything_is_made(make_spec, tmp_path, changes, message):
    with pytest.raises(TiedexpError, match=message):
        run_experiment(make_spec(**changes), root=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
