"""A run's first convolution before and after training, beside its pattern. Files are read without TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tiedexp.drawing.kernels import draw_kernel_change, draw_kernels
from tiedexp.errors import PatternError, RunError
from tiedexp.patterns.grid import Pattern
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import Manifest
from tiedexp.training.weights_file import FIRST_TIED, FIRST_UNTIED, read_array


def draw_first_kernels(run: RunDirectory, title: str) -> tuple[bytes, str]:
    """Draw the first tied convolution, or the first convolution if none is tied, before training and at the best epoch.

    Returns:
        A PNG, and why it does not show the kernels before training (empty if it does).

    Raises:
        RunError: the pattern or the trained weights cannot be read; names the run.
    """
    manifest, epoch = run.read_manifest(), run.read_result().best_epoch
    pattern = find_first_pattern(manifest, run)
    name = FIRST_TIED if manifest.patterns else FIRST_UNTIED
    weights = np.array(read_array(run.weights_of(epoch), [name]), dtype=np.float64)
    after = expand_kernel(pattern, weights, run)
    before, note = None, "The kernels before training were not saved."
    try:
        before = read_initial_kernel(run, name, weights.shape)
    except RunError as error:
        note = f"The kernels before training are not drawn: {error}"
    if before is None:
        return draw_kernels(pattern, after, title), note
    names = ("before training", f"after epoch {epoch}, the best")
    return draw_kernel_change(pattern, expand_kernel(pattern, before, run), after, title, names), ""


def read_initial_kernel(run: RunDirectory, name: str, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    """Read the weights that a run saved before training; None if it saved none, as older versions did.

    Args:
        run: the run.
        name: the name of the array in the file.
        shape: the shape of the trained weights.

    Raises:
        RunError: they cannot be read, or have another shape.
    """
    path = run.initial_kernel
    if not path.exists():
        return None
    weights = np.array(read_array(path, [name]), dtype=np.float64)
    if weights.shape != shape:
        raise RunError(f"{path} holds a kernel of shape {weights.shape}; the trained one has {shape}")
    return weights


def find_first_pattern(manifest: Manifest, run: RunDirectory) -> Pattern:
    """The pattern of the first tied convolution, or the full pattern if none is tied.

    Raises:
        RunError: the spec in the manifest does not say which pattern it is.
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
    """Expand weights to a kernel (rows, cols, channels, filters).

    Args:
        pattern: the pattern, (rows, cols).
        weights: free weights, (tied groups, channels, filters), or a kernel already.
        run: the run, which the error names.

    Raises:
        RunError: the weights do not fit the pattern.
    """
    if weights.ndim == 3 and weights.shape[0] == pattern.num_groups and weights.size:
        return pattern.expand(weights)
    if weights.ndim == 4 and weights.shape[:2] == pattern.shape and weights.size:
        return weights
    raise RunError(f"the first kernel of {run.path} has shape {weights.shape}, which does not fit its pattern")
