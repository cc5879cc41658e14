"""TiedConv2D in any code: whatever the sizes, options, dtypes and gradients, it equals the dense layer."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

IMPLEMENTATIONS = ("auto", "expand", "factored")
# In float16 and bfloat16, the tolerance of sums of about a hundred products.
TOLERANCE = {"float64": 1e-11, "float32": 1e-5, "float16": 2e-2, "bfloat16": 1e-1}
PATTERN = Pattern.parse("AB-A/.CC/-BBA")


def build(
    sides: tuple[int | None, int | None],
    channels: int,
    pattern: Pattern = PATTERN,
    filters: int = 4,
    **options: Any,
) -> TiedConv2D:
    """A layer built as a functional model builds it, with weights from a seed."""
    layer = TiedConv2D(filters, pattern, **options)
    last = layer.data_format == "channels_last"
    layer(keras.Input((*sides, channels) if last else (channels, *sides), dtype=layer.compute_dtype))
    rng = np.random.default_rng(0)
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def run(layer: Any, images: np.ndarray) -> list[np.ndarray]:
    """The output and the gradients of its sum of squares, with channels last, in float64."""
    last = layer.data_format == "channels_last"
    inputs = tf.constant(images if last else images.transpose(0, 3, 1, 2), layer.compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        output = layer(inputs)
        loss = tf.reduce_sum(tf.cast(output, tf.float64) ** 2)
    of_images, *of_weights = tape.gradient(loss, [inputs, *[weight.value for weight in layer.trainable_variables]])
    tensors = [output, of_images] if last else [tf.transpose(tensor, (0, 2, 3, 1)) for tensor in (output, of_images)]
    return [np.asarray(tf.cast(tensor, tf.float64)) for tensor in (*tensors, *of_weights)]


def run_reference(layer: TiedConv2D, images: np.ndarray) -> list[np.ndarray]:
    """The same, computed by TensorFlow's convolution of each group with the expanded kernel, in float64."""
    inputs, free, bias = (
        tf.constant(np.asarray(tf.cast(tensor, layer.compute_dtype), "float64"))
        for tensor in (images, *layer.get_weights())
    )
    with tf.GradientTape() as tape:
        tape.watch((inputs, free, bias))
        kernel = tf.reshape(
            tf.tensordot(tf.constant(layer.pattern.matrix, free.dtype), free, 1),
            (*layer.pattern.shape, *free.shape[1:]),
        )
        parts = zip(tf.split(inputs, layer.groups, -1), tf.split(kernel, layer.groups, -1), strict=True)
        options = {"padding": layer.padding.upper(), "dilations": layer.dilation_rate}
        outputs = [tf.nn.convolution(part, filters, layer.strides, **options) for part, filters in parts]
        output = tf.concat(outputs, -1) + bias
        loss = tf.reduce_sum(output**2)
    return [output.numpy(), *[gradient.numpy() for gradient in tape.gradient(loss, (inputs, free, bias))]]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray], dtype: str) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE[dtype] * max(1.0, np.abs(b).max(initial=0)))


