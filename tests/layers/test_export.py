"""Exported models contain only standard operations, so any program loads them, however the layers compute."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D

pytestmark = [
    pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler"),
    pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning"),  # Keras on tf2onnx
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # those of the exporters
]

IMAGES = np.random.default_rng(0).normal(size=(3, 12, 11, 8)).astype("float32")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A model with each kind of tied layer, whose functions are traced before it is exported."""
    options: dict[str, Any] = {"padding": "same", "implementation": "factored"}
    model = keras.Sequential(
        [
            keras.Input((12, 11, 8)),
            TiedConv2D(16, "block", 5, activation="relu", **options),
            TiedConv2D(16, "rings", 5, groups=4, strides=2, **options),
            TiedDepthwiseConv2D("row", 5, **options),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    model.compile("sgd", "mse")
    model.fit(IMAGES, np.zeros((3, 16)), verbose=0)
    assert {layer.choice.forward for layer in model.layers[:3]} == {"native"}
    return model


LOAD = """
import os, sys, warnings
import numpy as np
import tensorflow as tf
warnings.simplefilter("ignore")
folder = sys.argv[1] + "/"
images = np.load(folder + "images.npy")
outputs = {}
for name in ("exported", "module"):
    loaded = tf.saved_model.load(folder + name)
    outputs[name] = loaded.serve(tf.constant(images))
for name in ("exported.tflite", "converted.tflite"):
    interpreter = tf.lite.Interpreter(folder + name)
    number = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(number, images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(number, images)
    interpreter.invoke()
    outputs[name] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
if os.path.exists(folder + "exported.onnx"):
    import onnxruntime
    session = onnxruntime.InferenceSession(folder + "exported.onnx")
    (outputs["exported.onnx"],) = session.run(None, {session.get_inputs()[0].name: images})
assert "tiedexp" not in sys.modules
np.savez(folder + "outputs.npz", **outputs)
"""
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("tf2onnx", "onnxruntime"))


@pytest.fixture(scope="module")
def outputs(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, np.ndarray]:
    """Each kind of export, in a process without tiedexp."""
    folder = tmp_path_factory.mktemp("exported")
    np.save(folder / "images.npy", IMAGES)
    model.export(str(folder / "exported"), verbose=False)
    model.export(str(folder / "exported.tflite"), format="litert", verbose=False)
    if HAS_ONNX:
        model.export(str(folder / "exported.onnx"), format="onnx", verbose=False)
    (folder / "converted.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    # A function that was traced with compiled operations is traced again when it is saved.
    function = tf.function(lambda images: model(images), [tf.TensorSpec((None, 12, 11, 8))])
    assert "TiedexpConvolve" in {
        operation.type for operation in function.get_concrete_function().graph.get_operations()
    }
    module = tf.Module()
    module.model, module.serve = model, function
    tf.saved_model.save(module, str(folder / "module"))
    done = subprocess.run([sys.executable, "-c", LOAD, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return np.load(folder / "outputs.npz")  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "name",
    [
        "exported",
        "module",
        "exported.tflite",
        "converted.tflite",
        pytest.param("exported.onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="needs tf2onnx and onnxruntime")),
    ],
)
def test_other_programs_load_what_is_exported(name: str, outputs: Mapping[str, np.ndarray], model: keras.Model) -> None:
    np.testing.assert_allclose(outputs[name], model(IMAGES), atol=1e-5)


def test_a_concrete_function_with_compiled_operations_is_refused(model: keras.Model, tmp_path: Path) -> None:
    """It is already traced, so nothing can be changed."""
    concrete = tf.function(lambda images: model(images), [tf.TensorSpec((None, 12, 11, 8))]).get_concrete_function()
    module = tf.Module()
    module.model = model
    with pytest.raises(ValueError, match="operations compiled for this machine, which no other program can load"):
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures=concrete)
