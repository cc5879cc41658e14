"""The pieces of which both model families are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.models.plan import ConvPlan

# With Keras's 0.99, the moving averages take hundreds of steps to forget their initial values: more than an epoch of
# a small dataset has.
BN_MOMENTUM = 0.9


def apply_conv_bn(
    x: Any, conv: ConvPlan, *, gradient: str, implementation: str | Mapping[str, Mapping[str, str]], dtype: str
) -> Any:
    """Apply a standard or tied conv without bias, then batch normalization.

    Kernels are initialized as He et al. 2015 (arXiv 1502.01852) propose for ReLU; a tied kernel has the same variance.
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
        own = implementation if isinstance(implementation, str) else implementation.get(conv.name, "auto")
        x = TiedConv2D(conv.filters, conv.pattern, gradient=gradient, implementation=own, **common)(x)
    return keras.layers.BatchNormalization(momentum=BN_MOMENTUM, dtype=dtype, name=f"bn_{conv.number}")(x)


def apply_classifier(x: Any, num_classes: int, *, dropout: float, dtype: str) -> Any:
    """Apply global average pooling and dropout, and compute the logits, in float32 whatever the model's precision."""
    x = keras.layers.GlobalAveragePooling2D(dtype=dtype, name="global_pool")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, dtype=dtype, name="dropout")(x)
    return keras.layers.Dense(num_classes, dtype="float32", name="classifier")(x)


def apply_padded_shortcut(x: Any, conv: ConvPlan, dtype: str) -> Any:
    """Apply the shortcut without weights ("option A") around a conv: every n-th pixel, new channels filled with zeros.

    It consists of Keras's own layers, so a saved model needs none of ours here. They have no weights, so weight files
    do not depend on them.
    """
    if conv.strides > 1:
        pool = keras.layers.AveragePooling2D(
            1, strides=conv.strides, data_format="channels_last", dtype=dtype, name=f"subsample_{conv.number}"
        )
        x = pool(x)  # the mean of one pixel: (batch, ceil(rows / strides), ceil(cols / strides), channels)
    missing = conv.filters - conv.in_channels
    padding = ((0, 0), (missing // 2, missing - missing // 2))
    # "channels_first" pads the last two axes, which are here the columns and channels.
    pad = keras.layers.ZeroPadding2D(padding, "channels_first", dtype=dtype, name=f"shortcut_{conv.number}")
    return pad(x)


def apply_relu(x: Any, name: str, dtype: str) -> Any:
    """Apply max(x, 0), as a layer with a name."""
    return keras.layers.Activation("relu", dtype=dtype, name=name)(x)


def image_input(image_shape: Sequence[int]) -> Any:
    """The input of the model: normalized images (batch, rows, cols, channels), float32."""
    return keras.Input(tuple(image_shape), name="image", dtype="float32")
