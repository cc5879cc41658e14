"""The comparison as a whole: which runs are paired, who is chosen by what, what is said."""

from __future__ import annotations

import csv
import io
import json

import pytest
import scipy.stats

from tiedexp.compare.reading import read_runs
from tiedexp.compare.rendering import choose_columns, sort_rows, to_csv, to_json, to_latex, to_markdown
from tiedexp.compare.table import build_comparison, describe_verdict
from tiedexp.errors import RunError, SpecError
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord, Variant

FULL = {0: 0.90, 1: 0.93, 2: 0.91, 3: 0.94}
BLOCK = {0: 0.905, 1: 0.937, 2: 0.914, 3: 0.946}
RINGS = {0: 0.70, 1: 0.74, 2: 0.71, 5: 0.99}


@pytest.fixture
def compare(make_run, tmp_path):
    """Compares variants given by the test accuracy of each seed; validation is a tenth less."""

    def compare(**options):
        for pattern, (weights, accuracies) in {
            "full": (1000, FULL), "block": (1020, BLOCK), "rings": (300, RINGS)
        }.items():  # fmt: skip
            for seed, accuracy in accuracies.items():
                make_run(pattern, seed, test=accuracy, validation=accuracy - 0.1, weights=weights)
        found = read_runs([tmp_path / "runs"])
        return build_comparison(found, found.runs, **options)

    return compare


def rows_of(comparison):
    return {row.label: row for row in comparison.rows}


def test_means_and_paired_differences(compare):
    comparison = compare()
    rows = rows_of(comparison)
    assert comparison.baseline == "full"  # the only one without tying
    assert [row.label for row in comparison.rows] == ["block", "full", "rings"]  # by validation
    reference = scipy.stats.ttest_rel(list(BLOCK.values()), list(FULL.values()))
    assert rows["block"].difference.p == pytest.approx(reference.pvalue)
    assert rows["block"].metric.mean == pytest.approx(0.9255)
    common = [0, 1, 2]
    reference = scipy.stats.ttest_rel([RINGS[seed] for seed in common], [FULL[seed] for seed in common])
    assert rows["rings"].difference.p == pytest.approx(reference.pvalue)
    assert (rows["rings"].metric.count, rows["rings"].difference.estimate.count) == (4, 3)


def test_what_is_said(compare):
    comparison = compare()
    rows = rows_of(comparison)
    assert {label: describe_verdict(row, comparison) for label, row in rows.items()} == {
        "block": "better", "full": "baseline", "rings": "worse"
    }  # fmt: skip
    assert rows["block"].p == pytest.approx(min(1, 2 * rows["block"].difference.p), rel=0.5)
    assert (rows["block"].has_other_budget, rows["rings"].has_other_budget) == (False, True)
    assert rows["full"].equal_budgets is None
    assert {label: row.dominated_by for label, row in rows.items()} == {"block": None, "full": None, "rings": None}
    notes = " ".join(comparison.notes)
    for text in ("order of validation/accuracy: choose by it", "to full, paired by seed", "† other weights"):
        assert text in notes


def test_lower_is_better(compare):
    comparison = compare(metric="test/loss")
    assert [row.label for row in comparison.rows] == ["block", "full", "rings"]
    assert describe_verdict(rows_of(comparison)["block"], comparison) == "better"
    assert rows_of(comparison)["block"].difference.estimate.mean < 0


def test_a_metric_of_validation_is_chosen_and_reported(compare):
    comparison = compare(metric="validation/accuracy")
    assert comparison.selection == comparison.metric
    assert "selection" not in {column.key for column in choose_columns(comparison, [])}


def test_without_validation(make_run, tmp_path):
    for pattern in ("full", "block"):
        make_run(pattern, validation=None)
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs)
    assert comparison.selection is None
    assert "which flatters the first ones" in comparison.notes[0]


@pytest.mark.parametrize(
    ("accuracies", "verdict"),
    [
        ([0.95], "too few seeds"),
        ([0.91, 0.93], "equal in every pair"),
        ([0.93, 0.939], "too few seeds, about "),
        ([0.912, 0.93, 0.953], "open, about "),
        ([0.9100001, 0.93, 0.9499999, 0.92], "over 1,000 seeds needed"),
    ],
)
def test_few_seeds(make_run, tmp_path, accuracies, verdict):
    for seed, accuracy in enumerate([0.91, 0.93, 0.95, 0.92]):
        make_run("full", seed, test=accuracy)
    for seed, accuracy in enumerate(accuracies):
        make_run("block", seed, test=accuracy)
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs)
    assert verdict in describe_verdict(rows_of(comparison)["block"], comparison)
    few = [note for note in comparison.notes if note.startswith("Too few seeds to say much: block")]
    assert bool(few) == (len(accuracies) < 3)


def test_no_common_seed(make_run, tmp_path):
    make_run("full", 0)
    make_run("block", 1)
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs)
    assert describe_verdict(rows_of(comparison)["block"], comparison) == "no common seed"


def test_one_alone(make_run, tmp_path):
    make_run("block")
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs)
    assert (comparison.baseline, len(comparison.rows)) == (None, 1)
    assert to_markdown(comparison, choose_columns(comparison, [])).startswith("| variant | seeds | validation/accuracy")


