"""What is known about an experiment before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from samples import make_manifest, write_run

from tiedexp.errors import DatasetError, RunError
from tiedexp.experiment.preparation import evaluation_source, locate_run, name_pattern, plan_experiment, training_source
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.seal import write_seal


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


def test_the_same_experiment_has_the_same_path(make_spec, tmp_path):
    place = locate_run(make_spec(), tmp_path).path
    assert locate_run(make_spec(seed=4), tmp_path).path == place.parent / "seed-4"
    assert locate_run(make_spec(training={"epochs": 4}), tmp_path).path.parent != place.parent
    assert locate_run(make_spec(name="other"), tmp_path).path.parent.name == place.parent.name.replace("small", "other")


def test_the_plan_of_a_resnet(make_spec):
    plan = plan_experiment(make_spec(model={"family": "resnet", "depth": 8, "widen": 2}))
    assert plan.image_shape == (8, 8, 1)
    assert len(plan.convs) == 7
    assert plan.convs[-1].filters == 4 * 2 * 4


def make_run(path: Path, data_dir: str | None = None) -> RunDirectory:
    """A run with a manifest."""
    return write_run(path, make_manifest(data={"name": "mnist", "data_dir": data_dir}))


def test_where_images_come_from(make_spec, tmp_path):
    run = make_run(tmp_path, data_dir="/trained/from")
    (tmp_path / "images").mkdir()
    spec = make_spec(dataset={"name": "mnist"})
    assert training_source(spec, Path("/here")).data_dir == Path("/here")

    def source(**options):
        found = evaluation_source(run, spec, **options)
        return found.name, found.path, found.data_dir

    assert source() == ("mnist", None, None)
    assert source(data_dir=Path("/other")) == ("mnist", None, Path("/other"))
    assert source(data="kmnist") == ("kmnist", None, None)
    assert source(data=str(tmp_path / "images"))[:2] == ("folder", tmp_path / "images")
    assert source(data="mine.npz")[:2] == ("npz", Path("mine.npz"))


def test_the_data_directory_that_a_run_names_is_reported_not_read(make_spec, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", data_dir="/trained/from")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "mine"))
    source = evaluation_source(run, make_spec(dataset={"name": "mnist"}))
    with pytest.raises(
        DatasetError, match=r"not prepared in .*mine(.|\n)*trained on data in /trained/from; --data-dir"
    ):
        source.check()
    monkeypatch.setenv("TFDS_DATA_DIR", "/trained/from")
    assert evaluation_source(run, make_spec(dataset={"name": "mnist"})).advice == ""


def test_ones_own_run_is_tested_on_the_data_it_names(make_spec, tmp_path):
    tfds, images = make_spec(dataset={"name": "mnist"}), make_spec(dataset={"name": "folder", "path": "/my/images"})
    run = make_run(tmp_path / "tfds", data_dir="/trained/from")
    write_seal(run, "mnist", None, Path("/trained/from"))
    assert evaluation_source(run, tfds).data_dir == Path("/trained/from")
    assert evaluation_source(run, tfds, data_dir=Path("/other")).data_dir == Path("/other")
    assert evaluation_source(run, tfds, data="digits").name == "digits"
    run = make_run(tmp_path / "folder")
    write_seal(run, "folder", Path("/my/images"), None)
    assert evaluation_source(run, images).path == Path("/my/images")
    with pytest.raises(RunError, match="/somebody/else"):
        evaluation_source(run, make_spec(dataset={"name": "folder", "path": "/somebody/else"}))


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_images_that_a_run_names_are_not_read(make_spec, tmp_path, name):
    spec = make_spec(dataset={"name": name, "path": "/some/bo dy's"})
    with pytest.raises(RunError, match=r"names its images: .* read only if you name them too: --data '/some/bo dy'"):
        evaluation_source(make_run(tmp_path / "run"), spec)
    assert evaluation_source(make_run(tmp_path / "run"), spec, data="digits").name == "digits"
