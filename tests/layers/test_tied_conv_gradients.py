"""How TiedConv2D learns: gradients against the dense ones, and what optimizers do to tied cells."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS

IMAGES = np.random.default_rng(0).normal(size=(3, 9, 8, 4))
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.05, momentum=0.9),
    "adamw": lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1),
}


def gradients(layer: keras.layers.Layer, images: np.ndarray = IMAGES) -> list[np.ndarray]:
    """The gradients of an asymmetric loss, penalties included, with respect to the input and each weight."""
    inputs = tf.constant(images, dtype=layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = layer(inputs)
        weighting = np.random.default_rng(5).normal(size=outputs.shape)
        loss = tf.reduce_sum(tf.sin(outputs) * tf.constant(weighting, outputs.dtype)) + sum(layer.losses)
    return [gradient.numpy() for gradient in tape.gradient(loss, [inputs, *layer.trainable_variables])]


def build_pair(pattern: Pattern | str, **options: object) -> tuple[TiedConv2D, keras.layers.Conv2D]:
    """A tied layer and the dense one with the same weights and penalty, float64."""
    layer = TiedConv2D(4, pattern, None if isinstance(pattern, Pattern) else 5, dtype="float64", **options)
    layer.build(IMAGES.shape)
    layer.bias.assign(np.random.default_rng(2).normal(size=4))
    return layer, layer.to_conv2d()


def check_gradients(pattern: Pattern | str, gradient: str, **options: object) -> None:
    layer, dense = build_pair(pattern, gradient=gradient, **options)
    by_input, by_free, by_bias = gradients(layer)
    dense_by_input, by_kernel, dense_by_bias = gradients(dense)
    np.testing.assert_allclose(by_input, dense_by_input, atol=1e-10)
    np.testing.assert_allclose(by_bias, dense_by_bias, atol=1e-10)
    expected = np.zeros_like(by_free)
    for row in range(layer.pattern.shape[0]):
        for col in range(layer.pattern.shape[1]):
            if layer.pattern.sign[row, col]:
                expected[layer.pattern.index[row, col]] += layer.pattern.sign[row, col] * by_kernel[row, col]
    if gradient == "mean":
        expected /= np.array(layer.pattern.group_sizes)[:, None, None]
    np.testing.assert_allclose(by_free, expected, atol=1e-10)


@pytest.mark.parametrize("gradient", ["sum", "mean"])
@pytest.mark.parametrize("name", PRESETS)
def test_gradient_of_a_group(name: str, gradient: str) -> None:
    check_gradients(name, gradient, padding="same")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    gradient=st.sampled_from(["sum", "mean"]),
    options=st.sampled_from([{}, {"padding": "same", "strides": 2}, {"dilation_rate": 2}, {"groups": 2}]),
)
def test_gradient_of_a_group_in_random_grids(
    seed: int, gradient: str, options: dict[str, object], random_pattern: Callable[[int], Pattern]
) -> None:
    check_gradients(random_pattern(seed), gradient, **{"padding": "same", **options})


@pytest.mark.parametrize("gradient", ["sum", "mean"])
def test_gradient_of_the_penalty_too(gradient: str) -> None:
    # "mean" projects gradient descent on the penalised untied kernel: its penalty is averaged as well.
    check_gradients("block", gradient, padding="same", kernel_regularizer=keras.regularizers.L2(0.3))
    check_gradients("anti_point", gradient, padding="same", kernel_regularizer=keras.regularizers.L1(0.3))


def test_gradient_is_dense() -> None:
    # IndexedSlices would take the slow path of every optimizer.
    layer = TiedConv2D(4, "block", 5)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(IMAGES.astype("float32")))
    assert isinstance(tape.gradient(loss, layer.free_kernel.value), tf.Tensor)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_mean_gradient_in_a_graph(jit_compile: bool) -> None:
    layer, _ = build_pair("block", gradient="mean")
    eager = gradients(layer)

    @tf.function(jit_compile=jit_compile)
    def compiled(inputs: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
            weighting = np.random.default_rng(5).normal(size=outputs.shape)
            loss = tf.reduce_sum(tf.sin(outputs) * tf.constant(weighting, outputs.dtype))
        return tape.gradient(loss, layer.trainable_variables)

    for got, expected in zip(compiled(tf.constant(IMAGES)), eager[1:], strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-10)


def train(layer: keras.layers.Layer, optimizer: keras.optimizers.Optimizer, steps: int = 20) -> None:
    """Steps of regression on noise."""
    rng = np.random.default_rng(7)
    images = rng.normal(size=(steps, *IMAGES.shape)).astype("float32")

    @tf.function
    def step(inputs: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
            loss = tf.reduce_mean((outputs - tf.roll(outputs, 1, axis=0) + inputs[..., :1]) ** 2) + sum(layer.losses)
        optimizer.apply(tape.gradient(loss, layer.trainable_variables), layer.trainable_variables)

    for batch in images:
        step(tf.constant(batch))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("gradient", ["sum", "mean"])
@pytest.mark.parametrize("name", ["block", "d4", "anti_point", "rings_circular", "hashed"])
def test_cells_stay_bit_identical(name: str, gradient: str, optimizer: str) -> None:
    layer = TiedConv2D(4, name, 5, padding="same", gradient=gradient, kernel_regularizer="l2")
    layer.build(IMAGES.shape)
    before = layer.free_kernel.numpy()
    train(layer, OPTIMIZERS[optimizer]())
    kernel, free = np.asarray(layer.kernel), layer.free_kernel.numpy()
    assert (free != before).all()
    for row in range(5):
        for col in range(5):
            sign, group = layer.pattern.sign[row, col], layer.pattern.index[row, col]
            expected = sign * free[group] if sign else np.zeros_like(free[0])
            assert np.array_equal(kernel[row, col], expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("gradient", ["sum", "mean"])
def test_full_trains_exactly_as_conv2d(gradient: str, optimizer: str) -> None:
    keras.utils.set_random_seed(3)
    tied = TiedConv2D(
        4, "full", 5, padding="same", gradient=gradient, kernel_regularizer="l2", kernel_constraint="max_norm"
    )
    tied.build(IMAGES.shape)
    keras.utils.set_random_seed(3)
    dense = keras.layers.Conv2D(4, 5, padding="same", kernel_regularizer="l2", kernel_constraint="max_norm")
    dense.build(IMAGES.shape)
    np.testing.assert_array_equal(tied.kernel, dense.kernel)
    start = dense.kernel.numpy()
    for layer in (tied, dense):
        train(layer, OPTIMIZERS[optimizer]())
    assert (dense.kernel.numpy() != start).all()
    np.testing.assert_array_equal(tied.kernel, dense.kernel)
    np.testing.assert_array_equal(tied.bias, dense.bias)


def test_mean_is_projected_descent_on_the_untied_kernel() -> None:
    tied, dense = build_pair("block", gradient="mean", padding="same", kernel_regularizer="l2")
    pattern = tied.pattern
    for layer in (tied, dense):
        optimizer = keras.optimizers.SGD(0.05)
        for _ in range(3):
            by_weights = gradients(layer)[1:]
            optimizer.apply([tf.constant(value) for value in by_weights], layer.trainable_variables)
            if layer is dense:
                means = pattern.collapse(dense.kernel.numpy()) / np.array(pattern.group_sizes)[:, None, None]
                dense.kernel.assign(pattern.expand(means))
    np.testing.assert_allclose(tied.kernel, dense.kernel, atol=1e-12)
