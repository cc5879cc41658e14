"""Choices by the clock: what is measured, what is kept, and when nothing is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tensorflow as tf

from tiedexp.layers import measuring
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.native.compiler import find_compiler
from tiedexp.patterns.choosing import NATIVE, Choice

SHAPE = (16, 16, 16, 64)  # large enough that a measurement is worth its time


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and leave to measure; the compiled code, which is the clear choice, is left out."""
    monkeypatch.setattr(measuring, "is_available", lambda dtype: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TIEDEXP_MEASURE", "1")
    return tmp_path / "cache" / "tiedexp" / "choices.json"


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """In place of the clock: the last way of each comparison wins. What was compared is recorded."""
    compared: list[set[str]] = []

    def choose_last(ways: dict[object, object], dense: object) -> object:
        compared.append({str(way) for way in ways})
        for run in ways.values():
            assert all(bool(tf.reduce_all(tf.math.is_finite(t))) for t in tf.nest.flatten(run()))  # type: ignore[operator]
        return list(ways)[-1]

    monkeypatch.setattr(measuring, "_fastest", choose_last)
    return compared


def build(pattern: str = "block", **options: object) -> TiedConv2D:
    layer = TiedConv2D(64, pattern, 5, padding="same", **options)
    layer.build(SHAPE)
    return layer


def test_measures_once_and_keeps_it(cache: Path, fastest: list[set[str]]) -> None:
    first = build()
    assert len(fastest) == 2  # forward, and the gradients
    assert any(len(ways) > 1 for ways in fastest)
    assert json.loads(cache.read_text()).popitem()[1] == first.choice.as_dict()
    assert build().choice == first.choice
    assert len(fastest) == 2
    build("mirror_hv")
    assert len(fastest) == 4


def test_another_size_is_another_measurement(cache: Path, fastest: list[set[str]]) -> None:
    build()
    TiedConv2D(64, "block", 5, padding="valid").build((None, 24, 24, 64))
    TiedConv2D(64, "block", 5, padding="same").build((None, 24, 24, 64))
    assert len(json.loads(cache.read_text())) == 3


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"forward": "x"}}', '{"KEY": {"shape": "boxes"}}']
)
def test_a_damaged_cache_is_measured_anew(content: str, cache: Path, fastest: list[set[str]]) -> None:
    build()
    key = next(iter(json.loads(cache.read_text())))
    cache.write_text(content.replace("KEY", key.replace('"', '\\"')))
    fastest.clear()
    choice = build().choice
    assert len(fastest) == 2
    assert json.loads(cache.read_text())[key] == choice.as_dict()


def test_a_cache_that_cannot_be_written(cache: Path, fastest: list[set[str]]) -> None:
    cache.parent.parent.write_text("a file where a directory would be")
    build()
    build()
    assert len(fastest) == 4


@pytest.mark.parametrize(
    "options", [{"implementation": "expand"}, {"implementation": "factored"}, {"groups": 2}], ids=str
)
def test_not_where_there_is_nothing_to_choose(options: dict[str, object], cache: Path, fastest: list[set[str]]) -> None:
    build(**options)
    assert not fastest
    assert not cache.exists()


def test_not_where_no_factoring_is_close(cache: Path, fastest: list[set[str]]) -> None:
    assert build("full").choice == Choice()
    assert not fastest


def test_not_where_the_estimate_is_clear(cache: Path, fastest: list[set[str]]) -> None:
    build("row")
    assert all("expand" not in ways and "sums" not in ways for ways in fastest)


def test_not_for_small_layers(cache: Path, fastest: list[set[str]]) -> None:
    TiedConv2D(2, "block", 5).build((8, 8, 8, 1))
    assert not fastest


def test_not_when_operations_are_deterministic(cache: Path, fastest: list[set[str]]) -> None:
    tf.config.experimental.enable_op_determinism()
    assert build("row").choice.forward == "boxes"
    assert not fastest


def test_not_when_told_so(cache: Path, fastest: list[set[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEDEXP_MEASURE", "0")
    assert build("row").choice.forward == "boxes"
    assert not fastest


def test_on_a_gpu_nothing_is_chosen_unmeasured(
    cache: Path, fastest: list[set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIEDEXP_MEASURE", "0")
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind=None: [kind])
    assert build("row").choice == Choice()


def test_the_clock(cache: Path) -> None:
    """A real measurement gives a choice the pattern has."""
    choice = build().choice
    assert Choice.of(choice.as_dict(), TiedConv2D(1, "block", 5).pattern) == choice
    assert cache.is_file()


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_the_clock_with_groups_of_channels(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "is_available", lambda dtype: True)
    monkeypatch.setattr(measuring, "CLOSE", 100.0)  # whatever the estimate says
    assert build(groups=4).choice.forward in ("expand", NATIVE)
    assert "groups=4" in next(iter(json.loads(cache.read_text())))


def test_the_dense_way_is_left_only_for_a_clearly_faster_one(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10**6))
    cost = {"dense": 1.0, "close": 0.98, "fast": 0.9}
    now = 0.0

    def clock() -> float:
        next(ticks)
        return now

    def run(name: str) -> object:
        def spend() -> list[object]:
            nonlocal now
            now += cost[name]
            return []

        return spend

    monkeypatch.setattr(measuring.time, "perf_counter", clock)
    choose = measuring._fastest
    assert choose({name: run(name) for name in ("dense", "close")}, "dense") == "dense"
    assert choose({name: run(name) for name in cost}, "dense") == "fast"
    assert choose({name: run(name) for name in ("fast", "close")}, "dense") == "fast"
    assert choose({"close": run("close")}, "dense") == "close"
