"""Versions of installed packages."""

from __future__ import annotations

from importlib import metadata


def find_version_of(name: str) -> str:
    """The version of a package, or of another package that provides it, e.g. tensorflow-cpu for tensorflow.

    Raises:
        PackageNotFoundError: no such package is installed.
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        providers = metadata.packages_distributions().get(name)
        if not providers:
            raise
        return metadata.version(providers[0])
