"""Costs against counts made by hand."""

from __future__ import annotations

import pytest

from tiedexp.models.cost import compute_cost
from tiedexp.models.plan import plan_plain, plan_resnet
from tiedexp.patterns.grid import Pattern

POINT = Pattern.preset("point", 3)  # 5 groups of 9 cells


def test_costs_of_a_small_plain_model_by_hand():
    convs = plan_plain((8, 8, 1), width=4, kernel_size=3, patterns=[POINT, None])
    cost = compute_cost(convs, num_classes=10)
    rows = {layer.name: layer for layer in cost.layers}
    assert list(rows) == ["conv_1", "bn_1", "conv_2", "bn_2", "classifier"]

    # conv_1: 1 -> 4 channels at 8x8; conv_2: 4 -> 8 channels at 4x4, not tied.
    first, second = rows["conv_1"], rows["conv_2"]
    assert (first.kind, first.groups, first.output_shape, first.pattern) == ("tied conv", 5, (8, 8, 4), str(POINT))
    assert (first.unique_weights, first.expanded_weights) == (20, 36)
    assert (first.macs_tied, first.macs_dense) == (64 * 20, 64 * 36)
    assert (second.kind, second.groups, second.output_shape, second.pattern) == ("conv", 9, (4, 4, 8), None)
    assert (second.unique_weights, second.expanded_weights) == (288, 288)
    assert (second.macs_tied, second.macs_dense) == (16 * 288, 16 * 288)

    assert (rows["bn_1"].unique_weights, rows["bn_2"].unique_weights) == (8, 16)
    assert (rows["classifier"].unique_weights, rows["classifier"].macs_dense) == (90, 80)
    assert (cost.unique_weights, cost.expanded_weights) == (20 + 8 + 288 + 16 + 90, 36 + 8 + 288 + 16 + 90)
    assert (cost.macs_tied, cost.macs_dense) == (1280 + 4608 + 80, 2304 + 4608 + 80)


def test_zeros_of_a_pattern_cost_nothing():
    cross = Pattern.parse(".A./BCD/.E.")
    (conv,) = plan_plain((5, 5, 2), width=3, kernel_size=3, patterns=[cross])
    layer = compute_cost([conv], num_classes=2).layers[0]
    assert (layer.macs_tied, layer.macs_dense) == (25 * 5 * 2 * 3, 25 * 9 * 2 * 3)


def test_resnet_20_has_the_size_that_is_published():
    """0.27 million parameters: He et al. 2016, table 6."""
    convs = plan_resnet((32, 32, 3), width=16, widen=1, kernel_size=3, patterns=[None] * 19)
    cost = compute_cost(convs, num_classes=10)
    stem = 9 * 3 * 16
    blocks = 9 * (6 * 16 * 16 + 16 * 32 + 5 * 32 * 32 + 32 * 64 + 5 * 64 * 64)
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64)
    assert cost.unique_weights == stem + blocks + norms + 65 * 10 == 269_722
    macs = 1024 * 9 * (3 * 16 + 6 * 256) + 256 * 9 * (16 * 32 + 5 * 1024) + 64 * 9 * (32 * 64 + 5 * 4096) + 640
    assert cost.macs_dense == macs


@pytest.mark.parametrize(
    ("depth", "side", "stages"), [(1, 28, [1]), (2, 28, [1, 2]), (4, 28, [1, 1, 2, 3]), (7, 8, [1, 1, 1, 2, 2, 3, 3])]
)
def test_stages_of_a_plain_model(depth, side, stages):
    convs = plan_plain((side, side, 1), width=4, kernel_size=3, patterns=[None] * depth)
    assert [conv.stage for conv in convs] == stages
    assert [conv.filters for conv in convs] == [4 * 2 ** (stage - 1) for stage in stages]
    assert [conv.output_size[0] for conv in convs] == [side >> (stage - 1) for stage in stages]


def test_a_tiny_image_gets_no_stage_below_two_pixels():
    convs = plan_plain((5, 4, 1), width=4, kernel_size=3, patterns=[None] * 6)
    assert convs[-1].output_size == (2, 2)
    (only,) = plan_plain((1, 9, 1), width=4, kernel_size=1, patterns=[None])
    assert only.output_size == (1, 9)


def test_a_resnet_of_another_depth_is_refused():
    with pytest.raises(ValueError, match=r"6n\+1 convs.*Received: 8 patterns"):
        plan_resnet((8, 8, 1), width=4, widen=1, kernel_size=3, patterns=[None] * 8)
