"""A new optimizer is one class and its place in the table: from the schema to a trained model and a sweep's size."""

from __future__ import annotations

import os
import subprocess
import sys

# Imported by every process as it starts, those of a sweep included.
NEW_OPTIMIZER = """
from typing import Literal
from pydantic import Field
from tiedexp.spec import optimizers

class AdamaxSpec(optimizers.BaseOptimizerSpec, keras_class="keras.optimizers:Adamax", slots=2):
    name: Literal["adamax"] = Field(description="Adam by the largest gradient.")
    learning_rate: float = Field(0.002, gt=0.0, description="The highest rate of the schedule.")
    beta_2: float = Field(0.999, ge=0.0, lt=1.0, description="Decay of the largest gradient.")

optimizers.OPTIMIZERS["adamax"] = AdamaxSpec
"""
START = """
import json, pathlib, sys

def run(*arguments):
    import tiedexp.cli
    sys.argv = ["tiedexp", *arguments]
    try:
        tiedexp.cli.main()
    except SystemExit as ended:
        print("exit code", ended.code or 0)

def write(optimizer, name="spec.yaml"):
    head = "name: a\\ndataset: {name: digits, limit: 100}\\nmodel: {depth: 1, width: 2}\\n"
    pathlib.Path(name).write_text(f"{head}training: {{epochs: 2, batch_size: 30, optimizer: {optimizer}}}\\n")
    return name

def size(optimizer):
    from tiedexp.spec.loading import load_spec
    from tiedexp.sweep.estimate import _estimate_bytes
    return _estimate_bytes(load_spec(pathlib.Path(write(optimizer))), None)
"""
# Code, and what it prints.
USES = [
    ("run('schema')", ['"description": "Adam by the largest gradient."', "sgd, adam, adamw, lion or adamax"]),
    ("run('init', 'new.yaml'); print(pathlib.Path('new.yaml').read_text())", ["# sgd, adam, adamw, lion or adamax"]),
    ("run('validate', write('{name: adamax, beta_2: 1.5}'))", ["optimizer.beta_2: must be", "exit code 2"]),
    ("run('validate', write('{name: adamix}'))", ["did you mean adamax", "exit code 2"]),
    ("run('validate', write('{name: adamax, momentum: 0.9}'))", ["momentum", "exit code 2"]),
    ("run('train', write('{name: adamax, beta_2: 0.9}'), '--json')", ['"epochs": 2']),
    ("print(size('{name: adamax}') == size('{name: adam}') > size('{name: sgd}'))", ["True"]),
    (
        "base = {'dataset': {'name': 'digits', 'limit': 100}, 'training': {'optimizer': {'name': 'adamax'}}}\n"
        "sweep = {'name': 's', 'base': {'name': 'b', **base}, 'grid': {'model.width': [2, 3]}, 'seeds': 1}\n"
        "pathlib.Path('sweep.yaml').write_text(json.dumps(sweep))\n"
        "run('sweep', 'sweep.yaml', '--plan')",
        ["2 runs"],
    ),
]


def test_an_optimizer_needs_its_class_and_its_place_in_the_table(tmp_path):
    """In other processes, because the keys of a spec are made from the table when they are imported."""
    (tmp_path / "sitecustomize.py").write_text(NEW_OPTIMIZER)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    code = START + "".join(f"\nprint('---', flush=True)\n{use}\nsys.stdout.flush()" for use, _ in USES)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        check=False,
    )
    assert done.returncode == 0, done.stdout
    printed = done.stdout.split("---\n")[1:]
    assert len(printed) == len(USES), done.stdout
    for (use, expected), output in zip(USES, printed, strict=True):
        for text in expected:
            assert text in output, (use, output)
