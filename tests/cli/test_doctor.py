"""`tiedexp doctor`: a sound installation, and what it says of one that is not."""

from __future__ import annotations

import importlib.metadata


def test_all_is_well_here(tiedexp_cli, tmp_path):
    answer = tiedexp_cli("doctor", "--data-dir", tmp_path)
    assert answer.code == 0, answer.out
    for text in (
        "tensorflow",
        "keras",
        "GPUs",
        "tied layer equals the standard one",
        "nothing prepared",
        "Nothing is wrong.",
    ):
        assert text in answer.out


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
    assert "keras 3.0.0 is not one of" in answer.out


def test_a_cluster_configuration_is_noticed(tiedexp_cli, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{}")
    answer = tiedexp_cli("doctor")
    assert answer.code == 1
    assert "training over several machines does not work" in answer.out
