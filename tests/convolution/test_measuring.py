"""Measured choices: what is measured and stored, and when nothing is."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.convolution import measuring
from tiedexp.convolution.choosing import EXPAND, NATIVE, PARTS, Choice
from tiedexp.convolution.cpp.compiler import find_compiler
from tiedexp.layers.tied_conv import TiedConv2D

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

SHAPE = (16, 16, 16, 64)  # large enough that a measurement is worth its time
ALL = Choice(NATIVE, NATIVE, NATIVE)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of choices; every layer is measured, whatever the estimates."""
    path = tmp_path / "cache" / "choices.json"
    monkeypatch.setattr(measuring, "cache_path", lambda: path)
    monkeypatch.setattr(measuring, "CLOSE", 100.0)
    monkeypatch.setenv("TIEDEXP_MEASURE", "1")
    return path


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Instead of timing, compiled code wins. The compared methods are recorded."""
    compared: list[set[str]] = []

    def choose_native(methods: dict[str, object]) -> str:
        compared.append(set(methods))
        for run in methods.values():
            assert all(bool(tf.reduce_all(tf.math.is_finite(t))) for t in tf.nest.flatten(run()))  # type: ignore[operator]
        return NATIVE

    monkeypatch.setattr(measuring, "_fastest", choose_native)
    return compared


def build(pattern: str = "block", **options: object) -> TiedConv2D:
    layer = TiedConv2D(64, pattern, 5, padding="same", **options)
    layer.build(SHAPE)
    return layer


def test_measures_once_and_keeps_it(cache: Path, compared: list[set[str]]) -> None:
    first = build()
    assert compared == [{EXPAND, NATIVE}] * 3  # each part
    assert json.loads(cache.read_text()).popitem()[1] == first.choice.as_dict() == ALL.as_dict()
    assert build().choice == first.choice
    assert len(compared) == 3
    build("mirror_hv")
    assert len(compared) == 6


def test_another_size_is_another_measurement(cache: Path, compared: list[set[str]]) -> None:
    build()
    TiedConv2D(64, "block", 5, padding="valid").build((None, 24, 24, 64))
    TiedConv2D(64, "block", 5, padding="same").build((None, 24, 24, 64))
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"KEY": 3}', '{"KEY": [3]}', '{"KEY": {"forward": "x"}}', '{"KEY": {"shape": "native"}}'],
)
def test_a_damaged_cache_is_measured_anew(content: str, cache: Path, compared: list[set[str]]) -> None:
    build()
    key = next(iter(json.loads(cache.read_text())))
    cache.write_text(content.replace("KEY", key.replace('"', '\\"')))
    compared.clear()
    choice = build().choice
    assert len(compared) == 3
    assert json.loads(cache.read_text())[key] == choice.as_dict()


def test_a_cache_that_cannot_be_written(cache: Path, compared: list[set[str]]) -> None:
    cache.parent.write_text("a file where a directory would be")
    build()
    build()
    assert len(compared) == 6


@pytest.mark.parametrize("options", [{"implementation": "expand"}, {"implementation": "factored"}], ids=str)
def test_not_where_there_is_nothing_to_choose(
    options: dict[str, object], cache: Path, compared: list[set[str]]
) -> None:
    build(**options)
    build("full")
    assert not compared
    assert not cache.exists()


def test_not_where_compiled_code_cannot_run(
    cache: Path, compared: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "is_available", lambda dtype: False)
    assert build().choice.is_expanded
    assert not compared


def test_only_what_the_estimate_leaves_open(
    cache: Path, compared: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "CLOSE", 1.12)
    assert build("row").choice == ALL
    assert not compared
    monkeypatch.setattr(measuring, "compare_methods", lambda pattern, size, part: 1.0 if part == PARTS[1] else 2.0)
    build("row")
    assert len(compared) == 1


def test_not_for_small_layers(cache: Path, compared: list[set[str]]) -> None:
    TiedConv2D(2, "block", 5).build((8, 8, 8, 1))
    assert not compared


def test_not_when_operations_are_deterministic(cache: Path, compared: list[set[str]]) -> None:
    tf.config.experimental.enable_op_determinism()
    assert build("row").choice == ALL
    assert not compared


def test_nothing_is_measured_if_switched_off(
    cache: Path, compared: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEDEXP_MEASURE", "0")
    assert build("row").choice == ALL
    assert not compared


def test_on_a_gpu_the_kernel_is_expanded(
    cache: Path, compared: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind=None: [kind])
    assert build("row").choice == Choice()
    assert not compared


def test_the_clock(cache: Path) -> None:
    """A real measurement, and its result in the cache."""
    choice = build().choice
    assert set(choice.as_dict().values()) <= {EXPAND, NATIVE}
    assert json.loads(cache.read_text()).popitem()[1] == choice.as_dict()
    assert build(groups=4).choice.forward in (EXPAND, NATIVE)
    assert "groups=4" in list(json.loads(cache.read_text()))[1]


@pytest.mark.parametrize(
    "options",
    [
        {"dilation_rate": 2},
        {"dtype": "float64", "groups": 2},
        {"strides": 2},
        {"padding": "valid", "strides": (2, 3)},
        {"dilation_rate": 2, "groups": 4, "dtype": "float64"},
    ],
    ids=str,
)
@pytest.mark.parametrize("sides", [(32, 32), (None, None), (None, 20)], ids=str)
def test_measures_while_a_model_is_built(
    sides: tuple[int | None, int | None], options: dict[str, object], cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Keras builds layers in a graph of its own, with known or unknown sizes."""
    layer = TiedConv2D(64, "mirror_h", 3, **{"padding": "same", **options})
    with caplog.at_level(logging.WARNING):
        layer(keras.Input((*sides, 64), dtype=options.get("dtype", "float32")))
    assert not caplog.records
    assert json.loads(cache.read_text()).popitem()[1] == layer.choice.as_dict()


def test_a_measurement_that_fails_leaves_the_estimate(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise tf.errors.ResourceExhaustedError(None, None, "no memory is left")

    monkeypatch.setattr(measuring, "_fastest", fail)
    layer = build()
    assert layer.choice == ALL
    assert "Methods are chosen by the estimate, because measuring failed: no memory is left" in caplog.text
    assert not cache.exists()
    assert layer(np.zeros((1, 5, 5, 64), "float32")).shape == (1, 5, 5, 64)


def test_the_expanded_kernel_is_left_only_for_what_is_clearly_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def run(seconds: float) -> object:
        def spend() -> None:
            nonlocal now
            now += seconds

        return spend

    monkeypatch.setattr(measuring.time, "perf_counter", lambda: now)
    for seconds, method in ((0.9, NATIVE), (0.98, EXPAND), (1.5, EXPAND)):
        assert measuring._fastest({EXPAND: run(1.0), NATIVE: run(seconds)}) == method  # type: ignore[dict-item]
