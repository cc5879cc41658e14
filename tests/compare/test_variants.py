"""Runs are sorted into variants by what differs between them."""

from __future__ import annotations

import pytest

from tiedexp.compare.reading import read_runs
from tiedexp.compare.variants import build_variants, find_axes
from tiedexp.errors import SpecError
from tiedexp.labels import PATTERN, make_label

SGD = {PATTERN: "block", "optimizer.name": "sgd", "optimizer.momentum": 0.9}
ADAM = {PATTERN: "block", "optimizer.name": "adam", "optimizer.beta_1": 0.9}


@pytest.mark.parametrize(
    ("runs", "axes"),
    [
        ([SGD, SGD], ()),
        ([SGD, ADAM], ("optimizer.name",)),
        ([SGD, {**SGD, "optimizer.momentum": 0.5}, ADAM], ("optimizer.name", "optimizer.momentum")),
        ([SGD, {**SGD, "stopping.patience": 3, "stopping.metric": "loss"}], ("stopping.patience",)),
        ([{"depth": 2, PATTERN: "a"}, {"depth": 4, PATTERN: "b"}], (PATTERN, "depth")),
        ([], ()),
    ],
)
def test_axes(runs, axes):
    assert find_axes(runs) == axes


@pytest.mark.parametrize(
    ("settings", "label"),
    [
        ({PATTERN: "block", "model.depth": 4}, "block d4"),
        ({PATTERN: "none", "model.kernel_size": 3, "model.width": 8}, "untied 3x3 w8"),
        ({"model.kernel_size": "[3, 5]", "training.batch_size": 64}, "3x5 batch_size=64"),
        ({"training.early_stopping.patience": None}, ""),
    ],
)
def test_labels(settings, label):
    assert make_label(settings) == label


def labels(variants):
    return {variant.label: sorted(pair[0] for pair in variant.runs) for variant in variants}


def test_runs_that_differ_in_the_seed_alone(make_run, tmp_path):
    for pattern in ("block", "rings"):
        for seed in (0, 1):
            make_run(pattern, seed)
    found = read_runs([tmp_path / "runs"])
    assert labels(build_variants(found.runs)) == {"block": [0, 1], "rings": [0, 1]}


def test_the_same_experiment_under_two_names(make_run, tmp_path):
    for name in ("first", "second"):
        make_run(name=name)
    found = read_runs([tmp_path / "runs"])
    assert set(labels(build_variants(found.runs))) == {"first", "second"}


def test_by_a_key(make_run, tmp_path):
    """Runs are paired by seed and depth."""
    for pattern in ("block", "rings"):
        for depth in (2, 4):
            make_run(pattern, model__depth=depth)
    found = read_runs([tmp_path / "runs"])
    variants = build_variants(found.runs, by=[PATTERN])
    assert {variant.label: sorted(variant.runs) for variant in variants} == {
        "block": [(0, 2), (0, 4)],
        "rings": [(0, 2), (0, 4)],
    }
    with pytest.raises(SpecError, match=r"--by model.width: .*they differ in model.tying.pattern, model.depth"):
        build_variants(found.runs, by=["model.width"])


def test_long_labels_stay_apart(make_run, tmp_path):
    for last in ("A", "B"):
        make_run("/".join(["ABCDEFGHIJK"] * 10 + [f"ABCDEFGHIJ{last}"]), name=f"grid-{last}")
    found = read_runs([tmp_path / "runs"])
    names = [variant.label for variant in build_variants(found.runs)]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 70
