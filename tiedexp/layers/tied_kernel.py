"""What a tied kernel is in Keras, whatever layer it serves: the variable, its expansion, and the rules of tying.

The trainable variable holds the free weights, (groups of the pattern, ...), and the layer computes with

    kernel = reshape(pattern.matrix @ free, (rows, cols, ...))

so every cell of a group is the same number at all times.

An initializer, regularizer or constraint is written by its user for the kernel he thinks of, the expanded one. The
classes here carry each over to the free weights, so that a layer means the same with any pattern.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras.src.utils.argument_validation import standardize_tuple

from tiedexp.convolution.choosing import Choice
from tiedexp.convolution.kernel import expand_kernel
from tiedexp.errors import PatternError
from tiedexp.patterns.grid import Pattern

GRADIENTS = ("sum", "mean")
IMPLEMENTATIONS = ("auto", "expand", "factored")


class TiedInitializer(keras.initializers.Initializer):
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


class TiedRegularizer(keras.regularizers.Regularizer):
    """The user's penalty of the expanded kernel: each weight counts as often as it has cells."""

    def __init__(self, regularizer: Any, pattern: Pattern, gradient: str):
        self.regularizer = regularizer
        self.pattern = pattern
        self.gradient = gradient

    def __call__(self, free: Any) -> Any:
        return self.regularizer(expand_kernel(keras.ops.convert_to_tensor(free), self.pattern, self.gradient))


class TiedConstraint(keras.constraints.Constraint):
    """The user's constraint of the expanded kernel, projected back onto the tied ones (the mean over the cells)."""

    def __init__(self, constraint: Any, pattern: Pattern):
        self.constraint = constraint
        self.pattern = pattern

    def __call__(self, free: Any) -> Any:
        pattern = self.pattern
        kernel = self.constraint(expand_kernel(keras.ops.convert_to_tensor(free), pattern))
        flat = keras.ops.reshape(kernel, (pattern.index.size, -1))  # (cells, rest)
        first = keras.ops.take(flat, pattern.first_cells, axis=0)  # (groups, rest)
        # The mean as first cell plus mean deviation from it: exact where the cells agree, so that nothing drifts.
        deviation = flat - keras.ops.reshape(expand_kernel(first, pattern), flat.shape)
        averaging = pattern.matrix.T / np.array(pattern.group_sizes)[:, None]  # (groups, cells)
        mean = first + keras.ops.matmul(keras.ops.cast(averaging, flat.dtype), deviation)
        return keras.ops.reshape(mean, tuple(free.shape))


class _NoVariable:
    """In place of the `value` of a variable: says that an expanded kernel is none once it is used as a tensor."""

    def __init__(self, layer: str):
        self.layer = layer

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> Any:
        raise TypeError(
            f"The kernel of the tied layer '{self.layer}' is computed from its free weights and is no variable, so "
            "`keras.layers.SpectralNormalization`, for one, cannot scale it: pass a `kernel_constraint` that divides "
            "the kernel by its largest singular value instead."
        )


