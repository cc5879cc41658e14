"""The table of families is complete, and is all that a new family needs."""

from __future__ import annotations

import inspect
import json
import sys
from pkgutil import resolve_name
from types import ModuleType

import keras
import pytest

import tiedexp.cli
from tiedexp.models.blocks import apply_classifier, apply_conv_bn, image_input
from tiedexp.models.families import FAMILIES, Family
from tiedexp.models.plan import ConvPlan
from tiedexp.spec.explaining import Explainer
from tiedexp.spec.schema import ExperimentSpec, ModelSpec

COMMON = {"image_shape", "width", "kernel_size", "patterns"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_row_of_the_table_is_whole(name):
    family = FAMILIES[name]
    assert inspect.signature(family.plan).parameters.keys() == COMMON | set(family.options)
    assert set(family.options) <= ModelSpec.model_fields.keys()
    builder = inspect.signature(resolve_name(family.builder)).parameters
    assert [*builder][:3] == ["image_shape", "num_classes", "convs"]
    assert {*builder} >= {"gradient", "implementation", "dropout", "dtype"}


def count_twins(depth):
    if depth % 2:
        raise ValueError("twins have an even depth")
    return depth


def plan_twins(image_shape, *, width, kernel_size, patterns, widen):
    """Pairs of convs of one width, the first of each with stride 2."""
    assert widen == 3
    convs, size, channels = [], image_shape[:2], image_shape[2]
    for number, pattern in enumerate(patterns, start=1):
        strides = 1 + number % 2
        after = tuple(-(-side // strides) for side in size)
        cells = (kernel_size, kernel_size)
        convs.append(ConvPlan(number, (number + 1) // 2, channels, width, cells, strides, size, after, pattern))
        size, channels = after, width
    return convs


BUILT = []


def build_twins(image_shape, num_classes, convs, *, gradient, implementation, dropout, dtype):
    x = inputs = image_input(image_shape)
    for conv in convs:
        x = apply_conv_bn(x, conv, gradient=gradient, implementation=implementation, dtype=dtype)
    BUILT.append([conv.strides for conv in convs])
    return keras.Model(inputs, apply_classifier(x, num_classes, dropout=dropout, dtype=dtype), name="twins")


SPEC = """\
name: a
dataset: {name: digits, limit: 200}
model: {family: FAMILY, depth: DEPTH, widen: 3, width: 4, tying: {pattern: point, layers: last}}
training: {epochs: 1, batch_size: 30}
"""


@pytest.fixture
def toy(monkeypatch, tmp_path, capsys):
    """Adds a row to the table, and returns a function that runs a command on a spec of the new family."""
    module = ModuleType("toy_family")
    module.build = build_twins
    monkeypatch.setitem(sys.modules, "toy_family", module)
    monkeypatch.setitem(
        FAMILIES, "twins", Family("pairs", "even", count_twins, plan_twins, "toy_family:build", ("widen",))
    )
    # Messages list the families of a schema that is built once.
    monkeypatch.setattr("tiedexp.spec.loading._EXPLAINER", Explainer(ExperimentSpec, extra_keys=("extends",)))
    monkeypatch.chdir(tmp_path)

    def run(*arguments, family="twins", depth=4):
        (tmp_path / "spec.yaml").write_text(SPEC.replace("FAMILY", family).replace("DEPTH", str(depth)))
        monkeypatch.setattr(sys, "argv", ["tiedexp", *arguments])
        code = 0
        try:
            tiedexp.cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_family_added_to_the_table_is_checked_like_the_others(toy):
    code, _, error = toy("validate", "spec.yaml", depth=3)
    assert (code, "model.depth: twins have an even depth" in error) == (2, True), error
    code, _, error = toy("validate", "spec.yaml", family="twin")
    assert (code, "did you mean twins" in error) == (2, True), error
    code, _, error = toy("validate", "spec.yaml", family="plain")
    assert "only a resnet or a twins can be widened; for a plain model, change `width`" in error


def test_a_family_added_to_the_table_is_planned_built_and_trained(toy, tmp_path):
    code, out, error = toy("validate", "spec.yaml", "--json")
    assert code == 0, error
    assert [layer["name"] for layer in json.loads(out)["layers"]][-3:] == ["conv_4", "bn_4", "classifier"]
    code, out, error = toy("train", "spec.yaml", "--json")
    assert code == 0, error
    (result,) = tmp_path.glob("runs/*/seed-0/result.json")
    assert 0 <= json.loads(result.read_text())["test"]["accuracy"] <= 1
    manifest = json.loads((result.parent / "manifest.json").read_text())
    assert list(manifest["implementations"]) == ["conv_4"]
    assert BUILT.pop() == [2, 1, 2, 1]
