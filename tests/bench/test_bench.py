"""The benchmark times what it says, and computes its figures correctly."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tiedexp.bench.handwritten import build_handwritten
from tiedexp.bench.layers import LayerShape, bench_layers
from tiedexp.bench.models import bench_model
from tiedexp.bench.timing import Timing, time_in_turns
from tiedexp.errors import SpecError
from tiedexp.experiment.preparation import plan_model
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern
from tiedexp.spec.schema import ExperimentSpec

SHAPE = LayerShape(2, 6, 7, 3, 4)


def test_functions_run_in_turns() -> None:
    calls: list[str] = []
    timings = time_in_turns({name: lambda name=name: calls.append(name) for name in "ab"}, 3)
    assert "".join(calls) == "ab" * 4  # a round to warm up
    assert [len(timing.milliseconds) for timing in timings.values()] == [3, 3]


def test_ratios_are_of_the_same_round() -> None:
    slow, fast = Timing((10.0, 100.0, 20.0)), Timing((5.0, 25.0, 20.0))
    assert fast.speedup_over(slow) == (2.0, 1.5, 3.0)
    assert fast.median == 20.0
    assert Timing((4.0,)).speedup_over(Timing((8.0,))) == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (Pattern.preset("block", 5), {"stacked by hand"}),
        (Pattern.preset("column", 5), {"stacked by hand", "tiled by hand"}),
        (Pattern.tile((2, 3), (2, 1)), {"tiled by hand"}),
        (Pattern.preset("tile", 5), set()),
        (Pattern.preset("d4", 5), set()),
        (Pattern.preset("full", 5), set()),
        (Pattern.parse("A-A/A-A"), set()),
    ],
)
def test_handwritten_layers_compute_what_ours_does(pattern: Pattern, names: set[str]) -> None:
    images = np.random.default_rng(0).normal(size=(2, 6, 7, 3)).astype("float32")
    layers = build_handwritten(pattern, 4)
    assert set(layers) == names
    for layer in layers.values():
        layer.build(images.shape)
        ours = TiedConv2D(4, pattern, padding="same", use_bias=False, implementation="expand")
        ours.build(images.shape)
        ours.free_kernel.assign(keras.ops.reshape(layer.small, ours.free_kernel.shape))
        np.testing.assert_array_equal(layer(images), ours(images))


def test_rows() -> None:
    rows = list(bench_layers({"mine": Pattern.parse("AAB/AAB")}, [SHAPE], rounds=2))
    methods = {"Conv2D", "expand", "factored", "auto", "as many weights", "stacked by hand"}
    assert {row.method for row in rows} - {"torch Conv2d"} == methods
    assert {row.part for row in rows} == {"forward", "step"}
    for row in rows:
        assert (row.pattern, row.grid, row.free, row.cells) == ("mine", "AAB/AAB", 2, 6)
        assert row.shape == "2x6x7x3->4"
        assert row.milliseconds > 0
        assert row.ratio_low <= row.ratio <= row.ratio_high
    assert all(row.ratio == 1 for row in rows if row.method == "Conv2D")
    (bound,) = {row.computed for row in rows if row.method == "as many weights"}
    assert bound == "1x2"


def make_plan(tying: dict[str, str] | None) -> object:
    spec = ExperimentSpec(
        name="x",
        dataset={"name": "digits"},
        model={"depth": 2, "width": 4, "kernel_size": 3, "tying": tying},
        training={"epochs": 1, "batch_size": 8},
    )
    return plan_model(spec, (8, 8, 1), 10)


def test_model() -> None:
    rows = list(bench_model(make_plan({"pattern": "row"}), rounds=1))
    assert {row.method: row.computed for row in rows} == {
        "untied": "",
        "expand": "native in 0 of 2 convs",
        "factored": "native in 2 of 2 convs",
        "auto": "native in 0 of 2 convs",
    }


def test_model_that_ties_nothing() -> None:
    with pytest.raises(SpecError, match="no tied convolution"):
        list(bench_model(make_plan(None), rounds=1))
