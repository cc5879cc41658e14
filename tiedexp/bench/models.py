"""Times of a whole model's training step: tied in each implementation, and untied."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tiedexp.bench.rows import Row, build_rows
from tiedexp.bench.timing import time_in_turns
from tiedexp.errors import SpecError
from tiedexp.experiment.build import build_model
from tiedexp.experiment.preparation import Plan, plan_model

UNTIED = "untied"


def bench_model(plan: Plan, *, rounds: int) -> Iterator[Row]:
    """Time forward, loss and gradients of the weights of the plan's model, on one batch of random images.

    Raises:
        SpecError: the model ties nothing.
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
    """How many layers are computed in some part by a factoring."""
    choices = [layer.choice for layer in model.layers if hasattr(layer, "choice")]
    factored = sum(not choice.is_expanded for choice in choices)
    return f"{factored} of {len(choices)} convs factored" if choices else ""


def _build_step(model: keras.Model, images: Any, labels: Any) -> Callable[[], object]:
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step() -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        return loss, tape.gradient(loss, [variable.value for variable in model.trainable_variables])

    return lambda: step()[0].numpy()
