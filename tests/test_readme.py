"""What only the README says: its layer, its spec, its tables, and the test command."""

from __future__ import annotations

import csv
import math
import re

from documents import ROOT, find_blocks

from tiedexp.patterns.presets import PRESETS
from tiedexp.spec.loading import load_spec

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_layer_in_ten_lines():
    (code,) = find_blocks("README.md", "python")
    scope = {}
    exec(code, scope)
    model = scope["model"]
    assert model.output_shape == (None, 10)
    assert [layer.pattern.num_groups for layer in model.layers[:2]] == [9, 5]


def test_the_spec_is_that_of_the_config(tmp_path):
    (text,) = find_blocks("README.md", "yaml")
    (tmp_path / "spec.yaml").write_text(text)
    assert load_spec(tmp_path / "spec.yaml") == load_spec(ROOT / "configs" / "mnist_block.yaml")


def test_the_number_of_presets():
    assert f"there are {len(PRESETS)} presets" in README


def test_the_table_of_the_sweep_is_that_of_the_study():
    with (ROOT / "experiments" / "patterns_on_mnist" / "results.csv").open(encoding="utf-8") as file:
        study = {row["variant"]: row for row in csv.DictReader(file)}
    rows = re.findall(
        r"^\| ([\w-]+) \| ([\d.]+) ±([\d.]+) \| (?:−([\d.]+) ±[\d.]+)? ?\| ([\d,]+) \|$", README, re.MULTILINE
    )
    assert len(rows) == 6
    for variant, accuracy, _, difference, weights in rows:
        row = study[variant]
        assert f"{float(row['metric']):.4f}" == accuracy, variant
        assert float(row["unique_weights"]) == float(weights.replace(",", "")), variant
        assert difference == (f"{-float(row['difference']):.4f}" if row["difference"] else ""), variant


def read_speed_ups() -> dict[tuple[int, str], float]:
    """Of a training step, per kernel size and pattern, from the study of speed; "" is the mean of all patterns."""
    with (ROOT / "experiments" / "speed" / "results.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "step"]
    ratios = {(row["kernel_size"], row["pattern"], row["shape"], row["method"]): float(row["ratio"]) for row in rows}
    logs: dict[tuple[int, str], list[float]] = {}
    for size, pattern, shape, method in ratios:
        if method == "auto":
            ratio = ratios[size, pattern, shape, "auto"] / ratios[size, pattern, shape, "expand"]
            for name in (pattern, ""):
                logs.setdefault((int(size), name), []).append(math.log(ratio))
    return {key: math.exp(sum(values) / len(values)) for key, values in logs.items()}


def test_speed_ups_are_those_of_the_study():
    speed_ups = read_speed_ups()
    rows = re.findall(r"^\| (\d+)x\d+ \| ([\d.]*) ?\| ([\d.]+) \|$", README, re.MULTILINE)
    assert [row[0] for row in rows] == ["5", "7", "11"]
    for size, of_all, of_block in rows:
        assert f"{speed_ups[int(size), 'block']:.2f}" == of_block
        assert of_all in ("", f"{speed_ups[int(size), '']:.2f}")

    page = (ROOT / "docs" / "pages" / "speed.md").read_text(encoding="utf-8")
    for size in (5, 7):
        least, *_, most = sorted((value, name) for (of, name), value in speed_ups.items() if of == size and name)
        ends = " | ".join(f"{value:.2f} (`{name}`)" for value, name in (least, most))
        assert f"| {size}x{size} | 13 presets | {speed_ups[size, '']:.2f} | {ends} |" in page
    assert f"| 11x11 | `block`, nine weights | {speed_ups[11, 'block']:.2f} | | |" in page


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (test_command,) = re.findall(r"-m (pytest .*)$", README, re.MULTILINE)
    assert re.search(rf"-m {re.escape(test_command)}$", script, re.MULTILINE)
