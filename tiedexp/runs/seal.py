"""Telling a user's own runs from those of others, which must not choose the data that is opened.

A run directory can come from anywhere, so what it says about its data is only a claim. Training therefore leaves a seal
in the run: a keyed hash (HMAC-SHA256, RFC 2104) of the run's own path and of the data it was trained on. The key is
random, made when it is first needed, and stored outside all runs in `$XDG_STATE_HOME/tiedexp`
(`~/.local/state/tiedexp`), where only the user may read it. So nobody else can make a seal, a changed data path breaks
it, and it is not valid for a copy of the run at another path. A run without a valid seal is treated as a stranger's.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import stat
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from tiedexp.errors import RunError
from tiedexp.files.atomic import write_text
from tiedexp.files.bounded import read_text
from tiedexp.runs.contents import SEAL
from tiedexp.runs.directory import RunDirectory

KEY_BYTES = 32
_MAX_SEAL = 256  # bytes; a seal has 64


def write_seal(run: RunDirectory, name: str, path: Path | None, data_dir: Path | None) -> None:
    """Record in a run that this user trained it on this data; without a key, the run gets no seal.

    Args:
        run: the run, which this process is training.
        name: the name of the dataset.
        path: the path of the data, for folder and npz; None for other data.
        data_dir: the TFDS data directory of the data; None for other data.
    """
    key = _make_key()
    if key is None:
        run.inside(SEAL).unlink(missing_ok=True)
    else:
        write_text(run.inside(SEAL), _compute_seal(key, run, name, path, data_dir) + "\n")


def has_seal(run: RunDirectory, name: str, path: Path | None, data_dir: Path | None) -> bool:
    """Whether this user trained the run, at this path and on this data; see `write_seal` for the arguments."""
    key = _read_key()
    if key is None:
        return False
    try:
        found = read_text(run.inside(SEAL), _MAX_SEAL, errors="replace").strip()
    except RunError:
        return False
    return hmac.compare_digest(found.encode(), _compute_seal(key, run, name, path, data_dir).encode())


def _compute_seal(key: bytes, run: RunDirectory, name: str, path: Path | None, data_dir: Path | None) -> str:
    locations = [None if location is None else str(location) for location in (path, data_dir)]
    content = json.dumps([os.path.realpath(run.path), name, *locations])
    return hmac.new(key, content.encode(), sha256).hexdigest()


def _find_key() -> Path | None:
    """The file of the key; None without a home directory.

    A relative path is never used: the working directory may be a stranger's.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # which the XDG Base Directory Specification says to ignore
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return state / "tiedexp" / "key" if state.is_absolute() else None


def _read_key() -> bytes | None:
    """The user's key; None if there is none, or if others may read or write its file."""
    path = _find_key()
    if path is None:
        return None
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            is_private = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
            key = file.read(KEY_BYTES + 1) if is_private else b""
    except OSError:
        return None
    return key if len(key) == KEY_BYTES else None


def _make_key() -> bytes | None:
    """The user's key, which is made if there is none; None if it cannot be stored."""
    path = _find_key()
    if path is not None and not path.exists():
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, unfinished = tempfile.mkstemp(dir=path.parent)  # only the user may read it
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(secrets.token_bytes(KEY_BYTES))
                # If another process has made the key in the meantime, that one counts.
                os.link(unfinished, path)
            finally:
                os.unlink(unfinished)  # noqa: PTH108
    return _read_key()
