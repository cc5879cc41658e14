"""What a run's first convolution has learnt, beside its pattern. No TensorFlow: the weights are read from the file.

Nothing of a run's start is kept, so kernels are shown as they are at the best epoch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.drawing import draw_kernels
from tiedexp.errors import PatternError, RunError
from tiedexp.patterns.grid import Pattern
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import Manifest
from tiedexp.training.weights_file import read_array

_TIED, _UNTIED = "layers/tied_conv2d/vars/0", "layers/conv2d/vars/0"


def draw_first_kernels(run: RunDirectory, title: str) -> bytes:
    """A PNG of the first tied convolution, or of the first one of a model without.

    Raises:
        RunError: the pattern or the weights cannot be read; names the run.
    """
    manifest = run.read_manifest()
    pattern = find_first_pattern(manifest, run)
    name = f"checkpoints/epoch-{run.read_result_record().best_epoch:04d}.weights.h5"
    weights = np.array(read_array(run.inside(name), [_TIED if manifest.patterns else _UNTIED]), dtype=np.float64)
    return draw_kernels(pattern, expand_kernel(pattern, weights, run), title)


def find_first_pattern(manifest: Manifest, run: RunDirectory) -> Pattern:
    """The pattern of the first tied convolution; the full one of a model without.

    Raises:
        RunError: the spec in the manifest does not say.
    """
    model = manifest.spec.get("model")
    if not isinstance(model, dict):
        raise RunError(f"{run.path / 'manifest.json'} does not say what the kernels are: no model in the spec")
    tying = model.get("tying")
    written: Any = tying.get("pattern") if isinstance(tying, dict) and manifest.patterns else "full"
    try:
        for value in written if isinstance(written, list) else [written]:
            pattern = Pattern.of(value, model.get("kernel_size"))
            if not manifest.patterns or pattern.digest == next(iter(manifest.patterns.values())):
                return pattern
    except (PatternError, TypeError) as error:
        raise RunError(f"{run.path / 'manifest.json'} does not say what the kernels are: {error}") from error
    raise RunError(f"{run.path / 'manifest.json'} does not say what the kernels are: its patterns disagree")


def expand_kernel(pattern: Pattern, weights: npt.NDArray[Any], run: RunDirectory) -> npt.NDArray[Any]:
    """Free weights (groups, channels, filters), or a kernel (rows, cols, channels, filters), as a kernel.

    Raises:
        RunError: the weights are not of this pattern.
    """
    if weights.ndim == 3 and weights.shape[0] == pattern.num_groups and weights.size:
        return pattern.expand(weights)
    if weights.ndim == 4 and weights.shape[:2] == pattern.shape and weights.size:
        return weights
    raise RunError(f"the first kernel of {run.path} has shape {weights.shape}, which is not of its pattern")
