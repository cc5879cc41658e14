"""The compiled operations in TensorFlow: bad attributes and sizes, any number of threads, and accuracy.

The bad attributes and sizes are tried in a process of their own, which must not crash.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tiedexp.convolution.cpp.compiler import build_library, find_compiler

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

# `block` in 5x5: sums over 1x2, 2x1 and 2x2 cells, and nine taps.
BLOCK = {
    "sums": [2, -1, 0, 0, 1, -1, 0, 1, 1, 2, -1, 0, 0, 1, -1, 1, 0, 1, 2, 0, 0, 0, 1, 0, 1, 0, 1],
    "taps": [2, 0, 0, 2, 0, 3, 2, 3, 0, 2, 3, 3, 1, 0, 2, 1, 3, 2, 0, 2, 0, 0, 2, 3, -1, 2, 2],
}
GROUPS = np.array([[0, 0, 4, 1, 1], [0, 0, 4, 1, 1], [6, 6, 8, 7, 7], [2, 2, 5, 3, 3], [2, 2, 5, 3, 3]])
# A 3x3 kernel with one sum and two taps, as (attributes, shapes of both inputs, window).
BASE: dict[str, Any] = {
    "sums": [2, -1, 0, 0, 1, -1, 0, 1, 1],
    "taps": [0, 0, 0, -1, 2, 2],
    "sizes": [3, 3, 1, 1, 1, 4],
    "images": (2, 6, 6, 4),
    "weights": (2, 4, 5),
    "window": (1, 1, 6, 6),
}
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no groups": ({"sizes": [3, 3, 1, 1, 0, 4]}, "groups must be 1 to"),
    "negative groups": ({"sizes": [3, 3, 1, 1, -2, 4]}, "groups must be 1 to"),
    "groups that divide nothing": ({"sizes": [3, 3, 1, 1, 3, 4]}, "multiples of the groups"),
    "no threads": ({"sizes": [3, 3, 1, 1, 1, 0]}, "threads must be 1 to 1024"),
    "absurd threads": ({"sizes": [3, 3, 1, 1, 1, 2_000_000]}, "threads must be 1 to 1024"),
    "no stride": ({"sizes": [3, 3, 0, 1, 1, 4]}, "strides must be 1 to"),
    "negative stride": ({"sizes": [3, 3, 1, -1, 1, 4]}, "strides must be 1 to"),
    "no rows": ({"sizes": [0, 3, 1, 1, 1, 4]}, "the kernel must have 1 to"),
    "huge kernel": ({"sizes": [3, 2_000_000_000, 1, 1, 1, 4]}, "the kernel must have 1 to"),
    "a number too few": ({"sizes": [3, 3, 1, 1, 1]}, "sizes must be rows, columns"),
    "beyond int32": ({"sizes": [3, 3, 1, 1, 1, 2**32 + 4]}, "out of the range of int32"),
    "no taps": ({"taps": [], "weights": (0, 4, 5)}, "there must be at least one tap"),
    "half a tap": ({"taps": [0, 0, 0, -1]}, "taps must be sum, row and column"),
    "tap on a missing sum": ({"taps": [0, 0, 0, 7, 2, 2]}, "a tap reads sum 7, of 1"),
    "tap on sum -2": ({"taps": [0, 0, 0, -2, 2, 2]}, "a tap reads sum -2"),
    "tap below the kernel": ({"taps": [0, 0, 0, -1, 3, 2]}, "row 3 and column 2, outside of the kernel of 3x3"),
    "tap beside the kernel": ({"taps": [0, 0, 0, -1, 2, -1]}, "row 2 and column -1, outside of the kernel"),
    "sum that reaches beyond": ({"taps": [0, 0, 2, -1, 2, 2]}, "sum 0 reads outside of the kernel"),
    "far away": ({"taps": [0, 0, 0, -1, 2**31 - 1, 2]}, "outside of the kernel"),
    "far term": ({"sums": [2, -1, 0, 0, 1, -1, 0, 2**31 - 1, 1]}, "sum 0 reads outside of the kernel"),
    "term of itself": ({"sums": [2, -1, 0, 0, 1, 0, 0, 1, 1]}, "sum 0, which is not an earlier one"),
    "term of a later sum": (
        {"sums": [2, -1, 0, 0, 1, 1, 0, 1, 1, 1, -1, 0, 0, 1]},
        "sum 0 reads sum 1, which is not an earlier one",
    ),
    "sign 0": ({"sums": [2, -1, 0, 0, 1, -1, 0, 1, 0]}, "neither 1 nor -1"),
    "terms cut off": ({"sums": [2, -1, 0, 0, 1, -1, 0]}, "sums must be, for each sum, the number of its terms"),
    "negative terms": ({"sums": [-3]}, "sums must be, for each sum, the number of its terms"),
    "absurd terms": ({"sums": [2**31 - 1, -1, 0, 0, 1]}, "sums must be, for each sum, the number of its terms"),
    "no channels": ({"images": (2, 6, 6, 0), "weights": (2, 0, 5)}, "1 to 16777216 channels and filters"),
    "no filters": ({"weights": (2, 4, 0)}, "1 to 16777216 channels and filters"),
    "fewer channels than groups": ({"sizes": [3, 3, 1, 1, 8, 4], "weights": (2, 0, 8)}, "multiples of the groups"),
    "negative output": ({"window": (1, 1, -1, 6)}, "the images are smaller than the kernel"),
    "huge output": ({"window": (1, 1, 2_000_000_000, 6)}, "up to 16777216 rows and columns"),
    "huge padding": ({"window": (-(2**31), 1, 6, 6)}, "the padding can be up to"),
    "overflow of the output": ({"window": (1, 1, 2**24, 2**24), "weights": (2, 4, 2**18)}, "more elements than"),
    "overflow by strides": (
        {"sizes": [3, 3, 32768, 1, 1, 4], "window": (1, 1, 2**20, 6)},
        "too large for the strides and the kernel",
    ),
    "window of three": ({"window": (1, 1, 6)}, "the window must have four numbers"),
    "images of three axes": ({"images": (6, 6, 4)}, "input 0 must have 4 axes"),
    "memory in the threads": (
        {"sizes": [32768, 32768, 1, 1, 1, 4], "images": (4, 6, 6, 4), "taps": [-1, 0, 0, -1, 32767, 32767]},
        "ResourceExhausted.*not enough memory",
    ),
}

SCRIPT = """
import json, sys
import tensorflow as tf
from tiedexp.convolution.cpp.compiler import build_library

