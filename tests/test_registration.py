"""Keras loads models with our layers in a process that only says `import tiedexp`, before or after Keras."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = """
import pickle
{imports}
import numpy
images = numpy.load("images.npy")
expected = numpy.load("expected.npy")
{more}
for path in ("model.keras", "model.h5"):
    assert numpy.array_equal(load(path).predict(images, verbose=0), expected), path
with open("model.pickle", "rb") as file:
    assert numpy.array_equal(pickle.load(file).predict(images, verbose=0), expected)
with open("model.json") as file:
    model = keras.models.model_from_json(file.read())
model.load_weights("model.weights.h5")
assert numpy.array_equal(model.predict(images, verbose=0), expected)
"""


def run(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with every layer of ours, in every form that Keras keeps models in."""
    import keras
    import numpy as np

    from tiedexp.layers import PaddedShortcut, TiedConv2D, TiedDepthwiseConv2D

    folder = tmp_path_factory.mktemp("models")
    inputs = x = keras.Input((9, 8, 2))
    x = TiedConv2D(4, "block", 5, padding="same", kernel_regularizer="l2", activation="relu")(x)
    x = PaddedShortcut(6, 2)(x)
    x = TiedDepthwiseConv2D(". A/A -A")(x)
    model = keras.Model(inputs, x)
    images = np.random.default_rng(0).normal(size=(3, 9, 8, 2)).astype("float32")
    np.save(folder / "images.npy", images)
    np.save(folder / "expected.npy", model.predict(images, verbose=0))
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "model.weights.h5")
    (folder / "model.pickle").write_bytes(pickle.dumps(model))
    (folder / "model.json").write_text(model.to_json(), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("imports", "more"),
    [
        ("import keras, tiedexp", "load = keras.saving.load_model"),
        ("import tiedexp, keras", "load = keras.saving.load_model; assert not hidden()"),
        ("import tiedexp", "load = tiedexp.load_model; import keras"),
    ],
)
def test_a_new_process_loads_every_kind_of_file(imports, more, files):
    hidden = "import sys\ndef hidden(): return [f for f in sys.meta_path if type(f).__name__ == '_KerasFinder']\n"
    done = run(hidden + LOAD.format(imports=imports, more=more), files)
    assert done.returncode == 0, done.stderr


FAKE = """
import importlib.machinery, importlib.util, sys
import tiedexp
finders = list(sys.meta_path)
assert importlib.util.find_spec("keras").origin == {origin!r}  # a look that imports nothing
assert "keras" not in sys.modules
assert sys.meta_path == finders
try:
    import keras
except ImportError as error:
    assert str(error) == "the first time"
sys.modules.pop("keras.config", None)
import keras
assert len(sys.meta_path) == len(finders) - 1
assert type(keras.__loader__) is importlib.machinery.SourceFileLoader
assert "exec_module" not in vars(keras.__loader__)
assert not {{"tensorflow", "tiedexp.layers"}} & sys.modules.keys()
"""


def test_the_import_of_keras_is_as_ever(tmp_path):
    """With a Keras that fails at first, and then has another backend, for which there is nothing to register."""
    package = tmp_path / "keras"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import sys\nsys.tries = getattr(sys, 'tries', 0) + 1\nif sys.tries == 1: raise ImportError('the first time')\n"
        "from keras import config\n"
    )
    (package / "config.py").write_text("def backend(): return 'torch'\n")
    done = run(FAKE.format(origin=str(package / "__init__.py")), tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_second_registration_adds_no_second_finder(tmp_path):
    code = (
        "import sys, tiedexp.registration as r; n = len(sys.meta_path); r.register_with_keras(); "
        "assert len(sys.meta_path) == n"
    )
    assert run(code, tmp_path).returncode == 0


def test_the_layers_are_attributes_of_the_package():
    import tiedexp

    assert tiedexp.layers.TiedConv2D is tiedexp.TiedConv2D
    assert "layers" in dir(tiedexp)
