"""A run that is trained again is identical, or each difference is named."""

from __future__ import annotations

import json
import shutil

import h5py
import pytest

import tiedexp.experiment.reproduce
from tiedexp.errors import RunError
from tiedexp.experiment.extend import extend_run
from tiedexp.experiment.reproduce import compare_runs, reproduce_run
from tiedexp.experiment.run import run_experiment
from tiedexp.runs.directory import RunDirectory
from tiedexp.training.checkpoint import CheckpointStore, _checksum, _hash

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


@pytest.fixture
def run(make_spec, tmp_path):
    return run_experiment(make_spec(training={"epochs": 2}), root=tmp_path / "runs")


def test_a_run_is_reproduced_to_the_bit_beside_it(run, tmp_path):
    before = (run.path / "result.json").read_bytes()
    found = reproduce_run(run)
    assert found.run.path == tmp_path / "runs" / "reproduced" / run.path.parent.name / "seed-0"
    assert (found.differences, found.machine) == ((), ())
    assert found.metrics > 50
    assert found.weights >= 10
    assert (run.path / "result.json").read_bytes() == before
    again = reproduce_run(run)  # trains anew, although a run is there
    assert again.run.path == found.run.path
    assert again.run.read_manifest().started >= run.read_manifest().started
    assert again.differences == ()


def test_it_has_as_many_threads_as_the_run(run, monkeypatch):
    """A run of a sweep has its share of the cores; with all of them, sums differ in their last bits."""
    manifest = run.read_manifest()
    run.write_manifest(manifest.model_copy(update={"threads": manifest.threads + 3}))
    asked = []

    def run_again(spec, **options):
        asked.append(options["threads"])
        return run

    monkeypatch.setattr(tiedexp.experiment.reproduce, "run_experiment", run_again)
    reproduce_run(run)
    assert asked == [manifest.threads + 3]


def test_each_metric_and_weight_that_differs_is_named(run, make_spec, tmp_path):
    other = run_experiment(make_spec(training={"epochs": 2}), root=tmp_path / "other")
    lines = other.read_metrics()
    worse = lines[1].train.model_copy(update={"loss": lines[1].train.loss + 0.25})
    other.rewrite_metrics([lines[0], lines[1].model_copy(update={"train": worse})])
    result = other.read_result()
    other.write_result(result.model_copy(update={"test": result.test.model_copy(update={"accuracy": 0.125})}))
    change_weight(CheckpointStore(other.checkpoints).of_epoch(2).weights)
    manifest = other.read_manifest()
    data = manifest.data.model_copy(update={"fingerprint": "0"})
    other.write_manifest(manifest.model_copy(update={"threads": manifest.threads + 2, "data": data}))

    found = compare_runs(run, other)
    named = {difference.name: difference for difference in found.differences}
    assert named.keys() == {
        "metrics: train.loss",
        "result: test.accuracy",
        "weights of epoch 2: layers/dense/vars/0",
    }
    loss, weight = named["metrics: train.loss"], named["weights of epoch 2: layers/dense/vars/0"]
    assert (loss.count, loss.total, loss.largest) == (1, 2, pytest.approx(0.25))
    assert (weight.count, weight.total, weight.largest) == (1, 80, pytest.approx(1.0, rel=1e-6))
    threads = run.read_manifest().threads
    data = run.read_manifest().data.fingerprint
    assert found.machine == (f"threads {threads + 2} in place of {threads}", f"data 0 in place of {data}")


def change_weight(path):
    with h5py.File(path, "r+") as file:
        file["layers/dense/vars/0"][3, 4] += 1.0
    seal(path)


def seal(path):
    """Give the JSON of a weights file the checksums that it should have."""
    about = path.with_name(path.name.replace(".weights.h5", ".json"))
    content = json.loads(about.read_text())
    del content["checksum"]
    content["sha256"] = _hash(path)
    about.write_text(json.dumps({**content, "checksum": _checksum(content)}))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "secret",
            {"data": h5py.ExternalLink("/etc/hostname", "x")},
            r"/secret is a link \(ExternalLink\), not weights",
        ),
        ("bomb", {"shape": (10**6, 10**5), "chunks": (1000, 1000), "compression": "gzip"}, "/bomb has shape"),
        ("other", {"data": [1.0, 2.0], "external": [("elsewhere", 0, 8)]}, "/other has its values in another file"),
    ],
)
def test_files_that_are_not_plain_weights_are_not_loaded(run, name, options, message):
    """Their checksums are right, as somebody could make them."""
    path = CheckpointStore(run.checkpoints).of_epoch(2).weights
    with h5py.File(path, "r+") as file:
        if isinstance(options.get("data"), h5py.ExternalLink):
            file[name] = options["data"]
        elif "external" in options:
            file.create_dataset(name, shape=(2,), dtype="f4", external=options["external"])
        else:
            file.create_dataset(name, **options)
    seal(path)
    with pytest.raises(RunError, match=f"epoch-0002.weights.h5 is not loaded: {message}"):
        reproduce_run(run)


