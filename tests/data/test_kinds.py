"""A new kind of dataset is one class and one line of the table: from the spec to a trained model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiedexp.data.kind import DatasetKind, Description, FileKind, Images, Source, Warn
from tiedexp.data.sources import (
    KINDS,
    check_prepared,
    describe_dataset,
    find_kind,
    load_dataset,
    parse_source,
    stamp_files,
)
from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError, SpecError
from tiedexp.experiment.preparation import plan_experiment
from tiedexp.spec.loading import load_spec
from tiedexp.spec.schema import ExperimentSpec


def draw_stripes(count: int) -> Split:
    """Images of 6x6 with stripes across (class 0) and down (class 1)."""
    images = np.zeros((count, 6, 6, 1), np.uint8)
    images[0::2, ::2] = images[1::2, :, ::2] = 250
    return Split(images, np.arange(count) % 2)


class Stripes(DatasetKind):
    meaning = "stripes across and down"

    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        return Description((6, 6, 1), 2, 60, 20)

    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        return Images(draw_stripes(60), draw_stripes(20), ("across", "down"))

    def check(self, source: Source) -> None:
        pass


class CountedStripes(FileKind):
    """As many images as a text file says."""

    meaning = "stripes across and down, as many as a file says"
    example_path = "count.txt"

    def is_at(self, path: Path) -> bool:
        return path.suffix == ".txt"

    def list_files(self, path: Path) -> list[Path]:
        return [path]

    def describe(self, source: Source, image_size: int | None, warn: Warn) -> Description:
        self.check(source)
        return Description((6, 6, 1), 2, int(source.own_path.read_text()), None)

    def load(self, source: Source, image_size: int | None, warn: Warn) -> Images:
        self.check(source)
        return Images(draw_stripes(int(source.own_path.read_text())), None, ("across", "down"))

    def check(self, source: Source) -> None:
        if not source.own_path.is_file():
            raise DatasetError(f"there is no file {source.path}")


@pytest.fixture(autouse=True)
def count_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The two kinds are in the table, and this is a file of the second."""
    monkeypatch.setitem(KINDS, "stripes", Stripes())
    monkeypatch.setitem(KINDS, "counted", CountedStripes())
    path = tmp_path / "count.txt"
    path.write_text("40")
    return path


@pytest.fixture
def write_spec(tmp_path: Path) -> Any:
    def write(dataset: str) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(
            f"name: a\ndataset: {dataset}\nmodel: {{depth: 2, width: 2, tying: {{pattern: point}}}}\n"
            "training: {epochs: 2, batch_size: 10}\n"
        )
        return path

    return write


def test_a_spec_may_name_it(write_spec: Any, count_file: Path) -> None:
    assert load_spec(write_spec("{name: stripes}")).dataset.name == "stripes"
    assert load_spec(write_spec("{name: counted, path: count.txt}")).dataset.path == str(count_file)
    with pytest.raises(SpecError, match="the dataset 'counted' needs the key `path`"):
        load_spec(write_spec("{name: counted}"))
    with pytest.raises(SpecError, match="only the datasets folder and npz and counted take a path"):
        load_spec(write_spec("{name: stripes, path: count.txt}"))


def test_it_is_described_and_loaded(count_file: Path) -> None:
    for options, counts in (({"name": "stripes"}, (60, 20)), ({"name": "counted", "path": count_file}, (32, 8))):
        check_prepared(**options)
        described, loaded = describe_dataset(**options), load_dataset(**options, image_size=12)
        assert (described.image_shape, described.num_classes) == ((6, 6, 1), 2)
        assert (described.train_images, described.test_images) == (len(loaded.train), len(loaded.test)) == counts
        assert loaded.image_shape == (12, 12, 1)
        assert loaded.class_names == ("across", "down")


def test_what_is_wrong_with_its_files_is_told(tmp_path: Path) -> None:
    for function in (check_prepared, describe_dataset, load_dataset):
        with pytest.raises(DatasetError, match=r"there is no file .*nowhere"):
            function("counted", path=tmp_path / "nowhere.txt")
        with pytest.raises(DatasetError, match="'counted' needs a path"):
            function("counted")
    with pytest.raises(DatasetError, match="did you mean 'stripes'"):
        check_prepared("stripe", data_dir=tmp_path)


def test_its_files_are_recognised_and_stamped(count_file: Path) -> None:
    assert parse_source(str(count_file)) == ("counted", count_file)
    assert parse_source("stripes") == ("stripes", None)
    before = stamp_files("counted", count_file)
    count_file.write_text("400")
    assert stamp_files("counted", count_file) != before


@pytest.mark.parametrize("dataset", ["{name: stripes}", "{name: counted, path: count.txt}"])
def test_a_model_is_trained_and_tested_on_it(write_spec: Any, tmp_path: Path, dataset: str) -> None:
    from tiedexp.experiment.evaluate import evaluate_run
    from tiedexp.experiment.run import run_experiment

    spec: ExperimentSpec = load_spec(write_spec(dataset))
    assert plan_experiment(spec).num_classes == 2
    run = run_experiment(spec, root=tmp_path / "runs")
    data = run.read_manifest().data
    assert (data.name, data.class_names, data.data_dir) == (spec.dataset.name, ("across", "down"), None)
    assert (data.files is None) == (spec.dataset.path is None)
    assert evaluate_run(run)[0].images == (20 if spec.dataset.path is None else 8)


def test_the_commands_know_it(
    count_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiedexp.cli.data import list_datasets, show
    from tiedexp.cli.init import build_starter

    monkeypatch.setenv("COLUMNS", "200")
    list_datasets(data_dir=count_file.parent)
    listed = capsys.readouterr().out
    assert re.search(r"stripes +yes +6x6x1 +2 +60 +20 +stripes across and down", listed)
    assert "dataset: {name: counted, path: count.txt}  (stripes across and down, as many as a file says)" in listed
    show(str(count_file))
    assert "6x6 grey, 2 classes, 32 training and 8 test images" in capsys.readouterr().out
    assert re.search("name: counted *#.*\n  path: count.txt ", build_starter(Path("new.yaml"), "counted"))
    assert "path:" not in build_starter(Path("new.yaml"), "stripes")


@pytest.mark.parametrize("part", ["meaning", "example_path", "is_at", "list_files", "describe", "load", "check"])
def test_a_part_that_is_forgotten_is_an_error_at_once(part: str) -> None:
    parts = {name: value for name, value in vars(CountedStripes).items() if not name.startswith("_")}
    del parts[part]
    with pytest.raises(TypeError, match=f"abstract method '?{part}"):
        type("Forgetful", (FileKind,), parts)()


def test_every_other_name_is_one_of_tfds() -> None:
    assert find_kind("mnist").meaning == "a dataset of TensorFlow Datasets"
