"""The tied convolution: outputs against NumPy, gradients against the dense layer's, by every method."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tiedexp.convolution.choosing import EXPAND, NATIVE, Choice
from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.convolution.tied import TiedConvolution
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

PATTERNS = {
    "block": Pattern.preset("block", 5),
    "rings": Pattern.preset("rings", 5),
    "mirror_hv": Pattern.preset("mirror_hv", 5),
    "rot90": Pattern.preset("rot90", 3),
    "checkerboard": Pattern.preset("checkerboard", (4, 3)),
    "tile": Pattern.preset("tile", 4),
    "signed": Pattern.parse("AB-A/.CC/-BBA/C.-C"),
    "toeplitz": Pattern.preset("toeplitz", (2, 5)),
}
OPTIONS = [
    {"padding": "valid"},
    {"padding": "same"},
    {"padding": "same", "strides": (2, 2)},
    {"padding": "valid", "strides": (3, 3)},
    {"padding": "same", "dilation": (2, 2)},
    {"padding": "valid", "dilation": (1, 2)},
    {"padding": "same", "groups": 3},
    {"padding": "valid", "groups": 2, "strides": (2, 3)},
    {"padding": "same", "groups": 2, "dilation": (2, 1)},
]


def list_choices(**options: object) -> list[Choice]:
    """Every method for every part; with strides, the input gradient is always dense."""
    parts = (EXPAND, NATIVE)
    of_images = parts if options.get("strides", (1, 1)) == (1, 1) else (EXPAND,)
    return [Choice(forward, first, second) for forward in parts for first in of_images for second in parts]


def dense_results(
    pattern: Pattern, images: np.ndarray, free: np.ndarray, upstream: np.ndarray, gradient: str, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """Gradients by automatic differentiation of TensorFlow's convolution with the expanded kernel, group by group."""
    images_, kernel = tf.constant(images), tf.constant(pattern.expand(free))
    groups = options.get("groups", 1)
    with tf.GradientTape() as tape:
        tape.watch((images_, kernel))
        outputs = [
            tf.nn.convolution(
                part,
                filters,
                options.get("strides", (1, 1)),
                str(options["padding"]).upper(),
                dilations=options.get("dilation", (1, 1)),
            )
            for part, filters in zip(tf.split(images_, groups, -1), tf.split(kernel, groups, -1), strict=True)
        ]
        output = tf.concat(outputs, -1)
    of_images, of_kernel = tape.gradient(output, (images_, kernel), tf.constant(upstream))
    of_free = pattern.collapse(of_kernel.numpy())
    if gradient == "mean":
        of_free = of_free / np.reshape(pattern.group_sizes, (-1, 1, 1))
    return of_images.numpy(), of_free


