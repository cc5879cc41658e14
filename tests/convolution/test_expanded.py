"""The convolution with the expanded kernel: output against NumPy, gradients against the convolutions of each group."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from tiedexp.convolution import expanded
from tiedexp.convolution.expanded import ExpandedConvolution

# (channels, filters, groups)
GROUPS = [(4, 6, 1), (6, 9, 3), (5, 5, 5), (3, 6, 3), (1, 2, 1)]
# (strides, dilation, padding)
OPTIONS = [
    ((1, 1), (1, 1), "same"),
    ((1, 1), (1, 1), "valid"),
    ((2, 2), (1, 1), "same"),
    ((1, 2), (1, 1), "valid"),
    ((1, 1), (2, 1), "same"),
]


def build(channels: int, filters: int, groups: int, dtype: str = "float64") -> list[tf.Tensor]:
    """Images and kernel."""
    rng = np.random.default_rng(0)
    shapes = ((2, 7, 9, channels), (3, 4, channels // groups, filters))
    return [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]


def differentiate_by_group(
    images: tf.Tensor, kernel: tf.Tensor, groups: int, convolution: ExpandedConvolution, upstream: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch((images, kernel))
        parts = zip(tf.split(images, groups, -1), tf.split(kernel, groups, -1), strict=True)
        options = {
            "padding": convolution.padding.upper(),
            "dilations": convolution.dilation,
            "data_format": "NHWC",
        }
        outputs = [tf.nn.convolution(part, filters, convolution.strides, **options) for part, filters in parts]
        output = tf.concat(outputs, -1)
    return tape.gradient(output, (images, kernel), upstream)


@pytest.mark.parametrize("gradients_of_groups", [True, False], ids=["as TensorFlow can", "one by one"])
@pytest.mark.parametrize(("strides", "dilation", "padding"), OPTIONS, ids=str)
@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_output_and_gradients(
    groups: tuple[int, int, int],
    strides: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    gradients_of_groups: bool,
    numpy_conv: Callable[..., np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not gradients_of_groups:
        monkeypatch.setattr(expanded, "_has_gradients_of_groups", lambda dtype: False)
    convolution = ExpandedConvolution(strides, dilation, padding)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        images, kernel = build(*groups, dtype)
        expected = numpy_conv(
            images.numpy(), kernel.numpy(), strides=strides, dilation=dilation, padding=padding, groups=groups[2]
        )
        np.testing.assert_allclose(convolution(images, kernel), expected, atol=10 * tolerance)
        upstream = tf.constant(np.random.default_rng(1).normal(size=expected.shape), dtype)
        theirs = differentiate_by_group(images, kernel, groups[2], convolution, upstream)
        ours = convolution.gradients(images, kernel, upstream)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=100 * tolerance)


@pytest.mark.parametrize("groups", GROUPS, ids=str)
def test_one_gradient_alone(groups: tuple[int, int, int]) -> None:
    convolution = ExpandedConvolution((1, 1), (1, 1), "same")
    images, kernel = build(*groups)
    upstream = convolution(images, kernel)
    both = convolution.gradients(images, kernel, upstream)
    of_images, _ = convolution.gradients(images, kernel, upstream, of_kernel=False)
    _, of_kernel = convolution.gradients(images, kernel, upstream, of_images=False)
    np.testing.assert_array_equal(of_images, both[0])
    np.testing.assert_array_equal(of_kernel, both[1])


def test_where_tensorflow_has_gradients_of_groups() -> None:
    """Asking raises nothing, whatever the machine supports."""
    assert expanded._has_gradients_of_groups(tf.float32) in (True, False)
    assert not expanded._has_gradients_of_groups(tf.float64) or tf.config.list_physical_devices("GPU")


@pytest.mark.parametrize(("strides", "dilation", "padding"), OPTIONS, ids=str)
@pytest.mark.parametrize("groups", [(6, 9, 3), (5, 5, 5)], ids=str)
def test_second_order_gradients(
    groups: tuple[int, int, int], strides: tuple[int, int], dilation: tuple[int, int], padding: str
) -> None:
    convolution = ExpandedConvolution(strides, dilation, padding)
    images, kernel = build(*groups)
    upstream = tf.sin(convolution(images, kernel))
    results = []
    for first_order in (
        convolution.gradients,
        lambda *tensors: differentiate_by_group(*tensors[:2], groups[2], convolution, tensors[2]),
    ):
        with tf.GradientTape() as tape:
            tape.watch((images, kernel, upstream))
            of_images, of_kernel = first_order(images, kernel, upstream)
            penalty = tf.reduce_sum(of_images**2) + tf.reduce_sum(of_kernel**3)
        results.append(tape.gradient(penalty, (images, kernel, upstream)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())
