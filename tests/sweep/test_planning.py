"""The runs of a sweep: their directories, states and selection."""

from __future__ import annotations

import pytest

from tiedexp.errors import DatasetError, SpecError
from tiedexp.runs.sweeps import SweepDirectory
from tiedexp.sweep.planning import plan_sweep
from tiedexp.sweep.variants import load_sweep


def test_runs_are_where_the_record_says(write_sweep, tmp_path):
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    plan.directory.write(plan.record, plan.sweep.text)
    sweep = SweepDirectory(tmp_path / "runs" / "small-sweep")
    assert [run.path for _, run in sweep.runs()] == [run.directory.path for run in plan.runs]
    assert [(run.variant, run.seed) for run in sweep.read().runs] == [
        (variant, seed) for variant in ("point", "rings", "untied") for seed in (0, 1)
    ]
    assert plan.runs[1].title == "point s1"
    assert plan.runs[1].path == f"point-{plan.runs[1].spec.digest}/seed-1"
    assert {run.directory.state for run in plan.runs} == {"missing"}


def test_seeds_are_paired(write_sweep, tmp_path):
    """Order of the data, split and augmentation come from the seed alone, so it must be the same in every variant."""
    plan = plan_sweep(load_sweep(write_sweep()), tmp_path)
    by_variant = {}
    for run in plan.runs:
        by_variant.setdefault(run.variant.name, []).append((run.spec.seed, run.spec.dataset, run.spec.training))
    assert by_variant["point"] == by_variant["rings"] == by_variant["untied"]


@pytest.mark.parametrize(
    ("patterns", "paths"),
    [
        ((), ["point 0", "point 1", "rings 0", "rings 1", "untied 0", "untied 1"]),
        (("rings",), ["rings 0", "rings 1"]),
        (("*/seed-1",), ["point 1", "rings 1", "untied 1"]),
        (("point s0", "rings-*/seed-0"), ["point 0", "rings 0"]),
    ],
)
def test_the_runs_that_are_chosen(write_sweep, tmp_path, patterns, paths):
    chosen = plan_sweep(load_sweep(write_sweep()), tmp_path).select(patterns)
    assert [f"{run.spec.name} {run.spec.seed}" for run in chosen] == paths


def test_a_selection_that_matches_nothing(write_sweep, tmp_path):
    with pytest.raises(SpecError, match=r"--only ring: no run of the sweep matches; one of its runs is point-"):
        plan_sweep(load_sweep(write_sweep()), tmp_path).select(["rings", "ring"])


def test_data_that_is_not_there_is_said_before_anything_is_made(write_sweep, tmp_path):
    path = write_sweep(("name: digits, limit: 200", "name: mnist"))
    with pytest.raises(DatasetError, match="tiedexp data prepare mnist"):
        plan_sweep(load_sweep(path), tmp_path / "runs", data_dir=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_equal_weights(write_sweep, tmp_path):
    plan = plan_sweep(load_sweep(write_sweep(), ["match=weights", "model.width=8"]), tmp_path)
    widths = {run.variant.name: run.spec.model.width for run in plan.runs}
    assert widths["untied"] == 8
    assert widths["rings"] > widths["point"] > 8
    assert {variant.name: variant.width for variant in plan.record.variants} == widths
    assert plan.record.match == "weights"


def test_equal_times_are_measured_once(write_sweep, tmp_path):
    measured = []

    def measure(spec):
        measured.append(spec.model.width)
        return 1e-3 * spec.model.width * (2 if spec.model.tying else 1)

    sweep = load_sweep(write_sweep(), ["match=time", "model.width=32"])
    with pytest.raises(SpecError, match="needs the step time of every variant"):
        plan_sweep(sweep, tmp_path)
    plan = plan_sweep(sweep, tmp_path, measure_step=measure)
    widths = {variant.name: variant.width for variant in plan.record.variants}
    assert widths == {"point": 16, "rings": 16, "untied": 32}
    plan.directory.write(plan.record, plan.sweep.text)
    measured.clear()
    assert plan_sweep(sweep, tmp_path, measure_step=measure).record == plan.record
    assert not measured
    plan_sweep(load_sweep(write_sweep(), ["match=time", "model.width=24"]), tmp_path, measure_step=measure)
    assert measured  # it is another sweep


def test_finished_runs_stay_planned_until_a_smaller_plan_is_complete(write_sweep, tmp_path):
    """`sweep S`, then `sweep S --fresh seeds=1`, which is interrupted: the runs of seed 1 are still compared."""

    def finish(run):
        run.directory.path.mkdir(parents=True, exist_ok=True)
        (run.directory.path / "result.json").write_text("{}")

    first = plan_sweep(load_sweep(write_sweep()), tmp_path)
    first.begin()
    for run in first.runs:
        finish(run)
    first.end()
    assert first.directory.read() == first.record
    smaller = plan_sweep(load_sweep(write_sweep(), ["seeds=1"]), tmp_path)
    smaller.begin()
    (smaller.runs[0].directory.path / "result.json").unlink()  # it started over
    smaller.end()
    assert {run.path for run in smaller.directory.read().runs} == {run.path for run in first.runs}
    finish(smaller.runs[0])
    smaller.end()
    assert smaller.directory.read() == smaller.record
