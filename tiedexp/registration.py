"""Registers the layers of tiedexp with Keras, so that Keras can load models that contain them.

Keras finds a class by its registered name and does not import other packages to look for it. So `import tiedexp`
registers the layers: immediately if Keras is already loaded, otherwise right after Keras is imported, because that
import takes seconds and most commands do not need it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from tiedexp.backend import NEEDED, find_backend


def register_with_keras() -> None:
    """Register the layers now if Keras is loaded, otherwise right after it is imported."""
    if "keras" in sys.modules:
        _register()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _register() -> None:
    """Import the layers. If that fails, using a layer raises an error that says why."""
    if find_backend()[0] == NEEDED:
        with suppress(ImportError):
            import_module("tiedexp.layers")


class _KerasFinder:
    """An import hook that finds Keras with the other finders, registers the layers after the import, and is removed."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """The module specification of Keras, with a loader that also registers the layers; None for other modules."""
        if name != "keras":
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        specs = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec)
        return spec

    def _watch(self, spec: ModuleSpec) -> None:
        """Replace the loader, which others can share, by a copy that registers the layers after the import."""
        loader: Any = copy(spec.loader)
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            with suppress(ValueError):  # another thread has already removed it
                sys.meta_path.remove(self)
            _register()

        with suppress(AttributeError):  # a loader that cannot be changed: Keras is imported as usual
            loader.exec_module = execute_and_register
            spec.loader = loader
