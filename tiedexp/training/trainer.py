"""The training loop: many steps in one call of a compiled function, on one device or on several.

Batches are a pure function of the step number and are made inside the compiled function. So nothing waits for Python
or a queue, and a run that is resumed at step n sees the batches that it would have seen. Keras's own `fit` cannot start
at a given step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from tiedexp.errors import DivergenceError
from tiedexp.training.devices import device_failures

CALL_SECONDS = 0.25  # between two checks of progress, signals and the loss
MAX_STEPS_PER_CALL = 1000

# (step of the whole training, replica, replicas) -> (images, one-hot labels) of that replica.
BatchFunction = Callable[[Any, Any, int], tuple[Any, Any]]


@dataclass(frozen=True)
class EpochResult:
    """The results of one epoch of training.

    Args:
        loss: mean over its steps, with augmentation and dropout, before regularization.
        accuracy: share of its images whose predicted class is that of the label, or of its larger part after mixup.
        images_per_second: over all devices, without the first call, which compiles.
        seconds: wall time, including compilation.
        gradient_norms: (steps, trainable variables); None if they are not recorded.
    """

    loss: float
    accuracy: float
    images_per_second: float
    seconds: float
    gradient_norms: npt.NDArray[np.float32] | None


@dataclass(frozen=True)
class EpochSums:
    """Sums over the completed steps of an epoch, from which the epoch can be resumed.

    Args:
        steps: the number of completed steps.
        loss: sum of their losses.
        hits: number of correct predictions.
        seconds: wall time of all steps.
        timed_steps: number of steps outside the first call, which compiles.
        timed_seconds: wall time of those steps.
        gradient_norms: (steps, trainable variables); None if they are not recorded.
    """

    steps: int = 0
    loss: float = 0.0
    hits: int = 0
    seconds: float = 0.0
    timed_steps: int = 0
    timed_seconds: float = 0.0
    gradient_norms: npt.NDArray[np.float32] | None = None

    def result(self, batch_size: int) -> EpochResult:
        """The means over steps of `batch_size` images each."""
        steps, seconds = (self.timed_steps, self.timed_seconds) if self.timed_steps else (self.steps, self.seconds)
        return EpochResult(
            loss=self.loss / self.steps,
            accuracy=self.hits / (self.steps * batch_size),
            images_per_second=steps * batch_size / seconds,
            seconds=self.seconds,
            gradient_norms=self.gradient_norms,
        )


@dataclass(frozen=True)
class Progress:
    """How far an epoch is: completed steps, and the means and speed so far."""

    step: int
    loss: float
    accuracy: float
    images_per_second: float


class Trainer:
    """Trains a model whose outputs are logits, with softmax cross-entropy.

    Args:
        model: the model, created under `strategy.scope()`.
        optimizer: the optimizer, created and built under `strategy.scope()`.
        batches: gives the batch of a step; callable inside `tf.function`.
        batch_size: images per step, over all replicas.
        strategy: a `tf.distribute.Strategy`; the default one for a single device.
        label_smoothing: see `keras.losses.CategoricalCrossentropy`.
        gradient_clipping: the largest L2 norm of the gradient of all variables together; None for no limit.
        jit: whether to compile the forward and backward pass with XLA.
        steps_per_execution: steps per call; None for as many as take about a quarter of a second.
        record_gradient_norms: whether to record the L2 norm of every variable's gradient at every step.
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        batches: BatchFunction,
        *,
        batch_size: int,
        strategy: tf.distribute.Strategy | None = None,
        label_smoothing: float = 0.0,
        gradient_clipping: float | None = None,
        jit: bool = False,
        steps_per_execution: int | None = None,
        record_gradient_norms: bool = False,
    ):
        self.model = model
        self.optimizer = optimizer
        self.batch_size = batch_size
        self._batches = batches
        self._strategy = strategy or tf.distribute.get_strategy()
        self._label_smoothing = label_smoothing
        self._gradient_clipping = gradient_clipping
        self._steps_per_execution = steps_per_execution
        self._record_gradient_norms = record_gradient_norms
        # Autograph would take a third of the time until the first step, and there is nothing for it to rewrite.
        self._differentiate = tf.function(self._compute_gradients, jit_compile=jit, autograph=False)
        self._run_steps = tf.function(self._build_loop(), jit_compile=False, autograph=False)
        self._compiled = False
        self._automatic_steps = 1

    @property
    def num_replicas(self) -> int:
        """The number of devices that train together."""
        return int(self._strategy.num_replicas_in_sync)

    def run_epoch(
        self, first_step: int, num_steps: int, on_progress: Callable[[Progress], None] = lambda progress: None
    ) -> EpochResult:
        """Train `num_steps` steps from `first_step`, counted over the whole training; see `run_steps`."""
        return self.run_steps(first_step, EpochSums(), num_steps, on_progress).result(self.batch_size)

    def run_steps(
        self,
        first_step: int,
        sums: EpochSums,
        until: int,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> EpochSums:
        """Train part of an epoch.

        Args:
            first_step: the epoch's first step, counted over the whole training.
            sums: the sums over the steps completed so far.
            until: how many of the epoch's steps to complete in total.
            on_progress: called after each call of the compiled function.
            should_stop: called before each call; training ends if it returns True.

        Returns:
            the sums over all completed steps: `until`, or fewer if it stopped.

        Raises:
            DivergenceError: the loss is NaN or infinite; the weights are then useless.
            RunError: the device ran out of memory, or lacks an operation.
        """
        norms = [] if sums.gradient_norms is None else [sums.gradient_norms]
        while sums.steps < until and not should_stop():
            count = min(self._steps_per_execution or self._automatic_steps, until - sums.steps)
            begin = time.perf_counter()
            with device_failures():
                losses, hits, call_norms = self._run_steps(
                    tf.constant(first_step + sums.steps, tf.int64), tf.constant(count, tf.int64)
                )
            loss_sum = sums.loss
            # Added one by one, so that the result does not depend on the number of steps per call.
            for at, loss in enumerate(losses.numpy().tolist()):
                if not math.isfinite(loss):
                    raise DivergenceError(f"the loss became {loss} at step {first_step + sums.steps + at}")
                loss_sum += loss
            if self._record_gradient_norms:
                norms.append(call_norms.numpy())
            correct = sums.hits + int(hits.numpy().sum())
            seconds = time.perf_counter() - begin
            timed = (count, seconds) if self._compiled else (0, 0.0)
            if self._compiled:
                self._automatic_steps = int(np.clip(CALL_SECONDS * count / seconds, 1, MAX_STEPS_PER_CALL))
            self._compiled = True
            sums = EpochSums(
                steps=sums.steps + count,
                loss=loss_sum,
                hits=correct,
                seconds=sums.seconds + seconds,
                timed_steps=sums.timed_steps + timed[0],
                timed_seconds=sums.timed_seconds + timed[1],
            )
            so_far = sums.result(self.batch_size)
            on_progress(Progress(sums.steps, so_far.loss, so_far.accuracy, so_far.images_per_second))
        return replace(sums, gradient_norms=np.concatenate(norms)) if norms else sums

    def _build_loop(self) -> Callable[[Any, Any], tuple[Any, Any, Any]]:
        strategy = self._strategy

        def total(per_replica: Any) -> Any:
            return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

        def run_steps(first_step: Any, count: Any) -> tuple[Any, Any, Any]:
            size = tf.cast(count, tf.int32)
            variables = len(self.model.trainable_variables) if self._record_gradient_norms else 0

            def run_step(at: Any, losses: Any, hits: Any, norms: Any) -> tuple[Any, Any, Any, Any]:
                step = first_step + tf.cast(at, tf.int64)
                loss, step_hits, step_norms = strategy.run(self._run_replica_step, args=(step,))
                return (
                    at + 1,
                    losses.write(at, total(loss)),
                    hits.write(at, total(step_hits)),
                    norms.write(at, total(step_norms) / strategy.num_replicas_in_sync),
                )

            arrays = [tf.TensorArray(tf.float32, size, element_shape=shape) for shape in ((), (), (variables,))]
            _, *done = tf.while_loop(lambda at, *_: at < size, run_step, (tf.constant(0), *arrays))
            losses, hits, norms = (array.stack() for array in done)
            return losses, hits, norms

        return run_steps

    def _run_replica_step(self, step: Any) -> tuple[Any, Any, Any]:
        replicas = self._strategy.num_replicas_in_sync
        context = tf.distribute.get_replica_context()
        images, labels = self._batches(step, context.replica_id_in_sync_group, replicas)
        loss, hits, gradients = self._differentiate(images, labels)
        norms = tf.zeros((0,))
        if self._record_gradient_norms or self._gradient_clipping:
            if replicas > 1:  # norms are of the whole gradient
                gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            scale = self._loss_scale()
            if self._record_gradient_norms:
                norms = tf.stack([tf.norm(tf.cast(gradient, tf.float32)) / scale for gradient in gradients])
            if self._gradient_clipping:
                gradients, _ = tf.clip_by_global_norm(gradients, self._gradient_clipping * scale)
            if replicas > 1:  # the optimizer sums over replicas again
                gradients = [gradient / replicas for gradient in gradients]
        self.optimizer.apply(gradients, self.model.trainable_variables)
        return loss, hits, norms

    def _compute_gradients(self, images: Any, labels: Any) -> tuple[Any, Any, list[Any]]:
        """The loss (this replica's part of the mean over the whole batch), the number of hits, and the gradients."""
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = keras.losses.categorical_crossentropy(
                labels, logits, from_logits=True, label_smoothing=self._label_smoothing
            )
            loss = tf.reduce_sum(losses) / self.batch_size
            penalties = self.model.losses
            objective = loss + tf.add_n(penalties) / self._strategy.num_replicas_in_sync if penalties else loss
            objective = self.optimizer.scale_loss(objective)
        gradients = tape.gradient(objective, [variable.value for variable in self.model.trainable_variables])
        hits = tf.equal(tf.argmax(logits, axis=-1), tf.argmax(labels, axis=-1))
        return loss, tf.reduce_sum(tf.cast(hits, tf.float32)), gradients

    def _loss_scale(self) -> Any:
        return getattr(self.optimizer, "dynamic_scale", 1.0)
