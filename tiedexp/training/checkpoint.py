"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/epoch-0003.weights.h5    weights of the model and state of the optimizer, as Keras writes them
    checkpoints/epoch-0003.json          the rest: seed generators, best epoch, early stopping, metrics
    checkpoints/epoch-0003-step-000120.weights.h5, .json    the same after 120 steps of the fourth epoch

The JSON is written last; it holds the SHA-256 of the weights and of itself. A pair that does not match was torn or
altered and is no checkpoint. Weights alone are read back, never code or pickles.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
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
from tiedexp.training.weights_file import check_weights_file

FORMAT = 2
# Of the JSON: what it holds of a whole epoch is small; of a part of one it has a text with the gradient norms so far.
_MAX_ABOUT_BYTES = 128 * 2**20
_MAX_EPOCH_BYTES = 2**20
_MAX_STEP_BYTES = 2**13  # a norm of each of more than 1,000 layers
_MAX_VALUES = 2**17
_MAX_WEIGHTS_BYTES = 64 * 2**30
_NAME = re.compile(r"epoch-([0-9]{4,9})(?:-step-([0-9]{6,9}))?\.(?:json|weights\.h5)")
_SUFFIX = ".weights.h5"

# (epochs done, steps of the next one done): the order of checkpoints, and what their files are named by.
Place = tuple[int, int]


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Args:
        epoch: epochs done.
        step: steps of the next epoch done; 0 for the checkpoint at the end of an epoch.
        weights: the file.
        state: what the trainer wanted kept, plain JSON.
        seed_generators: state of each seed generator of the model, in the order of its layers.
    """

    epoch: int
    step: int
    weights: Path
    state: Mapping[str, Any]
    seed_generators: tuple[tuple[int, ...], ...]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        directory: where they are; made when the first is saved.
    """

    def __init__(self, directory: Path):
        self.directory = directory

    def save(self, epoch: int, model: keras.Model, state: Mapping[str, Any], *, step: int = 0) -> Checkpoint:
        """Write the model (with its optimizer, if compiled) and the state as the checkpoint of an epoch, or of a step.

        Raises:
            RunError: it cannot be written; the checkpoints before it stay.
        """
        about = self._about((epoch, step))
        weights = about.with_suffix(_SUFFIX)
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
        """The checkpoints that are whole.

        Args:
            warn: told of each that is not, when it is its turn.

        Raises:
            RunError: a newer tiedexp wrote one.
        """
        for place in sorted(self._places(".json"), reverse=True):
            checkpoint = self._read(place)
            if checkpoint is None:
                warn(f"the checkpoint {self._about(place)} is damaged and is not used")
            else:
                yield checkpoint

    def latest(self, warn: Callable[[str], None] = lambda text: None) -> Checkpoint | None:
        """The newest checkpoint that is whole; as `newest_first`."""
        return next(self.newest_first(warn), None)

    def of_epoch(self, epoch: int) -> Checkpoint:
        """The checkpoint at the end of an epoch; RunError if it is not there whole."""
        checkpoint = self.find(epoch)
        if checkpoint is None:
            path = self._about((epoch, 0))
            text = f"{path} is missing, or it and its weights are not what was written"
            raise RunError(f"{text}; training the run again with --fresh gives the same result")
        return checkpoint

    def find(self, epoch: int) -> Checkpoint | None:
        """The checkpoint at the end of an epoch; None if it is not there whole."""
        return self._read((epoch, 0))

    def copy(self, other: CheckpointStore, epochs: Collection[int]) -> None:
        """Take the checkpoints of some epochs over from another run; RunError if one is not there whole."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for epoch in epochs:
            weights = other.of_epoch(epoch).weights
            for path in (weights, other._about((epoch, 0))):
                with replace_file(self.directory / path.name) as unfinished:
                    shutil.copyfile(path, unfinished)

    def prune(self, keep: Collection[Place]) -> None:
        """Delete all other checkpoints, each JSON first, and what interrupted writes left behind."""
        for suffix in (".json", _SUFFIX):
            for place in self._places(suffix):
                if place not in keep:
                    self._about(place).with_suffix(suffix).unlink(missing_ok=True)
        remove_unfinished(self.directory)

    def _about(self, place: Place) -> Path:
        epoch, step = place
        return self.directory / (f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "") + ".json")

    def _places(self, suffix: str) -> list[Place]:
        found = self.directory.glob(f"epoch-*{suffix}")
        names = [_NAME.fullmatch(path.name) for path in found if not path.is_dir()]
        return [(int(name[1]), int(name[2] or 0)) for name in names if name]

    def _read(self, place: Place) -> Checkpoint | None:
        """None if it is torn, altered or absent."""
        about = self._about(place)
        weights = about.with_suffix(_SUFFIX)
        max_bytes = min(_MAX_EPOCH_BYTES + place[1] * _MAX_STEP_BYTES, _MAX_ABOUT_BYTES)
        if not _is_plain(about, max_bytes) or not _is_plain(weights, _MAX_WEIGHTS_BYTES):
            return None
        try:
            content = _parse(about.read_text(encoding="utf-8"))
            if content["format"] > FORMAT:
                raise RunError(f"{about} was written by a newer tiedexp: update tiedexp to use it")
            if content.pop("checksum") != _checksum(content) or content["sha256"] != _hash(weights):
                return None
            if (content["epoch"], content["step"]) != place:  # its files were renamed
                return None
            seeds = tuple(tuple(map(int, state)) for state in content["seed_generators"])
            return Checkpoint(*place, weights, content["state"], seeds)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def check_finite(model: keras.Model) -> None:
    """Refuse weights that are not worth keeping.

    Raises:
        DivergenceError: a weight is NaN or infinite.
    """
    for variable in model.weights:
        values = keras.ops.convert_to_numpy(variable)
        if not np.isfinite(values).all():
            raise DivergenceError(f"the weights of '{variable.path}' are no finite numbers any more")


def restore(checkpoint: Checkpoint, model: keras.Model) -> None:
    """Fill the model (and its optimizer, which must be built) and its seed generators from a checkpoint."""
    load_weights(checkpoint, model)
    generators = list(_seed_generators(model))
    if len(generators) != len(checkpoint.seed_generators):
        raise RunError(f"{checkpoint.weights} belongs to another model: it has other seed generators")
    for generator, state in zip(generators, checkpoint.seed_generators, strict=True):
        try:
            generator.state.assign(np.array(state, dtype=generator.state.dtype))
        except (ValueError, OverflowError) as error:
            raise RunError(f"{checkpoint.weights} cannot be loaded: its seed generators: {error}") from error


def load_weights(checkpoint: Checkpoint, model: keras.Model) -> None:
    """Fill the model's weights from a checkpoint; RunError if they are another model's, or no plain weights."""
    check_weights_file(checkpoint.weights, model.variables)
    try:
        model.load_weights(checkpoint.weights)
    except (ValueError, KeyError, OSError) as error:
        raise RunError(f"{checkpoint.weights} cannot be loaded into this run's model: {error}") from error


def _serialize_weights(model: keras.Model) -> memoryview:
    """What `model.save_weights` writes, in memory: HDF5 writing to a disk that is full ends the process."""
    buffer = io.BytesIO()
    store = saving_lib.H5IOStore(buffer, mode="w")
    saving_lib._save_state(model, weights_store=store, assets_store=None, inner_path="", visited_saveables=set())
    store.close()
    return buffer.getbuffer()


def _is_plain(path: Path, max_bytes: int) -> bool:
    """Whether it is a file, not a link, which would lead out of the run, or a pipe, and not far too large."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= max_bytes


def _parse(text: str) -> Any:
    """What JSON says; ValueError if it has more values, each of which takes memory, than a checkpoint has."""
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
