"""Every figure is compared with its definition, computed by hand."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from tiedexp.errors import RunError
from tiedexp.metrics import Predictor, compute_evaluation, compute_loss_and_accuracy
from tiedexp.models.plan import plan_resnet
from tiedexp.models.resnet import build_resnet

PROBABILITIES = np.array(
    [
        [0.70, 0.20, 0.10],
        [0.10, 0.80, 0.10],
        [0.05, 0.05, 0.90],
        [0.60, 0.30, 0.10],
        [0.40, 0.35, 0.25],
    ]
)
LABELS = np.array([0, 1, 2, 1, 0])
LOGITS = np.log(PROBABILITIES) + np.array([[3.0], [-2.0], [0.0], [100.0], [1.0]])  # shifts do not change probabilities


def evaluate(logits=LOGITS, labels=LABELS, names=("a", "b", "c")):
    return compute_evaluation(logits, labels, names)


def test_loss_and_accuracy():
    result = evaluate()
    loss = -sum(math.log(p) for p in (0.70, 0.80, 0.90, 0.30, 0.40)) / 5
    assert result.images == 5
    assert result.loss == pytest.approx(loss)
    assert result.accuracy == 0.8
    assert compute_loss_and_accuracy(LOGITS, LABELS) == (result.loss, result.accuracy)


def test_the_wilson_interval_by_its_formula():
    """(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    low, high = evaluate().accuracy_interval
    n, p, z = 5, 0.8, 1.959963984540054
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert (low, high) == pytest.approx(((centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)))


def test_the_calibration_error_by_hand():
    """The bins are fifteenths: 0.70 is in bin 10, 0.80 in 12, 0.90 in 13, 0.60 (wrong) in 9, 0.40 in 6; all alone."""
    gaps = (1 - 0.7) + (1 - 0.8) + (1 - 0.9) + 0.6 + (1 - 0.4)
    assert evaluate().calibration_error == pytest.approx(gaps / 5)


def test_images_in_one_bin_share_its_gap():
    probabilities = np.array([[0.81, 0.19], [0.85, 0.15]])  # both in the bin from 12/15 to 13/15, one right
    result = evaluate(np.log(probabilities), np.array([0, 1]), ("a", "b"))
    assert result.calibration_error == pytest.approx(abs(0.5 - 0.83))


def test_certainty_falls_into_the_last_bin():
    assert evaluate(np.array([[1000.0, 0.0]]), np.array([0]), ("a", "b")).calibration_error == 0.0


def test_classes_and_confusion():
    result = evaluate()
    assert result.confusion == ((2, 0, 0), (1, 1, 0), (0, 0, 1))
    a, b, c = result.classes
    assert (a.name, a.images, a.precision, a.recall) == ("a", 2, pytest.approx(2 / 3), 1.0)
    assert (b.images, b.precision, b.recall, b.f1) == (2, 1.0, 0.5, pytest.approx(2 / 3))
    assert (c.images, c.f1) == (1, 1.0)


def test_a_class_without_images_or_predictions_counts_zero():
    result = evaluate(LOGITS[:1], LABELS[:1])
    assert [entry.images for entry in result.classes] == [1, 0, 0]
    assert result.classes[1].precision == result.classes[1].recall == 0.0
    assert len(result.confusion) == 3


def test_top_5_needs_more_than_five_classes():
    assert evaluate().top5_accuracy is None
    logits = np.tile(np.arange(7.0), (7, 1))
    result = evaluate(logits, np.arange(7), tuple("abcdefg"))
    assert result.top5_accuracy == pytest.approx(5 / 7)
    assert result.accuracy == pytest.approx(1 / 7)


def test_the_predictor_runs_the_model_for_inference_on_batches_of_any_size():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dropout(0.5), keras.layers.Dense(2)])
    x = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")
    y = np.arange(10)
    logits, labels = Predictor(model)((x[i : i + 4], y[i : i + 4]) for i in range(0, 10, 4))
    kernel, bias = (v.numpy() for v in model.layers[-1].weights)
    np.testing.assert_allclose(logits, x @ kernel + bias, atol=1e-6)
    np.testing.assert_array_equal(labels, y)
    assert (logits.dtype, labels.dtype) == (np.float64, np.int64)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_outputs_with_nan_or_infinity_are_refused(bad):
    logits = LOGITS.copy()
    logits[3, 1] = bad
    for compute in (lambda: compute_loss_and_accuracy(logits, LABELS), lambda: evaluate(logits)):
        with pytest.raises(RunError, match="the model's outputs contain NaN or infinity for 1 of 5 images"):
            compute()


def test_the_order_of_batch_sizes_does_not_change_a_bit():
    convs = plan_resnet((8, 8, 1), width=8, widen=1, kernel_size=3, patterns=[None] * 7)
    model = build_resnet((8, 8, 1), 10, convs)
    generator = np.random.default_rng(0)
    for variable in model.variables:  # batch normalisation as after training, not 0 and 1
        variable.assign(variable + generator.uniform(0.0, 0.3, size=variable.shape))
    batches = [
        (generator.normal(size=(size, 8, 8, 1)).astype("float32"), np.arange(size) % 10) for size in (144, 359, 30)
    ]
    forwards, backwards = Predictor(model), Predictor(model)
    expected = [forwards([batch])[0] for batch in batches]
    for batch, logits in list(zip(batches, expected, strict=True))[::-1]:
        np.testing.assert_array_equal(backwards([batch])[0], logits)
