"""The pieces both model families are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.models.plan import ConvPlan

# Keras's 0.99 needs hundreds of steps to forget its start: more than an epoch of a small dataset has.
BN_MOMENTUM = 0.9


def apply_conv_bn(
    x: Any, conv: ConvPlan, *, gradient: str, implementation: str | Mapping[str, Mapping[str, str]], dtype: str
) -> Any:
    """A standard or tied conv without bias, then batch normalisation.

    Kernels start as He et al. 2015 (arXiv 1502.01852) propose for ReLU; a tied kernel keeps that variance.
    """
    common: dict[str, Any] = {
        "strides": conv.strides,
        "padding": "same",
        "use_bias": False,
        "kernel_initializer": "he_normal",
        "dtype": dtype,
        "name": conv.name,
    }
    if conv.pattern is None:
        x = keras.layers.Conv2D(conv.filters, conv.kernel_size, **common)(x)
    else:
        way = implementation if isinstance(implementation, str) else implementation.get(conv.name, "auto")
        tied = TiedConv2D(conv.filters, conv.pattern, gradient=gradient, implementation=way, **common)
        x = tied(x)
    return keras.layers.BatchNormalization(momentum=BN_MOMENTUM, dtype=dtype, name=f"bn_{conv.number}")(x)


def apply_classifier(x: Any, num_classes: int, *, dropout: float, dtype: str) -> Any:
    """Global average pooling, dropout, and the logits in float32 whatever the precision of the model."""
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="global_pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="classifier")(x)


def apply_padded_shortcut(x: Any, conv: ConvPlan, dtype: str) -> Any:
    """The shortcut without weights ("option A") around a conv: every n-th pixel, new channels filled with zeros.

    Made of Keras's own layers, so that a file of the model needs none of ours here. They have no weights, so files of
    weights do not depend on them.
    """
    if conv.strides > 1:
        pool = keras.layers.AveragePooling2D(
            1, strides=conv.strides, data_format="channels_last", dtype=dtype, name=f"subsample_{conv.number}"
        )
        x = pool(x)  # the mean of one pixel: (batch, ceil(rows / strides), ceil(cols / strides), channels)
    missing = conv.filters - conv.in_channels
    padding = ((0, 0), (missing // 2, missing - missing // 2))
    # Of (batch, rows, cols, channels) the last two axes, which "channels_first" takes for rows and columns.
    pad = keras.layers.ZeroPadding2D(padding, "channels_first", dtype=dtype, name=f"shortcut_{conv.number}")
    return pad(x)


def apply_relu(x: Any, name: str, dtype: str) -> Any:
    """max(x, 0), as a layer with a name."""
    return keras.layers.Activation("relu", dtype=dtype, name=name)(x)


def image_input(image_shape: Sequence[int]) -> Any:
    """The input: (batch, rows, cols, channels), normalised, float32."""
    return keras.Input(tuple(image_shape), name="image", dtype="float32")
