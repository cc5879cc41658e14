"""Options of presets: declared once, in the signature of the preset's function, and read from there everywhere."""

from __future__ import annotations

import subprocess
import sys
from typing import Annotated

import numpy as np
import pytest

from tiedexp.patterns import presets
from tiedexp.patterns.presets import PATTERN, PRESETS, SIZE, TRUTH, WHOLE, Option, Preset, collect_options


def test_the_options_of_all_presets():
    """In the order of the keys of a spec."""
    found = {name: (option.kind, takers) for name, (option, takers) in collect_options().items()}
    assert list(found.items()) == [
        ("blocks", (WHOLE, ["block"])),
        ("tile", (SIZE, ["tile"])),
        ("radius", (WHOLE, ["centre_surround"])),
        ("rate", (WHOLE, ["atrous"])),
        ("centre", (TRUTH, ["causal"])),
        ("groups", (WHOLE, ["hashed"])),
        ("seed", (WHOLE, ["hashed", "random_like"])),
        ("of", (PATTERN, ["random_like"])),
    ]


@pytest.mark.parametrize(
    ("preset", "option", "text", "value"),
    [
        ("hashed", "groups", "9", 9),
        ("hashed", "groups", "nine", "nine"),
        ("hashed", "groups", "true", "true"),
        ("hashed", "other", "9", "9"),
        ("causal", "centre", "false", False),
        ("causal", "centre", "no", "no"),
        ("tile", "tile", "3", 3),
        ("tile", "tile", "1x3", (1, 3)),
        ("tile", "tile", "1X3", (1, 3)),
        ("tile", "tile", "1x", "1x"),
        ("random_like", "of", "AB/CD", "AB/CD"),
    ],
)
def test_an_option_on_a_command_line(preset, option, text, value):
    parsed = PRESETS[preset].parse_option(option, text)
    assert (type(parsed), parsed) == (type(value), value)


def test_an_option_without_a_declaration_is_refused_at_once():
    def lines(rows: int, cols: int, *, every: int = 2) -> presets.Cells:
        return np.indices((rows, cols))[0] // every, None

    with pytest.raises(TypeError, match=r"lines: declare the option `every` as Annotated\[..., Option\(...\)\]"):
        Preset(lines, "lines", "a test")


def test_two_presets_must_agree_on_an_option(monkeypatch):
    def lines(rows: int, cols: int, *, seed: Annotated[int, Option("something else")] = 2) -> presets.Cells:
        return np.indices((rows, cols))[0] // seed, None

    monkeypatch.setitem(PRESETS, "lines", Preset(lines, "lines", "a test"))
    with pytest.raises(TypeError, match="hashed, random_like and lines declare the option `seed` differently"):
        collect_options()


NEW_PRESET = """
import pathlib, sys
from typing import Annotated
import numpy as np
from tiedexp.patterns import presets
from tiedexp.patterns.presets import PATTERN, PRESETS, Option, Preset

def lines(
    rows: int,
    cols: int,
    *,
    every: Annotated[int, Option("rows that share a weight", at_least=1)] = 2,
    corner: Annotated[object, Option("the pattern whose first sign to use", PATTERN, default="full")],
) -> presets.Cells:
    return np.indices((rows, cols))[0] // every, np.full((rows, cols), corner.sign[0, 0])

PRESETS["lines"] = Preset(lines, "one weight for several rows", "a test")

def run(*arguments):
    import tiedexp.cli
    sys.argv = ["tiedexp", *arguments]
    try:
        tiedexp.cli.main()
    except SystemExit as ended:
        print("exit code", ended.code or 0)

def write(pattern):
    model = f"{{kernel_size: 3, depth: 1, tying: {{pattern: {pattern}}}}}"
    pathlib.Path("spec.yaml").write_text(f"name: a\\ndataset: {{name: digits}}\\nmodel: {model}\\n")
    return "spec.yaml"

def load(pattern, *overrides):
    from tiedexp.spec.loading import load_spec
    return load_spec(write(pattern), overrides).model
"""
# Code, and what it must print.
USES = [
    ("import tiedexp; print(tiedexp.Pattern.preset('lines', 3, every=3))", ["AAA/AAA/AAA"]),
    ("print(tiedexp.Pattern.preset('lines', (3, 2)))", ["AA/AA/BB"]),
    ("run('pattern', 'list')", ["lines", "corner, every", "one weight for several rows"]),
    ("run('pattern', 'show', 'lines', 'every=1', 'corner=d4', '--size', '2')", ["grid          AA/BB"]),
    ("run('pattern', 'show', 'lines', 'every=x')", ["`every` must be a whole number. Received: 'x'", "exit code 2"]),
    ("run('schema')", ['"description": "Option of lines: rows that share a weight; if left out,', '"minimum": 1']),
    ("run('validate', write('{preset: lines, every: 1}'), '--json')", ["AAA/BBB/CCC"]),
    ("run('validate', write('{preset: lines, every: 0}'))", ["pattern.every: must be", "Received: 0", "exit code 2"]),
    ("run('validate', write('{preset: block, every: 1}'))", ["the preset 'block' has no option 'every'"]),
    ("run('validate', write('{preset: lines, corner: {preset: hashed, groups: 2}}'), '--json')", ["AAA/AAA/BBB"]),
    (
        "from tiedexp.experiment.preparation import name_pattern\n"
        "print(name_pattern(load('{preset: lines, every: 3}')))",
        ["lines(every=3)"],
    ),
    (
        "value = '{preset: lines, corner: {preset: hashed, groups: 2}}'\n"
        "print(load(value, 'model.tying.pattern.corner.preset=rings').tying.pattern.options())",
        ["{'preset': 'lines', 'corner': {'preset': 'rings'}}"],
    ),
]


def test_a_preset_with_options_needs_its_function_and_a_row_of_the_table(tmp_path):
    """In another process, because the keys of a spec are made from the table at import."""
    code = NEW_PRESET + "".join(f"\nprint('---', flush=True)\n{use}\nsys.stdout.flush()" for use, _ in USES)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for (_, expected), printed in zip(USES, done.stdout.split("---\n")[1:], strict=True):
        for text in expected:
            assert text in printed
