"""The two layers that people write by hand for tied kernels, which the benchmark times.

They are the usual answers to "how do I tie the weights of a Keras convolution?": repeat rows and columns by stacking
slices, or tile. Both make the dense kernel from a small one in every step and convolve with it, without bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from tiedexp.patterns.grid import Pattern


class StackedConv2D(keras.layers.Layer):
    """A kernel whose rows and columns are repeated: each slice is stacked as often as its number of repeats."""

    def __init__(self, filters: int, row_repeats: Sequence[int], col_repeats: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.repeats = tuple(row_repeats), tuple(col_repeats)

    def build(self, input_shape: Any) -> None:
        """Create the small kernel, (rows, cols, channels, filters)."""
        rows, cols = map(len, self.repeats)
        self.small = self.add_weight(shape=(rows, cols, input_shape[-1], self.filters), name="small")

    def call(self, inputs: Any) -> Any:
        """Convolve with "same" padding."""
        kernel = keras.ops.convert_to_tensor(self.small)
        for axis, repeats in enumerate(self.repeats):
            slices = keras.ops.unstack(kernel, axis=axis)
            repeated = [piece for piece, count in zip(slices, repeats, strict=True) for _ in range(count)]
            kernel = keras.ops.stack(repeated, axis=axis)
        return keras.ops.conv(inputs, kernel, padding="same")


class TiledConv2D(keras.layers.Layer):
    """A small kernel, (rows, cols), tiled (down, across)."""

    def __init__(self, filters: int, size: Sequence[int], repeats: Sequence[int], **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.size = tuple(size)
        self.repeats = tuple(repeats)

    def build(self, input_shape: Any) -> None:
        """Create the small kernel, (rows, cols, channels, filters)."""
        self.small = self.add_weight(shape=(*self.size, input_shape[-1], self.filters), name="small")

    def call(self, inputs: Any) -> Any:
        """Convolve with "same" padding."""
        kernel = keras.ops.tile(self.small, (*self.repeats, 1, 1))
        return keras.ops.conv(inputs, kernel, padding="same")


def build_handwritten(pattern: Pattern, filters: int) -> dict[str, keras.layers.Layer]:
    """The layers that can express the pattern, by name: both, one, or for most patterns none."""
    layers: dict[str, keras.layers.Layer] = {}
    index = pattern.index
    if (pattern.sign != 1).any():
        return layers
    rows, cols = (_run_lengths(grid) for grid in (index, index.T))
    if len(rows) * len(cols) == pattern.num_groups and (len(rows), len(cols)) != pattern.shape:
        layers["stacked by hand"] = StackedConv2D(filters, rows, cols)
    for down, across in np.ndindex(pattern.shape):
        size = down + 1, across + 1
        if size[0] * size[1] != pattern.num_groups or pattern.shape[0] % size[0] or pattern.shape[1] % size[1]:
            continue
        repeats = pattern.shape[0] // size[0], pattern.shape[1] // size[1]
        if repeats != (1, 1) and Pattern.tile(size, repeats) == pattern:
            layers["tiled by hand"] = TiledConv2D(filters, size, repeats)
    return layers


def _run_lengths(grid: np.ndarray[Any, Any]) -> list[int]:
    """The lengths of the runs of equal rows."""
    lengths = [1]
    for before, row in pairwise(grid):
        if np.array_equal(before, row):
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths
