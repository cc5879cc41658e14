"""`tiedexp data`."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tiedexp.data.catalogue import CATALOGUE


@pytest.fixture
def photos(tmp_path):
    for name, value in (("cat", 50), ("dog", 200)):
        for number in range(5):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (6, 4), (value, number, 0)).save(path)
    return tmp_path / "photos"


def test_list(tiedexp_cli, shared_data):
    answer = tiedexp_cli("data", "list", "--data-dir", shared_data / "tfds")
    assert (answer.code, answer.err) == (0, "")
    ready = [line.split()[0] for line in answer.out.splitlines() if " yes " in line]
    assert ready == ["digits", "mnist", "cifar10"]
    assert all(name in answer.out for name in CATALOGUE)


def test_list_as_json(tiedexp_cli, tmp_path):
    answer = tiedexp_cli("data", "list", "--json", "--data-dir", tmp_path)
    document = json.loads(answer.out)
    assert document["data_dir"] == str(tmp_path)
    assert [row["name"] for row in document["datasets"]] == ["digits", *CATALOGUE]
    assert [row["name"] for row in document["datasets"] if row["ready"]] == ["digits"]
    mnist = next(row for row in document["datasets"] if row["name"] == "mnist")
    assert (mnist["image_shape"], mnist["train_images"]) == ([28, 28, 1], 60000)


def test_list_imports_no_tensorflow(tmp_path):
    code = (
        "import sys; sys.argv = ['tiedexp', 'data', 'list', '--data-dir', '.']\n"
        "import tiedexp.cli\n"
        "try:\n    tiedexp.cli.main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('tensorflow', 'keras', 'tensorflow_datasets') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


def test_show_digits(tiedexp_cli, tmp_path):
    answer = tiedexp_cli("data", "show", "digits", "--output", "sheet.png")
    assert (answer.code, answer.err) == (0, "")
    assert "8x8 grey, 10 classes, 1,438 training and 359 test images" in answer.out
    assert "sheet.png" in answer.out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.format == "PNG"


def test_show_as_json(tiedexp_cli):
    document = json.loads(tiedexp_cli("data", "show", "digits", "--json", "--image-size", "16").out)
    assert document["image_shape"] == [16, 16, 1]
    assert sum(row["train"] for row in document["classes"]) == document["train_images"] == 1438
    assert len(document["fingerprint"]) == 16


def test_show_a_directory_and_an_archive(tiedexp_cli, photos, tmp_path):
    answer = tiedexp_cli("data", "show", photos)
    assert "4x6 colour, 2 classes, 8 training and 2 test images" in answer.out
    assert "--output sheet.png" in answer.out
    np.savez(tmp_path / "own.npz", x_train=np.zeros((10, 3, 3), np.uint8), y_train=np.arange(10) % 2)
    assert "3x3 grey, 2 classes, 8 training and 2 test images" in tiedexp_cli("data", "show", "own.npz").out


def test_show_mnist(tiedexp_cli, shared_data):
    answer = tiedexp_cli("data", "show", "mnist", "--data-dir", shared_data / "tfds", "--json")
    assert json.loads(answer.out)["classes"][1] == {"name": "1", "train": 6742, "test": 1135}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "mnist"], 1, "error: the dataset 'mnist' is not prepared in "),
        (["show", "mnits"], 1, "did you mean 'mnist'"),
        (["show", "nowhere.npz"], 1, "there is no file nowhere.npz"),
        (["show", "digits", "--output", "no/sheet.png"], 2, "the picture cannot be written to no/sheet.png"),
        (["show", "digits", "--image-size", "0"], 2, "--image-size"),
        (["import", "mnist", "nowhere"], 1, "there is no directory nowhere"),
        (["import", "mnist", "."], 1, "missing: t10k-images-idx3-ubyte.gz"),
        (["prepare", "digits"], 1, "'digits' needs no preparation"),
    ],
)
def test_what_goes_wrong(tiedexp_cli, monkeypatch, tmp_path, arguments, code, message):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "data"))
    answer = tiedexp_cli("data", *arguments)
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_import_and_prepare_report_what_is_there(tiedexp_cli, shared_data):
    for arguments in (["prepare", "mnist"], ["import", "mnist", "."]):
        answer = tiedexp_cli("data", *arguments, "--data-dir", shared_data / "tfds")
        assert answer.code == 0
        assert answer.out.startswith("mnist is ready: 60,000 train, 10,000 test, in ")
