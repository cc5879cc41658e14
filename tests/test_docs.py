"""What the README and the documentation say is true: their code runs, their commands and specs are valid."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from documents import (
    DOCUMENTS,
    PAGES,
    ROOT,
    check_command,
    find_blocks,
    find_commands,
    list_commands,
    list_options,
)
from pydantic import BaseModel

from tiedexp import errors
from tiedexp.cli import init
from tiedexp.data import kind as dataset_kind
from tiedexp.data import sources
from tiedexp.models import families
from tiedexp.patterns import presets
from tiedexp.patterns.grid import Pattern
from tiedexp.patterns.presets import PRESETS
from tiedexp.spec import optimizers
from tiedexp.spec.loading import load_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.variants import load_sweep


def load_hooks():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if find_blocks(name, "python")])
def test_python_in_a_document_runs(document, tmp_path, monkeypatch):
    """The blocks of a document are run in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    scope = {}
    for code in find_blocks(document, "python"):
        exec(compile(code, document, "exec"), scope)


@pytest.mark.parametrize(("document", "line"), [(name, line) for name in DOCUMENTS for line in find_commands(name)])
def test_commands_and_their_options_exist(document, line):
    check_command(line)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_options_that_a_text_names_exist(document):
    of_programs = {"--writes", "--kills", "--inputs", "--data-dir"}
    text = DOCUMENTS[document].read_text(encoding="utf-8")
    assert set(re.findall(r"`[^`\n]*?(--[a-z-]+)", text)) <= list_options() | of_programs


def test_every_command_is_in_the_documentation():
    text = (PAGES / "index.md").read_text(encoding="utf-8")
    assert [name for name in list_commands() if f"`tiedexp {name}`" not in text] == []


@pytest.mark.parametrize(
    ("document", "text"), [(name, text) for name in DOCUMENTS for text in find_blocks(name, "yaml")]
)
def test_specs_and_sweeps_are_valid(document, text, tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    content = yaml.safe_load(text)
    if "base" in content:
        load_sweep(path)
        return
    if "extends" in content:
        (tmp_path / content["extends"]).write_text("name: parent\ndataset: {name: digits}\n")
    load_spec(path)


def test_the_first_commands_work_as_written(tmp_path):
    """Those of "getting started" from the first run to the first own experiment, in order, with short trainings."""
    text = (PAGES / "index.md").read_text(encoding="utf-8")
    part = text[text.index("## Your first run") : text.index("## Many experiments")]
    lines = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert any(line.startswith("tiedexp train experiment.yaml") for line in lines)
    short = [f"{line.partition('  #')[0]} training.epochs=1" if " train " in line else line for line in lines]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    script = "\n".join(["set -e", f'tiedexp() {{ {shlex.quote(sys.executable)} -m tiedexp "$@"; }}', *short])
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len([*tmp_path.glob("runs/*/seed-*/result.json")]) == 3
    assert (tmp_path / "experiment.yaml").is_file()


def test_the_first_mistake_gives_the_message_as_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    init.init()
    spec = tmp_path / "experiment.yaml"
    spec.write_text(spec.read_text().replace("  epochs:", "  epoch:"))
    with pytest.raises(errors.SpecError) as caught:
        load_spec(Path("experiment.yaml"))
    for page in ("index.md", "specs.md"):
        assert f"\nerror: {caught.value}\n" in (PAGES / page).read_text(encoding="utf-8")


def test_what_contributing_adds_is_code():
    """Each example is run where it belongs: in the names of its module."""
    family, optimizer, dataset, preset = find_blocks("CONTRIBUTING.md", "py")
    scope = {**vars(families), "count_vgg_convs": len, "plan_vgg": len}
    assert eval(f"{{{family}}}", scope)["vgg"].options == ()
    exec(optimizer, scope := dict(vars(optimizers)))
    assert scope["AdamaxSpec"](name="adamax").options() == {"weight_decay": 0.0, "beta_2": 0.999}
    exec(dataset, scope := {**vars(sources), **vars(dataset_kind)})
    assert scope["KINDS"].keys() == sources.KINDS.keys() | {"stripes"}
    exec(preset, scope := dict(vars(presets)))
    assert Pattern(*scope["stripes"](3, 2, every=2)) == Pattern.parse("AA/AA/BB")


def test_contributing_names_every_program_that_measures():
    text = DOCUMENTS["CONTRIBUTING.md"].read_text(encoding="utf-8")
    programs = [*(ROOT / "experiments").glob("benchmarks/*.py"), *(ROOT / "experiments").glob("faults/*.py")]
    assert [path.name for path in programs if path.name not in text] == ["turns.py"]  # which the others import


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = DOCUMENTS[document]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_program_that_documents_name_exists():
    for document, path in DOCUMENTS.items():
        for program in re.findall(r"(?:experiments|tests)/[\w/]+\.py", path.read_text(encoding="utf-8")):
            assert (ROOT / program).is_file(), (document, program)


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    assert sorted(re.findall(r": (\w+\.md)", navigation)) == sorted(page.name for page in PAGES.glob("*.md"))


def test_the_reference_of_specs_has_every_key():
    reference = load_hooks().list_spec_keys()

    def keys(model, prefix=""):
        for name, field in model.model_fields.items():
            yield f"{prefix}{name}"
            for kind in re.findall(r"tiedexp\.spec\.(\w+)\.(\w+)", repr(field.annotation)):
                nested = vars(sys.modules[f"tiedexp.spec.{kind[0]}"])[kind[1]]
                if issubclass(nested, BaseModel) and nested.__name__ != "PatternOptions":
                    yield from keys(nested, f"{prefix}{name}.")

    wanted = set(keys(ExperimentSpec))
    assert {"training.optimizer.nesterov", "training.schedule.final", "model.tying.layers"} <= wanted
    assert {key for key in wanted if f"| `{key}` |" not in reference} == set()
    rows = [line for line in reference.splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.endswith("|  |")] == []  # every key has a meaning


def test_the_page_of_patterns_has_every_preset():
    cards = load_hooks().draw_presets()
    for name, preset in PRESETS.items():
        assert f"<code>{name}</code>" in cards, name
        assert preset.meaning in re.sub(r"</?code>", "`", cards)
    assert cards.count("<svg") == len(PRESETS)


def test_the_picture_of_the_architecture_has_every_package():
    packages = {path.parent.name for path in (ROOT / "tiedexp").glob("*/__init__.py")}
    left_out = {"files", "drawing"}  # used everywhere
    hooks = load_hooks()
    assert hooks.ROOMS.keys() == packages - left_out
    arrows = hooks.find_arrows()
    assert ("patterns", "convolution") in arrows
    assert ("patterns", "layers") not in arrows  # follows from the others
    assert [arrow for arrow in arrows if hooks.ROOMS[arrow[0]][1] >= hooks.ROOMS[arrow[1]][1]] == []  # all downwards
    table = (PAGES / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in packages if f"| `{name}` |" not in table] == []


def test_the_table_of_errors_has_every_error():
    table = load_hooks().list_errors()
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 5
    for kind in kinds:
        assert f"`{kind.__name__}` | {kind.exit_code} |" in table


def test_nothing_is_left_to_fill_in():
    for path in DOCUMENTS.values():
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8")), path


def test_the_readme_is_short():
    assert len(Path(ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
