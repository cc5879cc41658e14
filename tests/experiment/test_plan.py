"""What is known of an experiment before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tiedexp.experiment.plan import evaluation_source, locate_run, name_pattern, plan_experiment, training_source
from tiedexp.runs.directory import RunDirectory


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("block", "block"),
        ("AAB/AAB/CCD", "AAB/AAB/CCD"),
        ("AAB\nAAB\nCCD\n", "AAB/AAB/CCD"),
        ("A  B -A\n C . -C\nA B -A\n", "A B -A/C . -C/A B -A"),
        ({"preset": "hashed", "groups": 4, "seed": 2}, "hashed(groups=4, seed=2)"),
        ({"preset": "random_like", "of": "block", "seed": 1}, "random_like(seed=1, of=block)"),
        (["point", {"preset": "block", "blocks": 2}], "point, block(blocks=2)"),
    ],
)
def test_the_name_of_a_pattern(make_spec, pattern, name):
    assert name_pattern(make_spec(model={"tying": {"pattern": pattern}}).model) == name


def test_a_model_without_tied_convs_has_none(make_spec):
    assert name_pattern(make_spec(model={"tying": None}).model) == "none"


def test_the_same_experiment_has_the_same_place(make_spec, tmp_path):
    place = locate_run(make_spec(), tmp_path).path
    assert locate_run(make_spec(seed=4), tmp_path).path == place.parent / "seed-4"
    assert locate_run(make_spec(training={"epochs": 4}), tmp_path).path.parent != place.parent
    assert locate_run(make_spec(name="other"), tmp_path).path.parent.name == place.parent.name.replace("small", "other")


def test_the_plan_of_a_resnet(make_spec):
    plan = plan_experiment(make_spec(model={"family": "resnet", "depth": 8, "widen": 2}))
    assert plan.image_shape == (8, 8, 1)
    assert len(plan.convs) == 7
    assert plan.convs[-1].filters == 4 * 2 * 4


def test_where_images_come_from(make_spec, tmp_path):
    run = RunDirectory(tmp_path)
    (tmp_path / "images").mkdir()
    data = {"name": "mnist", "fingerprint": "0", "image_shape": [28, 28, 1], "class_names": [], "mean": [], "std": []}
    machine = {"versions": {}, "commit": None, "processor": "", "device": "CPU", "replicas": 1, "threads": 1}
    manifest = {"format": 1, **machine, "deterministic": True, "data": {**data, "data_dir": "/trained/from"}}
    run.write_json("manifest.json", manifest)
    spec = make_spec(dataset={"name": "mnist"})
    assert training_source(spec, Path("/here")).data_dir == Path("/here")

    def source(**options):
        found = evaluation_source(run, spec, **options)
        return found.name, found.path, found.data_dir

    assert source() == ("mnist", None, Path("/trained/from"))
    assert source(data_dir=Path("/other")) == ("mnist", None, Path("/other"))
    assert source(data="kmnist") == ("kmnist", None, Path("/trained/from"))
    assert source(data=str(tmp_path / "images"))[:2] == ("folder", tmp_path / "images")
    assert source(data="mine.npz")[:2] == ("npz", Path("mine.npz"))
