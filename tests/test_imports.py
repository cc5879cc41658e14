"""Who may import whom, and what must load without TensorFlow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tiedexp

PACKAGE = Path(tiedexp.__file__).parent

# Each part, and the parts it may import besides itself.
MAY_IMPORT = {
    "errors": set(),
    "backend": {"errors"},
    "registration": {"backend"},
    "files": {"errors"},
    "signals": set(),
    "__main__": {"cli"},
    "host": set(),
    "installed": set(),
    "keys": set(),
    "labels": set(),
    "terminal": {"text"},
    "text": set(),
    "patterns": {"errors"},
    "convolution": {"errors", "files", "host", "installed", "patterns"},
    "layers": {"backend", "convolution", "errors", "patterns"},
    "models": {"convolution", "layers", "patterns"},
    "bench": {"convolution", "errors", "experiment", "layers", "patterns"},
    "spec": {"data", "errors", "keys", "models", "patterns", "text"},
    "data": {"drawing", "errors", "text"},
    "drawing": {"patterns", "text"},
    "compare": {"drawing", "errors", "keys", "labels", "patterns", "runs", "terminal", "text", "training"},
    "training": {"errors", "files", "host"},
    "board": {"errors", "files", "keys", "runs"},
    "runs": {"errors", "files", "host", "installed", "keys", "terminal"},
    "metrics": {"errors", "runs"},
    "sweep": {"backend", "errors", "experiment", "host", "keys", "labels", "runs", "signals", "spec", "training"},
    "experiment": {
        "convolution",
        "data",
        "drawing",
        "errors",
        "host",
        "keys",
        "layers",
        "metrics",
        "models",
        "patterns",
        "runs",
        "spec",
        "training",
    },
}
# Of the convolution engine, the modules that may load TensorFlow or Keras; planning and building do not.
MAY_LOAD_TENSORFLOW = {"expanded", "kernel", "library", "measuring", "native", "tied"}
# Of the models, the modules that load Keras; planning and counting do not.
BUILD_MODELS = {"blocks", "plain", "resnet"}
HEAVY = ("tensorflow", "keras", "tensorflow_datasets")


def part_of(path: Path) -> str:
    name = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "tiedexp" if name == "__init__" else name


def imports_of(path: Path) -> set[str]:
    """Full names of all modules that a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_imports_point_one_way(part):
    files = [path for path in PACKAGE.rglob("*.py") if part_of(path) == part]
    assert files
    for path in files:
        ours = {name.split(".")[1] for name in imports_of(path) if name.startswith("tiedexp.")}
        assert ours - {part} <= MAY_IMPORT[part], path


def test_every_part_has_its_rule():
    parts = {part_of(path) for path in PACKAGE.rglob("*.py")}
    assert parts == {*MAY_IMPORT, "cli", "tiedexp"}


def test_patterns_need_numpy_alone():
    for path in (PACKAGE / "patterns").glob("*.py"):
        outside = {name.split(".")[0] for name in imports_of(path)} - set(sys.stdlib_module_names)
        assert outside <= {"numpy", "tiedexp"}, path


def test_commands_import_nothing_heavy_before_they_run():
    """At the top of their modules: typer, the standard library, and small modules of ours."""
    views = {"console.py", "train_view.py", "sweep_view.py"}  # imported by commands when they run
    for path in (PACKAGE / "cli").glob("*.py"):
        if path.name in views:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                ours = ("cli", "cli.options", "cli.printing", "errors", "signals", "terminal")
                allowed = {"typer", "tiedexp", *(f"tiedexp.{part}" for part in ours)}
                assert module.split(".")[0] in sys.stdlib_module_names or module in allowed, (path, module)


def test_the_engine_plans_and_builds_without_tensorflow():
    for path in (PACKAGE / "convolution").rglob("*.py"):
        heavy = {name.split(".")[0] for name in imports_of(path)} & set(HEAVY)
        inside = {name.split(".")[2] for name in imports_of(path) if name.startswith("tiedexp.convolution.")}
        loads = bool(heavy or inside & MAY_LOAD_TENSORFLOW)
        assert loads == (path.stem in MAY_LOAD_TENSORFLOW), path


def test_models_are_planned_without_keras():
    """So a spec may import the table of families, and nothing else of the models."""
    for path in (PACKAGE / "models").glob("*.py"):
        names = imports_of(path)
        inside = {name.split(".")[2] for name in names if name.startswith("tiedexp.models.")}
        heavy = {name.split(".")[0] for name in names} & set(HEAVY)
        assert bool(heavy or inside & BUILD_MODELS) == (path.stem in BUILD_MODELS), path
    for path in (PACKAGE / "spec").glob("*.py"):
        assert {name.split(".")[2] for name in imports_of(path) if name.startswith("tiedexp.models.")} <= {"families"}


@pytest.mark.parametrize(
    "code",
    [
        "import tiedexp; assert tiedexp.Pattern.preset('block', 5).num_groups == 9",
        "import tiedexp.convolution.choosing, tiedexp.convolution.cpp.compiler",
        "import tiedexp.experiment.preparation, tiedexp.runs.directory, tiedexp.spec.loading",
        "run('--help')",
        "run('train', '--help')",
        "run('pattern', 'list')",
        "run('pattern', 'show', 'block')",
        "run('schema')",
        "run('validate', spec)",
        "run('data', 'list')",
        "run('init', str(folder / 'new.yaml'))",
        "import tiedexp.compare.page, tiedexp.compare.kernels",
    ],
)
def test_tensorflow_is_not_loaded(code, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("name: a\ndataset: {name: digits}\nmodel: {kernel_size: 5, tying: {pattern: block}}\n")
    script = f"""
import pathlib, sys
folder = pathlib.Path({str(tmp_path)!r})
spec = str(folder / "spec.yaml")
def run(*arguments):
    import tiedexp.cli
    sys.argv = ["tiedexp", *arguments]
    try:
        tiedexp.cli.main()
    except SystemExit as exit:
        assert not exit.code, exit.code
{code}
loaded = set({HEAVY!r}) & sys.modules.keys()
assert not loaded, loaded
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_public_names():
    assert (
        sorted(tiedexp.__all__)
        == tiedexp.__all__
        == [
            "DatasetError",
            "Pattern",
            "PatternError",
            "Run",
            "RunError",
            "RunInterruptedError",
            "SpecError",
            "TiedConv2D",
            "TiedDepthwiseConv2D",
            "TiedexpError",
            "load_model",
            "load_run",
            "tie",
            "untie",
        ]
    )
    for name in tiedexp.__all__:
        assert getattr(tiedexp, name).__name__ == name
        assert name in dir(tiedexp)
    with pytest.raises(AttributeError, match="no attribute 'Tied'"):
        _ = tiedexp.Tied
