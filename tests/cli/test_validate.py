"""`tiedexp validate`: the layer table, and nothing on disk."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image


def test_the_table(tiedexp_cli, small_spec):
    answer = tiedexp_cli("validate", small_spec)
    assert (answer.code, answer.err) == (0, "")
    rows = {line.split()[0]: line.split() for line in answer.out.splitlines() if line.strip()}
    assert rows["conv_1"] == ["conv_1", "tied", "8x8x4", "5", "20", "36", "1,280", "2,304"]
    assert rows["classifier"][-4:] == ["90", "90", "80", "80"]
    assert rows["all"][1:3] == ["294", "438"]
    assert "The spec is valid." in answer.out
    assert not Path("runs").exists()


def test_a_large_model_fits_a_narrow_terminal(tiedexp_cli, small_spec, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    answer = tiedexp_cli("validate", small_spec, "model.depth=4", "model.width=64", "dataset.name=cifar10")
    assert "\u2026" not in answer.out
    (total,) = (line.split() for line in answer.out.splitlines() if line.split()[:1] == ["all"])
    assert total[4] == total[6] == "M"


def test_json(tiedexp_cli, small_spec):
    answer = tiedexp_cli("validate", small_spec, "model.tying=null", "--json", "--runs", "there")
    content = json.loads(answer.out)
    assert content["unique_weights"] == content["expanded_weights"] == 438
    assert [layer["kind"] for layer in content["layers"]] == ["conv", "batch norm", "conv", "batch norm", "dense"]
    assert content["run"].startswith("there/small-")


def test_data_that_is_not_prepared_does_not_matter(tiedexp_cli, small_spec):
    answer = tiedexp_cli("validate", small_spec, "dataset.name=cifar100", "--data-dir", "empty")
    assert answer.code == 0, answer.err
    assert "cifar100 (32x32x3)" in answer.out


def test_images_that_are_not_all_grey_are_told_of(tiedexp_cli, small_spec):
    for name in ("cat", "dog"):
        Path("images", name).mkdir(parents=True)
        for number in range(5):
            Image.new("L", (8, 8), number).save(Path("images", name, f"{number}.png"))
    Image.new("RGBA", (8, 8)).save(Path("images", "dog", "0.png"))
    answer = tiedexp_cli("validate", small_spec, "dataset={name: folder, path: images}", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["layers"]
    assert answer.err.startswith("warning: the images are mixed, with 9 grey and 1 in colour (")


def test_all_errors_at_once(tiedexp_cli, small_spec):
    answer = tiedexp_cli("validate", small_spec, "training.epoch=3", "model.depth=0")
    assert answer.code == 2
    assert "did you mean" in answer.err
    assert "training.epoch" in answer.err
    assert "model.depth" in answer.err
