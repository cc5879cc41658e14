"""The CIFAR ResNet of He et al. 2016 (arXiv 1512.03385, section 4.2), with any kernel size, tying and width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.models.blocks import apply_classifier, apply_conv_bn, apply_padded_shortcut, apply_relu, image_input
from tiedexp.models.plan import ConvPlan


def build_resnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    convs: Sequence[ConvPlan],
    *,
    gradient: str = "sum",
    implementation: str | Mapping[str, Mapping[str, str]] = "auto",
    dropout: float = 0.0,
    dtype: str = "float32",
) -> keras.Model:
    """Build the model: images (batch, rows, cols, channels) to logits (batch, num_classes).

    Args:
        image_shape: (rows, cols, channels).
        num_classes: number of logits.
        convs: the list that `plan_resnet` returns for this `image_shape`.
        gradient: see `TiedConv2D`.
        implementation: see `TiedConv2D`; or a mapping from the name of each tied conv to its own.
        dropout: dropout rate before the classifier.
        dtype: a Keras dtype policy, e.g. "mixed_float16".
    """
    first, *others = convs
    options: dict[str, Any] = {"gradient": gradient, "implementation": implementation, "dtype": dtype}
    inputs = image_input(image_shape)
    x = apply_relu(apply_conv_bn(inputs, first, **options), "relu_1", dtype)
    for conv_a, conv_b in zip(others[::2], others[1::2], strict=True):
        shortcut = x
        if conv_a.strides > 1 or conv_a.in_channels != conv_a.filters:
            shortcut = apply_padded_shortcut(x, conv_a, dtype)
        x = apply_relu(apply_conv_bn(x, conv_a, **options), f"relu_{conv_a.number}", dtype)
        x = apply_conv_bn(x, conv_b, **options)
        x = keras.layers.Add(dtype=dtype, name=f"add_{conv_b.number}")([x, shortcut])
        x = apply_relu(x, f"relu_{conv_b.number}", dtype)
    logits = apply_classifier(x, num_classes, dropout=dropout, dtype=dtype)
    return keras.Model(inputs, logits, name="resnet")
