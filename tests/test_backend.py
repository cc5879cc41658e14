"""With another backend of Keras than TensorFlow: one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tiedexp.backend import find_backend, require_tensorflow
from tiedexp.errors import BackendError

SENTENCE = "tiedexp needs the TensorFlow backend of Keras, but {source} selects '{backend}': "


@pytest.fixture
def no_keras(monkeypatch, tmp_path):
    """Keras is not loaded, and its home is empty."""
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def test_tensorflow_is_the_default(no_keras):
    assert find_backend()[0] == "tensorflow"
    require_tensorflow()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"epsilon": 1}', '{"backend": "tensorflow"}'])
def test_a_configuration_that_selects_nothing_else_is_fine(content, no_keras):
    (no_keras / "keras.json").write_text(content)
    require_tensorflow()


def test_the_configuration_file_is_named(no_keras):
    path = no_keras / "keras.json"
    path.write_text(json.dumps({"backend": "jax"}))
    with pytest.raises(BackendError) as caught:
        require_tensorflow()
    sentence = SENTENCE.format(source=path, backend="jax")
    assert str(caught.value) == f"{sentence}set the environment variable KERAS_BACKEND=tensorflow"
    assert isinstance(caught.value, ImportError)


def test_the_file_in_the_home_directory_counts_and_the_environment_precedes_it(no_keras, monkeypatch, tmp_path):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text(json.dumps({"backend": "torch"}))
    assert find_backend() == ("torch", str(tmp_path / ".keras" / "keras.json"))
    monkeypatch.setenv("KERAS_BACKEND", "")  # which Keras takes for unset
    assert find_backend()[0] == "torch"
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    require_tensorflow()


def test_what_keras_has_decided_precedes_all(no_keras, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setitem(sys.modules, "keras", SimpleNamespace(config=SimpleNamespace(backend=lambda: "jax")))
    with pytest.raises(
        BackendError, match=r"Keras that is already loaded selects 'jax': .*=tensorflow before Python starts$"
    ):
        require_tensorflow()


@pytest.mark.parametrize(
    "arguments", [("train", "spec.yaml"), ("sweep", "sweep.yaml"), ("bench",)], ids=["train", "sweep", "bench"]
)
def test_commands_say_so_in_one_sentence_and_write_nothing(arguments, tmp_path, monkeypatch):
    spec = "name: a\ndataset: {name: digits}\nmodel: {kernel_size: 5, tying: {pattern: block}}\n"
    (tmp_path / "spec.yaml").write_text(spec)
    (tmp_path / "sweep.yaml").write_text("name: s\nbase: spec.yaml\nseeds: 2\n")
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    before = sorted(tmp_path.rglob("*"))
    script = "import sys, tiedexp.cli; sys.argv[0] = 'tiedexp'; tiedexp.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    sentence = SENTENCE.format(source="the environment variable KERAS_BACKEND", backend="torch")
    assert done.stderr == f"error: {sentence}set the environment variable KERAS_BACKEND=tensorflow\n"
    assert done.returncode == 2
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["TiedConv2D", "TiedDepthwiseConv2D", "load_model"])
def test_the_names_that_need_keras_raise_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    code = f"""
import tiedexp
try:
    from tiedexp import {name}
except tiedexp.TiedexpError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.startswith("tiedexp needs the TensorFlow backend of Keras"), done.stderr
