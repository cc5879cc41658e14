"""`tiedexp init`: the starter spec is valid, says the truth about defaults, and overwrites nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tiedexp.cli.init import SCHEMA_NAME, build_starter, init
from tiedexp.errors import SpecError
from tiedexp.patterns.grid import Pattern
from tiedexp.spec.loading import build_json_schema, load_spec
from tiedexp.spec.schema import ExperimentSpec

OPTIONAL_KEY = re.compile(r"^( *)# ([a-z_0-9]+: +\S.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(init)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_starter_is_a_valid_spec_that_points_editors_to_the_schema_beside_it() -> None:
    assert "tiedexp train experiment.yaml" in run()
    spec = load_spec("experiment.yaml")
    assert (spec.name, spec.dataset.name) == ("experiment", "digits")
    assert spec.model.conv_patterns() == (Pattern.preset("block", 5),) * 4  # as its comment says
    first = Path("experiment.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={SCHEMA_NAME}"
    assert json.loads(Path(SCHEMA_NAME).read_text()) == build_json_schema()


def test_every_commented_key_stands_at_its_default() -> None:
    text = build_starter(Path("a.yaml"), "digits")
    Path("a.yaml").write_text(text)
    uncommented, count = OPTIONAL_KEY.subn(r"\1\2", text)
    assert count > 25
    Path("b.yaml").write_text(uncommented)
    assert load_spec("b.yaml") == load_spec("a.yaml")


def test_every_key_of_a_spec_is_in_the_starter() -> None:
    text = build_starter(Path("a.yaml"), "folder")
    spec = ExperimentSpec.model_validate({"name": "a", "dataset": {"name": "digits"}})
    sections = [spec, spec.dataset, spec.model, spec.training, spec.training.augmentation, spec.tensorboard]
    for section in sections:
        for key in type(section).model_fields:
            assert re.search(rf"^ *(# )?{key}:", text, re.MULTILINE), key


@pytest.mark.parametrize("dataset", ["digits", "mnist", "emnist/letters", "folder", "npz"])
def test_the_starter_is_valid_for_every_kind_of_dataset(dataset: str) -> None:
    run("new/dir/my-first spec.yaml", "--dataset", dataset)
    spec = load_spec("new/dir/my-first spec.yaml")
    assert (spec.name, spec.dataset.name) == ("my-first-spec", dataset)
    assert Path("new/dir", SCHEMA_NAME).is_file()


@pytest.mark.parametrize("name", ["1e3", "null", "...", "-x-", "été", "a\nb: c", "n" * 200])
def test_the_name_of_any_file_gives_a_valid_name(name: str) -> None:
    Path("a.yaml").write_text(build_starter(Path(f"{name}.yaml"), "digits"), encoding="utf-8")
    assert load_spec("a.yaml").name


def test_a_file_that_is_there_is_kept_unless_forced() -> None:
    Path("experiment.yaml").write_text("precious")
    with pytest.raises(SpecError, match=r"experiment\.yaml already exists; .* --force"):
        run()
    assert Path("experiment.yaml").read_text() == "precious"
    assert not Path(SCHEMA_NAME).exists()
    run("--force")
    assert load_spec("experiment.yaml").name == "experiment"


@pytest.mark.parametrize("dataset", ["", "a: b", "x\ny", "null", "{}", "../x"])
def test_what_is_no_name_of_a_dataset_is_refused_and_nothing_written(dataset: str) -> None:
    with pytest.raises(SpecError, match="--dataset must be the name of a dataset, "):
        run("--dataset", dataset)
    assert list(Path().iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_message() -> None:
    Path("file").write_text("")
    with pytest.raises(SpecError, match=r"file/a\.yaml: cannot be written: "):
        run("file/a.yaml")
