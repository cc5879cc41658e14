"""Makes Keras know the layers of tiedexp, so that it loads models which have them.

Keras looks up a class by the name that it was registered under, and imports no module of others to find it. So
`import tiedexp` registers the layers: at once if Keras is loaded already, otherwise as soon as it is, because importing
Keras takes seconds that most commands do not need.
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
    """Register the layers now if Keras is loaded, otherwise right after its import."""
    if "keras" in sys.modules:
        _register()
    elif not any(isinstance(finder, _KerasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _KerasFinder())


def _register() -> None:
    """Import the layers; where that is not possible, whoever uses one is told why."""
    if find_backend()[0] == NEEDED:
        with suppress(ImportError):
            import_module("tiedexp.layers")


class _KerasFinder:
    """Finds Keras as the finders after it do, and registers the layers once it has been imported; then it is gone."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        """The module specification of Keras, whose loader registers the layers at the end; None for all else."""
        if name != "keras":
            return None
        finders = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        specs = (finder.find_spec(name, path, target) for finder in finders)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec)
        return spec

    def _watch(self, spec: ModuleSpec) -> None:
        """Let a copy of the loader, which others may share, register the layers after it has executed the module."""
        loader: Any = copy(spec.loader)
        execute = loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            with suppress(ValueError):  # another thread has imported it
                sys.meta_path.remove(self)
            _register()

        with suppress(AttributeError):  # a loader that cannot be changed: then Keras is imported as ever
            loader.exec_module = execute_and_register
            spec.loader = loader
