"""Where pictures can be written is known before there is one."""

from __future__ import annotations

import os

import pytest

from tiedexp.cli.pictures import check_picture, write_picture
from tiedexp.errors import SpecError


def test_a_path_that_can_be_written_is_left_as_it_is(tmp_path):
    check_picture(tmp_path / "new.png")
    assert list(tmp_path.iterdir()) == []
    write_picture(tmp_path / "new.png", b"old")
    check_picture(tmp_path / "new.png")
    assert (tmp_path / "new.png").read_bytes() == b"old"


def test_paths_that_cannot(tmp_path, monkeypatch):
    with pytest.raises(SpecError, match="it is a directory"):
        check_picture(tmp_path)
    with pytest.raises(SpecError, match=r"there is no directory .*/no"):
        check_picture(tmp_path / "no" / "a.png")
    with pytest.raises(SpecError, match=r"cannot be written to .*a.png: No such file"):
        write_picture(tmp_path / "no" / "a.png", b"")
    asked = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append((path, mode)))
    with pytest.raises(SpecError, match="permission denied"):
        check_picture(tmp_path / "a.png")
    assert asked == [(tmp_path, os.W_OK)]
