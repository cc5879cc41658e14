"""Versions of packages, also of those that other packages bring."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import pytest

from tiedexp.installed import find_version_of


def test_a_package():
    assert find_version_of("numpy") == version("numpy")


def test_a_package_that_takes_the_place_of_another(tmp_path, monkeypatch):
    """As tensorflow-cpu, which is imported as tensorflow."""
    information = tmp_path / "tensorthing_cpu-2.21.5.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorthing-cpu\nVersion: 2.21.5\n")
    (information / "top_level.txt").write_text("tensorthing\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert find_version_of("tensorthing") == "2.21.5"


def test_a_package_that_is_missing():
    with pytest.raises(PackageNotFoundError):
        find_version_of("no_such_package")
