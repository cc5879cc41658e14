"""A small training problem: deterministic batches of random images, and models to fit them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tiedexp.spec.optimizers import OPTIMIZERS
from tiedexp.training.optimizers import build_optimizer
from tiedexp.training.trainer import Trainer

BATCH_SIZE, NUM_CLASSES, IMAGE_SHAPE = 8, 4, (6, 6, 2)


class RandomBatches:
    """Batch `step` is rows 8 * step to 8 * step + 8 of 64 random images, round and round."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(64, *IMAGE_SHAPE)).astype("float32")
        self.labels = np.eye(NUM_CLASSES, dtype="float32")[rng.integers(0, NUM_CLASSES, 64)]

    def __call__(self, step: Any, shard: Any, num_shards: int) -> tuple[Any, Any]:
        size = BATCH_SIZE // num_shards
        begin = tf.cast(step, tf.int32) % 8 * BATCH_SIZE + shard * size
        return tf.constant(self.images)[begin : begin + size], tf.constant(self.labels)[begin : begin + size]


def build_model(dropout: float = 0.0, batch_norm: bool = False, dtype: str = "float32") -> keras.Model:
    layers: list[Any] = [keras.Input(IMAGE_SHAPE), keras.layers.Conv2D(5, 3, dtype=dtype, name="conv")]
    if batch_norm:
        layers.append(keras.layers.BatchNormalization(dtype=dtype, name="bn"))
    layers += [keras.layers.Activation("relu", dtype=dtype), keras.layers.Flatten(dtype=dtype)]
    if dropout:
        layers.append(keras.layers.Dropout(dropout, dtype=dtype, name="dropout"))
    return keras.Sequential([*layers, keras.layers.Dense(NUM_CLASSES, name="classifier")])


@pytest.fixture
def batches() -> RandomBatches:
    return RandomBatches()


@pytest.fixture
def make_trainer(batches) -> Callable[..., Trainer]:
    """Builds a trainer of a freshly seeded model: `make_trainer("adam", dropout=0.3, jit=True)`."""

    def make(
        name: str = "sgd", *, model: dict[str, Any] | None = None, optimizer: Any = None, **options: Any
    ) -> Trainer:
        keras.utils.set_random_seed(11)
        built = build_model(**(model or {}))
        chosen = build_optimizer(OPTIMIZERS[name].load_class(), 0.05, **(optimizer or {}))
        chosen.build(built.trainable_variables)
        built.compile(optimizer=chosen)
        return Trainer(built, chosen, batches, batch_size=BATCH_SIZE, **options)

    return make
