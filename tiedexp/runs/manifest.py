"""What a run was made with: versions, commit and machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tiedexp.host import find_processor
from tiedexp.installed import find_version_of
from tiedexp.runs.records import Environment, Manifest
from tiedexp.terminal import clean_text

MANIFEST_FORMAT = 1
CHANGED = "+changes"
NUMERIC_PACKAGES = ("tiedexp", "tensorflow", "keras", "numpy", "scipy", "scikit-learn")
PACKAGES = (*NUMERIC_PACKAGES, "tensorflow-datasets")
COMPILED = "compiled convolution"  # the version of the code in `tiedexp.convolution.cpp`, if the run uses it


def describe_environment(compiled: str | None = None) -> Environment:
    """This process, its versions and its machine.

    Args:
        compiled: the version of the compiled convolution; None if the run does not use it.
    """
    versions = {"python": platform.python_version(), **{name: find_version_of(name) for name in PACKAGES}}
    if compiled is not None:
        versions[COMPILED] = compiled
    return Environment(
        format=MANIFEST_FORMAT,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=(Path(sys.argv[0]).name, *sys.argv[1:]),
        versions=versions,
        commit=find_commit(Path(__file__).parent),
        host=platform.node(),
        system=platform.platform(),
        processor=find_processor(),
        pid=os.getpid(),
    )


def find_differences(before: Manifest, now: Manifest) -> tuple[str, ...]:
    """What can change the numbers of a run of the same spec, e.g. `tensorflow 2.21.1 in place of 2.21.0`."""
    pairs: list[tuple[str, Any, Any]] = [
        (name, before.versions.get(name), now.versions.get(name)) for name in ("python", *NUMERIC_PACKAGES, COMPILED)
    ]
    old_commit, new_commit = ((commit or "none").removesuffix(CHANGED) for commit in (before.commit, now.commit))
    pairs += [("tiedexp at commit", old_commit, new_commit)]
    pairs += [("processor", before.processor, now.processor), ("device", before.device, now.device)]
    pairs += [("replicas", before.replicas, now.replicas), ("threads", before.threads, now.threads)]
    pairs += [("deterministic", before.deterministic, now.deterministic)]
    return tuple(clean_text(f"{name} {new} in place of {old}") for name, old, new in pairs if old != new)


def find_commit(directory: Path) -> str | None:
    """The git commit that a directory is checked out at, plus "+changes" if files differ from it; None without git."""
    # A package in a virtual environment inside somebody's repository does not belong to that repository.
    if "site-packages" in directory.parts:
        return None
    try:
        describe = ["describe", "--always", "--abbrev=40", "--exclude=*", f"--dirty={CHANGED}"]
        answer = subprocess.run(
            ["git", "-C", str(directory), *describe], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
