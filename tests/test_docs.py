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
from documents import DOCUMENTS, PAGES, ROOT, check_command, find_blocks, find_commands, list_commands
from pydantic import BaseModel

from tiedexp.patterns.presets import PRESETS
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
        assert preset.meaning.split("'")[0].split("<")[0] in cards
    assert cards.count("<svg") == len(PRESETS)


def test_the_picture_of_the_architecture_has_every_package():
    packages = {path.parent.name for path in (ROOT / "tiedexp").glob("*/__init__.py")}
    left_out = {"files", "drawing"}  # used everywhere
    assert load_hooks().ROOMS.keys() == packages - left_out
    table = (PAGES / "architecture.md").read_text(encoding="utf-8")
    assert [name for name in packages if f"| `{name}` |" not in table] == []


def test_nothing_is_left_to_fill_in():
    for path in DOCUMENTS.values():
        assert not re.search(r"\b(TODO|FIXME|XXX)\b", path.read_text(encoding="utf-8")), path


def test_the_readme_is_short():
    assert len(Path(ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
