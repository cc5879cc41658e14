"""The implementation of a layer: by the estimate of `tiedexp.patterns.choosing`, where that is close by the clock.

A measurement takes a second or two for a layer, most of it to build graphs, and is kept in the user's cache directory,
so that it is made once for a pattern, sizes, dtype and device. There is none while TensorFlow's operations are
deterministic, since another choice rounds differently, and none with the environment variable TIEDEXP_MEASURE=0.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tiedexp.atomic import write_text
from tiedexp.errors import PatternError
from tiedexp.layers.convolution import TiedConvolution
from tiedexp.layers.native_sums import is_available
from tiedexp.native.cache import cache_directory
from tiedexp.native.library import find_version
from tiedexp.patterns.choosing import (
    EXPAND,
    Choice,
    choose,
    estimate_backward,
    estimate_forward,
    list_backward,
    list_forward,
)
from tiedexp.patterns.costs import ConvSize, Work
from tiedexp.processor import find_processor

# Ways whose estimates are within this factor of the best are compared by the clock.
CLOSE = 1.12
# A way must be this much faster than the expanded kernel to be taken.
WORTH = 0.97
# Where a whole step of the dense layer has fewer multiply-adds, no choice matters.
MIN_MULTIPLICATIONS = 30_000_000
# Sizes and times that bound a measurement; the batch is made smaller for layers with more multiply-adds.
MAX_MULTIPLICATIONS = 2_000_000_000
MAX_SECONDS = 0.15
ROUNDS = 7

Way = TypeVar("Way")


def choose_implementation(
    convolution: TiedConvolution, size: ConvSize, implementation: str | Mapping[str, Any], dtype: str
) -> Choice:
    """How a layer's convolution is computed.

    Args:
        convolution: pattern, strides, padding and dilation; its own choice is not looked at.
        size: sizes of the layer.
        implementation: "auto", "expand", "factored", or a mapping of the fields of `Choice`.
        dtype: of the computation.

    Raises:
        PatternError: a mapping that names a factoring the pattern does not have.
    """
    pattern = convolution.pattern
    if not isinstance(implementation, str):
        return Choice.of(implementation, pattern).fit(size)
    native = is_available(dtype)
    if implementation != "auto":
        return choose(pattern, size, implementation, native)
    estimated = choose(pattern, size, native=native)
    if not _may_measure():
        # The estimate is of a CPU. Nothing is known of a GPU without measuring.
        return Choice() if tf.config.list_physical_devices("GPU") else estimated
    if estimate_forward(pattern, size, EXPAND).multiplications < MIN_MULTIPLICATIONS:
        return estimated
    forward = _closest(list_forward(pattern, size, native), lambda name: estimate_forward(pattern, size, name))
    backward = _closest(list_backward(pattern, size, native), lambda choice: estimate_backward(pattern, size, choice))
    if len(forward) == len(backward) == 1:  # nothing is close
        return replace(backward[0], forward=forward[0])
    key = _key(convolution, size, dtype)
    with contextlib.suppress(KeyError, TypeError, PatternError):  # not measured yet, or a damaged entry
        return Choice.of(_load_choices()[key], pattern)
    choice = _measure(convolution, size, forward, backward, dtype)
    _save_choice(key, choice)
    return choice


def _may_measure() -> bool:
    return not tf_config.is_op_determinism_enabled() and os.environ.get("TIEDEXP_MEASURE", "1") != "0"


def _closest(ways: list[Way], estimate: Callable[[Way], Work]) -> list[Way]:
    """Of ways, the cheapest first, that one and the next if it is close."""
    best = estimate(ways[0]).cost
    return [way for way in ways[:2] if estimate(way).cost <= CLOSE * best]


def _measure(
    convolution: TiedConvolution, size: ConvSize, forward: list[str], backward: list[Choice], dtype: str
) -> Choice:
    """The fastest of some ways, the likeliest first, measured in turns."""
    per_image = estimate_forward(convolution.pattern, replace(size, batch=1), EXPAND).multiplications
    batch = max(1, min(size.batch, int(MAX_MULTIPLICATIONS / per_image)))
    with tf.init_scope():
        images = tf.random.stateless_normal((batch, *size.input_size, size.in_channels), (0, 1), dtype=dtype)
        upstream = tf.random.stateless_normal((batch, *size.output_size, size.filters), (0, 2), dtype=dtype)
        weights = (convolution.pattern.num_groups, size.in_channels // size.groups, size.filters)
        free = tf.random.stateless_normal(weights, (0, 3), dtype=dtype)

        def run_forward(name: str) -> Any:
            ready = replace(convolution, choice=Choice(forward=name))
            return tf.function(lambda: ready.forward(images, free))

        def run_backward(choice: Choice) -> Any:
            ready = replace(convolution, choice=choice)
            return tf.function(lambda: ready.backward(images, free, upstream))

        name = _fastest({name: run_forward(name) for name in forward}, EXPAND)
        choice: Choice = _fastest({choice: run_backward(choice) for choice in backward}, Choice())
    return replace(choice, forward=name)


def _fastest(ways: dict[Any, Callable[[], Any]], dense: Any) -> Any:
    """The way with the shortest time, each the best of several rounds in turns.

    The dense one, if it is among them, is left only for one that is clearly faster.
    """
    if len(ways) == 1:
        return next(iter(ways))
    times = dict.fromkeys(ways, float("inf"))
    began = time.perf_counter()
    for number in range(ROUNDS + 1):
        for way, run in ways.items():
            start = time.perf_counter()
            for tensor in tf.nest.flatten(run()):
                tensor.numpy()  # on a GPU, waits for the result
            if number:  # the first round warms up
                times[way] = min(times[way], time.perf_counter() - start)
        if number and time.perf_counter() - began > MAX_SECONDS:
            break
    best = min(times, key=times.__getitem__)
    return dense if dense in times and times[best] >= WORTH * times[dense] else best


# The cache: one JSON object, from a description of what was measured to the fields of the choice.


def cache_path() -> Path:
    """Where measured choices are kept."""
    return cache_directory() / "choices.json"


def _key(convolution: TiedConvolution, size: ConvSize, dtype: str) -> str:
    versions = f"tiedexp {version('tiedexp')}, tensorflow {tf.__version__}, compiled {find_version()}, {_device()}"
    threads = tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()
    return f"{versions}, {threads} threads | {convolution.pattern} | {size} {convolution.padding} {dtype}"


def _device() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))
    return find_processor()


def _load_choices() -> dict[str, dict[str, str]]:
    try:
        choices = json.loads(cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not there, or not ours: it is only a cache
        return {}
    return choices if isinstance(choices, dict) else {}


def _save_choice(key: str, choice: Choice) -> None:
    with contextlib.suppress(OSError):  # a read-only home costs a measurement the next time
        cache_path().parent.mkdir(parents=True, exist_ok=True)
        write_text(cache_path(), json.dumps({**_load_choices(), key: choice.as_dict()}, indent=1))
