"""A sweep's file: its variants, their names, and its errors."""

from __future__ import annotations

import pytest

from tiedexp.errors import SpecError
from tiedexp.spec.loading import load_spec
from tiedexp.sweep.variants import load_sweep

GRID = "grid:\n  model.tying.pattern: [point, rings]\n"


def names(sweep):
    return [variant.name for variant in sweep.variants]


def problems_of(path, *overrides):
    with pytest.raises(SpecError) as caught:
        load_sweep(path, overrides)
    return [text.removeprefix(f"{path}:") for text in caught.value.problems]


def test_grid_and_list(write_sweep):
    sweep = load_sweep(write_sweep())
    assert (sweep.name, sweep.seeds, sweep.baseline, sweep.match) == ("small-sweep", (0, 1), "untied", None)
    assert sweep.axes == ("model.tying.pattern",)
    assert names(sweep) == ["point", "rings", "untied"]
    point, _, untied = sweep.variants
    assert point.spec.model.tying.pattern == "point"
    assert point.settings == {"model.tying.pattern": "point"}
    assert untied.spec.model.tying is None
    assert untied.settings == {}
    assert [variant.spec.name for variant in sweep.variants] == names(sweep)


@pytest.mark.parametrize("text", ["name: a\ndataset: {name: digits}\n", "extends: b.yaml\nseed: 3\n"])
def test_the_spec_of_one_experiment_is_not_a_sweep(tmp_path, text):
    path = tmp_path / "my spec.yaml"
    path.write_text(text)
    assert problems_of(path) == [
        f"1:1: this is the spec of one experiment, not a sweep; run it with `tiedexp train '{path}'`"
    ]


def test_every_combination_of_grid_and_rows_of_zip(write_sweep):
    path = write_sweep(
        (GRID, GRID + "  model.depth: [2, 3]\nzip:\n  model.width: [4, 8]\n  training.batch_size: [50, 25]\n")
    )
    sweep = load_sweep(path)
    combinations = [
        (each.spec.model.tying.pattern, each.spec.model.depth, each.spec.model.width, each.spec.training.batch_size)
        for each in sweep.variants[:-1]
    ]
    assert combinations == [
        (pattern, depth, width, batch)
        for pattern in ("point", "rings")
        for depth in (2, 3)
        for width, batch in ((4, 50), (8, 25))
    ]
    assert [variant.label for variant in sweep.variants][:2] == [
        "point d2 w4 batch_size=50",
        "point d2 w8 batch_size=25",
    ]
    assert names(sweep)[0] == "point-d2-w4-batch_size-50"
    assert sweep.axes == ("model.tying.pattern", "model.depth", "model.width", "training.batch_size")


def test_a_key_that_is_the_same_in_all_variants_is_not_in_their_names(write_sweep):
    more = (GRID, GRID + "  model.depth: [3]\n")
    no_baseline = ("baseline: untied\n", "")
    assert names(load_sweep(write_sweep(more, no_baseline))) == ["point-d3", "rings-d3", "untied"]  # whose depth is 2
    assert names(load_sweep(write_sweep(more, no_baseline, ("list:\n  - {name: untied}\n", "")))) == ["point", "rings"]


def test_what_is_excluded(write_sweep):
    path = write_sweep(
        (GRID, GRID + "  model.depth: [2, 3]\nexclude:\n  - {model.tying.pattern: rings, model.depth: 3}\n")
    )
    assert names(load_sweep(path)) == ["point-d2", "point-d3", "rings-d2", "untied"]


def test_a_base_of_its_own_file(write_sweep, tmp_path):
    (tmp_path / "base.yaml").write_text("name: b\ndataset: {name: npz, path: images.npz}\nseed: 7\n")
    text = "name: s\nbase: base.yaml\ngrid: {model.tying.pattern: [point, {preset: hashed, groups: 2}]}\n"
    (tmp_path / "sweep.yaml").write_text(text)
    sweep = load_sweep(tmp_path / "sweep.yaml")
    assert [variant.label for variant in sweep.variants] == ["point", "hashed(groups=2)"]
    assert names(sweep) == ["point", "hashed-groups-2"]
    assert sweep.variants[0].spec.dataset.path == str(tmp_path / "images.npz")
    assert sweep.variants[0].spec.seed == 0  # seeds are the sweep's


