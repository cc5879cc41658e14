"""The page that `board` opens first: the runs that match its filters."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tiedexp.board.addresses import MAX_TICKED, address_of_runs, address_of_sweep

URL = "http://localhost:6006/"
SPLITS = ("train", "validation", "test")


def list_runs(variants, seeds):
    """The runs that TensorBoard finds for a sweep."""
    endings = [f"s{seed}{log}" for seed in seeds for log in ("", *(f"/{split}" for split in SPLITS))]
    if len(seeds) > 1:
        endings += ["mean", *(f"{mean}/{split}" for mean in ("mean", "mean-std", "mean+std") for split in SPLITS)]
    return [".", *(f"{variant} {ending}" for variant in variants for ending in endings)]


def ticked(address, runs):
    """The runs that match the filter of the address, on all pages except Time Series."""
    page, *settings = urlsplit(address).fragment.split("&")
    expression = dict(each.split("=") for each in settings)["regexInput"]
    return page, [run for run in runs if re.search(unquote(expression), run)]


def drawn(address, runs):
    """The runs that Time Series shows."""
    (expression,) = parse_qs(urlsplit(address).query)["runFilter"]
    return [run for run in runs if re.search(expression, run)]


def write(folder, runs, splits):
    for run in runs:
        if run.rpartition("/")[2] in splits:
            (folder / run).mkdir(parents=True)


@pytest.mark.parametrize("count", [1, 6, 9, 10, 18, 36, 37, 200])
def test_of_a_sweep_there_are_never_too_many_and_always_some_of_each_kind(tmp_path, count):
    variants = [f"hashed(groups={number})" for number in range(count)]
    runs = list_runs(variants, (7, 8, 9))
    address = address_of_sweep(URL, tmp_path, variants, 7, has_means=True)
    page, shown = ticked(address, runs)
    assert page == "custom_scalars"
    assert len(shown) <= MAX_TICKED
    assert "." in shown
    assert [run for run in shown if run.endswith(" mean")] == [f"{variant} mean" for variant in variants[:36]]
    for ending in (" s7", " s7/train", " s7/test"):
        found = [run for run in shown if run.endswith(ending)]
        assert found == [f"{variant}{ending}" for variant in variants[: len(found)]]
        assert found
    assert len(shown) == (1 + 4 * count if count <= 9 else pytest.approx(MAX_TICKED, abs=2))
    assert drawn(address, runs) == [f"{variant} mean/validation" for variant in variants[:40]]


def test_of_one_seed_the_runs_are_compared(tmp_path):
    runs = list_runs(["block", "d4"], (3,))
    address = address_of_sweep(URL, tmp_path, ["block", "d4"], 3, has_means=False)
    assert set(ticked(address, runs)[1]) == {
        ".", *(f"{name} s3{log}" for name in ("block", "d4") for log in ("", "/train", "/test"))
    }  # fmt: skip
    assert drawn(address, runs) == ["block s3/validation", "d4 s3/validation"]


def test_without_validation_the_training_is_drawn(tmp_path):
    runs = list_runs(["block"], (0, 1))
    write(tmp_path, runs, ("train", "test"))
    address = address_of_sweep(URL, tmp_path, ["block"], 0, has_means=True)
    assert drawn(address, runs) == ["block mean/train"]


def test_curves_are_not_smoothed(tmp_path):
    address = address_of_sweep(URL, tmp_path, ["block"], 0, has_means=True)
    assert parse_qs(urlsplit(address).query)["smoothing"] == ["0"]
    assert address.endswith("&_smoothingWeight=0")


@pytest.mark.parametrize("count", [1, 10, 11, 300])
def test_of_many_runs_the_first_are_shown(tmp_path, count):
    names = [f"mnist-1a2b/seed-{number}" for number in range(count)]
    runs = [f"{name}{log}" for name in names for log in ("", *(f"/{split}" for split in SPLITS))]
    write(tmp_path, runs, SPLITS)
    address = address_of_runs(URL, tmp_path, names)
    if count <= 10:
        assert address == URL
        return
    page, shown = ticked(address, runs)
    assert (page, shown) == ("timeseries", runs[:MAX_TICKED])
    assert drawn(address, runs) == [f"{name}/validation" for name in names[:MAX_TICKED]]