operations = tf.load_op_library(str(build_library().library))
for name, case in json.load(sys.stdin).items():
    attributes = {key: case[key] for key in ("sums", "taps", "sizes")}
    images, weights = tf.ones(case["images"]), tf.ones(case["weights"])
    window = tf.constant(case["window"], tf.int32)
    found = []
    for gradient in (False, True):
        try:
            if gradient:
                batch, rows, cols = case["images"][0], *(max(0, side) % 4096 for side in case["window"][2:4])
                upstream = tf.ones((batch, rows, cols, case["weights"][2] % 4096))
                operations.tiedexp_correlate(images, upstream, window, **attributes)
            else:
                operations.tiedexp_convolve(images, weights, window, **attributes)
            found.append("no error")
        except tf.errors.OpError as error:
            found.append(f"{type(error).__name__}: {error.message}")
        except (IndexError, ValueError) as error:  # the script's own upstream has no such shape
            found.append(f"script: {error}")
    print(json.dumps([name, *found]), flush=True)
"""


@pytest.fixture(scope="module")
def errors() -> dict[str, list[str]]:
    """The errors of the convolution and of its gradient for each of the bad attributes and sizes."""
    cases = json.dumps({name: {**BASE, **changes} for name, (changes, _) in BAD.items()} | {"right": BASE})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=cases,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    answers = {name: found for name, *found in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0, f"the process ended with {done.returncode} after {list(answers)[-1:]}\n{done.stderr}"
    return answers


@pytest.mark.parametrize("name", BAD)
def test_bad_attributes_and_sizes_are_errors(name: str, errors: dict[str, list[str]]) -> None:
    expected = BAD[name][1]
    kind = "ResourceExhaustedError" if expected.startswith("ResourceExhausted") else "InvalidArgumentError"
    forward = errors[name][0]
    assert forward.startswith(kind), forward
    assert expected.removeprefix("ResourceExhausted.*") in forward


def test_the_gradient_refuses_the_same(errors: dict[str, list[str]]) -> None:
    assert errors["right"] == ["no error", "no error"]
    for name, (_, backward) in ((name, found) for name, found in errors.items() if name != "right"):
        assert backward.startswith(("InvalidArgumentError", "ResourceExhaustedError", "script")), (name, backward)


@pytest.fixture(scope="module")
def operations() -> Any:
    return tf.load_op_library(str(build_library().library))


def attributes(threads: int) -> dict[str, list[int]]:
    return {**BLOCK, "sizes": [5, 5, 1, 1, 1, threads]}


def reference(images: np.ndarray, upstream: np.ndarray, dtype: str = "float64") -> np.ndarray:
    """The gradient of the dense kernel, (5, 5, channels, filters)."""
    shape = [5, 5, images.shape[-1], upstream.shape[-1]]
    inputs, outputs = tf.constant(images, dtype), tf.constant(upstream, dtype)
    return tf.raw_ops.Conv2DBackpropFilter(
        input=inputs, filter_sizes=shape, out_backprop=outputs, strides=[1, 1, 1, 1], padding="SAME"
    ).numpy()


def tie(gradient: np.ndarray) -> np.ndarray:
    """(groups, channels, filters)."""
    return np.stack([gradient[group == GROUPS].sum(0) for group in range(9)])


# The last two are of a size that is divided in other ways: too few blocks, and too many weights for a copy each.
@pytest.mark.parametrize("size", [(5, 12, 11, 20, 24), (1, 14, 14, 64, 64), (3, 7, 7, 128, 96)], ids=str)
def test_any_number_of_threads(size: tuple[int, ...], operations: Any) -> None:
    batch, rows, cols, channels, filters = size
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, rows, cols, channels)).astype("float32")
    upstream = rng.normal(size=(batch, rows, cols, filters)).astype("float32")
    weights = rng.normal(size=(9, channels, filters)).astype("float32")
    dense = tf.nn.conv2d(images.astype("float64"), weights.astype("float64")[GROUPS], 1, "SAME").numpy()
    gradient = tie(reference(images, upstream))
    outputs = []
    for threads in (1, 2, 3, 16, 64):
        found = operations.tiedexp_convolve(images, weights, [2, 2, rows, cols], **attributes(threads)).numpy()
        assert np.abs(found - dense).max() <= 1e-5 * np.abs(dense).max()
        outputs.append(found)
        first, second = (
            operations.tiedexp_correlate(images, upstream, [2, 2, rows, cols], **attributes(threads)).numpy()
            for _ in range(2)
        )
        assert np.abs(first - gradient).max() <= 1e-5 * np.abs(gradient).max()
        np.testing.assert_array_equal(first, second)
    for other in outputs[1:]:  # the output does not depend on the threads, to the last bit
        np.testing.assert_array_equal(outputs[0], other)


def test_the_error_of_the_gradient_does_not_grow_with_the_pixels(operations: Any) -> None:
    """At most three times that of the dense gradient: positive numbers, whose sums grow, added up by one thread."""
    rng = np.random.default_rng(0)
    images, upstream = (rng.uniform(size=(4, 112, 112, 8)).astype("float32") for _ in range(2))
    exact, dense = reference(images, upstream), reference(images, upstream, "float32")
    found = operations.tiedexp_correlate(images, upstream, [2, 2, 112, 112], **attributes(1)).numpy()
    error = np.abs(found / tie(exact) - 1).max()
    assert error <= 3 * np.abs(dense / exact - 1).max()


def test_the_error_of_the_depthwise_gradient(operations: Any) -> None:
    rng = np.random.default_rng(0)
    images, upstream = (rng.uniform(size=(4, 112, 112, 8)).astype("float32") for _ in range(2))
    sizes = {**BLOCK, "sizes": [5, 5, 1, 1, 8, 1]}
    found = operations.tiedexp_correlate(images, upstream, [2, 2, 112, 112], **sizes).numpy()[:, 0]  # (taps, channels)
    padded = np.pad(images.astype("float64"), [(0, 0), (2, 2), (2, 2), (0, 0)])
    exact = np.zeros((9, 8))
    for (row, col), group in np.ndenumerate(GROUPS):
        exact[group] += (padded[:, row : row + 112, col : col + 112] * upstream).sum((0, 1, 2))
    assert np.abs(found / exact - 1).max() <= 1e-6
