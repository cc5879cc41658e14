"""`tiedexp doctor`: a sound installation, and what it says of one that is not."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

from tiedexp.convolution.cpp import library


def test_all_is_well_here(tiedexp_cli, tmp_path):
    answer = tiedexp_cli("doctor", "--data-dir", tmp_path)
    assert answer.code == 0, answer.out
    for text in (
        "tensorflow",
        "keras",
        "GPUs",
        "compiled   ",
        "accuracy   a tied layer and the standard one differ by",
        "nothing prepared",
        "No problems found.",
    ):
        assert text in answer.out


def test_why_nothing_is_compiled(tmp_path):
    """In a process of its own, since one compiles once."""
    environment = {**os.environ, "TIEDEXP_NATIVE": "0", "COLUMNS": "200"}
    code = "from tiedexp.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], env=environment, capture_output=True, text=True, check=True
    )
    assert "compiled   nothing: TIEDEXP_NATIVE=0 is set" in done.stdout
    assert "No problems found." in done.stdout


def test_another_backend_of_keras_is_a_problem():
    code = "from tiedexp.cli import main; main()"
    environment = {**os.environ, "KERAS_BACKEND": "torch", "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert (
        "problem  tiedexp needs the TensorFlow backend of Keras, but the environment variable KERAS_BACKEND"
        in done.stdout
    )


def test_compiled_code_that_does_not_load(tiedexp_cli, tmp_path, monkeypatch):
    compiler = tmp_path / "c++"
    compiler.write_text(
        '#!/bin/sh\ncase " $* " in *" -E "*) exit;; esac\nwhile test "$1" != -o; do shift; done\necho junk > "$2"\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(library, "load_library", library.load_library.__wrapped__)
    answer = tiedexp_cli("doctor")
    text = r"compiled   nothing: \S+/tiedexp/convolution-\w+\.so was compiled but does not load: "
    assert re.search(text, answer.out)
    assert answer.code == 0


def test_another_distribution_of_tensorflow(tiedexp_cli, monkeypatch):
    """As tensorflow-cpu, which is imported as tensorflow."""
    real = importlib.metadata.version

    def version(name):
        if name == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(name)
        return real("tensorflow" if name == "tensorflow-cpu" else name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"tensorflow": ["tensorflow-cpu"]})
    answer = tiedexp_cli("doctor")
    assert "is not installed" not in answer.out
    assert "No problems found." in answer.out


def test_a_wrong_version_and_a_missing_package(tiedexp_cli, monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "typer":
            raise importlib.metadata.PackageNotFoundError(name)
        return "3.0.0" if name == "keras" else real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    answer = tiedexp_cli("doctor")
    assert answer.code == 1
    assert "typer is not installed: pip install" in answer.out
    assert "keras 3.0.0 is installed, but " in answer.out


def test_a_cluster_configuration_is_noticed(tiedexp_cli, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    answer = tiedexp_cli("doctor")
    assert answer.code == 1
    assert "training across several machines is not supported" in answer.out


def test_a_tensorflow_that_does_not_load_is_said_by_doctor_and_train(small_spec, tmp_path):
    (tmp_path / "broken" / "tensorflow").mkdir(parents=True)
    (tmp_path / "broken" / "tensorflow" / "__init__.py").write_text("import libtensorflow_that_is_not_there")
    path = os.pathsep.join([str(tmp_path / "broken"), os.environ.get("PYTHONPATH", "")])
    message = "TensorFlow cannot be imported: No module named 'libtensorflow_that_is_not_there'"
    for arguments in (["doctor"], ["train", small_spec]):
        done = subprocess.run(
            [sys.executable, "-c", "from tiedexp.cli import main; main()", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert message in (done.stdout if arguments == ["doctor"] else done.stderr)
        assert "Traceback" not in done.stderr


def test_a_tiedexp_that_is_not_installed(tiedexp_cli, monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    monkeypatch.setattr(importlib.metadata, "version", missing)
    answer = tiedexp_cli("doctor")
    assert answer.code == 1
    assert "tiedexp is not installed: pip install 'tiedexp'" in answer.out


def test_brackets_are_printed_as_they_are(tiedexp_cli, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.which", lambda name: "/bin/nvidia-smi")
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda kind: [])
    (tmp_path / "[red]data").mkdir()
    answer = tiedexp_cli("doctor", "--data-dir", tmp_path / "[red]data", "--runs", tmp_path / "[bold]runs")
    assert "pip install 'tiedexp[gpu]'" in answer.out
    assert f"in {tmp_path}/[red]data: nothing prepared" in answer.out
    assert f"{tmp_path}/[bold]runs (does not exist yet)" in answer.out


def test_a_data_directory_that_is_not_there(tiedexp_cli, monkeypatch, tmp_path):
    answer = tiedexp_cli("doctor", "--data-dir", tmp_path / "nowhere")
    assert answer.code == 1
    assert f"--data-dir is {tmp_path}/nowhere, which is not a directory" in answer.out
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "gone"))
    answer = tiedexp_cli("doctor")
    assert answer.code == 1
    assert f"$TFDS_DATA_DIR is {tmp_path}/gone, which is not a directory" in answer.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_data_directory_that_cannot_be_read(tiedexp_cli, tmp_path):
    (tmp_path / "data").mkdir(mode=0o000)
    answer = tiedexp_cli("doctor", "--data-dir", tmp_path / "data")
    assert answer.code == 1
    assert "cannot be read" in answer.out
