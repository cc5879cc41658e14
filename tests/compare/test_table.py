"""The comparison as a whole: pairing, selection, verdicts, notes and formats."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import scipy.stats
from rich.console import Console

from tiedexp.compare.columns import choose_columns, list_columns, sort_rows
from tiedexp.compare.comparison import describe_verdict
from tiedexp.compare.formats import fit_table, to_csv, to_latex, to_markdown, to_plain_comparison
from tiedexp.compare.notes import list_notes
from tiedexp.compare.reading import read_runs
from tiedexp.compare.table import build_comparison
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
    notes = " ".join(list_notes(comparison, list_columns(comparison)))
    for text in (
        "sorted by validation/accuracy. Choose a variant by validation/accuracy: the one with the best test/accuracy",
        "The difference is the variant minus full, paired by seed",
        "† marks another budget: neither the weights nor",
    ):
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
    notes = list_notes(comparison, choose_columns(comparison, []))
    assert notes[0] == "Rows are sorted by test/accuracy."
    assert notes[1].startswith("There is no validation to choose a variant by")


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
    few = [note for note in comparison.notes if note.text == "Too few seeds (fewer than 3) to say much: block."]
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
        ({"baseline": "d4"}, "--baseline d4: no variant has this name; the variants are block, full, rings"),
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


def test_the_time_of_an_epoch_is_the_mean_over_the_runs_that_know_it(make_run, tmp_path):
    for pattern, times in {"full": (2.0, 3.0), "block": (None, 1.5), "rings": (None, None)}.items():
        for seed, seconds in enumerate(times):
            path = make_run(pattern, seed) / "result.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), "epoch_seconds": seconds}))
    found = read_runs([tmp_path / "runs"])
    comparison = build_comparison(found, found.runs)
    rows = rows_of(comparison)
    assert {label: row.epoch_seconds for label, row in rows.items()} == {"full": 2.5, "block": 1.5, "rings": None}
    (column,) = (each for each in choose_columns(comparison, []) if each.key == "epoch_seconds")
    assert {label: column.text(row) for label, row in rows.items()} == {"full": "2.5", "block": "1.5", "rings": ""}
    assert [row.label for row in sort_rows(comparison, "epoch_seconds").rows] == ["block", "full", "rings"]


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
    content = to_plain_comparison(comparison)
    assert content["rows"][0]["metric"] == pytest.approx(0.9255)
    assert len(content["rows"][0]["runs"]) == 4
    assert to_csv(comparison, choose_columns(comparison, ["p"])).splitlines()[0] == "variant,p,p_uncorrected"


def test_columns_that_do_not_differ_are_left_out(compare):
    comparison = compare()
    keys = {column.key for column in choose_columns(comparison, [])}
    assert "unique_weights" in keys
    assert "macs_dense" not in keys  # 8,000 in all
    assert [column.key for column in choose_columns(comparison, ["macs_dense"])] == ["variant", "macs_dense"]
    with pytest.raises(SpecError, match="--columns wieghts: there is no such column; the columns are variant, seeds"):
        choose_columns(comparison, ["wieghts"])


def test_columns_have_their_headings_as_names_too(compare):
    comparison = compare()
    named = choose_columns(comparison, ["weights", "MACs tied", "s/epoch", "p (Holm)", "test/accuracy"])
    keyed = choose_columns(comparison, ["unique_weights", "macs_tied", "epoch_seconds", "p", "metric"])
    assert [column.key for column in named] == [column.key for column in keyed]
    assert sort_rows(comparison, "weights") == sort_rows(comparison, "unique_weights")
    # Of two axes with one heading, only the key says which.
    made = replace(comparison, axes=("model.name", "dataset.name"))
    with pytest.raises(SpecError, match="--sort name: there is no such column"):
        sort_rows(made, "name")


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
    comparison = sort_rows(compare(), key)
    assert [row.label for row in comparison.rows] == order
    heading = next(column.title for column in list_columns(comparison) if column.key == key)
    assert list_notes(comparison, [])[0] == f"Rows are sorted by {heading}."


def lines_at(comparison, width, **options):
    """The lines of the table in a terminal of this width, and the keys of its columns."""
    console = Console(width=width, file=io.StringIO(), highlight=False)
    table, columns = fit_table(comparison, choose_columns(comparison, []), width, **{"may_leave_out": True, **options})
    console.print(table, crop=False)
    return [line.rstrip() for line in console.file.getvalue().splitlines()], [column.key for column in columns]


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
@pytest.mark.parametrize("sort", ["selection", "p", "unique_weights", "pareto"])
def test_a_table_fits_its_window_and_keeps_what_matters(compare, width, sort):
    comparison = sort_rows(compare(), sort)
    lines, keys = lines_at(comparison, width)
    assert max(map(len, lines)) <= width
    assert {"variant", "difference", "verdict", sort} <= set(keys)
    assert "…" not in "".join(lines)
    for row in comparison.rows:  # one line each, with the numbers whole
        (line,) = [line for line in lines if line.split()[:1] == [row.label]]
        if row.difference is not None:
            assert f"{row.difference.estimate.mean:+.4f} ±".replace("-", "−") in line
    if width >= 80 and sort == "selection":
        assert "metric" in keys
    if width == 200:
        assert keys == [column.key for column in choose_columns(comparison, [])]


def test_a_table_is_brief_only_where_it_must_be(compare):
    comparison = compare()
    whole = max(map(len, lines_at(comparison, 300)[0])) + 1  # with the margin
    text = "\n".join(lines_at(comparison, whole)[0])
    assert "validation" in text
    assert "valid." in "\n".join(lines_at(comparison, whole - 1)[0])


def test_a_long_label_is_broken_rather_than_a_column_left_out(compare, make_run):
    label = "random_like(of=block,seed=17)"
    make_run(label, 0, test=0.5, validation=0.4)
    lines, keys = lines_at(compare(), 80)
    assert {"variant", "selection", "metric", "difference", "verdict"} <= set(keys)
    assert max(map(len, lines)) <= 80
    (at,) = [at for at, line in enumerate(lines) if line.startswith(" random_like")]
    assert lines[at].split()[0] + lines[at + 1].strip() == label


def test_numbers_are_never_cut_off(compare):
    comparison = compare()
    whole = {"0.9255", "−0.1967"}
    for width in (30, 40):
        text = "\n".join(lines_at(comparison, width, may_leave_out=False)[0])
        assert whole <= set(text.split()), text


def test_notes_are_those_of_the_columns(compare):
    comparison = compare()
    notes = {
        key: " ".join(list_notes(comparison, choose_columns(comparison, [key]))) for key in ("seeds", "pareto", "p")
    }
    assert [key for key, text in notes.items() if "Pareto" in text] == ["pareto"]
    assert [key for key, text in notes.items() if "Holm" in text] == ["p"]
    assert not any("†" in text or "±" in text for text in notes.values())
    assert "†" in " ".join(list_notes(comparison, choose_columns(comparison, ["difference"])))
    for write in (to_markdown, to_latex):
        assert "front of" not in write(comparison, choose_columns(comparison, ["seeds"]))


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
    """The labels of such a sweep do not contain the widths; those of plain runs do."""
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
    """Names and values of runs can come from a stranger, and spreadsheets run cells that start like a formula."""
    for seed, name in enumerate(("=cmd|calc!A0", "+1", "-1", "@SUM(A1)")):
        run = make_run("block", seed, dataset__name=name)
    found = read_runs([run.parents[1]])
    rows = list(csv.reader(io.StringIO(to_csv(build_comparison(found, found.runs, by=["dataset.name"]), None))))
    cells = [cell for row in rows for cell in row]
    assert {"'=cmd|calc!A0", "'+1", "'-1", "'@SUM(A1)"} <= set(cells)
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "@") or cell == "-1"]
