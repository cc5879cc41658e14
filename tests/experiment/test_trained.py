"""A run from Python: what it says, its model, and predictions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from PIL import Image

import tiedexp
from tiedexp import DatasetError, Pattern, RunError
from tiedexp.data.sources import load_dataset
from tiedexp.experiment.run import run_experiment


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two epochs on digits, and the images that it was tested on."""
    from tiedexp.spec.schema import ExperimentSpec

    spec = ExperimentSpec.model_validate(
        {
            "name": "small",
            "dataset": {"name": "digits", "limit": 300},
            "model": {"depth": 2, "width": 4, "tying": {"pattern": "row", "layers": "last"}},
            "training": {"epochs": 2, "batch_size": 32, "optimizer": {"learning_rate": 0.01}},
        }
    )
    directory = run_experiment(spec, root=tmp_path_factory.mktemp("runs"))
    return tiedexp.load_run(directory.path), load_dataset("digits", limit=300).test


def test_a_run_says_what_it_is(trained):
    run, _ = trained
    assert run.spec.model.width == 4
    assert run.pattern == Pattern.preset("row", 3)
    assert run.class_names == tuple("0123456789")
    assert json.loads(json.dumps(run.result)) == json.loads((run.path / "result.json").read_text())
    assert [row["epoch"] for row in run.metrics] == [1, 2]
    assert (
        run.metrics[1]["validation/accuracy"]
        == json.loads((run.path / "metrics.jsonl").read_text().splitlines()[1])["validation"]["accuracy"]
    )
    assert repr(run) == f"<Run {run.path}: finished>"


def test_predictions_are_those_of_the_test(trained):
    run, test = trained
    probabilities = run.predict(test.images)
    assert probabilities.shape == (len(test.labels), 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    accuracy = float((probabilities.argmax(axis=1) == test.labels).mean())
    assert accuracy == pytest.approx(run.result["test"]["accuracy"], abs=1e-9)
    loss = -np.log(probabilities[np.arange(len(test.labels)), test.labels]).mean()
    assert loss == pytest.approx(run.result["test"]["loss"], rel=1e-4)


def test_the_model_takes_normalised_images_and_gives_logits(trained):
    run, test = trained
    data = json.loads((run.path / "manifest.json").read_text())["data"]
    images = (test.images / 255 - data["mean"]) / data["std"]
    logits = np.asarray(run.model(images.astype("float32")), np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = exponentials / exponentials.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(run.predict(test.images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64"])
def test_pixels_of_any_dtype(trained, dtype):
    run, test = trained
    images = test.images[:5]
    expected = run.predict(images)
    np.testing.assert_allclose(run.predict(images.astype(dtype)), expected, rtol=1e-6)
    predicted = run.predictor.predict(images.astype(dtype), verbose=0)
    np.testing.assert_allclose(predicted, expected, rtol=1e-5, atol=1e-7)


def test_images_of_other_shapes_sizes_and_channels(trained):
    run, test = trained
    image = test.images[0]  # (8, 8, 1)
    expected = run.predict(test.images[:1])[0]
    for same in (image, image[..., 0], np.repeat(image, 3, axis=2)):
        np.testing.assert_allclose(run.predict(same), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run.predict(test.images[:3, ..., 0]), run.predict(test.images[:3]), rtol=1e-6)
    large = np.asarray(Image.fromarray(image[..., 0]).resize((40, 40), Image.Resampling.NEAREST))
    wide = np.pad(large, ((0, 0), (20, 20)))  # whose central square is the large image
    np.testing.assert_allclose(run.predict(wide), run.predict(large), atol=1e-4)
    assert np.abs(run.predict(test.images[1]) - run.predict(large)).max() > 1e-3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 8, 8, 2)), r"Received: shape \(2, 8, 8, 2\)"),
        (np.zeros(8), r"Received: shape \(8,\)"),
        (np.zeros((0, 8, 8)), r"Received: shape \(0, 8, 8\)"),
        (np.full((1, 8, 8), -1), "from 0 to 255.*values from -1 to -1"),
        (np.full((1, 8, 8), 256.0), "from 0 to 255.*values from 256.0 to 256.0"),
        (np.full((1, 8, 8), np.nan), "from 0 to 255"),
        (np.full((1, 8, 8), "a"), "from 0 to 255.*no numbers"),
    ],
)
def test_what_is_not_an_image_is_refused(trained, images, message):
    with pytest.raises(DatasetError, match=message):
        trained[0].predict(images)


def test_the_predictor_is_a_model_of_keras_that_saves_and_loads(trained, tmp_path):
    run, test = trained
    tiedexp.untie(run.predictor).save(tmp_path / "predictor.keras")
    np.save(tmp_path / "images.npy", test.images[:4])
    code = (
        "import keras, numpy, sys; model = keras.saving.load_model('predictor.keras');"
        "numpy.save('out.npy', model.predict(numpy.load('images.npy'), verbose=0)); assert 'tiedexp' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), run.predict(test.images[:4]), rtol=1e-4, atol=1e-6)
    assert isinstance(run.predictor, keras.Model)


def test_what_is_no_run_or_has_no_checkpoint(trained, tmp_path):
    with pytest.raises(RunError, match="is not a directory"):
        tiedexp.load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="is not a run"):
        tiedexp.load_run(tmp_path)
    shutil.copytree(trained[0].path, tmp_path / "copy")
    shutil.rmtree(tmp_path / "copy" / "checkpoints")
    run = tiedexp.load_run(tmp_path / "copy")
    assert run.metrics == trained[0].metrics
    with pytest.raises(RunError, match="there is no checkpoint"):
        _ = run.model


def test_an_unfinished_run_has_no_result(trained, tmp_path):
    shutil.copytree(trained[0].path, tmp_path / "seed-0")
    (tmp_path / "seed-0" / "result.json").unlink()
    run = tiedexp.load_run(tmp_path / "seed-0")
    assert run.result is None
    assert run.predict(trained[1].images[:2]).shape == (2, 10)  # by the best epoch so far