def test_without_variants_it_is_the_base_with_seeds(write_sweep, tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: s\nbase: {name: b, dataset: {name: digits}}\nseeds: [3, 5]\n")
    sweep = load_sweep(tmp_path / "sweep.yaml")
    assert (names(sweep), sweep.seeds) == (["base"], (3, 5))


def test_overrides_go_to_the_sweep_or_to_its_base(write_sweep):
    sweep = load_sweep(write_sweep(), ["seeds=5", "training.epochs=9", "name=other"])
    assert (sweep.name, len(sweep.seeds)) == ("other", 5)
    assert {variant.spec.training.epochs for variant in sweep.variants} == {9}
    assert sweep.text.startswith("# seeds=5\n# training.epochs=9\n# name=other\nname: small-sweep\n")


def test_a_variant_is_the_spec_that_the_command_line_would_make(write_sweep, tmp_path):
    (tmp_path / "base.yaml").write_text("name: untied\ndataset: {name: digits, limit: 200}\n")
    (tmp_path / "sweep.yaml").write_text("name: s\nbase: base.yaml\ngrid: {model.tying: [{pattern: point}, null]}\n")
    for variant, value in zip(load_sweep(tmp_path / "sweep.yaml").variants, ("{pattern: point}", "null"), strict=True):
        assert variant.spec.digest == load_spec(tmp_path / "base.yaml", [f"model.tying={value}"]).digest
    assert names(load_sweep(tmp_path / "sweep.yaml")) == ["point", "untied"]


PROBLEMS = [
    ("unknown key", ("seeds: 2", "sseds: 2"), "11:1: sseds: unknown key; did you mean 'seeds'?"),
    ("value of a variant", ("[point, rings]", "[piont, rings]"),
     "8:25: model.tying.pattern: unknown pattern 'piont'; did you mean point?"),
    ("key of all variants", ("model.tying.pattern: [", "model.tying.patern: ["),
     "8:3: model.tying.patern: unknown key; did you mean 'pattern'?"),
    ("reserved", ("model.tying.pattern: [point, rings]", "seed: [1, 2]"),
     "8:3: seed: cannot be varied; use `seeds` to set the seeds"),
    ("no name", ("{name: untied}", "{model.depth: 3}"), "10:5: list: each variant needs a `name`, which must be text"),
    ("baseline", ("baseline: untied", "baseline: untide"),
     "12:11: baseline: no variant has the name 'untide'; the variants are point, rings, untied"),
    ("two of a name", ("- {name: untied}", "- {name: untied}\n  - {name: untied, model.depth: 3}"),
     "11:12: list: two variants have the name untied"),
    ("twins", ("- {name: untied}", "- {name: untied}\n  - {name: again}"),
     "1:1: the variants untied and again are the same experiment; remove one"),
    ("seeds twice", ("seeds: 2", "seeds: [1, 1]"), "11:8: seeds: a seed is listed twice"),
    ("no seeds", ("seeds: 2", "seeds: 0"),
     "11:8: seeds: must be a whole number from 1 to 1000, or a list of one or more items, each a whole number from 0 "
     "to 2147483647. Received: 0"),
    ("lists of other lengths", ("seeds: 2", "zip: {model.depth: [1, 2], model.width: [4]}"),
     "11:1: zip: the lists must have the same length; model.depth has 2, model.width has 1"),
    ("both in grid and zip", ("seeds: 2", "zip: {model.tying.pattern: [block]}"),
     "11:7: zip: model.tying.pattern is also in `grid`"),
    ("exclude nothing", ("seeds: 2", "exclude: [{model.depth: 9}]"),
     "11:11: exclude: no variant matches {model.depth: 9}"),
    ("match alone", ("baseline: untied", "match: macs"),
     "1:1: `match` needs a `baseline`, the variant whose budget the others get"),
    ("matched width", ("- {name: untied}", "- {name: untied}\n  - {name: wide, model.width: 9}\nmatch: macs"),
     "12:8: match: adjusts model.width, which wide also sets"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), [case[1:] for case in PROBLEMS], ids=[case[0] for case in PROBLEMS])
def test_what_is_wrong_and_where(write_sweep, change, expected):
    assert problems_of(write_sweep(change)) == [expected]


def test_a_missing_base(tmp_path):
    (tmp_path / "sweep.yaml").write_text("name: s\nbase: other.yaml\n")
    assert problems_of(tmp_path / "sweep.yaml") == [f"2:7: base: there is no file {tmp_path / 'other.yaml'}"]


def test_all_problems_at_once(write_sweep):
    path = write_sweep(("epochs: 2", "epoch: 2"), ("[point, rings]", "[piont, ring]"), ("{name: untied}", "{}"))
    found = problems_of(path, "training.batch_size=0")
    assert [text.partition(": ")[0] for text in found] == [
        "6:14", "8:25", "8:32", "10:5", "override 'training.batch_size=0'",
    ]  # fmt: skip


def test_what_is_wrong_with_the_base_in_some_variants_names_one(write_sweep):
    path = write_sweep(
        ("kernel_size: 3", "kernel_size: 3, tying: {pattern: point, layers: [3]}"),
        (GRID, GRID + "  model.depth: [2, 3]\n"),
    )
    variant = "model.tying.pattern='point', model.depth=2"
    assert problems_of(path) == [
        f"5:80: model.tying.layers.0: the model has convolutions 1 to 2. Received: 3 (in variant {variant} and 2 more)"
    ]


def test_too_many(write_sweep):
    many = f"[{', '.join(map(str, range(1, 202)))}]"
    path = write_sweep((GRID, f"grid:\n  model.depth: {many}\n  model.width: {many}\n"))
    with pytest.raises(SpecError, match="more than 10,000 variants"):
        load_sweep(path)


def test_a_grid_may_change_an_optimizer_that_the_base_leaves_to_its_default(write_sweep):
    path = write_sweep(("grid:", "grid:\n  training.optimizer.learning_rate: [0.01, 0.02]"))
    optimizers = [variant.spec.training.optimizer for variant in load_sweep(path).variants[:2]]
    assert [(optimizer.name, optimizer.learning_rate) for optimizer in optimizers] == [("adamw", 0.01)] * 2
