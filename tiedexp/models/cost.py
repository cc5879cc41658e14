"""What a model costs: weights and multiply-adds of each layer, without building it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiedexp.convolution.choosing import Choice, choose, estimate_step
from tiedexp.models.plan import ConvPlan


@dataclass(frozen=True)
class LayerCost:
    """The cost of one layer.

    Args:
        name: the layer's name in the model.
        kind: conv, tied conv, batch norm or dense.
        output_shape: (rows, cols, channels), or (classes,).
        pattern: the grid of a tied conv, otherwise None.
        groups: for a conv, the free weights per input channel and filter: groups if it is tied, otherwise cells.
        unique_weights: number of trainable weights.
        expanded_weights: number of trainable weights if the layer were untied.
        macs_dense: multiply-adds of the untied layer for one image, forward; padding counts as pixels.
        macs_tied: the same if each group of a kernel costs one multiplication and fixed zeros none.
        computed: for a tied conv, the chosen methods for output, input gradient and weight gradient.
        step_speedup: for a tied conv, the estimated speed-up of a training step over the expanded kernel.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    pattern: str | None
    groups: int | None
    unique_weights: int
    expanded_weights: int
    macs_dense: int
    macs_tied: int
    computed: str | None = None
    step_speedup: float | None = None


@dataclass(frozen=True)
class ModelCost:
    """The costs of all layers, and their totals."""

    layers: tuple[LayerCost, ...]

    @property
    def unique_weights(self) -> int:
        """Number of trainable weights of the model."""
        return sum(layer.unique_weights for layer in self.layers)

    @property
    def expanded_weights(self) -> int:
        """Number of trainable weights of the untied model."""
        return sum(layer.expanded_weights for layer in self.layers)

    @property
    def macs_dense(self) -> int:
        """Multiply-adds of the untied model for one image, forward."""
        return sum(layer.macs_dense for layer in self.layers)

    @property
    def macs_tied(self) -> int:
        """Multiply-adds for one image, forward, if each group of a kernel costs one multiplication."""
        return sum(layer.macs_tied for layer in self.layers)


def compute_cost(
    convs: Sequence[ConvPlan], num_classes: int, implementation: str = "auto", native: bool = False
) -> ModelCost:
    """The cost of the model with these convs, each followed by batch normalization, and one dense classifier.

    Batch normalization, activations, pooling and shortcuts do not count as multiply-adds.

    Args:
        convs: the convs in order.
        num_classes: number of outputs of the classifier.
        implementation: that of the tied convs.
        native: whether compiled code can run.
    """
    layers = []
    for conv in convs:
        layers.append(_conv_cost(conv, implementation, native))
        layers.append(_batch_norm_cost(conv))
    features = convs[-1].filters
    weights = (features + 1) * num_classes
    macs = features * num_classes
    layers.append(LayerCost("classifier", "dense", (num_classes,), None, None, weights, weights, macs, macs))
    return ModelCost(tuple(layers))


def _conv_cost(conv: ConvPlan, implementation: str, native: bool) -> LayerCost:
    cells = conv.kernel_size[0] * conv.kernel_size[1]
    groups = cells if conv.pattern is None else conv.pattern.num_groups
    channel_pairs = conv.in_channels * conv.filters
    pixels = conv.output_size[0] * conv.output_size[1]
    computed = speedup = None
    if conv.pattern is not None:
        choice = choose(conv.pattern, conv.size, implementation, native)
        computed = str(choice)
        dense, chosen = (estimate_step(conv.pattern, conv.size, methods).cost for methods in (Choice(), choice))
        speedup = round(dense / chosen, 2)
    return LayerCost(
        name=conv.name,
        kind="conv" if conv.pattern is None else "tied conv",
        output_shape=(*conv.output_size, conv.filters),
        pattern=None if conv.pattern is None else str(conv.pattern),
        groups=groups,
        unique_weights=groups * channel_pairs,
        expanded_weights=cells * channel_pairs,
        macs_dense=pixels * cells * channel_pairs,
        macs_tied=pixels * groups * channel_pairs,
        computed=computed,
        step_speedup=speedup,
    )


def _batch_norm_cost(conv: ConvPlan) -> LayerCost:
    weights = 2 * conv.filters  # gamma and beta
    shape = (*conv.output_size, conv.filters)
    return LayerCost(f"bn_{conv.number}", "batch norm", shape, None, None, weights, weights, 0, 0)
