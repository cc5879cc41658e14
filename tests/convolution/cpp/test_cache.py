"""What may be loaded, and where it may be kept."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tiedexp.convolution.cpp import cache as native_cache
from tiedexp.convolution.cpp.cache import cache_directory, is_sound, list_locations
from tiedexp.convolution.cpp.compiler import build_library

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="compiled only on Linux"),
    pytest.mark.usefixtures("cache"),
]


def _truncate(library: Path) -> None:
    library.write_bytes(library.read_bytes()[:4])


def _flip(library: Path) -> None:
    content = bytearray(library.read_bytes())
    content[2] ^= 1
    library.write_bytes(content)


def _swap(library: Path) -> None:
    """Another library of ours, with its checksum, under this one's name."""
    checksum = library.with_suffix(".sha256")
    checksum.write_text(checksum.read_text().replace(library.name, "convolution-another.so"))


def _link(library: Path) -> None:
    library.rename(library.with_name("elsewhere"))
    library.symlink_to("elsewhere")


DAMAGES = {
    "truncated": _truncate,
    "a flipped bit": _flip,
    "no checksum": lambda library: library.with_suffix(".sha256").unlink(),
    "another library": _swap,
    "a link": _link,
    "the group may write": lambda library: library.chmod(0o770),
    "others may write": lambda library: library.chmod(0o702),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_library_that_is_not_sound_is_compiled_again(damage, fake):
    library = build_library().library
    assert is_sound(library)
    DAMAGES[damage](library)
    assert not is_sound(library)
    assert build_library().library == library
    assert len(fake.calls) == 2
    assert is_sound(library)
    assert not library.is_symlink()
    assert library.read_text() == "library\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_library_of_another_user_is_compiled_again(fake):
    library = build_library().library
    os.chown(library, 12345, -1)
    assert not is_sound(library)
    assert build_library().library == library
    assert library.stat().st_uid == 0
    assert len(fake.calls) == 2


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_nothing_is_taken_from_a_folder_that_others_may_write_to(mode, fake, cache):
    library = build_library().library
    (cache / "choices.json").write_text("{}")
    cache.chmod(mode)
    assert build_library().library == library
    assert len(fake.calls) == 2
    assert cache.stat().st_mode & 0o777 == 0o700
    assert (cache / "choices.json").exists()


def test_a_folder_that_others_may_read_is_kept(fake, cache):
    cache.mkdir(parents=True, mode=0o755)
    assert build_library().library.parent == cache
    assert cache.stat().st_mode & 0o777 == 0o755


def _noexec(monkeypatch, *folders: Path) -> None:
    real = os.statvfs

    def statvfs(path):
        return SimpleNamespace(f_flag=os.ST_NOEXEC) if Path(path) in folders else real(path)

    monkeypatch.setattr(os, "statvfs", statvfs)


def test_a_home_that_does_not_run_programs(fake, cache, tmp_path, monkeypatch):
    other = tmp_path / "temporary" / f"tiedexp-{os.geteuid()}"
    assert list_locations() == [cache, other]
    _noexec(monkeypatch, cache)
    assert build_library().library.parent == other
    assert other.stat().st_mode & 0o777 == 0o700
    assert list(other.parent.iterdir()) == [other]
    _noexec(monkeypatch, cache, other)
    library, obstacle = build_library()
    assert library is None
    text = "is on a file system that does not run programs (noexec)"
    assert obstacle == f"it cannot be stored: {cache} {text}; {other} {text}"


def test_a_cache_that_cannot_be_written(fake, tmp_path):
    (tmp_path / "cache").write_text("a file where a directory would be")
    assert build_library().library.parent.parent == tmp_path / "temporary"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("what", ["folder", "link"])
def test_a_temporary_folder_that_another_user_made(what, fake, tmp_path):
    (tmp_path / "cache").write_text("")
    other = tmp_path / "temporary" / f"tiedexp-{os.geteuid()}"
    if what == "folder":
        other.mkdir()
    else:
        other.symlink_to(tmp_path)
    os.chown(other, 12345, -1, follow_symlinks=False)
    library, obstacle = build_library()
    assert library is None
    assert obstacle.endswith(f"; {other} belongs to another user")
    assert not fake.calls


def test_no_home(fake, tmp_path, monkeypatch):
    """HOME is unset in a container, and no account has the user's number."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()
    assert cache_directory() == tmp_path / "temporary" / f"tiedexp-{os.geteuid()}"
    assert build_library().library.parent == cache_directory()


def test_a_lock_that_a_forked_process_inherited(cache):
    """It is given up, though the other process still has the file open."""
    cache.mkdir(parents=True)
    with native_cache.compile_in(cache):
        descriptor = next(
            int(path.name) for path in Path("/proc/self/fd").iterdir() if os.path.realpath(path) == str(cache / ".lock")
        )
        inherited = os.dup(descriptor)
    try:
        with native_cache.compile_in(cache) as work:
            assert list(work.iterdir()) == []
    finally:
        os.close(inherited)
