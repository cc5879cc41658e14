"""The hyperparameters of a sweep that are columns, and their values."""

from __future__ import annotations

from typing import Any

import pytest
from samples import make_manifest

from tiedexp.board.hparams import MAX_CHECKBOXES, describe_columns, read_hparams
from tiedexp.runs.records import Manifest
from tiedexp.runs.sweeps import PlannedRun, SweepRecord, Variant


def sweep_of(*settings: dict[str, Any], widths: tuple[int, ...] = (), seeds: int = 2) -> SweepRecord:
    """A sweep with a variant for each of these settings."""
    variants = [
        Variant(name=f"v{at}", label=f"v{at}", settings=each, width=widths[at] if widths else 8)
        for at, each in enumerate(settings)
    ]
    return SweepRecord(
        name="study",
        axes=tuple(dict.fromkeys(key for each in settings for key in each)),
        variants=tuple(variants),
        runs=tuple(
            PlannedRun(variant=variant.name, seed=seed, path=f"{variant.name}/seed-{seed}")
            for variant in variants
            for seed in range(seeds)
        ),
    )


def manifest_of(spec: dict[str, Any], **changes: Any) -> Manifest:
    """A manifest with another spec, pattern and costs."""
    return make_manifest(spec=spec, **changes)


def domains_of(record: SweepRecord, manifests: dict[str, Manifest]) -> dict[str, tuple]:
    return {column.name: column.values for column in describe_columns(record, manifests)}


def test_what_differs_is_a_column_and_what_does_not_is_none():
    record = sweep_of(*({"model.depth": depth, "training.batch_size": 64} for depth in (4, 2)))
    manifests = {
        f"v{at}": manifest_of({"model": {"depth": depth}, "training": {"batch_size": 64}}, unique_weights=depth * 10)
        for at, depth in enumerate((4, 2))
    }
    assert domains_of(record, manifests) == {"depth": (2, 4), "seed": ("0", "1"), "unique_weights": (20, 40)}
    columns = describe_columns(record, manifests)
    values = read_hparams(columns, record, record.runs[1], manifests["v0"])
    assert values == {"depth": 4, "seed": "1", "unique_weights": 40}


def test_a_variant_that_sets_nothing_has_the_value_of_its_spec():
    record = sweep_of({"model.depth": 2}, {"training.epochs": 9})
    manifests = {
        "v0": manifest_of({"model": {"depth": 2}, "training": {"epochs": 3}}),
        "v1": manifest_of({"model": {"depth": 5}, "training": {"epochs": 9}}),
    }
    assert domains_of(record, manifests) == {"depth": (2, 5), "epochs": (3, 9), "seed": ("0", "1")}


def test_what_has_not_started_is_known_from_the_sweep_alone():
    columns = {
        column.name: (column.kind, column.values)
        for column in describe_columns(sweep_of({"model.tying.pattern": "block"}, {"model.tying": None}), {})
    }
    assert columns["pattern"] == (str, ("block", "none"))
    # They are not known yet, but are columns: TensorBoard keeps the columns that it reads first.
    for name in ("unique_weights", "macs_tied", "macs_dense", "expanded_weights"):
        assert columns[name] == (float, ())


def test_the_tying_is_named_as_in_the_manifest():
    record = sweep_of({"model.tying.pattern": {"preset": "hashed", "groups": 9}}, {"model.tying": None})
    manifests = {"v0": manifest_of({}, pattern="hashed(groups=9)"), "v1": manifest_of({}, pattern="none")}
    assert domains_of(record, manifests) == {"pattern": ("hashed(groups=9)", "none"), "seed": ("0", "1")}


def test_keys_that_end_the_same_are_whole():
    record = sweep_of(
        {"training.optimizer.name": "adam", "training.schedule.name": "cosine"},
        {"training.optimizer.name": "sgd", "training.schedule.name": "constant"},
    )
    assert {"training.optimizer.name", "training.schedule.name"} <= domains_of(record, {}).keys()


def test_a_width_that_was_matched_is_a_column():
    assert domains_of(sweep_of({"model.depth": 2}, {"model.depth": 4}, widths=(16, 11)), {})["width"] == (11, 16)


def test_many_numbers_are_an_interval():
    depths = range(2, 3 + MAX_CHECKBOXES)
    record = sweep_of(*({"model.depth": depth} for depth in depths), seeds=1)
    manifests = {f"v{at}": manifest_of({"model": {"depth": depth}}) for at, depth in enumerate(depths)}
    depth = describe_columns(record, manifests)[0]
    assert (depth.name, depth.kind, depth.values, depth.interval) == ("depth", float, (), (2.0, depths[-1]))


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((None, 0.5), ("none", "0.5")),
        ((True, False), (True, False)),
        (([1, 2], 3), ("[1, 2]", "3")),
        ((float("inf"), 10**300), ("Infinity", "1" + "0" * 199)),
        (("\ud800", "x" * 1000), ("?", "x" * 200)),
    ],
)
def test_values_of_any_kind(given, shown):
    record = sweep_of(*({"training.a": value} for value in given))
    manifests = {f"v{at}": manifest_of({"training": {"a": value}}) for at, value in enumerate(given)}
    assert domains_of(record, manifests)["a"] == shown


def test_five_columns_are_shown_at_first():
    settings = [{"model.depth": width, "model.width": width, "a.b": width} for width in (4, 5)]
    record = sweep_of(*settings, widths=(4, 5))
    shown = [column.name for column in describe_columns(record, {}) if column.shown]
    assert shown == ["depth", "width", "b", "seed", "unique_weights"]


def test_places_in_lists():
    record = sweep_of({"dataset.augment.0.pixels": 2}, {"dataset.augment.0.pixels": 4})
    manifests = {f"v{at}": manifest_of({"dataset": {"augment": [{"pixels": at}]}}) for at in range(2)}
    assert domains_of(record, manifests)["pixels"] == (0, 1)
