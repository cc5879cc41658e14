"""The compiled convolution: values against the dense one at sizes that take every path through it, and its limits.

test_tied.py tests it with strides, dilation, small images, XLA and second-order gradients.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tiedexp.convolution import native
from tiedexp.convolution.choosing import NATIVE, Choice, find_factoring
from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.convolution.native import NativeConvolution, Window, is_available
from tiedexp.convolution.tied import TiedConvolution
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

ALL = Choice(NATIVE, NATIVE, NATIVE)
PATTERNS = {
    "block": Pattern.preset("block", 5),
    "hashed": Pattern.of({"preset": "hashed", "groups": 9}, 7),
    "signed": Pattern.parse("AB-A/.CC/-BBA/C.-C"),
}
# (batch, rows, cols, channels, filters), the latter two per channel group
SIZES = {
    "one row at a time": (1, 6, 200, 96, 16),
    "several rows": (2, 33, 40, 32, 8),
    "several images, the last ones fewer": (11, 4, 4, 16, 16),
    "some channels at a time": (5, 6, 6, 160, 32),
    "channels that cannot be parted": (2, 30, 30, 127, 16),
    "filters of every vector": (3, 9, 10, 8, 130),
    "one channel, one filter": (3, 9, 10, 1, 1),
    "fewer items than threads": (1, 2, 2, 3, 5),
}


def run(
    pattern: Pattern, choice: Choice, size: tuple[int, ...], dtype: str = "float64", groups: int = 1
) -> list[np.ndarray]:
    """The output and both gradients, computed as a layer does."""
    batch, rows, cols, channels, filters = size
    rng = np.random.default_rng(0)
    images = tf.constant(rng.normal(size=(batch, rows, cols, channels * groups)), dtype)
    free = tf.constant(rng.normal(size=(pattern.num_groups, channels, filters * groups)), dtype)
    upstream = tf.constant(rng.normal(size=(batch, rows, cols, filters * groups)), dtype)
    convolution = TiedConvolution(pattern, choice, padding="same")
    with tf.GradientTape() as tape:
        tape.watch((images, free))
        output = convolution(images, free)
    return [tensor.numpy() for tensor in (output, *tape.gradient(output, (images, free), upstream))]


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def test_it_is_there() -> None:
    assert is_available("float32")
    assert is_available(tf.float64)
    assert not is_available("float16")


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("name", PATTERNS)
def test_equals_the_dense_convolution(name: str, size: tuple[int, ...]) -> None:
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        assert_close(run(PATTERNS[name], ALL, size, dtype), run(PATTERNS[name], Choice(), size, "float64"), tolerance)


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(list(PATTERNS)),
    size=st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 20), st.integers(1, 40), st.integers(1, 70)),
    groups=st.integers(1, 3),
)
def test_any_size(name: str, size: tuple[int, ...], groups: int) -> None:
    ours, theirs = (run(PATTERNS[name], choice, size, groups=groups) for choice in (ALL, Choice()))
    assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
def test_channel_groups(size: tuple[int, ...]) -> None:
    """Each channel group is a convolution of its own channels."""
    ours = run(PATTERNS["signed"], ALL, size, groups=2)
    assert_close(ours, run(PATTERNS["signed"], Choice(), size, groups=2), 1e-12)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_any_number_of_threads(threads: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: threads)
    ours, theirs = (run(PATTERNS["block"], choice, (5, 12, 11, 20, 24), groups=groups) for choice in (ALL, Choice()))
    assert_close(ours, theirs, 1e-12)


@pytest.mark.parametrize("groups", [1, 3])
def test_the_same_to_the_last_bit(groups: int) -> None:
    first, *others = (run(PATTERNS["hashed"], ALL, (9, 14, 14, 24, 40), "float32", groups) for _ in range(6))
    for other in others:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_many_at_once() -> None:
    """Branches of a model, or replicas, can compute at the same time."""
    sizes = [(3, 8, 8, 4 + seed, 6) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda size: run(PATTERNS["block"], ALL, size), sizes))
    for size, ours in zip(sizes, results, strict=True):
        assert_close(ours, run(PATTERNS["block"], Choice(), size), 1e-12)


def test_an_empty_batch() -> None:
    output, of_images, of_free = run(PATTERNS["block"], ALL, (0, 8, 8, 3, 4))
    assert output.shape == (0, 8, 8, 4)
    assert of_images.shape == (0, 8, 8, 3)
    assert not of_free.any()


def test_images_smaller_than_the_kernel() -> None:
    """In a graph for all sizes. The dense convolution also gives no pixels for the one and refuses the other."""
    convolution = TiedConvolution(PATTERNS["block"], ALL)
    free = tf.ones((9, 3, 4))
    run_any = tf.function(convolution, input_signature=[tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((9, 3, 4))])
    assert run_any(tf.ones((2, 4, 8, 3)), free).shape == (2, 0, 4, 4)
    assert run_any(tf.ones((2, 8, 4, 3)), free).shape == (2, 4, 0, 4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="the images are smaller than the kernel"):
        run_any(tf.ones((2, 2, 8, 3)), free)


@pytest.mark.parametrize(("channels", "filters", "groups"), [(3, 4, 1), (64, 64, 2), (512, 512, 512)])
def test_no_pixels_of_output(channels: int, filters: int, groups: int) -> None:
    factoring = find_factoring(PATTERNS["block"])
    for rows in (5, 4):  # the second gradient may reuse the memory of the first, which is not zero
        window = Window((0, 0), (rows - 4, 4))
        images, upstream = tf.ones((2, rows, 8, channels)), tf.ones((2, rows - 4, 4, filters))
        gradient = NativeConvolution(factoring, window, groups).weight_gradient(images, upstream)
        assert gradient.shape == (9, channels // groups, filters)
        assert np.any(gradient) == (rows == 5)
        del gradient


def operations_of(layer: TiedConv2D, dtype: str = "float32", jit_compile: bool = False) -> set[str]:
    """Operations in the graph of a training step."""

    @tf.function(jit_compile=jit_compile)
    def step(images: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images)
        return [output, *tape.gradient(output, [images, layer.free_kernel.value])]

    graph = step.get_concrete_function(tf.TensorSpec((2, 9, 9, 32), dtype)).graph
    return {operation.type for operation in graph.get_operations() if operation.type.startswith("Tiedexp")}


def build(**options: object) -> TiedConv2D:
    layer = TiedConv2D(16, "block", 5, padding="same", **options)
    layer.build((64, 28, 28, 32))
    return layer


@pytest.mark.parametrize("implementation", ["auto", "factored", ALL.as_dict()], ids=str)
def test_a_layer_computes_with_it(implementation: str) -> None:
    layer = build(implementation=implementation)
    assert layer.choice == ALL
    assert operations_of(layer) == {"TiedexpConvolve", "TiedexpCorrelate"}


def test_the_kernel_is_expanded_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build(implementation=ALL.as_dict())
    assert operations_of(layer, jit_compile=True) == set()
    half = TiedConv2D(16, "block", 5, dtype="float16", implementation=ALL.as_dict())
    half.build((2, 9, 9, 32))
    assert operations_of(half, "float16") == set()
    monkeypatch.setattr(native, "_load", lambda: None)
    assert operations_of(layer) == set()
    assert layer(np.ones((1, 9, 9, 32), "float32")).shape == (1, 9, 9, 16)
    assert build().choice != ALL


def test_not_beside_a_visible_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [kind])
    assert is_available("float32")  # there is one, but it is hidden from TensorFlow
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: [kind])
    assert not is_available("float32")
    assert build(implementation="factored").choice.is_expanded


@pytest.mark.parametrize(
    ("weights", "other", "message"),
    [
        ((9, 3, 4), (2, 8, 8, 5), r"weights must be \(taps, channels // groups, filters\)"),
        ((8, 2, 4), (2, 8, 8, 5), r"weights must be \(taps, channels // groups, filters\)"),
        ((9, 2), (2, 8, 8), "must have . axes"),
        ((9, 2, 4), (2, 7, 8, 5), r"upstream must be \(batch, rows, cols, filters\) of the output"),
    ],
)
def test_operations_refuse_wrong_shapes(weights: tuple[int, ...], other: tuple[int, ...], message: str) -> None:
    """They are a TensorFlow error, never a read outside a tensor."""
    convolution = NativeConvolution(find_factoring(PATTERNS["block"]), Window((2, 2), (8, 8)))
    images = tf.ones((2, 8, 8, 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        (convolution(images, tf.ones(weights)), convolution.weight_gradient(images, tf.ones(other)))


OTHER_PROCESSOR = """
import sys
from tiedexp.convolution.cpp import compiler
compiler.FLAGS = tuple(flag.replace("native", sys.argv[1]) for flag in compiler.FLAGS)
sys.path.insert(0, sys.argv[2])
import test_depthwise_native, test_native
for tests in (test_native, test_depthwise_native):
    for name in tests.PATTERNS:
        for size in tests.SIZES.values():
            tests.test_equals_the_dense_convolution(name, size)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names of these instructions")
@pytest.mark.parametrize("processor", ["haswell", "x86-64-v2"])
def test_with_fewer_registers(processor: str, tmp_path: Path) -> None:
    """Tiles have other sizes on processors without AVX-512 or AVX."""
    command = [sys.executable, "-c", OTHER_PROCESSOR, processor, str(Path(__file__).parent)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("tiedexp/*.so"))


def test_groups_must_divide_channels_and_filters() -> None:
    convolution = NativeConvolution(find_factoring(PATTERNS["block"]), Window((2, 2), (8, 8)), 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiples of the groups"):
        convolution(tf.ones((2, 8, 8, 4)), tf.ones((9, 1, 6)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="multiples of the groups"):
        convolution.weight_gradient(tf.ones((2, 8, 8, 6)), tf.ones((2, 8, 8, 4)))
