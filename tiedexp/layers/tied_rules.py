"""The initializer, regularizer and constraint of a tied layer.

Users write them for the expanded kernel. The classes here apply them to the free weights so that they mean the same
with any pattern.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tiedexp.convolution.kernel import expand_kernel
from tiedexp.patterns.grid import Pattern


class TiedInitializer(keras.initializers.Initializer):
    """Draws a full kernel with the user's initializer and keeps one cell of each group.

    So a tied cell has the variance of an untied one, and for white inputs so does the layer's output. An initializer
    that derives its variance from the fan-in (`VarianceScaling` and its subclasses: He et al. 2015, arXiv 1502.01852)
    also counts the cells fixed at zero, so its draw is scaled by sqrt(cells / non-zero cells).
    """

    def __init__(self, initializer: Any, pattern: Pattern):
        self.initializer = initializer
        self.pattern = pattern

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any) -> Any:
        tail = tuple(shape[1:])
        kernel = self.initializer(self.pattern.shape + tail, dtype=dtype, **kwargs)
        free = keras.ops.take(keras.ops.reshape(kernel, (-1, *tail)), self.pattern.first_cells, axis=0)
        if self.pattern.is_dense or not isinstance(self.initializer, keras.initializers.VarianceScaling):
            return free
        return free * math.sqrt(self.pattern.index.size / self.pattern.num_cells)


class TiedRegularizer(keras.regularizers.Regularizer):
    """The user's penalty on the expanded kernel: each weight counts once for each of its cells."""

    def __init__(self, regularizer: Any, pattern: Pattern, gradient: str):
        self.regularizer = regularizer
        self.pattern = pattern
        self.gradient = gradient

    def __call__(self, free: Any) -> Any:
        return self.regularizer(expand_kernel(keras.ops.convert_to_tensor(free), self.pattern, self.gradient))


class TiedConstraint(keras.constraints.Constraint):
    """The user's constraint on the expanded kernel, projected back onto the tied kernels (the mean over the cells)."""

    def __init__(self, constraint: Any, pattern: Pattern):
        self.constraint = constraint
        self.pattern = pattern

    def __call__(self, free: Any) -> Any:
        kernel = self.constraint(expand_kernel(keras.ops.convert_to_tensor(free), self.pattern))
        return project_kernel(kernel, self.pattern)


def project_kernel(kernel: Any, pattern: Pattern) -> Any:
    """The free weights (tied_groups, ...) of the tied kernel nearest to a kernel (rows, cols, ...).

    They are the means over the cells of each group, computed as the first cell plus the mean deviation from it: exact
    if the cells agree.
    """
    flat = keras.ops.reshape(kernel, (pattern.index.size, -1))  # (cells, rest)
    first = keras.ops.take(flat, pattern.first_cells, axis=0)  # (tied_groups, rest)
    deviation = flat - keras.ops.reshape(expand_kernel(first, pattern), flat.shape)
    averaging = pattern.matrix.T / np.array(pattern.group_sizes)[:, None]  # (groups, cells)
    mean = first + keras.ops.matmul(keras.ops.cast(averaging, flat.dtype), deviation)
    return keras.ops.reshape(mean, (pattern.num_groups, *kernel.shape[2:]))