def check(
    pattern: Pattern,
    choice: Choice,
    numpy_conv: Callable[..., np.ndarray],
    shape: tuple[int, ...] = (2, 9, 11, 3),
    gradient: str = "sum",
    **options: object,
) -> None:
    rng = np.random.default_rng(0)
    groups = options.get("groups", 1)
    images = rng.normal(size=(*shape[:-1], shape[-1] * groups))  # type: ignore[operator]
    free = rng.normal(size=(pattern.num_groups, shape[-1], 4 * groups))  # type: ignore[operator]
    expected = numpy_conv(images, pattern.expand(free), **options)
    upstream = rng.normal(size=expected.shape)
    arguments = {name: value for name, value in options.items() if name != "groups"}
    convolution = TiedConvolution(pattern, choice, gradient=gradient, **arguments)  # type: ignore[arg-type]
    images_, free_ = tf.constant(images), tf.constant(free)
    with tf.GradientTape() as tape:
        tape.watch((images_, free_))
        output = convolution(images_, free_)
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())
    gradients = tape.gradient(output, (images_, free_), tf.constant(upstream))
    for ours, theirs in zip(
        gradients, dense_results(pattern, images, free, upstream, gradient, **options), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", PATTERNS)
def test_every_choice(name: str, options: dict[str, object], numpy_conv: Callable[..., np.ndarray]) -> None:
    pattern = PATTERNS[name]
    for choice in list_choices(**options):
        check(pattern, choice, numpy_conv, **options)


@settings(max_examples=60, deadline=None)
@example(seed=5, batch=1, sides=(1, 1), channels=1, options={"padding": "same"})  # a sum wholly outside the image
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 9),
    sides=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.integers(1, 3),
    options=st.sampled_from(OPTIONS),
)
def test_random_grids_and_sizes(
    numpy_conv: Callable[..., np.ndarray],
    random_pattern: Callable[[int], Pattern],
    seed: int,
    batch: int,
    sides: tuple[int, int],
    channels: int,
    options: dict[str, object],
) -> None:
    """Including images smaller than the kernel, and one channel."""
    pattern = random_pattern(seed)
    dilation = options.get("dilation", (1, 1))
    if options["padding"] == "valid":  # the output has at least one pixel
        sides = tuple(side + (size - 1) * rate for side, size, rate in zip(sides, pattern.shape, dilation, strict=True))  # type: ignore[arg-type, call-overload]
    choices = list_choices(**options)
    check(pattern, choices[seed % len(choices)], numpy_conv, (batch, *sides, channels), **options)


@pytest.mark.parametrize("sides", [(1, 1), (1, 2), (2, 1), (3, 9)])
@pytest.mark.parametrize("name", PATTERNS)
def test_images_smaller_than_half_the_kernel(
    name: str, sides: tuple[int, int], numpy_conv: Callable[..., np.ndarray]
) -> None:
    for choice in list_choices():
        check(PATTERNS[name], choice, numpy_conv, (2, *sides, 3), padding="same")


def test_mean_gradient(numpy_conv: Callable[..., np.ndarray]) -> None:
    for choice in list_choices():
        check(PATTERNS["block"], choice, numpy_conv, gradient="mean", padding="same")


def build_pair(choice: Choice, images: tf.Tensor, **options: object) -> tuple[TiedConv2D, TiedConv2D]:
    """A layer computed as chosen, and one with the expanded kernel and the same weights."""
    options = {"padding": "same", "activation": "relu", "bias_initializer": "normal", **options}
    keras.utils.set_random_seed(0)  # an output near zero could round to either side of ReLU's kink
    layers = []
    for implementation in (choice.as_dict(), "expand"):
        layer = TiedConv2D(8, PATTERNS["block"], implementation=implementation, **options)
        layer.build(images.shape)
        layers.append(layer)
    layers[0].set_weights(layers[1].get_weights())
    return layers[0], layers[1]


def step(layer: TiedConv2D, images: tf.Tensor) -> list[tf.Tensor]:
    """Output and gradients of the sum of its squares."""
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = layer(images)
        loss = tf.reduce_sum(tf.cast(output, "float32") ** 2)
    return [output, *tape.gradient(loss, [images, *[variable.value for variable in layer.trainable_variables]])]


def assert_close(ours: list[tf.Tensor], theirs: list[tf.Tensor], tolerance: float) -> None:
    """Relative to the largest value."""
    for a, b in zip(ours, theirs, strict=True):
        reference = np.asarray(b, "float64")
        np.testing.assert_allclose(np.asarray(a, "float64"), reference, atol=tolerance * np.abs(reference).max())


CHOICES = [Choice(NATIVE, NATIVE, NATIVE), Choice(NATIVE, EXPAND, NATIVE)]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_layer_in_float32(choice: Choice, jit_compile: bool) -> None:
    images = tf.random.stateless_normal((3, 11, 10, 16), (0, 1))
    ours, theirs = build_pair(choice, images)
    run = tf.function(lambda images: step(ours, images), jit_compile=jit_compile)
    assert_close(run(images), step(theirs, images), 1e-5)