def test_who_is_dominated(make_run, tmp_path):
    for pattern, validation, weights in (("full", 0.9, 100), ("block", 0.8, 100), ("rings", 0.7, 10)):
        make_run(pattern, validation=validation, weights=weights, test=1 - validation)
    found = read_runs([tmp_path / "runs"])
    rows = rows_of(build_comparison(found, found.runs))
    assert {label: row.dominated_by for label, row in rows.items()} == {"full": None, "block": "full", "rings": None}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "test/acc"}, "--metric test/acc: the runs have test/accuracy"),
        ({"metric": "test/top5_accuracy"}, "--metric test/top5_accuracy: the runs have"),
        ({"baseline": "d4"}, "--baseline d4: no variant is called so; there are block, full, rings"),
        ({"by": ["seed"]}, "--by seed: the runs do not differ in it"),
    ],
)
def test_what_the_runs_do_not_have(compare, options, message):
    with pytest.raises(SpecError, match=message):
        compare(**options)


def test_no_run(compare):
    compare()
    with pytest.raises(RunError, match="none of the runs is finished"):
        build_comparison(read_runs([]), [])


# As text


def test_every_format_has_every_row(compare):
    comparison = compare()
    columns = choose_columns(comparison, [])
    for text in (to_markdown(comparison, columns), to_latex(comparison, columns)):
        assert all(label in text for label in ("block", "full", "rings"))
        assert "0.9255" in text
    head, *lines = to_csv(comparison, None).splitlines()
    assert head.startswith("variant,model.tying.pattern,")
    assert len(lines) == 3
    content = json.loads(to_json(comparison))
    assert content["rows"][0]["metric"] == pytest.approx(0.9255)
    assert len(content["rows"][0]["runs"]) == 4
    assert to_csv(comparison, choose_columns(comparison, ["p"])).splitlines()[0] == "variant,p,p_uncorrected"


def test_columns_that_do_not_differ_are_left_out(compare):
    comparison = compare()
    keys = {column.key for column in choose_columns(comparison, [])}
    assert "unique_weights" in keys
    assert "macs_dense" not in keys  # 8,000 in all
    assert [column.key for column in choose_columns(comparison, ["macs_dense"])] == ["variant", "macs_dense"]
    with pytest.raises(SpecError, match="--columns weights: no column is called so; there are variant, seeds"):
        choose_columns(comparison, ["weights"])


@pytest.mark.parametrize(
    ("key", "order"),
    [
        ("metric", ["block", "full", "rings"]),
        ("unique_weights", ["rings", "full", "block"]),
        ("variant", ["block", "full", "rings"]),
        ("p", ["rings", "block", "full"]),
    ],
)
def test_sorting(compare, key, order):
    assert [row.label for row in sort_rows(compare(), key)] == order


def test_marks_are_escaped(make_run, tmp_path):
    for name in ("a|b_<i>", "50%&$#{}~^\\"):
        make_run(dataset__name=name)
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs)
    columns = choose_columns(comparison, [])
    assert r"a\|b\_\<i\>" in to_markdown(comparison, columns)
    latex = to_latex(comparison, columns)
    assert r"50\%\&\$\#\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}" in latex
    assert r"a|b\_$<$i$>$" in latex


def test_widths_that_match_made_have_a_column(make_run, tmp_path):
    """The labels of such a sweep do not say them; those of plain runs do."""
    root = tmp_path / "study"
    widths = {"block": 12, "rings": 20}
    paths = [make_run(name, root=root, model__width=width).relative_to(root) for name, width in widths.items()]

    def keys_and_widths():
        found = read_runs([root])
        comparison = build_comparison(found, found.runs)
        columns = {column.key: column for column in choose_columns(comparison, [])}
        shown = columns.get("model.width")
        return shown and {row.label: shown.text(row) for row in comparison.rows}

    assert keys_and_widths() is None
    variants = [
        Variant(name=name, label=name, settings={"model.tying.pattern": name}, width=width)
        for name, width in widths.items()
    ]
    runs = [PlannedRun(variant=path.parts[0].split("-")[0], seed=0, path=path.as_posix()) for path in paths]
    record = SweepRecord(
        name="study", match="weights", baseline="block", axes=("model.tying.pattern",), variants=variants, runs=runs
    )
    SweepDirectory(root).write(record, "")
    assert keys_and_widths() == {"block": "12", "rings": "20"}


def test_a_spreadsheet_computes_nothing(make_run):
    """A name or value of a run may come from a stranger, and programs that open CSV run what begins so."""
    for seed, name in enumerate(("=cmd|calc!A0", "+1", "-1", "@SUM(A1)")):
        run = make_run("block", seed, dataset__name=name)
    found = read_runs([run.parents[1]])
    rows = list(csv.reader(io.StringIO(to_csv(build_comparison(found, found.runs, by=["dataset.name"]), None))))
    cells = [cell for row in rows for cell in row]
    assert {"'=cmd|calc!A0", "'+1", "'-1", "'@SUM(A1)"} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@") or cell == "-1"]
