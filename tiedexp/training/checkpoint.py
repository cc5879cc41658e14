"""Checkpoints: everything a run needs to resume as if it had never stopped.

A checkpoint is two files, named by `tiedexp.files.checkpoint_names`:

    .weights.h5    the weights of the model and the state of the optimizer, as Keras writes them
    .json          the rest: seed generators, best epoch, early stopping, metrics

The JSON is written last; it holds the SHA-256 of the weights and of itself. A pair that does not match is torn or
altered and does not count as a checkpoint. Only arrays are read back, never code or pickles.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib

from tiedexp.errors import DivergenceError, RunError
from tiedexp.files.atomic import remove_unfinished, replace_file, write_text
from tiedexp.files.checkpoint_names import ABOUT, WEIGHTS, Position, name_checkpoint, parse_checkpoint
from tiedexp.training.weights_file import check_weights_file

FORMAT = 2
# Limits of the JSON. It is small for a whole epoch; for a part of one it holds the gradient norms so far as text.
_MAX_ABOUT_BYTES = 128 * 2**20
_MAX_EPOCH_BYTES = 2**20
_MAX_STEP_BYTES = 2**13  # a norm of each of more than 1,000 layers
_MAX_VALUES = 2**17
_MAX_WEIGHTS_BYTES = 64 * 2**30


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Args:
        epoch: completed epochs.
        step: completed steps of the next epoch; 0 at the end of an epoch.
        weights: the weights file.
        state: the caller's own state, plain JSON.
        seed_generators: the state of each seed generator of the model, in the order of its layers.
    """

    epoch: int
    step: int
    weights: Path
    state: Mapping[str, Any]
    seed_generators: tuple[tuple[int, ...], ...]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        directory: where they are; created when the first one is saved.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def save(self, epoch: int, model: keras.Model, state: Mapping[str, Any], *, step: int = 0) -> Checkpoint:
        """Write the model (with its optimizer, if compiled) and the state as the checkpoint of an epoch or a step.

        Raises:
            RunError: it cannot be written; the earlier checkpoints stay.
        """
        about, weights = self._locate((epoch, step))
        checkpoint = Checkpoint(epoch, step, weights, dict(state), _seed_generator_states(model))
        stored = _serialize_weights(model)
        content = {
            "format": FORMAT,
            "epoch": epoch,
            "step": step,
            "sha256": hashlib.sha256(stored).hexdigest(),
            "seed_generators": checkpoint.seed_generators,
            "state": checkpoint.state,
        }
        content["checksum"] = _checksum(content)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with replace_file(weights) as unfinished:
                unfinished.write_bytes(stored)
            write_text(about, json.dumps(content, indent=1))
        except OSError as error:
            raise RunError(f"the checkpoint {weights} cannot be written: {error.strerror or error}") from error
        return checkpoint

    def newest_first(self, warn: Callable[[str], None] = lambda text: None) -> Iterator[Checkpoint]:
        """The intact checkpoints.

        Args:
            warn: called for each damaged one, when its turn comes.

        Raises:
            RunError: a newer tiedexp wrote one.
        """
        for position in sorted(self._list(ABOUT), reverse=True):
            checkpoint = self._read(position)
            if checkpoint is None:
                warn(f"the checkpoint {self._locate(position)[0]} is damaged and is not used")
            else:
                yield checkpoint

    def latest(self, warn: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
        """The newest intact checkpoint; see `newest_first`."""
        return next(self.newest_first(warn), None)

    def of_epoch(self, epoch: int) -> Checkpoint:
        """The checkpoint at the end of an epoch; RunError if it is missing or damaged."""
        checkpoint = self.find(epoch)
        if checkpoint is None:
            path, _ = self._locate((epoch, 0))
            text = f"{path} is missing, or it and its weights are not what was written"
            raise RunError(f"{text}; training the run again with --fresh gives the same result")
        return checkpoint

    def find(self, epoch: int) -> Checkpoint | None:
        """The checkpoint at the end of an epoch; None if it is missing or damaged."""
        return self._read((epoch, 0))

    def copy(self, other: CheckpointStore, epochs: Collection[int]) -> None:
        """Copy the checkpoints of some epochs from another run; RunError if one is missing or damaged."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for epoch in epochs:
            other.of_epoch(epoch)
            for path in reversed(other._locate((epoch, 0))):  # the weights first
                with replace_file(self.directory / path.name) as unfinished:
                    shutil.copyfile(path, unfinished)

    def prune(self, keep: Collection[Position]) -> None:
        """Delete all other checkpoints, each JSON first, and what interrupted writes left behind."""
        for suffix in (ABOUT, WEIGHTS):
            for position in self._list(suffix):
                if position not in keep:
                    (self.directory / name_checkpoint(position, suffix)).unlink(missing_ok=True)
        remove_unfinished(self.directory)

    def _locate(self, position: Position) -> tuple[Path, Path]:
        """The paths of a checkpoint's JSON and weights."""
        return (
            self.directory / name_checkpoint(position, ABOUT),
            self.directory / name_checkpoint(position, WEIGHTS),
        )

    def _list(self, suffix: str) -> list[Position]:
        found = self.directory.glob(f"*{suffix}")
        names = (parse_checkpoint(path.name, suffix) for path in found if not path.is_dir())
        return [position for position in names if position is not None]

    def _read(self, position: Position) -> Checkpoint | None:
        """The checkpoint; None if it is torn, altered or missing."""
        about, weights = self._locate(position)
        max_bytes = min(_MAX_EPOCH_BYTES + position[1] * _MAX_STEP_BYTES, _MAX_ABOUT_BYTES)
        if not _is_plain(about, max_bytes) or not _is_plain(weights, _MAX_WEIGHTS_BYTES):
            return None
        try:
            content = _parse(about.read_text(encoding="utf-8"))
            if content["format"] > FORMAT:
                raise RunError(f"{about} was written by a newer tiedexp: update tiedexp to use it")
            if content.pop("checksum") != _checksum(content) or content["sha256"] != _hash(weights):
                return None
            if (content["epoch"], content["step"]) != position:  # its files were renamed
                return None
            seeds = tuple(tuple(map(int, state)) for state in content["seed_generators"])
            return Checkpoint(*position, weights, content["state"], seeds)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def check_finite(model: keras.Model) -> None:
    """Refuse useless weights.

    Raises:
        DivergenceError: a weight is NaN or infinite.
    """
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(values).all():
            raise DivergenceError(f"the weights of '{variable.path}' contain NaN or infinity")


def restore(checkpoint: Checkpoint, model: keras.Model) -> None:
    """Load a checkpoint into a model, its optimizer (which must be built) and its seed generators.

    Raises:
        RunError: the checkpoint is of another model, or its arrays are not plain weights.
    """
    load_weights(checkpoint, model)
    generators = list(_seed_generators(model))
    if len(generators) != len(checkpoint.seed_generators):
        raise RunError(f"{checkpoint.weights} belongs to another model, which has other seed generators")
    for generator, state in zip(generators, checkpoint.seed_generators, strict=True):
        try:
            generator.state.assign(np.array(state, dtype=generator.state.dtype))
        except (ValueError, OverflowError) as error:
            raise RunError(f"{checkpoint.weights} cannot be loaded: its seed generators: {error}") from error


def load_weights(checkpoint: Checkpoint, model: keras.Model) -> None:
    """Load the weights of a checkpoint; RunError if they are of another model or not plain weights."""
    check_weights_file(checkpoint.weights, model.variables)
    try:
        model.load_weights(checkpoint.weights)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{checkpoint.weights} cannot be loaded into this run's model: {error}") from error


def _serialize_weights(model: keras.Model) -> memoryview:
    """What `model.save_weights` writes, in memory: if HDF5 writes to a full disk, the process aborts."""
    buffer = io.BytesIO()
    store = saving_lib.H5IOStore(buffer, mode="w")
    saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    store.close()
    return buffer.getbuffer()


def _is_plain(path: Path, max_bytes: int) -> bool:
    """Whether it is a regular file (a link could lead out of the run) and not far too large."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= max_bytes


def _parse(text: str) -> Any:
    """The parsed JSON; ValueError if it has more values, which all take memory, than any checkpoint."""
    if sum(map(text.count, "[{,")) > _MAX_VALUES:
        raise ValueError("too many values")
    return json.loads(text)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _seed_generators(model: keras.Model) -> Iterator[Any]:
    for layer in model.layers:
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            yield generator


def _seed_generator_states(model: keras.Model) -> tuple[tuple[int, ...], ...]:
    return tuple(
        tuple(int(number) for number in keras.ops.convert_to_numpy(generator.state))
        for generator in _seed_generators(model)
    )
