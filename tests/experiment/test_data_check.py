"""Finished runs whose data has changed since."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
from PIL import Image
from samples import make_manifest
from sklearn.datasets import load_digits

from tiedexp.errors import RunError
from tiedexp.experiment import data_check
from tiedexp.experiment.data_check import DataCheck
from tiedexp.experiment.preparation import load_images, training_source
from tiedexp.runs.directory import RunDirectory


@pytest.fixture
def npz(tmp_path):
    """A file of images, and a function that writes it again with another first pixel."""
    digits = load_digits()
    images = digits.images[:100].astype("uint8") * 15

    def write(pixel=0):
        images[0, 0, 0] = pixel
        np.savez(tmp_path / "mine.npz", x_train=images, y_train=digits.target[:100])

    write()
    return tmp_path / "mine.npz", write


@pytest.fixture
def finish(make_run):
    """Writes a finished run of a spec, with the data of now."""

    def write(spec):
        run = RunDirectory(make_run("none"))
        data = {"fingerprint": load_images(spec, None).fingerprint, "files": training_source(spec).stamp()}
        run.write_manifest(make_manifest(data=data))
        return run

    return write


def test_changed_images_are_refused(make_spec, npz, finish, monkeypatch):
    path, write = npz
    spec = make_spec(dataset={"name": "npz", "path": str(path)})
    run, warnings = finish(spec), []
    with monkeypatch.context() as patched:  # the same files are not read
        patched.setattr(data_check, "load_images", None)
        DataCheck(None, warnings.append).check(run, spec)
    os.utime(path, (1, 1))
    DataCheck(None, warnings.append).check(run, spec)  # another time, the same images
    write(pixel=7)
    check = DataCheck(None, warnings.append)
    for _ in range(2):
        with pytest.raises(RunError, match=r"the data has changed since .* was trained .*; --fresh trains it again"):
            check.check(run, spec)
        monkeypatch.setattr(data_check, "load_images", None)  # the second time, the change is known
    assert warnings == []


def test_a_run_of_an_older_version_is_compared_by_its_images(make_spec, npz, finish):
    path, write = npz
    spec = make_spec(dataset={"name": "npz", "path": str(path)})
    run = finish(spec)
    manifest = json.loads((run.path / "manifest.json").read_text())
    del manifest["data"]["files"]
    run.write_json("manifest.json", manifest)
    DataCheck(None, pytest.fail).check(run, spec)
    write(pixel=7)
    with pytest.raises(RunError, match="the data has changed"):
        DataCheck(None, pytest.fail).check(run, spec)


def test_missing_data_is_reported_once(make_spec, npz, finish):
    path, _ = npz
    spec = make_spec(dataset={"name": "npz", "path": str(path)})
    run, warnings = finish(spec), []
    path.unlink()
    check = DataCheck(None, warnings.append)
    check.check(run, spec)
    check.check(run, spec)
    assert warnings == [f"the data that {run.path} was trained on can no longer be read: there is no file {path}"]


def test_a_folder_changes_with_its_files(make_spec, finish, tmp_path):
    folder = tmp_path / "images"
    for label in "ab":
        (folder / label).mkdir(parents=True)
        for at in range(10):
            Image.fromarray(np.full((8, 8), 20 * at, "uint8")).save(folder / label / f"{at}.png")
    spec = make_spec(dataset={"name": "folder", "path": str(folder), "limit": None})
    run = finish(spec)
    DataCheck(None, pytest.fail).check(run, spec)
    (folder / "b" / "9.png").rename(folder / "a" / "10.png")
    with pytest.raises(RunError, match="the data has changed"):
        DataCheck(None, pytest.fail).check(run, spec)


def test_built_in_data_does_not_change(make_spec, finish):
    spec = make_spec()
    DataCheck(None, pytest.fail).check(finish(spec), spec)
