"""Several sweeps in one comparison: each variant has its own sweep's label."""

from __future__ import annotations

import pytest

from tiedexp.compare.reading import read_runs
from tiedexp.compare.table import build_comparison
from tiedexp.labels import PATTERN
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant


@pytest.fixture
def make_sweep(make_run, tmp_path):
    """Writes a finished sweep of some patterns: `make_sweep("first", block="the block", model__depth=4)`."""

    def make(name, *, folder=None, baseline=None, match=None, seeds=(0, 1, 2), depth=2, **labels):
        root, runs = tmp_path / (folder or name), []
        for pattern in labels:
            for seed in seeds:
                path = make_run(pattern, seed, root=root, test=0.9 + 0.01 * seed + 0.02 * depth, model__depth=depth)
                runs.append(PlannedRun(variant=pattern, seed=seed, path=path.relative_to(root).as_posix()))
        variants = tuple(
            Variant(name=pattern, label=label, settings={PATTERN: pattern}, width=4)
            for pattern, label in labels.items()
        )
        record = SweepRecord(
            name=name, baseline=baseline, match=match, axes=(PATTERN,), variants=variants, runs=tuple(runs)
        )
        SweepDirectory(root).write(record, "")
        return root

    return make


def compare(*paths, **options):
    found = read_runs(paths)
    return build_comparison(found, found.runs, **options)


def labels_of(comparison):
    return {row.label: row.metric.count for row in comparison.rows}


def test_labels_are_those_of_the_sweeps(make_sweep, make_run, tmp_path):
    first = make_sweep("first", block="the block", rings="the rings")
    second = make_sweep("second", depth=4, point="the point")
    plain = make_run("d4", root=tmp_path / "plain").parent.parent
    comparison = compare(first, second, plain)
    assert labels_of(comparison) == {"the block": 3, "the rings": 3, "the point": 3, "d4 d2": 1}


def test_a_label_that_two_have_gets_the_name_of_its_sweep(make_sweep):
    first = make_sweep("first", block="the block", rings="the rings")
    second = make_sweep("second", depth=4, block="the block", point="the point")
    expected = {"first: the block": 3, "the rings": 3, "second: the block": 3, "the point": 3}
    comparison = compare(first, second, baseline="second: the block")
    assert labels_of(comparison) == expected
    assert [row.label for row in comparison.rows if row.difference is None] == ["second: the block"]
    assert labels_of(compare(first, second, by=[PATTERN])) == {"block": 6, "rings": 3, "point": 3}


def test_sweeps_of_one_name_are_told_apart_by_their_paths(make_sweep):
    one = make_sweep("study", folder="here/study", block="the block")
    other = make_sweep("study", folder="there/study", depth=4, block="the block")
    titles = [str(path)[-24:] for path in (one, other)]
    assert labels_of(compare(one, other)) == {f"{title}: the block": 3 for title in titles}


def test_the_same_experiment_in_two_sweeps_is_one_variant(make_sweep):
    """Of a seed that both sweeps have, the run of the first one is compared."""
    first = make_sweep("first", seeds=(0, 1), block="the block", rings="the rings")
    second = make_sweep("second", seeds=(1, 2), block="a block", point="the point")
    found = read_runs([first, second])
    comparison = build_comparison(found, found.runs)
    assert labels_of(comparison) == {"the block": 3, "the rings": 2, "the point": 2}
    assert len(found.left_out) == 1
    assert found.left_out[0].startswith(f"{second / 'block-2' / 'seed-1'} has the same spec and seed as {first}")


@pytest.mark.parametrize(
    ("of_first", "of_second", "expected"),
    [
        ("block", None, "first: the block"),
        (None, "point", "the point"),
        ("block", "point", None),  # they do not agree on one
        (None, None, None),
    ],
)
def test_the_baseline_is_that_of_the_sweeps_if_they_have_one(make_sweep, of_first, of_second, expected):
    first = make_sweep("first", baseline=of_first, block="the block")
    second = make_sweep("second", baseline=of_second, depth=4, block="the block", point="the point")
    comparison = compare(first, second)
    assert comparison.baseline == expected
    assert any("There is no baseline" in note.text for note in comparison.notes) == (expected is None)


def test_a_baseline_that_both_have_is_one(make_sweep):
    sweeps = [
        make_sweep("first", baseline="full", full="untied", block="the block"),
        make_sweep("second", baseline="full", full="untied", rings="the rings"),
    ]
    comparison = compare(*sweeps)
    assert comparison.baseline == "untied"
    assert labels_of(comparison) == {"untied": 3, "the block": 3, "the rings": 3}
    assert sum(row.difference is not None for row in comparison.rows) == 2


def test_equal_times_are_those_within_a_sweep(make_sweep):
    """Each sweep matches its variants to its own baseline."""
    first = make_sweep("first", match="time", baseline="full", full="untied", block="the block")
    second = make_sweep("second", match="time", depth=4, rings="the rings")
    rows = {row.label: row for row in compare(first, second).rows}
    assert "time" in rows["the block"].equal_budgets
    assert "time" not in rows["the rings"].equal_budgets
