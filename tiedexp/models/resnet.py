"""The CIFAR ResNet of He et al. 2016 (arXiv 1512.03385, section 4.2), with any kernel size, tying and width."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tiedexp.models.blocks import apply_classifier, apply_conv_bn, apply_padded_shortcut, apply_relu, image_input
from tiedexp.models.plan import plan_resnet
from tiedexp.patterns.grid import Pattern


def build_resnet(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int,
    widen: int,
    kernel_size: int | tuple[int, int],
    patterns: Sequence[Pattern | None],
    gradient: str = "sum",
    implementation: str | Mapping[str, Mapping[str, str]] = "auto",
    dropout: float = 0.0,
    dtype: str = "float32",
) -> keras.Model:
    """Build the model: images (batch, rows, cols, channels) to logits (batch, num_classes).

    Args:
        image_shape: (rows, cols, channels).
        num_classes: number of logits.
        width: filters of the first conv, 16 in the paper.
        widen: factor on the filters of the three stages; 1 is the paper's, more a wide residual network.
        kernel_size: side or (rows, cols) of every conv.
        patterns: one entry a conv, 6n+1 of them, None for a standard one.
        gradient: as in `TiedConv2D`.
        implementation: as in `TiedConv2D`; or one for every tied conv, by its name.
        dropout: rate before the classifier.
        dtype: a Keras dtype policy, such as "mixed_float16".
    """
    first, *convs = plan_resnet(image_shape, width=width, widen=widen, kernel_size=kernel_size, patterns=patterns)
    options: dict[str, Any] = {"gradient": gradient, "implementation": implementation, "dtype": dtype}
    inputs = image_input(image_shape)
    x = apply_relu(apply_conv_bn(inputs, first, **options), "relu_1", dtype)
    for conv_a, conv_b in zip(convs[::2], convs[1::2], strict=True):
        shortcut = x
        if conv_a.strides > 1 or conv_a.in_channels != conv_a.filters:
            shortcut = apply_padded_shortcut(x, conv_a, dtype)
        x = apply_relu(apply_conv_bn(x, conv_a, **options), f"relu_{conv_a.number}", dtype)
        x = apply_conv_bn(x, conv_b, **options)
        x = keras.layers.Add(dtype=dtype, name=f"add_{conv_b.number}")([x, shortcut])
        x = apply_relu(x, f"relu_{conv_b.number}", dtype)
    logits = apply_classifier(x, num_classes, dropout=dropout, dtype=dtype)
    return keras.Model(inputs, logits, name="resnet")