class TiedKernel:
    """Mixin of the tied layers: arguments, the variable and what reads it."""

    pattern: Pattern
    gradient: str
    implementation: str | Mapping[str, Any]
    _kernel: Any

    @staticmethod
    def resolve_pattern(
        pattern: Pattern | str | Mapping[str, Any],
        kernel_size: Any,
        gradient: str,
        implementation: str | Mapping[str, Any],
    ) -> Pattern:
        """Check the arguments that concern tying, before the Keras layer checks the others."""
        if gradient not in GRADIENTS:
            raise ValueError(f"`gradient` must be one of {GRADIENTS}. Received: gradient={gradient!r}")
        if not isinstance(implementation, Mapping) and implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"`implementation` must be one of {IMPLEMENTATIONS}, or a mapping. "
                f"Received: implementation={implementation!r}"
            )
        sizes = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,)
        if all(isinstance(size, int) for size in sizes):
            standardize_tuple(kernel_size, 2, "kernel_size")  # refuses zeros as the standard layers do
        try:
            resolved = Pattern.of(pattern, kernel_size)
        except PatternError as error:
            raise PatternError(f"{error}. Received: pattern={pattern!r}, kernel_size={kernel_size!r}") from None
        if isinstance(implementation, Mapping):
            Choice.of(implementation, resolved)
        return resolved

    def add_free_kernel(self, tail: tuple[int, ...], initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Create the variable, (groups of the pattern, *tail)."""
        self._kernel = self.add_weight(  # type: ignore[attr-defined]
            name="free_kernel",
            shape=(self.pattern.num_groups, *tail),
            initializer=TiedInitializer(initializer, self.pattern),
            regularizer=None if regularizer is None else TiedRegularizer(regularizer, self.pattern, self.gradient),
            constraint=None if constraint is None else TiedConstraint(constraint, self.pattern),
            trainable=True,
            dtype=self.dtype,  # type: ignore[attr-defined]
        )

    def input_channels(self, input_shape: Any) -> int:
        """Channels of an input shape, which must be known; fixes them in the layer's input specification."""
        channel_axis = -1 if self.data_format == "channels_last" else 1  # type: ignore[attr-defined]
        channels = input_shape[channel_axis]
        if channels is None:
            raise ValueError(
                f"The number of input channels must be known. Received: input shape {tuple(input_shape)}, "
                f"data_format={self.data_format!r}"  # type: ignore[attr-defined]
            )
        self.input_spec = keras.InputSpec(min_ndim=4, axes={channel_axis: channels})
        return int(channels)

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
        """The expanded kernel, a tensor (rows, cols, in_channels // groups, filters); `kernel.assign` sets it."""
        return self.expand_assignable(keras.ops.convert_to_tensor(self._built_kernel()))

    def expand_assignable(self, free: Any) -> Any:
        """The expanded kernel with the method `assign` that the kernel of a standard layer, a variable, has."""
        kernel = expand_kernel(free, self.pattern, self.gradient)
        kernel.assign = self.assign_kernel
        kernel.value = _NoVariable(self.name)  # type: ignore[attr-defined]
        return kernel

    def assign_kernel(self, value: Any) -> Any:
        """Set the free weights to those of an expanded kernel.

        Args:
            value: array (rows, cols, in_channels // groups, filters) whose cells are tied by the pattern.

        Returns:
            The variable of the free weights.

        Raises:
            ValueError: `value` has another shape, is not tied by the pattern, or is not known yet, in a graph.
        """
        free, pattern = self._built_kernel(), self.pattern
        shape = (*pattern.shape, *free.shape[1:])
        advice = (
            f"Assign the free weights, shape {tuple(free.shape)}, instead: `layer.free_kernel.assign(...)`. "
            f"Received: layer '{self.name}'"  # type: ignore[attr-defined]
        )
        try:
            kernel = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(value, dtype=free.dtype))
        except NotImplementedError:
            raise ValueError(f"Whether a kernel in a graph is tied cannot be checked. {advice}") from None
        if kernel.shape != shape:
            raise ValueError(f"The kernel has shape {shape}. Received: an array of shape {kernel.shape}")
        first = kernel.reshape(-1, *shape[2:])[pattern.first_cells]  # (groups, in_channels // groups, filters)
        expanded = keras.ops.convert_to_numpy(expand_kernel(keras.ops.convert_to_tensor(first), pattern))
        if not np.array_equal(expanded, kernel, equal_nan=kernel.dtype.kind == "f"):
            raise ValueError(f"The pattern ties cells of the kernel that differ in the array assigned to it. {advice}")
        return free.assign(first)

    def quantize(self, mode: Any = None, **kwargs: Any) -> None:
        """Refused: the integer layers of Keras store a dense kernel."""
        raise NotImplementedError(
            f"{type(self).__name__} cannot be quantized, as no convolution of Keras can. Received: mode={mode!r}. "
            "Convert it to a standard convolution for tools that can."
        )

    def tying_config(self) -> dict[str, Any]:
        """What `get_config` adds; the pattern as its text, so that a saved model needs no code of the user's."""
        way = self.implementation
        return {
            "pattern": str(self.pattern),
            "gradient": self.gradient,
            "implementation": way if isinstance(way, str) else dict(way),
        }
