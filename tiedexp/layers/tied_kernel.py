"""What a tied kernel is in Keras, whatever layer it serves: the variable, its expansion, and the rules of tying.

The trainable variable holds the free weights, (groups of the pattern, ...), and the layer computes with

    kernel = reshape(pattern.matrix @ free, (rows, cols, ...))

so every cell of a group is the same number at all times. A multiplication by the matrix and not `tf.gather`: the
gradient of a gather is an `IndexedSlices`, which takes the slow, sparse path of every optimizer.

An initializer, regularizer or constraint is written by its user for the kernel he thinks of, the expanded one. The
classes here carry each over to the free weights, so that a layer means the same with any pattern.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from tiedexp.errors import PatternError
from tiedexp.patterns.grid import Pattern

GRADIENTS = ("sum", "mean")
IMPLEMENTATIONS = ("auto", "expand")


def expand_kernel(free: Any, pattern: Pattern, gradient: str = "sum") -> Any:
    """Free weights, a tensor (groups, ...), to the kernel (rows, cols, ...), differentiable.

    Args:
        free: tensor of the free weights.
        pattern: says which group, and which sign, each cell takes.
        gradient: "sum" back-propagates the sum over a group's cells (the chain rule), "mean" their mean, which is
            stochastic gradient descent on the untied kernel projected onto the tied ones.
    """
    tail = tuple(free.shape[1:])
    flat = keras.ops.reshape(free, (pattern.num_groups, math.prod(tail)))  # (groups, rest)
    identity = pattern.num_groups == pattern.index.size  # canonical order and signs make the matrix the identity
    if not identity:
        matrix = keras.ops.convert_to_tensor(pattern.matrix.astype("float32"), dtype=flat.dtype)
        flat = _tied_product(matrix, flat, pattern) if gradient == "mean" else keras.ops.matmul(matrix, flat)
    return keras.ops.reshape(flat, pattern.shape + tail)


def _tied_product(matrix: Any, flat: Any, pattern: Pattern) -> Any:
    """matrix @ flat, (cells, rest), whose gradient is averaged over each group instead of summed."""
    sizes = np.array(pattern.group_sizes, dtype="float32")[:, None]

    @keras.ops.custom_gradient
    def product(flat: Any) -> tuple[Any, Callable[..., Any]]:
        def grad(*args: Any, upstream: Any = None) -> Any:
            (upstream,) = args if upstream is None else (upstream,)
            summed = keras.ops.matmul(keras.ops.transpose(matrix), upstream)  # (groups, rest)
            return summed / keras.ops.cast(sizes, summed.dtype)

        return keras.ops.matmul(matrix, flat), grad

    return product(flat)


class TiedInitializer(keras.initializers.Initializer):  # type: ignore[misc]
    """Draws a full kernel with the user's initializer and keeps one cell of each group.

    A tied cell then has the variance of an untied one, and for white inputs so has the layer's output. Where cells are
    fixed at zero, an initializer that derives its variance from the fan-in (`VarianceScaling` and its children: He et
    al. 2015, arXiv 1502.01852) counted those too, so its draw is scaled by sqrt(cells / non-zero cells).
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


class TiedRegularizer(keras.regularizers.Regularizer):  # type: ignore[misc]
    """The user's penalty of the expanded kernel: each weight counts as often as it has cells."""

    def __init__(self, regularizer: Any, pattern: Pattern):
        self.regularizer = regularizer
        self.pattern = pattern

    def __call__(self, free: Any) -> Any:
        return self.regularizer(expand_kernel(free, self.pattern))


class TiedConstraint(keras.constraints.Constraint):  # type: ignore[misc]
    """The user's constraint of the expanded kernel, projected back onto the tied ones (the mean over the cells)."""

    def __init__(self, constraint: Any, pattern: Pattern):
        self.constraint = constraint
        self.pattern = pattern

    def __call__(self, free: Any) -> Any:
        kernel = keras.ops.convert_to_tensor(self.constraint(expand_kernel(free, self.pattern)))
        averaging = self.pattern.matrix.T / np.array(self.pattern.group_sizes)[:, None]  # (groups, cells)
        flat = keras.ops.reshape(kernel, (self.pattern.index.size, -1))
        averaged = keras.ops.matmul(keras.ops.cast(averaging, flat.dtype), flat)
        return keras.ops.reshape(averaged, tuple(free.shape))


class TiedKernel:
    """Mixin of the tied layers: arguments, the variable and what reads it."""

    pattern: Pattern
    gradient: str
    implementation: str
    _kernel: Any

    @staticmethod
    def resolve_pattern(
        pattern: Pattern | str | Mapping[str, Any], kernel_size: Any, gradient: str, implementation: str
    ) -> Pattern:
        """Check the arguments that concern tying, before the Keras layer checks the others."""
        if gradient not in GRADIENTS:
            raise ValueError(f"`gradient` must be one of {GRADIENTS}. Received: gradient={gradient!r}")
        if implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"`implementation` must be one of {IMPLEMENTATIONS}. Received: implementation={implementation!r}"
            )
        try:
            return Pattern.of(pattern, kernel_size)
        except PatternError as error:
            raise PatternError(f"{error}. Received: pattern={pattern!r}, kernel_size={kernel_size!r}") from None

    def add_free_kernel(self, tail: tuple[int, ...], initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Create the variable, (groups of the pattern, *tail)."""
        self._kernel = self.add_weight(  # type: ignore[attr-defined]
            name="free_kernel",
            shape=(self.pattern.num_groups, *tail),
            initializer=TiedInitializer(initializer, self.pattern),
            regularizer=None if regularizer is None else TiedRegularizer(regularizer, self.pattern),
            constraint=None if constraint is None else TiedConstraint(constraint, self.pattern),
            trainable=True,
            dtype=self.dtype,  # type: ignore[attr-defined]
        )

    def _built_kernel(self) -> Any:
        if not self.built:  # type: ignore[attr-defined]
            raise AttributeError(f"Layer '{self.name}' has no kernel yet: build it first.")  # type: ignore[attr-defined]
        return self._kernel

    @property
    def free_kernel(self) -> Any:
        """The trainable variable: (groups of the pattern, in_channels // groups, filters)."""
        return self._built_kernel()

    @property
    def kernel(self) -> Any:
        """The expanded kernel, a tensor (rows, cols, in_channels // groups, filters)."""
        return expand_kernel(keras.ops.convert_to_tensor(self._built_kernel()), self.pattern, self.gradient)

    def quantize(self, mode: Any = None, **kwargs: Any) -> None:
        """Refused: the integer layers of Keras store a dense kernel."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be quantized, as no convolution of Keras can. Received: mode={mode!r}. "
            "Convert it to a standard convolution for tools that can."
        )

    def tying_config(self) -> dict[str, Any]:
        """What `get_config` adds; the pattern as its text, so that a saved model needs no code of the user's."""
        return {"pattern": str(self.pattern), "gradient": self.gradient, "implementation": self.implementation}
