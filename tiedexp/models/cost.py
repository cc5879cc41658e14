"""What a model costs: weights and multiply-adds, layer by layer, without building it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiedexp.convolution.choosing import Choice, choose, estimate_step
from tiedexp.models.plan import ConvPlan


@dataclass(frozen=True)
class LayerCost:
    """Cost of one layer.

    Args:
        name: the layer's name in the model.
        kind: conv, tied conv, batch norm or dense.
        output_shape: (rows, cols, channels), or (classes,).
        pattern: grid of a tied conv, otherwise None.
        groups: free weights of a kernel's cells, for convs (the cells themselves where it is not tied).
        unique_weights: trainable numbers.
        expanded_weights: trainable numbers of the layer with every tie undone.
        macs_dense: multiply-adds for one image, forward, of the untied layer; padding counts as pixels.
        macs_tied: the same when every group of a kernel costs one multiplication, zeros none.
        computed: of a tied conv how output, input gradient and weight gradient are computed, by the estimate.
        step_speedup: of a tied conv how many times as fast its training step is than with the expanded kernel, by the
            estimate.
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
    """Costs of all layers, and their sums."""

    layers: tuple[LayerCost, ...]

    @property
    def unique_weights(self) -> int:
        """Trainable numbers of the model."""
        return sum(layer.unique_weights for layer in self.layers)

    @property
    def expanded_weights(self) -> int:
        """Trainable numbers of the model with every tie undone."""
        return sum(layer.expanded_weights for layer in self.layers)

    @property
    def macs_dense(self) -> int:
        """Multiply-adds for one image, forward, of the untied model."""
        return sum(layer.macs_dense for layer in self.layers)

    @property
    def macs_tied(self) -> int:
        """Multiply-adds for one image, forward, when every group of a kernel costs one multiplication."""
        return sum(layer.macs_tied for layer in self.layers)


def compute_cost(
    convs: Sequence[ConvPlan], num_classes: int, implementation: str = "auto", native: bool = False
) -> ModelCost:
    """Cost of the model that has these convs, each followed by batch normalisation, and one dense classifier.

    Batch normalisation, activations, pooling and shortcuts are not counted as multiply-adds.

    Args:
        convs: in order.
        num_classes: outputs of the classifier.
        implementation: of the tied convs.
        native: whether they can be computed by compiled code.
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
        dense, chosen = (estimate_step(conv.pattern, conv.size, way).cost for way in (Choice(), choice))
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
