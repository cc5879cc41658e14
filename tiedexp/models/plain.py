"""A plain stack: conv, batch norm, ReLU; average pooling between stages; global pooling and a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from tiedexp.models.blocks import apply_classifier, apply_conv_bn, apply_relu, image_input
from tiedexp.models.plan import plan_plain
from tiedexp.patterns.grid import Pattern


def build_plain(
    image_shape: tuple[int, int, int],
    num_classes: int,
    *,
    width: int,
    kernel_size: int | tuple[int, int],
    patterns: Sequence[Pattern | None],
    gradient: str = "sum",
    implementation: str | Mapping[str, Mapping[str, str]] = "auto",
    dropout: float = 0.0,
    dtype: str = "float32",
) -> keras.Model:
    """Build the model: images (batch, rows, cols, channels) to logits (batch, num_classes).

    Resolution is halved by pooling and not by strides: a stride-1 conv and a 2x2 pooling of an even-sided image
    commute with mirrors and quarter turns, so a model of symmetric patterns keeps their symmetry. The pooling averages,
    for the gradient of max pooling is not deterministic everywhere (XLA refuses it).

    Args:
        image_shape: (rows, cols, channels).
        num_classes: number of logits.
        width: filters of the first stage; doubled at each of the up to two further stages.
        kernel_size: side or (rows, cols) of every conv.
        patterns: one entry a conv, None for a standard one; so the depth is `len(patterns)`.
        gradient: as in `TiedConv2D`.
        implementation: as in `TiedConv2D`; or one for every tied conv, by its name.
        dropout: rate before the classifier.
        dtype: a Keras dtype policy, such as "mixed_float16".
    """
    x = inputs = image_input(image_shape)
    stage = 1
    for conv in plan_plain(image_shape, width=width, kernel_size=kernel_size, patterns=patterns):
        if conv.stage > stage:
            stage = conv.stage
            x = keras.layers.AveragePooling2D(2, dtype=dtype, name=f"pool_{stage - 1}")(x)
        x = apply_conv_bn(x, conv, gradient=gradient, implementation=implementation, dtype=dtype)
        x = apply_relu(x, f"relu_{conv.number}", dtype)
    logits = apply_classifier(x, num_classes, dropout=dropout, dtype=dtype)
    return keras.Model(inputs, logits, name="plain")
