"""Every spec in configs/ is valid, builds the model it promises, and says how to run it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tiedexp.experiment.assembly import build_model, build_optimizer, build_schedule
from tiedexp.experiment.preparation import plan_experiment
from tiedexp.spec.loading import build_json_schema, load_spec
from tiedexp.sweep.sweep_spec import SweepSpec
from tiedexp.sweep.variants import load_sweep

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
SWEEPS = sorted((ROOT / "configs" / "sweeps").glob("*.yaml"))
SCHEMA = ROOT / "configs" / "tiedexp.schema.json"


def test_there_are_the_configs_that_the_readme_names():
    names = {path.stem for path in CONFIGS}
    assert names >= {"digits_quick", "mnist_block", "mnist_full", "cifar10_resnet20_d4", "cifar10_mixed"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_validates_and_builds(path, tmp_path):
    plan = plan_experiment(load_spec(path), data_dir=tmp_path)
    model = build_model(plan)
    optimizer = build_optimizer(plan.spec, build_schedule(plan.spec, steps_per_epoch=10))
    optimizer.build(model.trainable_variables)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == plan.cost.unique_weights
    images = np.zeros((2, *plan.image_shape), "float32")
    assert model(images).shape == (2, plan.num_classes)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_opens_with_the_schema_its_command_and_what_to_expect(path):
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first == f"# yaml-language-server: $schema={SCHEMA.name}"
    assert second.startswith(f"# tiedexp train configs/{path.name}  ")
    assert "test accuracy" in second or "ot yet run" in second


def test_the_schema_beside_them_is_that_of_the_code():
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == build_json_schema(), (
        "write it anew: tiedexp schema > configs/tiedexp.schema.json"
    )


@pytest.mark.parametrize("path", [*SWEEPS, *(ROOT / "experiments").rglob("sweep.yaml")], ids=lambda path: path.stem)
def test_a_sweep_is_valid_and_opens_with_its_command(path):
    sweep = load_sweep(path)
    assert sweep.baseline in {variant.name for variant in sweep.variants}
    lines = path.read_text(encoding="utf-8").splitlines()[:5]
    assert any(line.startswith(f"# tiedexp sweep {path.relative_to(ROOT)}  ") for line in lines)


def test_the_schema_of_sweeps_is_that_of_the_code():
    schema = ROOT / "configs" / "sweeps" / "sweep.schema.json"
    assert json.loads(schema.read_text(encoding="utf-8")) == SweepSpec.model_json_schema(), (
        f"write it anew: tiedexp schema --sweep > {schema.relative_to(ROOT)}"
    )
