"""Times of a whole model's training step: tied, in each implementation, and untied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tiedexp.bench.rows import Row, build_rows
from tiedexp.bench.timing import time_in_turns
from tiedexp.errors import SpecError
from tiedexp.experiment.assembly import build_model
from tiedexp.experiment.preparation import Plan, plan_model

UNTIED = "untied"


def bench_model(plan: Plan, *, rounds: int) -> Iterator[Row]:
    """Time a training step of the plan's model (output, loss, gradients of the weights) on one batch of random images.

    Args:
        plan: the experiment whose model is timed.
        rounds: how often each model is timed; they take turns.

    Yields:
        One row per model.

    Raises:
        SpecError: the model has no tied convolution.
    """
    spec = plan.spec
    if spec.model.tying is None:
        raise SpecError("the model has no tied convolution (model.tying): there is nothing to compare")
    models = {UNTIED: build_model(_change(plan, tying=None))}
    for implementation in ("expand", "factored", "auto"):
        tying = spec.model.tying.model_copy(update={"implementation": implementation})
        models[implementation] = build_model(_change(plan, tying=tying))
    batch = spec.training.batch_size
    images = tf.random.stateless_normal((batch, *plan.image_shape), (0, 1))
    labels = tf.random.stateless_uniform((batch,), (0, 2), maxval=plan.num_classes, dtype=tf.int32)
    steps = {method: _build_step(model, images, labels) for method, model in models.items()}
    shape = f"{batch}x{'x'.join(map(str, plan.image_shape))}"
    computed = {method: _describe(model) for method, model in models.items()}
    yield from build_rows(spec.name, None, shape, "step", time_in_turns(steps, rounds), computed, reference=UNTIED)


def _change(plan: Plan, **changes: Any) -> Plan:
    model = plan.spec.model.model_copy(update=changes)
    return plan_model(plan.spec.model_copy(update={"model": model}), plan.image_shape, plan.num_classes)


def _describe(model: keras.Model) -> str:
    """How many tied convs are computed by compiled code, at least in part."""
    choices = [layer.choice for layer in model.layers if hasattr(layer, "choice")]
    native = sum(not choice.is_expanded for choice in choices)
    return f"native in {native} of {len(choices)} convs" if choices else ""


def _build_step(model: keras.Model, images: Any, labels: Any) -> Callable[[], object]:
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    return lambda: step()[0].numpy()
