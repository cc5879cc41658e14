"""A file is written as a whole or not at all."""

from __future__ import annotations

import pytest

from tiedexp.files.atomic import replace_file, write_text


def test_text_is_written_and_replaced(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "é")
    write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def write_half() -> None:
        with replace_file(path, suffix=".h5") as unfinished:
            assert unfinished.name.endswith(".h5")
            assert unfinished.parent == tmp_path
            unfinished.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_with_the_name_of_the_temporary_file_is_not_followed(tmp_path):
    (tmp_path / "outside").write_text("theirs")
    with replace_file(tmp_path / "file") as unfinished:
        unfinished.touch()
    (tmp_path / unfinished.name).symlink_to(tmp_path / "outside")
    write_text(tmp_path / "file", "ours")
    assert (tmp_path / "file").read_text() == "ours"
    assert (tmp_path / "outside").read_text() == "theirs"
