"""The loop against steps that are written out by hand, and against itself with other numbers of steps per call."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.errors import RunError
from tiedexp.training.trainer import EpochSums


def weights_of(trainer):
    return [variable.numpy() for variable in trainer.model.variables if "seed" not in variable.path]


def train_by_hand(trainer, batches, steps, smoothing=0.0):
    """SGD with rate 0.05, no momentum; returns losses, hits and gradient norms."""
    model, losses, hits, norms = trainer.model, [], 0, []
    for step in range(steps):
        images, labels = (part.numpy() for part in batches(step, 0, 1))
        targets = labels * (1 - smoothing) + smoothing / labels.shape[1]
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = -tf.reduce_mean(tf.reduce_sum(targets * tf.nn.log_softmax(logits), axis=1))
        gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.05 * gradient)
        losses.append(float(loss))
        hits += int((logits.numpy().argmax(1) == labels.argmax(1)).sum())
        norms.append([float(tf.norm(gradient)) for gradient in gradients])
    return losses, hits, np.array(norms)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_an_epoch_equals_the_steps_done_by_hand(make_trainer, batches, smoothing, jit):
    options = {"optimizer": {"momentum": 0.0}, "model": {"batch_norm": True}}
    trainer = make_trainer(label_smoothing=smoothing, record_gradient_norms=True, jit=jit, **options)
    reference = make_trainer(**options)
    result = trainer.run_epoch(0, 12)
    losses, hits, norms = train_by_hand(reference, batches, 12, smoothing)
    assert result.loss == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.accuracy == hits / 96
    np.testing.assert_allclose(result.gradient_norms, norms, rtol=1e-4, atol=1e-6)
    for ours, theirs in zip(weights_of(trainer), weights_of(reference), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_number_of_steps_per_call_changes_no_bit(make_trainer):
    results = []
    for steps in (1, 5, 12, None):
        trainer = make_trainer("adam", model={"dropout": 0.3}, steps_per_execution=steps)
        epoch = trainer.run_epoch(0, 12)
        results.append([*weights_of(trainer), epoch.loss, epoch.accuracy])
    for other in results[1:]:
        for ours, theirs in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_an_epoch_in_parts_equals_the_whole_epoch(make_trainer):
    options = {"model": {"dropout": 0.3}, "record_gradient_norms": True}
    whole, parts = make_trainer("adam", **options), make_trainer("adam", **options)
    expected = whole.run_epoch(12, 12)
    sums = EpochSums()
    for until in (5, 6, 12, 12):
        sums = parts.run_steps(12, sums, until)
        assert sums.steps == until
    result = sums.result(parts.batch_size)
    assert (result.loss, result.accuracy) == (expected.loss, expected.accuracy)
    np.testing.assert_array_equal(result.gradient_norms, expected.gradient_norms)
    for ours, theirs in zip(weights_of(parts), weights_of(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_stops_between_calls_when_asked_to(make_trainer):
    trainer = make_trainer(steps_per_execution=5)
    seen = []
    sums = trainer.run_steps(0, EpochSums(), 12, seen.append, lambda: len(seen) == 2)
    assert sums.steps == 10
    assert trainer.run_steps(0, sums, 12, should_stop=lambda: True) == sums
    assert trainer.run_steps(0, sums, 12).steps == 12


def test_an_epoch_begins_at_its_first_step(make_trainer, batches):
    trainer, reference = make_trainer(optimizer={"momentum": 0.0}), make_trainer()
    trainer.run_epoch(3, 1)
    images, labels = batches.images[24:32], batches.labels[24:32]
    logits = reference.model(images).numpy()
    gradient = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) - labels).mean(0)  # of the classifier's bias
    before, after = (t.model.get_layer("classifier").bias.numpy() for t in (reference, trainer))
    np.testing.assert_allclose(after - before, -0.05 * gradient, atol=1e-6)


def test_progress_counts_up_to_the_end(make_trainer):
    seen = []
    result = make_trainer(steps_per_execution=5).run_epoch(0, 12, seen.append)
    assert [progress.step for progress in seen] == [5, 10, 12]
    assert seen[-1].loss == result.loss
    assert seen[-1].accuracy == result.accuracy
    assert result.images_per_second > 0
    assert result.gradient_norms is None


def test_penalties_of_layers_are_trained_but_not_reported(make_trainer):
    trainer, plain = make_trainer(optimizer={"momentum": 0.0}), make_trainer(optimizer={"momentum": 0.0})
    trainer.model.get_layer("conv").kernel_regularizer = keras.regularizers.L2(0.1)
    trainer.model.get_layer("conv").kernel.regularizer = keras.regularizers.L2(0.1)
    start = trainer.model.get_layer("conv").kernel.numpy()
    assert trainer.run_epoch(0, 1).loss == plain.run_epoch(0, 1).loss
    kernels = [t.model.get_layer("conv").kernel.numpy() for t in (trainer, plain)]
    np.testing.assert_allclose(kernels[0] - kernels[1], -0.05 * 0.2 * start, atol=1e-6)


def test_a_loss_that_is_nan_ends_the_epoch_and_names_the_step(make_trainer):
    trainer = make_trainer(steps_per_execution=4)
    trainer.run_epoch(0, 8)
    trainer.model.get_layer("classifier").bias.assign([float("nan")] * 4)
    with pytest.raises(RunError, match="the loss became nan at step 8"):
        trainer.run_epoch(8, 8)


def test_gradient_clipping_bounds_the_step(make_trainer):
    start = weights_of(make_trainer())
    trainer = make_trainer(optimizer={"momentum": 0.0}, gradient_clipping=0.01)
    trainer.run_epoch(0, 1)
    moved = np.sqrt(sum(((a - b) ** 2).sum() for a, b in zip(weights_of(trainer), start, strict=True)))
    assert moved == pytest.approx(0.05 * 0.01, rel=1e-3)


def test_float16_trains_to_about_the_same_weights(make_trainer):
    half = make_trainer(
        model={"dtype": "mixed_float16"},
        optimizer={"momentum": 0.0, "precision": "mixed_float16"},
        record_gradient_norms=True,
    )
    full = make_trainer(optimizer={"momentum": 0.0}, record_gradient_norms=True)
    results = half.run_epoch(0, 8), full.run_epoch(0, 8)
    assert results[0].loss == pytest.approx(results[1].loss, rel=1e-2)
    np.testing.assert_allclose(results[0].gradient_norms, results[1].gradient_norms, rtol=0.05)
    for ours, theirs in zip(weights_of(half), weights_of(full), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


SEVERAL_DEVICES = """
    import keras, numpy as np, tensorflow as tf
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    import sys
    sys.path.insert(0, sys.argv[1])
    import conftest
    from tiedexp.training.devices import build_strategy, describe_devices
    from tiedexp.training.optimizers import build_optimizer
    from tiedexp.training.trainer import Trainer

    results = []
    for devices in (1, 2):
        strategy = build_strategy(devices)
        keras.utils.set_random_seed(11)
        with strategy.scope():
            model = conftest.build_model()
            optimizer = build_optimizer(keras.optimizers.SGD, 0.05, momentum=0.9, weight_decay=0.01)
            optimizer.build(model.trainable_variables)
        trainer = Trainer(
            model, optimizer, conftest.RandomBatches(), batch_size=8, strategy=strategy,
            record_gradient_norms=True, label_smoothing=0.1, gradient_clipping=0.5,
        )
        results.append((trainer.run_epoch(0, 10), [v.numpy() for v in model.trainable_variables]))
        print(describe_devices(strategy), trainer.num_replicas)
    (one, ours), (two, theirs) = results
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-5)
    assert one.accuracy == two.accuracy
    np.testing.assert_allclose(one.gradient_norms, two.gradient_norms, rtol=1e-3, atol=1e-6)
    for a, b in zip(ours, theirs):
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert build_strategy("all").num_replicas_in_sync == 2
    try:
        build_strategy(3)
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_two_devices_train_as_one(tmp_path):
    """On two logical CPUs, which must be configured before TensorFlow starts, so in a separate process."""
    script = tmp_path / "several.py"
    script.write_text(textwrap.dedent(SEVERAL_DEVICES))
    here = __file__.rpartition("/")[0]
    done = subprocess.run([sys.executable, script, here], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "CPU 1",
        "2 x logical CPU 2",
        "RunError `training.devices` is 3, but there are 2 CPU",
    ]
