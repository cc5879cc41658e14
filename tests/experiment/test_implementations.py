"""How each conv is computed is chosen once, stored in the manifest, and the same when a run is resumed."""

from __future__ import annotations

import json

import pytest

import tiedexp.experiment.assembly
from tiedexp.convolution import native
from tiedexp.convolution.choosing import EXPAND, NATIVE, Choice
from tiedexp.convolution.cpp import library
from tiedexp.convolution.cpp.compiler import Built, find_compiler
from tiedexp.errors import RunError, RunInterruptedError
from tiedexp.experiment.assembly import build_model
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import locate_run
from tiedexp.experiment.run import run_experiment

pytestmark = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")


class StopsInTheSecondEpoch(RunObserver):
    def epoch_started(self, epoch, num_steps):
        if epoch == 2:
            raise KeyboardInterrupt


@pytest.fixture
def choices(monkeypatch):
    """The choices of the layers of each model that is built."""
    seen = []

    def build(plan, implementations=None):
        model = build_model(plan, implementations)
        seen.append([layer.choice for layer in model.layers if hasattr(layer, "choice")])
        return model

    monkeypatch.setattr(tiedexp.experiment.assembly, "build_model", build)
    return seen


@pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")
def test_a_resumed_run_computes_as_it_started(make_spec, tmp_path, choices):
    spec = make_spec(model={"tying": {"pattern": "row", "implementation": "factored"}})
    with pytest.raises((RunInterruptedError, KeyboardInterrupt)):
        run_experiment(spec, root=tmp_path, observer=StopsInTheSecondEpoch())
    path = locate_run(spec, tmp_path).path / "manifest.json"
    manifest = json.loads(path.read_text())
    assert manifest["implementations"] == {
        f"conv_{number}": choice.as_dict() for number, choice in enumerate(choices[0], start=1)
    }
    # As if another version had estimated, or another machine had measured, other times.
    other = Choice(EXPAND, NATIVE, EXPAND)
    manifest["implementations"] = {"conv_1": other.as_dict(), "conv_2": other.as_dict()}
    path.write_text(json.dumps(manifest))
    run_experiment(spec, root=tmp_path)
    assert choices[1] == [other, other]
    run_experiment(spec, root=tmp_path, fresh=True)
    assert choices[2] == choices[0]


@pytest.mark.parametrize("implementation", ["expand", "factored"])
def test_the_spec_decides(implementation, make_spec, tmp_path, choices):
    spec = make_spec(model={"tying": {"pattern": "row", "implementation": implementation}}, training={"epochs": 1})
    run = run_experiment(spec, root=tmp_path)
    assert all(choice.is_expanded == (implementation == "expand") for choice in choices[0])
    assert run.read_result().epochs == 1


def test_compiled_code_is_part_of_what_a_run_is_made_with(make_spec, tmp_path, monkeypatch):
    """A run that started with it resumes without it, or with another version, only if the user allows it."""
    if find_compiler() is None:
        pytest.skip("needs a C++ compiler")
    spec = make_spec(model={"tying": {"pattern": "row", "implementation": "factored"}})
    with pytest.raises((RunInterruptedError, KeyboardInterrupt)):
        run_experiment(spec, root=tmp_path, observer=StopsInTheSecondEpoch())
    run = locate_run(spec, tmp_path)
    version = run.read_manifest().versions["compiled convolution"]
    assert version == library.find_version()
    monkeypatch.setattr(library, "build_library", lambda: Built(None, "it is gone"))
    monkeypatch.setattr(library, "load_library", library.load_library.__wrapped__)
    monkeypatch.setattr(native, "load_library", library.load_library)
    with pytest.raises(RunError, match=f"compiled convolution none in place of {version}"):
        run_experiment(spec, root=tmp_path)
    run_experiment(spec, root=tmp_path, allow_inexact=True)
    assert run.read_manifest().inexact[0].differences == (f"compiled convolution none in place of {version}",)


def test_a_run_without_compiled_code_does_not_mind_it(make_spec, tmp_path):
    spec = make_spec(model={"tying": {"pattern": "row", "implementation": "expand"}}, training={"epochs": 1})
    assert "compiled convolution" not in run_experiment(spec, root=tmp_path).read_manifest().versions
