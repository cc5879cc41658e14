"""An independent convolution in NumPy, and random patterns, for the tests of the layers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tiedexp.patterns.grid import Pattern

Array = np.ndarray
Pair = tuple[int, int]


def convolve(
    images: Array,
    kernel: Array,
    bias: Array | float = 0.0,
    *,
    strides: Pair = (1, 1),
    padding: str = "valid",
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """The sum of products, pixel by pixel, as a textbook has it, in float64.

    Args:
        images: (batch, rows, cols, channels).
        kernel: (rows, cols, channels // groups, filters).
    """
    extents = [(side - 1) * rate + 1 for side, rate in zip(kernel.shape[:2], dilation, strict=True)]
    sizes = images.shape[1:3]
    if padding == "same":  # TensorFlow's: the odd pixel goes below and to the right
        outputs = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
        missing = [
            max((output - 1) * stride + extent - size, 0)
            for output, stride, extent, size in zip(outputs, strides, extents, sizes, strict=True)
        ]
        pads = [(total // 2, total - total // 2) for total in missing]
        images = np.pad(images, [(0, 0), *pads, (0, 0)])
    else:
        outputs = [(size - extent) // stride + 1 for size, extent, stride in zip(sizes, extents, strides, strict=True)]
    per_group = kernel.shape[3] // groups
    result = np.zeros((len(images), *outputs, kernel.shape[3]))
    for group in range(groups):
        channels = slice(group * kernel.shape[2], (group + 1) * kernel.shape[2])
        filters = slice(group * per_group, (group + 1) * per_group)
        for row in range(outputs[0]):
            for col in range(outputs[1]):
                top, left = row * strides[0], col * strides[1]
                window = images[
                    :, top : top + extents[0] : dilation[0], left : left + extents[1] : dilation[1], channels
                ]
                result[:, row, col, filters] = np.tensordot(window, kernel[..., filters], axes=3)
    return result + bias


def convolve_depthwise(images: Array, kernel: Array, bias: Array | float = 0.0, **options: object) -> Array:
    """Each channel by its own kernels, (rows, cols, channels, multiplier); output channels channel by channel."""
    channels = kernel.shape[2]
    parts = [
        convolve(images[..., channel : channel + 1], kernel[:, :, channel : channel + 1], **options)  # type: ignore[arg-type]
        for channel in range(channels)
    ]
    return np.concatenate(parts, axis=-1) + bias


def build_random_pattern(seed: int) -> Pattern:
    """A grid of up to 5x5 with signs and fixed zeros."""
    rng = np.random.default_rng(seed)
    index = rng.integers(-1, rng.integers(1, 7), size=rng.integers(1, 6, size=2))
    index.flat[rng.integers(index.size)] = 0
    return Pattern(index, np.where(index < 0, 0, rng.choice([-1, 1], index.shape)))


@pytest.fixture(scope="session")
def numpy_conv() -> Callable[..., Array]:
    return convolve


@pytest.fixture(scope="session")
def numpy_depthwise_conv() -> Callable[..., Array]:
    return convolve_depthwise


@pytest.fixture(scope="session")
def random_pattern() -> Callable[[int], Pattern]:
    return build_random_pattern
