"""A run that is evaluated again has the same results."""

from __future__ import annotations

import pytest

import tiedexp.experiment.trained
from tiedexp.convolution.choosing import Choice
from tiedexp.experiment.assembly import build_model, read_implementations
from tiedexp.experiment.evaluate import evaluate_run
from tiedexp.experiment.run import run_experiment
from tiedexp.training.devices import set_up_process

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")
RESNET = {"model": {"family": "resnet", "depth": 8, "width": 8}, "training": {"epochs": 1}}


@pytest.fixture
def warnings():
    return []


def change_manifest(run, **changes):
    run.write_json("manifest.json", {**run.read_json("manifest.json"), **changes})


@pytest.mark.parametrize("splits", [("test", "validation"), ("validation", "test")])
def test_the_results_are_those_of_training_in_any_order(make_spec, tmp_path, warnings, splits):
    run = run_experiment(make_spec(**RESNET), root=tmp_path)
    for split in splits:
        evaluation, epoch = evaluate_run(run, split=split, warn=warnings.append)
        assert evaluation == getattr(run.read_result(), split)
        assert epoch == 1
    assert warnings == []


def test_the_test_is_done_again_to_the_same_bits(make_spec, tmp_path):
    spec = make_spec(**RESNET)
    run = run_experiment(spec, root=tmp_path)
    before = run.read_result()
    run.inside("result.json").unlink()
    assert run_experiment(spec, root=tmp_path).read_result() == before


def test_as_many_threads_as_in_training(make_spec, tmp_path, warnings, monkeypatch):
    """A run of a sweep has its share of the cores; with all of them, sums differ in their last bits."""
    run = run_experiment(make_spec(training={"epochs": 1}), root=tmp_path)
    threads = run.read_manifest().threads
    change_manifest(run, threads=threads + 3)
    asked = []

    def set_up(**options):
        asked.append(options["preferred_threads"])
        return set_up_process(**options)

    monkeypatch.setattr(tiedexp.experiment.evaluate, "set_up_process", set_up)
    evaluate_run(run, warn=warnings.append)
    assert asked == [threads + 3]
    # TensorFlow already runs in this process, so its number stays, and a warning says so.
    assert warnings == [
        f"the run was trained with {threads + 3} threads, but this process has {threads}: "
        "the results may differ from those in result.json in their last digits"
    ]


@pytest.mark.parametrize("known", [True, False])
def test_the_convolutions_are_computed_as_in_training(make_spec, tmp_path, warnings, monkeypatch, known):
    run = run_experiment(make_spec(training={"epochs": 1}), root=tmp_path)
    trained = run.read_manifest().implementations
    way = Choice() if known else "magic"
    other = {name: (way.as_dict() if known else {"forward": way}) for name in trained}
    change_manifest(run, implementations=other)
    seen = []

    def build(plan, implementations=None):
        model = build_model(plan, implementations)
        seen.append(read_implementations(model))
        return model

    monkeypatch.setattr(tiedexp.experiment.trained, "build_model", build)
    evaluation, _ = evaluate_run(run, warn=warnings.append)
    assert seen == [other if known else trained]
    assert evaluation.accuracy == pytest.approx(run.read_result().test.accuracy, abs=0.01)
    assert len(warnings) == (not known)
    assert all("by a method that this version does not know" in text for text in warnings)
