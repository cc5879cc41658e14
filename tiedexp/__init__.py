"""tiedexp: experiments with convolution kernels whose cells share weights by a pattern.

Importing this package loads neither TensorFlow nor Keras: public names are imported when they are first used
(PEP 562). Keras can load models with our layers, whether it is imported before or after this package. `cli` is the
command line; `experiment.run` shows what happens in a training run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tiedexp.registration import register_with_keras

if TYPE_CHECKING:
    from tiedexp.errors import DatasetError, PatternError, RunError, RunInterruptedError, SpecError, TiedexpError
    from tiedexp.experiment.trained import Run, load_run
    from tiedexp.layers.conversion import tie, untie
    from tiedexp.layers.saved_models import load_model
    from tiedexp.layers.tied_conv import TiedConv2D
    from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D
    from tiedexp.patterns.grid import Pattern

__version__ = "0.1.0"

_HOMES = {
    "Pattern": "tiedexp.patterns.grid",
    "TiedConv2D": "tiedexp.layers.tied_conv",
    "TiedDepthwiseConv2D": "tiedexp.layers.tied_depthwise_conv",
    "load_model": "tiedexp.layers.saved_models",
    "Run": "tiedexp.experiment.trained",
    "load_run": "tiedexp.experiment.trained",
    "tie": "tiedexp.layers.conversion",
    "untie": "tiedexp.layers.conversion",
    "TiedexpError": "tiedexp.errors",
    "PatternError": "tiedexp.errors",
    "SpecError": "tiedexp.errors",
    "DatasetError": "tiedexp.errors",
    "RunError": "tiedexp.errors",
    "RunInterruptedError": "tiedexp.errors",
}

__all__ = [
    "DatasetError",
    "Pattern",
    "PatternError",
    "Run",
    "RunError",
    "RunInterruptedError",
    "SpecError",
    "TiedConv2D",
    "TiedDepthwiseConv2D",
    "TiedexpError",
    "load_model",
    "load_run",
    "tie",
    "untie",
]


def __getattr__(name: str) -> Any:
    if name == "layers":
        return import_module("tiedexp.layers")
    if name not in _HOMES:
        raise AttributeError(f"module 'tiedexp' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "layers"})


register_with_keras()
