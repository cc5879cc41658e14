"""A plain stack: conv, batch norm, ReLU; average pooling between stages; global pooling and a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import keras

from tiedexp.models.blocks import apply_classifier, apply_conv_bn, apply_relu, image_input
from tiedexp.models.plan import ConvPlan


def build_plain(
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

    Pooling, not strides, halves the resolution: a stride-1 conv and a 2x2 pooling of an even-sided image commute with
    mirrors and rotations by 90 degrees, so a model of symmetric patterns keeps their symmetry. It is average pooling,
    because the gradient of max pooling is not deterministic everywhere (XLA refuses it).

    Args:
        image_shape: (rows, cols, channels).
        num_classes: number of logits.
        convs: the list that `plan_plain` returns for this `image_shape`.
        gradient: see `TiedConv2D`.
        implementation: see `TiedConv2D`; or a mapping from the name of each tied conv to its own.
        dropout: dropout rate before the classifier.
        dtype: a Keras dtype policy, e.g. "mixed_float16".
    """
    x = inputs = image_input(image_shape)
    stage = 1
    for conv in convs:
        if conv.stage > stage:
            stage = conv.stage
            x = keras.layers.AveragePooling2D(2, dtype=dtype, name=f"pool_{stage - 1}")(x)
        x = apply_conv_bn(x, conv, gradient=gradient, implementation=implementation, dtype=dtype)
        x = apply_relu(x, f"relu_{conv.number}", dtype)
    logits = apply_classifier(x, num_classes, dropout=dropout, dtype=dtype)
    return keras.Model(inputs, logits, name="plain")
