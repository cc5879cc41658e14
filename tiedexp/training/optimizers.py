"""Keras optimizers and learning-rate schedules."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import keras

# Weight decay is meant for kernels; on scales and offsets it does harm (Goyal et al. 2017, arXiv 1706.02677).
UNDECAYED = ["gamma", "beta", "bias"]


@keras.saving.register_keras_serializable(package="tiedexp")
class WarmUp(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A linear rise from zero to `learning_rate` over `warmup_steps`, then `schedule` at the same step."""

    def __init__(self, learning_rate: float, warmup_steps: int, schedule: Any):
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.schedule = schedule

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        return keras.ops.where(
            step < self.warmup_steps, self.learning_rate * step / max(1, self.warmup_steps), self.schedule(step)
        )

    def get_config(self) -> dict[str, Any]:
        """The arguments, for `from_config`."""
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "schedule": keras.optimizers.schedules.serialize(self.schedule),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WarmUp:
        """The inverse of `get_config`."""
        return cls(**{**config, "schedule": keras.optimizers.schedules.deserialize(config["schedule"])})


def build_schedule(
    name: str,
    learning_rate: float,
    *,
    steps_per_epoch: int,
    epochs: int,
    warmup_epochs: float = 0.0,
    final: float = 0.0,
    drop_epochs: Sequence[int] = (),
    factor: float = 1.0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the step.

    Args:
        name: constant, cosine, step or exponential.
        learning_rate: the highest rate.
        steps_per_epoch: steps of an epoch.
        epochs: length of the training, for the cosine.
        warmup_epochs: epochs of linear rise from zero; the cosine starts after them, the others count from step 0.
        final: cosine: the last rate as a share of the highest.
        drop_epochs: step: after each of these epochs the rate is multiplied by `factor`.
        factor: step, exponential: exponential multiplies by it every epoch, smoothly.
    """
    schedules = keras.optimizers.schedules
    warmup_steps = round(warmup_epochs * steps_per_epoch)
    if name == "cosine":  # which has its own warm-up, of the same shape
        decay_steps = max(1, epochs * steps_per_epoch - warmup_steps)
        if not warmup_steps:
            return schedules.CosineDecay(learning_rate, decay_steps, alpha=final)
        return schedules.CosineDecay(
            0.0, decay_steps, alpha=final, warmup_target=learning_rate, warmup_steps=warmup_steps
        )
    if name == "step":
        boundaries = [epoch * steps_per_epoch - 1 for epoch in drop_epochs]  # the last step at the rate before
        rates = [learning_rate * factor**drops for drops in range(len(boundaries) + 1)]
        schedule = schedules.PiecewiseConstantDecay(boundaries, rates)
    elif name == "exponential":
        schedule = schedules.ExponentialDecay(learning_rate, steps_per_epoch, factor)
    elif name == "constant":
        schedule = schedules.PiecewiseConstantDecay([0], [learning_rate, learning_rate])
    else:
        raise ValueError(f"`name` must be constant, cosine, step or exponential. Received: name={name!r}")
    return WarmUp(learning_rate, warmup_steps, schedule)


def build_optimizer(
    optimizer_class: type[keras.optimizers.Optimizer],
    schedule: Any,
    *,
    weight_decay: float = 0.0,
    precision: str = "float32",
    **options: Any,
) -> keras.optimizers.Optimizer:
    """An optimizer of Keras.

    Args:
        optimizer_class: its class, e.g. `keras.optimizers.SGD`.
        schedule: the learning rate, a number or a schedule.
        weight_decay: decoupled; not applied to the variables of `UNDECAYED`.
        precision: "mixed_float16" adds dynamic loss scaling.
        options: further arguments of the class, e.g. momentum=0.9.
    """
    # None saves work, but a class whose own default is a number, such as AdamW, refuses it.
    default = inspect.signature(optimizer_class).parameters["weight_decay"].default
    decay = weight_decay or (None if default is None else 0.0)
    optimizer = optimizer_class(schedule, weight_decay=decay, **options)
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return keras.optimizers.LossScaleOptimizer(optimizer) if precision == "mixed_float16" else optimizer
