"""What the tied layers share: their arguments, the variable, its expansion, and the computation.

The trainable variable holds the free weights, (tied_groups, ...), and the layer computes with

    kernel = reshape(pattern.matrix @ free, (rows, cols, ...))

so all cells of a group are the same number at all times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils.argument_validation import standardize_tuple

from tiedexp.convolution.choosing import Choice
from tiedexp.convolution.costs import BATCH, SIDE, ConvSize
from tiedexp.convolution.kernel import expand_kernel
from tiedexp.convolution.measuring import choose_implementation
from tiedexp.convolution.native import count_threads
from tiedexp.convolution.tied import TiedConvolution, resolve
from tiedexp.errors import PatternError
from tiedexp.layers.tied_rules import TiedConstraint, TiedInitializer, TiedRegularizer
from tiedexp.patterns.grid import Pattern

GRADIENTS = ("sum", "mean")
IMPLEMENTATIONS = ("auto", "expand", "factored")


def resolve_pattern(
    pattern: Pattern | str | Mapping[str, Any],
    kernel_size: Any,
    gradient: str,
    implementation: str | Mapping[str, Any],
) -> Pattern:
    """Check the arguments that concern tying, before the Keras layer checks the others, and find the pattern.

    Raises:
        PatternError: the pattern does not exist, or does not have this size.
        ValueError: `gradient`, `implementation` or `kernel_size` has a wrong value.
    """
    if gradient not in GRADIENTS:
        raise ValueError(f"`gradient` must be one of {GRADIENTS}. Received: gradient={gradient!r}")
    if not isinstance(implementation, Mapping) and implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"`implementation` must be one of {IMPLEMENTATIONS} or a mapping. "
            f"Received: implementation={implementation!r}"
        )
    sizes = kernel_size if isinstance(kernel_size, tuple | list) else (kernel_size,)
    if all(isinstance(size, int) for size in sizes):
        standardize_tuple(kernel_size, 2, "kernel_size")  # refuses zeros, as the standard layers do
    try:
        resolved = Pattern.of(pattern, kernel_size)
    except PatternError as error:
        raise PatternError(f"{error}. Received: pattern={pattern!r}, kernel_size={kernel_size!r}") from None
    if isinstance(implementation, Mapping):
        Choice.of(implementation, resolved)
    return resolved


class KerasConvolution:
    """The attributes of both `keras.layers.Conv2D` and `DepthwiseConv2D` that `TiedLayer` uses.

    They are only declared here, for type checkers; Keras defines them.
    """

    name: str
    built: bool
    dtype: Any
    compute_dtype: str
    data_format: str
    strides: tuple[int, int]
    dilation_rate: tuple[int, int]
    padding: str
    use_bias: bool
    bias: Any
    bias_initializer: Any
    bias_regularizer: Any
    bias_constraint: Any
    activation: Callable[[Any], Any] | None
    input_spec: Any
    add_weight: Callable[..., Any]


class TiedLayer(KerasConvolution):
    """Mixin that ties the kernel of a Keras convolution.

    A tied layer lists it before the Keras layer among its base classes. It calls `set_tying` in `__init__`,
    `add_free_kernel`, `add_bias` and `choose` in `build`, and `convolve` in `call`.
    """

    pattern: Pattern
    gradient: str
    implementation: str | Mapping[str, Any]
    choice: Choice  # the methods that compute the layer; known once it is built
    _kernel: Any

    def set_tying(self, pattern: Pattern, gradient: str, implementation: str | Mapping[str, Any]) -> None:
        """Store the arguments that concern tying."""
        self.pattern = pattern
        self.gradient = gradient
        self.implementation = implementation
        self.choice = Choice()

    def tying_config(self) -> dict[str, Any]:
        """What `get_config` adds; the pattern is written as its grid, so a saved model needs no code of the user."""
        implementation = self.implementation
        return {
            "pattern": str(self.pattern),
            "gradient": self.gradient,
            "implementation": implementation if isinstance(implementation, str) else dict(implementation),
        }

    # The variables

    def input_channels(self, input_shape: Any) -> int:
        """The channels of an input shape, which must be known; the layer then accepts only this many."""
        channel_axis = 1 if self._is_channels_first else -1
        channels = input_shape[channel_axis]
        if channels is None:
            raise ValueError(
                f"The number of input channels must be known. Received: input shape {tuple(input_shape)}, "
                f"data_format={self.data_format!r}"
            )
        self.input_spec = keras.InputSpec(min_ndim=4, axes={channel_axis: channels})
        return int(channels)

    def add_free_kernel(self, tail: tuple[int, ...], initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Create the variable, (tied_groups, *tail)."""
        self._kernel = self.add_weight(
            name="free_kernel",
            shape=(self.pattern.num_groups, *tail),
            initializer=TiedInitializer(initializer, self.pattern),
            regularizer=None if regularizer is None else TiedRegularizer(regularizer, self.pattern, self.gradient),
            constraint=None if constraint is None else TiedConstraint(constraint, self.pattern),
            trainable=True,
            dtype=self.dtype,
        )

    def add_bias(self, size: int) -> None:
        """Create the bias, (size,), if the layer has one."""
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(size,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
                dtype=self.dtype,
            )

    @property
    def free_kernel(self) -> Any:
        """The trainable variable: (tied_groups, in_channels // groups, filters).

        In a depthwise layer it is (tied_groups, channels, depth_multiplier).

        Raises:
            AttributeError: the layer is not built yet.
        """
        if not self.built:
            raise AttributeError(f"Layer '{self.name}' has no kernel yet: build it first.")
        return self._kernel

    @property
    def kernel(self) -> Any:
        """The expanded kernel, a tensor (rows, cols, in_channels // groups, filters).

        In a depthwise layer it is (rows, cols, channels, depth_multiplier). It is not a variable, but
        `kernel.assign(value)` sets the free weights, see `assign_kernel`.

        Raises:
            AttributeError: the layer is not built yet.
        """
        kernel = expand_kernel(keras.ops.convert_to_tensor(self.free_kernel), self.pattern, self.gradient)
        kernel.assign = self.assign_kernel
        kernel.value = _NoVariable(self.name)
        return kernel

    def assign_kernel(self, value: Any) -> Any:
        """Set the free weights from an expanded kernel.

        Args:
            value: array (rows, cols, in_channels // groups, filters) whose cells are tied by the pattern.

        Returns:
            The variable that holds the free weights.

        Raises:
            ValueError: `value` has another shape, is not tied by the pattern, or is a symbolic tensor of a graph.
        """
        free, pattern = self.free_kernel, self.pattern
        shape = (*pattern.shape, *free.shape[1:])
        advice = (
            f"Assign the free weights, shape {tuple(free.shape)}, instead: `layer.free_kernel.assign(...)`. "
            f"Received: layer '{self.name}'"
        )
        try:
            kernel = keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(value, dtype=free.dtype))
        except NotImplementedError:
            raise ValueError(f"Cannot check whether a kernel in a graph is tied. {advice}") from None
        if kernel.shape != shape:
            raise ValueError(f"The kernel has shape {shape}. Received: an array of shape {kernel.shape}")
        first = kernel.reshape(-1, *shape[2:])[pattern.first_cells]  # (tied_groups, in_channels // groups, filters)
        expanded = keras.ops.convert_to_numpy(expand_kernel(keras.ops.convert_to_tensor(first), pattern))
        if not np.array_equal(expanded, kernel, equal_nan=kernel.dtype.kind == "f"):
            raise ValueError(f"The pattern ties cells of the kernel that differ in the assigned array. {advice}")
        return free.assign(first)

    # The computation

    def choose(self, input_shape: Any, filters: int, channel_groups: int) -> None:
        """Choose the fastest methods; unknown sizes of batch and images are taken to be the usual ones."""
        first = self._is_channels_first
        convolution = self._convolution(Choice())
        sides = [
            side or max(SIDE, convolution.extent(axis))
            for axis, side in enumerate(input_shape[2:4] if first else input_shape[1:3])
        ]
        size = ConvSize(
            batch=input_shape[0] or BATCH,
            input_size=(sides[0], sides[1]),
            output_size=(convolution.output_length(sides[0], 0), convolution.output_length(sides[1], 1)),
            in_channels=input_shape[1 if first else -1],
            filters=filters,
            strides=self.strides,
            dilation=self.dilation_rate,
            channel_groups=channel_groups,
            threads=count_threads(),
        )
        self.choice = choose_implementation(convolution, size, self.implementation, self.compute_dtype)

    def is_left_to_keras(self, dtype: Any) -> bool:
        """Whether the Keras layer can compute the output, from the expanded kernel.

        It cannot with channels first on a CPU, because TensorFlow has that convolution for some processors only.
        """
        keras_can = not self._is_channels_first or bool(tf.config.get_visible_devices("GPU"))
        return keras_can and resolve(self.choice, dtype).is_expanded

    def convolve(self, inputs: Any, free: Any) -> Any:
        """The output, activation included, by the chosen methods.

        Args:
            inputs: the inputs of `call`.
            free: the free weights, (tied_groups, in_channels // groups, filters).
        """
        first = self._is_channels_first
        images = keras.ops.transpose(inputs, (0, 2, 3, 1)) if first else inputs
        outputs = self._convolution(self.choice)(images, free)
        if self.use_bias:
            outputs = outputs + keras.ops.cast(self.bias, outputs.dtype)
        outputs = keras.ops.transpose(outputs, (0, 3, 1, 2)) if first else outputs
        return outputs if self.activation is None else self.activation(outputs)

    def _convolution(self, choice: Choice) -> TiedConvolution:
        return TiedConvolution(self.pattern, choice, self.strides, self.dilation_rate, self.padding, self.gradient)

    @property
    def _is_channels_first(self) -> bool:
        return self.data_format == "channels_first"

    # Other layers

    def fill(self, dense: Any, free: Any, in_channels: int) -> Any:
        """Build a Keras layer and set its kernel, expanded from `free`, and its bias."""
        unknown = None, None
        dense.build((None, in_channels, *unknown) if self._is_channels_first else (None, *unknown, in_channels))
        dense.set_weights([expand_kernel(free, self.pattern), *([self.bias] if self.use_bias else [])])
        return dense

    def quantize(self, mode: Any = None, **kwargs: Any) -> None:
        """Refused, because Keras quantizes no convolution.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"{type(self).__name__} cannot be quantized, because Keras quantizes no convolution. To quantize it by "
            f"another tool, convert it to a standard convolution. Received: mode={mode!r}"
        )


class _NoVariable:
    """Stands in for a variable's `value`; when used, it explains that an expanded kernel is not a variable."""

    def __init__(self, layer: str):
        self.layer = layer

    def __tf_tensor__(self, dtype: Any = None, name: Any = None) -> Any:
        raise TypeError(
            f"The kernel of the tied layer '{self.layer}' is computed from its free weights and is not a variable, so "
            "e.g. `keras.layers.SpectralNormalization` cannot scale it. Instead, pass a `kernel_constraint` that "
            "divides the kernel by its largest singular value."
        )