STEPS = [{}, {"strides": 2}, {"strides": (1, 3)}, {"dilation_rate": 2}, {"dilation_rate": (2, 1)}]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("steps", STEPS, ids=str)
def test_the_whole_product_of_options(steps: dict[str, Any], padding: str, groups: int) -> None:
    images = np.random.default_rng(1).normal(size=(2, 8, 9, 6))
    options: dict[str, Any] = {"padding": padding, "groups": groups, **steps}
    for dtype in TOLERANCE:
        expected = run_reference(build((8, 9), 6, dtype=dtype, implementation="expand", **options), images)
        for implementation, data_format, sides in product(
            IMPLEMENTATIONS, ("channels_last", "channels_first"), ((8, 9), (None, None))
        ):
            layer = build(sides, 6, dtype=dtype, implementation=implementation, data_format=data_format, **options)
            assert_close(run(layer, images), expected, dtype)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_random_layers(random_pattern: Callable[[int], Pattern], data: st.DataObject) -> None:
    """Random grids; known, partly known and unknown sizes; images smaller than the kernel; empty batches."""
    draw = data.draw
    pattern = random_pattern(draw(st.integers(0, 10**6), "pattern"))
    steps = draw(
        st.one_of(
            st.fixed_dictionaries({"strides": st.tuples(st.integers(1, 3), st.integers(1, 3))}),
            st.fixed_dictionaries({"dilation_rate": st.tuples(st.integers(1, 3), st.integers(1, 3))}),
        ),
        "steps",
    )
    padding, groups = draw(st.sampled_from(["same", "valid"])), draw(st.integers(1, 3))
    dtype = draw(st.sampled_from(["float32", "float64"]))
    sides = tuple(draw(st.integers(1, 8)) for _ in range(2))
    if padding == "valid":
        rates = steps.get("dilation_rate", (1, 1))
        sides = tuple(side + (size - 1) * rate for side, size, rate in zip(sides, pattern.shape, rates, strict=True))
    layer = build(
        tuple(side if draw(st.booleans()) else None for side in sides),  # type: ignore[arg-type]
        channels=groups * draw(st.integers(1, 3)),
        pattern=pattern,
        filters=groups * draw(st.integers(1, 4)),
        padding=padding,
        groups=groups,
        dtype=dtype,
        data_format=draw(st.sampled_from(["channels_last", "channels_first"])),
        implementation=draw(st.sampled_from(IMPLEMENTATIONS)),
        **steps,
    )
    channels = layer.free_kernel.shape[1] * groups
    images = np.random.default_rng(1).normal(size=(draw(st.integers(0, 3)), *sides, channels))
    assert_close(run(layer, images), run_reference(layer, images), dtype)


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_fully_convolutional_model(implementation: str, strides: int) -> None:
    """Built without sizes, it takes images of any size."""
    inputs = keras.Input((None, None, 3))
    options = {"padding": "same", "implementation": implementation}
    x = TiedConv2D(64, "mirror_h", 3, strides=strides, **options)(inputs)
    model = keras.Model(inputs, TiedConv2D(8, "block", 5, **options)(x))
    dense = keras.Sequential([inputs, *[layer.to_conv2d() for layer in model.layers[1:]]])
    for sides in ((32, 32), (7, 40), (1, 1)):
        images = np.random.default_rng(0).normal(size=(2, *sides, 3)).astype("float32")
        np.testing.assert_allclose(model(images), dense(images), atol=1e-5)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_images_smaller_than_the_kernel_are_an_error(implementation: str) -> None:
    layer = TiedConv2D(4, "block", 5, padding="valid", implementation=implementation)
    layer(keras.Input((None, None, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        layer(np.zeros((1, 2, 8, 3), "float32"))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(("groups", "dilation"), [(1, 1), (2, 1), (2, 2), (6, 1)])
def test_an_empty_batch(groups: int, dilation: int, implementation: str) -> None:
    layer = build((8, 8), 6, filters=12, groups=groups, dilation_rate=dilation, implementation=implementation)
    output, *gradients = run(layer, np.zeros((0, 8, 8, 6)))
    assert output.shape == (0, *layer.compute_output_shape((0, 8, 8, 6))[1:])
    assert [gradient.shape for gradient in gradients[1:]] == [weight.shape for weight in layer.weights]
    assert not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_gradient_of_cells_that_see_only_padding_is_zero(dtype: str, strides: int) -> None:
    pattern = Pattern.preset("full", 5)
    layer = build((1, 1), 4, pattern, groups=2, padding="same", dtype=dtype, strides=strides)
    _, _, of_free, _ = run(layer, np.ones((2, 1, 1, 4)))
    seen = of_free.reshape(25, -1).any(axis=1)
    assert np.flatnonzero(seen).tolist() == [12]  # the centre


# Gradients in any context


def build_both(**options: Any) -> tuple[TiedConv2D, keras.layers.Conv2D]:
    layer = build((9, 9), 6, Pattern.preset("block", 5), padding="same", **options)
    return layer, layer.to_conv2d()


IMAGES = np.random.default_rng(2).normal(size=(2, 9, 9, 6)).astype("float32")


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("groups", [1, 2])
def test_forward_in_xla_and_the_tape_outside(implementation: str, groups: int) -> None:
    layer, _ = build_both(implementation=implementation, groups=groups)
    inputs, results = tf.constant(IMAGES), []
    for call in (layer, tf.function(layer, jit_compile=True)):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = call(inputs)
        results.append([output, *tape.gradient(output, [inputs, layer.free_kernel.value])])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_forward_mode(implementation: str) -> None:
    """The derivative along a direction, of the output and of a gradient (a Hessian's product with a vector)."""
    results = []
    for layer in build_both(implementation=implementation):
        inputs = tf.constant(IMAGES)
        with tf.autodiff.ForwardAccumulator(inputs, tf.ones_like(inputs)) as accumulator:
            with tf.GradientTape() as tape:
                tape.watch(inputs)
                output = layer(inputs)
                loss = tf.reduce_sum(output**3)
            gradient = tape.gradient(loss, inputs)
        results.append((accumulator.jvp(output), accumulator.jvp(gradient)))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_forward_mode_along_the_weights(implementation: str) -> None:
    layer, _ = build_both(implementation=implementation)
    variable = layer.free_kernel.value
    direction = tf.ones_like(variable)
    with tf.autodiff.ForwardAccumulator(variable, direction) as accumulator:
        output = layer(IMAGES)
    # The layer is linear in its kernel.
    shifted = TiedConv2D.from_config({**layer.get_config(), "use_bias": False})
    shifted.build(IMAGES.shape)
    shifted.set_weights([direction])
    np.testing.assert_allclose(accumulator.jvp(output), shifted(IMAGES), atol=1e-4)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_an_upstream_gradient_of_unknown_shape(implementation: str) -> None:
    layer, dense = build_both(implementation=implementation)
    signature = [tf.TensorSpec((None, None, None, 6)), tf.TensorSpec(None)]

    def differentiate(layer: Any, images: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images)
        return tape.gradient(output, images, upstream)

    ours, theirs = (
        tf.function(lambda images, upstream, layer=layer: differentiate(layer, images, upstream), signature)(
            IMAGES, tf.ones((2, 9, 9, 4))
        )
        for layer in (layer, dense)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
