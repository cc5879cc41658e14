"""A finished run trained for longer."""

from __future__ import annotations

import pytest

from tiedexp.compare.listing import describe_run
from tiedexp.compare.reading import read_runs
from tiedexp.errors import RunError, SpecError
from tiedexp.experiment.extend import extend_run, lengthen_spec
from tiedexp.experiment.reproduce import compare_runs
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.directory import RunDirectory
from tiedexp.spec.loading import load_spec

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
CONSTANT = {"schedule": {"name": "constant", "warmup_epochs": 1}}


def files_of(run):
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != ".lock"}


def test_without_a_cosine_it_is_the_run_that_trains_as_many_epochs_from_scratch(make_spec, tmp_path):
    longer = make_spec(training={**CONSTANT, "epochs": 4})
    straight = run_experiment(longer, root=tmp_path / "straight")
    parent = run_experiment(make_spec(training={**CONSTANT, "epochs": 2}), root=tmp_path / "runs")
    before = files_of(parent)
    extended = extend_run(parent, 4)
    assert extended.path == tmp_path / "runs" / straight.path.relative_to(tmp_path / "straight")
    assert compare_runs(straight, extended).differences == ()
    assert extended.initial_kernel.read_bytes() == parent.initial_kernel.read_bytes()
    assert files_of(parent) == before
    about = extended.read_manifest().parent
    assert (about.run, about.epochs, about.same_as_from_start) == (str(parent.path), 2, True)
    assert load_spec(extended.spec) == longer
    assert extended.read_manifest().spec == straight.read_manifest().spec
    series = [sorted(path.name for path in run.tensorboard.rglob("train")) for run in (straight, extended)]
    assert series[0] == series[1]
    assert extend_run(parent, 4).path == extended.path  # it is finished: nothing to do


def test_with_a_cosine_it_is_another_run(make_spec, tmp_path):
    parent = run_experiment(make_spec(training={"epochs": 2}), root=tmp_path)
    extended = extend_run(parent, 4)
    assert extended.path.parent.name.startswith("small-from-2-")
    assert extended.read_manifest().parent.same_as_from_start is False
    listed = describe_run(extended)
    assert (listed.name, listed.facts["training.epochs"]) == ("small-from-2", 4)
    compared = read_runs([tmp_path])
    assert sorted(run.name for run in compared.runs) == ["small", "small-from-2"]
    assert not compared.left_out
    rates = [line.learning_rate for line in extended.read_metrics()]
    assert len(rates) == 4
    assert rates[:2] == [line.learning_rate for line in parent.read_metrics()]
    assert rates[2] > rates[1]  # a cosine of four epochs is there
    assert extended.read_result().epochs == 4


def test_a_run_that_an_older_version_extended_is_still_readable(make_spec, tmp_path):
    """It has its parent's spec in the manifest; spec.yaml is right."""
    parent = run_experiment(make_spec(training={**CONSTANT, "epochs": 1}), root=tmp_path)
    extended = extend_run(parent, 2)
    manifest = extended.read_json("manifest.json")
    extended.write_json("manifest.json", {**manifest, "spec": parent.read_json("manifest.json")["spec"]})
    assert describe_run(extended).state == "finished"
    assert extend_run(extended, 3).read_result().epochs == 3


def test_a_run_that_was_killed_while_it_was_filled_starts_again(make_spec, tmp_path):
    parent = run_experiment(make_spec(training={**CONSTANT, "epochs": 2}), root=tmp_path)
    extended = extend_run(parent, 3)
    expected = extended.read_result().test
    for name in ("result.json", "manifest.json"):
        (extended.path / name).unlink()
    (extended.checkpoints / "epoch-0002.json").write_text("{}")
    assert extend_run(parent, 3).read_result().test == expected


def test_what_cannot_be_extended(make_spec, tmp_path):
    stopping = {"epochs": 9, "early_stopping": {"patience": 1, "min_delta": 1.0}}
    stopped = run_experiment(make_spec(training=stopping), root=tmp_path)
    with pytest.raises(RunError, match="stopped early, after epoch 2 of 9, so more epochs change nothing"):
        extend_run(stopped, 20)
    with pytest.raises(SpecError, match=r"the run has 9 epochs; --epochs must be larger\. Received: 9"):
        extend_run(stopped, 9)
    (stopped.path / "result.json").unlink()
    with pytest.raises(RunError, match=r"result.json cannot be read"):
        extend_run(RunDirectory(stopped.path), 20)


def test_names_stay_within_their_length(make_spec):
    spec = make_spec(name="n" * 80)
    assert lengthen_spec(spec, 9).name == "n" * 73 + "-from-3"
