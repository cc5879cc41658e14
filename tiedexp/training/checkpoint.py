"""Checkpoints: everything a run needs to go on as if it had never stopped.

    checkpoints/epoch-0003.weights.h5     weights of the model and state of the optimizer, as Keras writes them
    checkpoints/epoch-0003.json           the rest: step, seed generators, best epoch, early stopping, metrics

The JSON is written last and names the SHA-256 of the weights: a pair without it, or that does not match, is no
checkpoint. Weights alone are read back, never code or pickles.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras.src.saving import saving_lib

from tiedexp.atomic import replace_file, write_text
from tiedexp.errors import DivergenceError, RunError

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint on disk.

    Args:
        epoch: epochs done.
        weights: the file.
        state: what the trainer wanted kept, plain JSON.
        seed_generators: state of each seed generator of the model, in the order of its layers.
    """

    epoch: int
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

    def save(self, epoch: int, model: keras.Model, state: Mapping[str, Any]) -> Checkpoint:
        """Write the model (with its optimizer, if compiled) and the state as the checkpoint of an epoch.

        Raises:
            RunError: it cannot be written; the checkpoints before it stay.
        """
        weights = self.directory / f"epoch-{epoch:04d}.weights.h5"
        checkpoint = Checkpoint(epoch, weights, dict(state), _seed_generator_states(model))
        stored = _serialize_weights(model)
        content = {
            "format": FORMAT,
            "epoch": epoch,
            "sha256": hashlib.sha256(stored).hexdigest(),
            "seed_generators": checkpoint.seed_generators,
            "state": checkpoint.state,
        }
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with replace_file(weights) as unfinished:
                unfinished.write_bytes(stored)
            write_text(weights.with_name(f"epoch-{epoch:04d}.json"), json.dumps(content, indent=1))
        except OSError as error:
            raise RunError(f"the checkpoint {weights} cannot be written: {error.strerror or error}") from error
        return checkpoint

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole."""
        for path in sorted(self.directory.glob("epoch-*.json"), reverse=True):
            checkpoint = _read(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def of_epoch(self, epoch: int) -> Checkpoint:
        """The checkpoint of an epoch; RunError if it is not there whole."""
        path = self.directory / f"epoch-{epoch:04d}.json"
        checkpoint = _read(path)
        if checkpoint is None:
            raise RunError(f"{path} is missing, or its weights are not those that were written")
        return checkpoint

    def prune(self, keep: set[int]) -> None:
        """Delete the checkpoints of all other epochs, each JSON first."""
        for path in sorted(self.directory.glob("epoch-*.json")):
            if int(path.stem.removeprefix("epoch-")) not in keep:
                path.unlink()
                path.with_suffix(".weights.h5").unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete all checkpoints."""
        if self.directory.is_dir():
            self.prune(keep=set())


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
        generator.state.assign(np.array(state, dtype=generator.state.dtype))


def load_weights(checkpoint: Checkpoint, model: keras.Model) -> None:
    """Fill the model's weights from a checkpoint; RunError if they are another model's."""
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


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Checkpoint | None:
    weights = path.with_suffix(".weights.h5")
    if path.is_symlink() or weights.is_symlink():  # would lead out of the run's directory
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        whole = _hash(weights) == content["sha256"]
        seeds = tuple(tuple(state) for state in content["seed_generators"])
        return Checkpoint(int(content["epoch"]), weights, content["state"], seeds) if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # torn or absent: the one before it serves


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
