"""The expanded kernel of the free weights: kernel = reshape(pattern.matrix @ free, (rows, cols, ...)).

The product is computed as a gather, because a matmul rounds its inputs to ten bits on a GPU (TF32) and spreads one
infinite weight to all cells as NaN. The gradient is computed as a matmul, because that of a gather is an
`IndexedSlices`, which takes the slow, sparse path of every optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tiedexp.patterns.grid import Pattern


def expand_kernel(free: Any, pattern: Pattern, gradient: str = "sum") -> Any:
    """Free weights, a tensor (tied_groups, ...), to the kernel (rows, cols, ...), differentiable.

    Args:
        free: tensor of the free weights.
        pattern: how the kernel is tied.
        gradient: "sum" back-propagates the sum over a group's cells (the chain rule); "mean" their mean, which is
            gradient descent on the untied kernel, projected onto the tied kernels.
    """
    tail = tuple(free.shape[1:])
    flat = keras.ops.reshape(free, (pattern.num_groups, math.prod(tail)))  # (tied_groups, rest)
    identity = pattern.num_groups == pattern.index.size  # every cell has its own weight, in canonical order
    if not identity:
        flat = _copy_to_cells(flat, pattern, gradient)
    return keras.ops.reshape(flat, pattern.shape + tail)


def _copy_to_cells(flat: Any, pattern: Pattern, gradient: str) -> Any:
    """Free weights (tied_groups, rest) to signed cells (cells, rest)."""
    cells = np.maximum(pattern.index.ravel(), 0)  # a fixed zero takes any weight, times its sign of 0
    signs = pattern.sign.reshape(-1, 1).astype("float32")
    weighting = pattern.matrix.T  # (tied_groups, cells)
    if gradient == "mean":
        weighting = weighting / np.array(pattern.group_sizes)[:, None]

    @keras.ops.custom_gradient
    def copy(flat: Any) -> tuple[Any, Callable[..., Any]]:
        def grad(*args: Any, upstream: Any = None) -> Any:
            (upstream,) = args if upstream is None else (upstream,)
            return keras.ops.matmul(keras.ops.cast(weighting, upstream.dtype), upstream)  # (tied_groups, rest)

        kernel = keras.ops.take(flat, cells, axis=0)  # (cells, rest)
        if (pattern.sign == 1).all():
            return kernel, grad
        return kernel * keras.ops.cast(signs, kernel.dtype), grad

    return copy(flat)