def test_missing_weights_are_reported_before_training(run):
    CheckpointStore(run.checkpoints).of_epoch(2).weights.unlink()
    with pytest.raises(RunError, match=r"epoch-0002.json is missing, or it and its weights"):
        reproduce_run(run)
    assert not (run.path.parent.parent / "reproduced").exists()


def test_the_kernel_from_before_training_is_compared_if_both_have_it(run, tmp_path):
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "other"))
    whole = compare_runs(run, other)
    assert whole.differences == ()
    with h5py.File(other.initial_kernel, "r+") as file:
        file["layers/tied_conv2d/vars/0"][0, 0, 0] += 0.5
    (found,) = compare_runs(run, other).differences
    assert (found.name, found.count, found.total) == ("weights before training: the first kernel", 1, 20)
    assert found.largest == pytest.approx(0.5, rel=1e-6)
    other.initial_kernel.unlink()  # as in a run of an older version
    for pair in ((run, other), (other, run)):
        rest = compare_runs(*pair)
        assert (rest.differences, rest.weights) == ((), whole.weights - 1)


def test_a_damaged_kernel_from_before_training_is_reported_before_training(run):
    run.initial_kernel.write_bytes(run.initial_kernel.read_bytes()[:100])
    with pytest.raises(RunError, match=r"initial_kernel.h5 is not loaded: .*; if you delete that file, every"):
        reproduce_run(run)
    assert not (run.path.parent.parent / "reproduced").exists()
    run.initial_kernel.unlink()
    assert reproduce_run(run).differences == ()


DEEP = json.loads('{"a":' * 300 + "[" * 300 + "]" * 300 + "}" * 300)


@pytest.mark.parametrize("value", [[[1], [2, 3]], "none", [["a", "b"]], 7, [[10**18]], [None], {"a": 1}, None, DEEP])
@pytest.mark.parametrize("name", ["confusion", "classes"])
def test_a_metric_of_another_form_differs_or_is_refused(run, tmp_path, name, value):
    """A key that tiedexp writes must have its form; an unknown key can have any."""
    other = RunDirectory(shutil.copytree(run.path, tmp_path / "other"))
    first, last = other.read_metrics()
    other.rewrite_metrics([first, last.model_copy(update={"note": value})])
    found = {difference.name for difference in compare_runs(other, run).differences}
    assert any(place.startswith("metrics: note") for place in found)
    result = other.read_json("result.json")
    result["test"][name] = value
    other.write_json("result.json", result)
    if name == "confusion" and value in ([[1], [2, 3]], [[10**18]]):
        (found,) = compare_runs(other, run).differences[1:]
        assert found.name == "result: test.confusion"
    else:
        with pytest.raises(RunError, match=rf"result.json is not as tiedexp writes it: test.{name}.* is wrong"):
            compare_runs(other, run)


def test_a_metric_that_only_one_has(run, make_spec, tmp_path):
    other = run_experiment(make_spec(training={"epochs": 2}), root=tmp_path / "other")
    result = other.read_json("result.json")
    del result["test"]["calibration_error"]
    other.write_json("result.json", {**result, "more": 1})
    assert {d.name for d in compare_runs(run, other).differences} == {"result: test.calibration_error", "result: more"}


def test_what_cannot_be_reproduced(run, tmp_path):
    with pytest.raises(RunError, match="name another directory with --runs"):
        reproduce_run(run, root=tmp_path / "runs")
    extended = extend_run(run, 3)
    with pytest.raises(RunError, match=r"extends .* with another schedule"):
        reproduce_run(extended)
    (run.path / "result.json").unlink()
    with pytest.raises(RunError, match="is not finished"):
        reproduce_run(RunDirectory(run.path))
