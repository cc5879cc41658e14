"""What the README says is true: its code runs, its commands and keys exist, its tables are complete."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import typer.main
from pydantic import BaseModel

from tiedexp.cli import app
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS
from tiedexp.spec.loading import load_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.variants import load_sweep

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands():
    lines = [line.partition("  #")[0] for block in blocks("sh") for line in block.splitlines()]
    return [line.strip() for line in lines if line.startswith("tiedexp ")]


def test_the_answer_in_python_runs():
    (code,) = blocks("python")
    scope = {}
    exec(code, scope)
    model = scope["model"]
    assert model.output_shape == (None, 10)
    assert [layer.pattern.num_groups for layer in model.layers[:2]] == [9, 5]


def test_the_spec_is_valid_and_that_of_the_config(tmp_path):
    _, text = blocks("yaml")
    (tmp_path / "spec.yaml").write_text(text)
    assert load_spec(tmp_path / "spec.yaml") == load_spec(ROOT / "configs" / "mnist_block.yaml")


def test_the_sweep_is_valid_and_that_of_the_config(tmp_path):
    text, _ = blocks("yaml")
    (tmp_path / "sweep.yaml").write_text(text)
    config = load_sweep(ROOT / "configs" / "sweeps" / "digits_patterns.yaml")
    assert replace(load_sweep(tmp_path / "sweep.yaml"), text="") == replace(config, text="")


@pytest.mark.parametrize("line", commands())
def test_commands_and_their_options_exist(line):
    command = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while words and hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_every_key_of_the_spec_is_in_the_reference():
    reference = README[README.index("| Key | Values | Default |") : README.index("Unknown keys, wrong types")]

    def keys(model, found=frozenset()):
        for name, field in model.model_fields.items():
            yield name
            for kind in re.findall(r"[A-Za-z]+Spec", repr(field.annotation)):
                nested = vars(__import__("tiedexp.spec.schema", fromlist=[kind]))[kind]
                if issubclass(nested, BaseModel) and nested not in found:
                    yield from keys(nested, found | {nested})

    # Options that the description of an optimizer in `tiedexp schema` is enough for.
    left_to_the_schema = {"beta_1", "beta_2", "epsilon", "learning_rate"}
    missing = {
        name for name in set(keys(ExperimentSpec)) - left_to_the_schema if not re.search(rf"\b{name}\b", reference)
    }
    assert not missing


def test_the_table_of_patterns_is_complete_and_counts_right():
    rows = re.findall(r"^\| `(\w+)`[^|]* \| (\d+) \| ([^|]+) \|$", README, re.MULTILINE)
    assert [(name, int(free), meaning) for name, free, meaning in rows] == [
        (name, Pattern.preset(name, 5).num_groups, preset.meaning) for name, preset in PRESETS.items()
    ]


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_ci_runs_the_test_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (test_command,) = re.findall(r"-m (pytest .*)$", README, re.MULTILINE)
    assert re.search(rf"-m {re.escape(test_command)}$", script, re.MULTILINE)


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"\b(TODO|FIXME|XXX|THROUGHPUT|HELPTIME|PATTERN_TABLE)\b", README)
