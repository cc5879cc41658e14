"""The choice of a layer's methods: by the estimate of `tiedexp.convolution.choosing`, and by timing where it is close.

A measurement takes about a second per layer, mostly to build graphs. It is stored in the user's cache directory, so it
is made once per pattern, sizes, dtype and device. Nothing is measured while TensorFlow's operations are deterministic,
because another choice rounds differently, or if the environment variable TIEDEXP_MEASURE is 0.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from tiedexp.convolution.choosing import EXPAND, FORWARD, NATIVE, PARTS, Choice, choose, compare_methods, estimate
from tiedexp.convolution.costs import ConvSize
from tiedexp.convolution.cpp.cache import cache_directory
from tiedexp.convolution.cpp.library import find_version
from tiedexp.convolution.native import is_available
from tiedexp.convolution.tied import TiedConvolution
from tiedexp.errors import PatternError
from tiedexp.files.atomic import write_text
from tiedexp.host import find_processor

# If the estimates of the two methods are within this factor of each other, both are timed.
CLOSE = 1.12
# Compiled code is chosen if it takes less than this fraction of the expanded kernel's time.
WORTH = 0.97
# If the output of the dense layer has fewer multiply-adds, the choice does not matter.
MIN_MULTIPLICATIONS = 30_000_000
# Limits of a measurement: the batch is made smaller for layers with more multiply-adds.
MAX_MULTIPLICATIONS = 2_000_000_000
MAX_SECONDS = 0.15
ROUNDS = 7


def choose_implementation(
    convolution: TiedConvolution, size: ConvSize, implementation: str | Mapping[str, Any], dtype: str
) -> Choice:
    """The methods that compute a layer's convolution.

    Args:
        convolution: gives the pattern, strides, padding and dilation; its own choice is ignored.
        size: the sizes of the layer.
        implementation: "auto", "expand", "factored", or a mapping of the fields of `Choice`.
        dtype: of the computation.

    Raises:
        PatternError: a mapping names a method that the pattern does not have.
    """
    pattern = convolution.pattern
    if not isinstance(implementation, str):
        return Choice.of(implementation, pattern).fit(size)
    estimated = choose(pattern, size, implementation, implementation != EXPAND and is_available(dtype))
    close = _list_close(pattern, size) if implementation == "auto" and _may_measure(dtype) else []
    if not close:
        return estimated
    # In a thread of its own, where no graph is being built and no tape of the caller's records.
    with ThreadPoolExecutor(1) as pool:
        measured = pool.submit(_choose_by_clock, convolution, size, dtype, estimated, close)
    if (error := measured.exception()) is not None:  # e.g. out of memory: no layer fails because of it
        logging.getLogger(__name__).warning("Methods are chosen by the estimate, because measuring failed: %s", error)
        return estimated
    return measured.result()


def _choose_by_clock(
    convolution: TiedConvolution, size: ConvSize, dtype: str, estimated: Choice, close: list[str]
) -> Choice:
    """The estimated choice, with the close parts replaced by what is measured."""
    key = _key(convolution, size, dtype)
    with contextlib.suppress(KeyError, TypeError, AttributeError, PatternError):  # not measured yet, or damaged
        return Choice.of(_load_choices()[key], convolution.pattern)
    choice = replace(estimated, **_measure(convolution, size, close, dtype))
    _save_choice(key, choice)
    return choice


def _may_measure(dtype: str) -> bool:
    switched_off = os.environ.get("TIEDEXP_MEASURE", "1") == "0"
    return not switched_off and not tf_config.is_op_determinism_enabled() and is_available(dtype)


def _list_close(pattern: Any, size: ConvSize) -> list[str]:
    """The parts whose estimates are too close to choose by."""
    if estimate(pattern, size, FORWARD, EXPAND).multiplications < MIN_MULTIPLICATIONS:
        return []
    ratios = {part: compare_methods(pattern, size, part) for part in PARTS}
    return [part for part, ratio in ratios.items() if ratio is not None and 1 / CLOSE <= ratio <= CLOSE]


def _measure(convolution: TiedConvolution, size: ConvSize, parts: list[str], dtype: str) -> dict[str, str]:
    """The faster method for each part, timed in turns."""
    per_image = estimate(convolution.pattern, replace(size, batch=1), FORWARD, EXPAND).multiplications
    batch = max(1, min(size.batch, int(MAX_MULTIPLICATIONS / per_image)))
    images = tf.random.stateless_normal((batch, *size.input_size, size.in_channels), (0, 1), dtype=dtype)
    upstream = tf.random.stateless_normal((batch, *size.output_size, size.filters), (0, 2), dtype=dtype)
    weights = (convolution.pattern.num_groups, size.in_channels // size.channel_groups, size.filters)
    free = tf.random.stateless_normal(weights, (0, 3), dtype=dtype)

    def build(part: str, method: str) -> Callable[[], Any]:
        ready = replace(convolution, choice=Choice(**{part: method}))
        which = PARTS.index(part) - 1  # of the gradients; TensorFlow does not compute what is not returned

        def run() -> Any:
            return ready.forward(images, free) if part == FORWARD else ready.backward(images, free, upstream)[which]

        traced: Callable[[], Any] = tf.function(run, autograph=False).get_concrete_function()
        return traced

    return {part: _fastest({method: build(part, method) for method in (EXPAND, NATIVE)}) for part in parts}


def _fastest(methods: dict[str, Callable[[], Any]]) -> str:
    """The method with the shortest time of several rounds; the expanded kernel unless the other is clearly faster."""
    times = dict.fromkeys(methods, float("inf"))
    began = time.perf_counter()
    for number in range(ROUNDS + 1):
        for method, run in methods.items():
            start = time.perf_counter()
            run()
            if number:  # the first round warms up
                times[method] = min(times[method], time.perf_counter() - start)
        if number and time.perf_counter() - began > MAX_SECONDS:
            break
    return NATIVE if times[NATIVE] < WORTH * times[EXPAND] else EXPAND


# The cache: one JSON object, from a description of what was measured to the fields of the choice.


def cache_path() -> Path:
    """The file in which measured choices are stored."""
    return cache_directory() / "choices.json"


def _key(convolution: TiedConvolution, size: ConvSize, dtype: str) -> str:
    versions = f"tiedexp {version('tiedexp')}, tensorflow {tf.__version__}, compiled {find_version()}"
    sizes = f"{convolution.pattern} | {size} {convolution.padding} {dtype}"
    return f"{versions}, {find_processor()} | {sizes}"


def _load_choices() -> dict[str, dict[str, str]]:
    try:
        choices = json.loads(cache_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # missing or damaged: it is only a cache
        return {}
    return choices if isinstance(choices, dict) else {}


def _save_choice(key: str, choice: Choice) -> None:
    with contextlib.suppress(OSError):  # in a read-only home, the next process measures again
        cache_path().parent.mkdir(parents=True, exist_ok=True)
        write_text(cache_path(), json.dumps({**_load_choices(), key: choice.as_dict()}, indent=1))
