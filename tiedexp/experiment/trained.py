"""A trained run in Python: its results as plain values, its model, and predictions for images."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from tiedexp.data.images import convert_channels, fit_images
from tiedexp.data.pipeline import find_affine
from tiedexp.data.sources import DatasetShape
from tiedexp.errors import DatasetError, PatternError, RunError
from tiedexp.experiment.assembly import EVALUATION_BATCH, build_model
from tiedexp.experiment.limits import check_fits
from tiedexp.experiment.preparation import Plan, plan_model
from tiedexp.experiment.state import load_state
from tiedexp.keys import flatten
from tiedexp.patterns.grid import Pattern
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.records import Manifest
from tiedexp.spec.loading import load_spec
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.training.checkpoint import Checkpoint, CheckpointStore, load_weights

ROUNDING = "the results may differ from those in result.json in their last digits"


def load_run(path: str | os.PathLike[str]) -> Run:
    """A run that `tiedexp train` or `tiedexp sweep` has made.

    The model is rebuilt from the run's own spec and only weights are loaded, so a run may come from anybody; see
    SECURITY.md.

    Examples:

    >>> run = tiedexp.load_run("runs/digits-quick-1a2b3c4d5e/seed-0")
    >>> run.result["test"]["accuracy"]
    0.9888888888888889
    >>> run.predict(images).argmax(axis=1)
    array([3, 8, 1])

    Args:
        path: the run's directory.

    Raises:
        RunError: there is no run at that path, or it is damaged.
        SpecError: the run's spec is not valid.
    """
    return Run(RunDirectory.open(Path(path)))


class Run:
    """A run on disk. Nothing but its spec is read until it is asked for.

    Attributes:
        path: its directory.
        spec: its spec.
    """

    def __init__(self, directory: RunDirectory):
        self._directory = directory
        self.path = directory.path
        self.spec: ExperimentSpec = load_spec(directory.spec, allow_extends=False)

    def __repr__(self) -> str:
        return f"<Run {self.path}: {self._directory.state}>"

    @cached_property
    def _manifest(self) -> Manifest:
        return self._directory.read_manifest()

    @cached_property
    def pattern(self) -> Pattern | None:
        """The pattern of the first tied convolution; None if none is tied."""
        return next((pattern for pattern in self.spec.model.conv_patterns() if pattern is not None), None)

    @cached_property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None if the run is not finished."""
        return self._directory.read_result().as_json() if self._directory.finished else None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per epoch: `epoch`, `train/loss`, `validation/accuracy` and so on, e.g. for `pandas.DataFrame`."""
        lines = [line.as_json() for line in self._directory.read_metrics()]
        return [{key.replace(".", "/"): value for key, value in flatten(line, 2)} for line in lines]

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the model's outputs."""
        return self._manifest.data.class_names

    @cached_property
    def model(self) -> keras.Model:
        """The model of the best epoch: normalised images (batch, rows, cols, channels) to logits (batch, classes).

        Raises:
            RunError: the checkpoint is missing or damaged, or the model does not fit into memory.
        """
        checkpoint = find_checkpoint(self._directory, "best")
        manifest = self._manifest
        shape, classes = manifest.data.image_shape, len(manifest.data.class_names)
        plan = plan_model(self.spec, shape, classes)
        check_fits(plan, DatasetShape(shape, classes, 0, 0), checkpoint.weights, EVALUATION_BATCH)
        model = build_as_trained(plan, manifest.implementations)
        load_weights(checkpoint, model)
        return model

    @cached_property
    def predictor(self) -> keras.Model:
        """The model of the best epoch: pixels from 0 to 255, (batch, rows, cols, channels), to probabilities.

        It contains the normalisation and the softmax as layers. Pixels can have any real dtype.
        """
        data = self._manifest.data
        scale, offset = find_affine(data.mean, data.std)
        pixels = keras.Input(data.image_shape, name="pixels", dtype="float32")
        rescale = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", name="normalise")
        softmax = keras.layers.Softmax(dtype="float32", name="probabilities")
        return keras.Model(pixels, softmax(self.model(rescale(pixels))), name="predictor")

    def predict(self, images: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """The probabilities of the classes, for images of any size.

        Images of another size than the model's are cropped to their central square and resized, and grey images become
        colour images or the reverse, as in `tiedexp train`.

        Args:
            images: pixels from 0 to 255, (n, rows, cols) or (n, rows, cols, channels), or one image without n. Three
                axes are one image if the last one has 1, 3 or 4 entries.

        Returns:
            (n, classes), or (classes,) for one image.

        Raises:
            DatasetError: the array does not hold such images.
        """
        pixels, is_one = _as_pixels(np.asarray(images), self._manifest.data.image_shape)
        probabilities: npt.NDArray[np.float32] = self.predictor.predict(pixels, EVALUATION_BATCH, verbose=0)
        return probabilities[0] if is_one else probabilities


def _as_pixels(images: npt.NDArray[Any], image_shape: tuple[int, int, int]) -> tuple[npt.NDArray[np.uint8], bool]:
    """Images as (n, *image_shape), and whether there was one without the first axis."""
    rows, cols, channels = image_shape
    is_one = images.ndim == 2 or (images.ndim == 3 and images.shape[2] in (1, 3, 4))
    batch = images[np.newaxis] if is_one else images
    batch = batch[..., np.newaxis] if batch.ndim == 3 else batch
    if batch.ndim != 4 or batch.shape[3] not in (1, 3, 4) or not batch.size:
        raise DatasetError(
            "images must be an array (n, rows, cols) or (n, rows, cols, channels), or one image. "
            f"Received: shape {images.shape}"
        )
    if batch.dtype.kind not in "buif" or not (batch.min() >= 0 and batch.max() <= 255):
        raise DatasetError(f"pixels must be numbers from 0 to 255. Received: dtype {images.dtype}, {_span(images)}")
    pixels = convert_channels(np.rint(batch).astype(np.uint8), channels)
    if pixels.shape[1:3] == (rows, cols):
        return pixels, is_one
    if rows != cols:
        raise DatasetError(
            f"the model takes images of {rows}x{cols} pixels; others can be resized only if the model's are square. "
            f"Received: {pixels.shape[1]}x{pixels.shape[2]}"
        )
    return fit_images(pixels, rows), is_one


def _span(images: npt.NDArray[Any]) -> str:
    return (
        f"values from {images.min()} to {images.max()}" if images.dtype.kind in "buif" and images.size else "no numbers"
    )


def find_checkpoint(run: RunDirectory, which: str, warn: Callable[[str], None] = lambda text: None) -> Checkpoint:
    """The best or the last checkpoint of a run.

    Args:
        run: the run.
        which: best or last.
        warn: called for damaged checkpoints, which are not used.

    Raises:
        RunError: there is no such checkpoint; says how to get one.
    """
    store = CheckpointStore(run.checkpoints)
    last = store.latest(warn)
    if last is None:
        advice = f"tiedexp train {shlex.quote(str(run.spec))}{' --fresh' if run.finished else ''}"
        raise RunError(f"there is no checkpoint in {store.directory}; to train the run: {advice}")
    if which == "last":
        return last
    best = load_state(last).best.epoch
    if not best:
        raise RunError(
            f"no epoch of the run is complete yet, so there is no best one; --checkpoint last uses step {last.step}"
        )
    return store.of_epoch(best)


def build_as_trained(
    plan: Plan, implementations: Mapping[str, Mapping[str, str]], warn: Callable[[str], None] = lambda text: None
) -> keras.Model:
    """The model of a run, computed as in training if this version can do so."""
    try:
        return build_model(plan, implementations)
    except PatternError:  # its text quotes the manifest, which a stranger may have written
        warn(f"the run computed its convolutions by a method that this version does not know: {ROUNDING}")
        return build_model(plan)