def test_channels_first() -> None:
    images = tf.random.stateless_normal((3, 11, 10, 16), (0, 1))
    ours, _ = build_pair(CHOICES[0], tf.transpose(images, (0, 3, 1, 2)), data_format="channels_first")
    _, theirs = build_pair(CHOICES[0], images)
    theirs.set_weights(ours.get_weights())
    output, of_images, *of_weights = step(ours, tf.transpose(images, (0, 3, 1, 2)))
    back = [tf.transpose(tensor, (0, 2, 3, 1)) for tensor in (output, of_images)]
    assert_close([*back, *of_weights], step(theirs, images), 1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_low_precision_is_near_full_precision(choice: Choice, dtype: str) -> None:
    images = tf.random.stateless_normal((2, 9, 9, 8), (0, 1))
    ours, _ = build_pair(choice, images, dtype=dtype)
    _, theirs = build_pair(choice, images)
    theirs.set_weights([weight.astype("float32") for weight in ours.get_weights()])
    outputs = ours(images)
    assert outputs.dtype == ours.compute_dtype
    tolerance = 2e-3 if "bfloat16" not in dtype else 2e-2
    assert_close(step(ours, tf.cast(images, ours.compute_dtype)), step(theirs, images), tolerance)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_any_batch_and_image_size(choice: Choice) -> None:
    """One graph for all sizes."""
    images = tf.random.stateless_normal((5, 12, 9, 16), (0, 1))
    ours, theirs = build_pair(choice, images, strides=1)
    signature = tf.TensorSpec((None, None, None, 16))
    run = tf.function(lambda images: step(ours, images), input_signature=[signature])
    for shape in ((5, 12, 9), (1, 3, 2), (9, 1, 1), (2, 30, 7)):
        images = tf.random.stateless_normal((*shape, 16), (0, 2))
        assert_close(run(images), step(theirs, images), 1e-5)


def test_any_image_size_with_strides() -> None:
    images = tf.random.stateless_normal((5, 12, 9, 16), (0, 1))
    signature = [tf.TensorSpec((None, None, None, 16))]
    ours, theirs = build_pair(CHOICES[0], images, strides=2)
    run = tf.function(lambda images: step(ours, images), input_signature=signature)
    for shape in ((5, 12, 9), (1, 3, 2), (2, 7, 30)):
        images = tf.random.stateless_normal((*shape, 16), (0, 2))
        assert_close(run(images), step(theirs, images), 1e-5)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_mapping_with_strides(choice: Choice) -> None:
    """With strides, the input gradient is computed with the expanded kernel."""
    images = tf.random.stateless_normal((3, 11, 10, 16), (0, 1))
    ours, theirs = build_pair(choice, images, strides=(2, 1))
    assert ours.choice.forward == choice.forward
    assert_close(step(ours, images), step(theirs, images), 1e-5)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_second_order_gradients(choice: Choice) -> None:
    """Of a gradient penalty, for images and weights, in float64."""
    images = tf.random.stateless_normal((2, 6, 7, 3), (0, 1), dtype="float64")
    results = []
    for layer in build_pair(choice, images, dtype="float64", activation="tanh"):
        with tf.GradientTape() as outer:
            outer.watch(images)
            with tf.GradientTape() as inner:
                inner.watch(images)
                output = tf.reduce_sum(layer(images) ** 2)
            weights = [variable.value for variable in layer.trainable_variables]
            first = inner.gradient(output, [images, *weights])
            penalty = tf.add_n([tf.reduce_sum(gradient**2) for gradient in first])
        results.append(outer.gradient(penalty, [images, *weights]))
    assert_close(results[0], results[1], 1e-10)


def test_config_keeps_the_choice() -> None:
    layer = TiedConv2D(4, PATTERNS["block"], implementation=Choice(NATIVE).as_dict())
    again = TiedConv2D.from_config(layer.get_config())
    again.build((None, 8, 8, 2))
    assert again.choice == Choice(NATIVE)
