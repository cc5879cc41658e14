"""What a run writes for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tiedexp.drawing.confusion import draw_confusion
from tiedexp.drawing.kernels import draw_kernels
from tiedexp.experiment.preparation import Plan, name_pattern
from tiedexp.runs.records import EpochLine, Evaluation
from tiedexp.runs.tensorboard import TensorBoardLog
from tiedexp.spec.loading import dump_spec

if TYPE_CHECKING:
    import keras

    from tiedexp.training.trainer import EpochResult


def log_head(log: TensorBoardLog, plan: Plan, dataset_name: str) -> None:
    """Write what is known before the first epoch: hyperparameters, the spec as text, and the layout of the charts."""
    cost, model, training = plan.cost, plan.spec.model, plan.spec.training
    tied = [conv.pattern for conv in plan.convs if conv.pattern is not None]
    rows, cols = plan.convs[0].kernel_size
    log.layout()
    log.text("spec", 0, f"```yaml\n{dump_spec(plan.spec)}\n```")
    log.hparams(
        {
            # TensorBoard shows the first five by default.
            "pattern": name_pattern(model),
            "pattern_groups": tied[0].num_groups if tied else rows * cols,
            "unique_weights": cost.unique_weights,
            "macs_tied": cost.macs_tied,
            "seed": plan.spec.seed,
            "pattern_digest": tied[0].digest if tied else "none",
            "tied_convs": len(tied),
            "family": model.family,
            "depth": model.depth,
            "width": model.width,
            "kernel_size": f"{rows}x{cols}",
            "expanded_weights": cost.expanded_weights,
            "macs_dense": cost.macs_dense,
            "dataset": dataset_name,
            "optimizer": training.optimizer.name,
            "learning_rate": training.optimizer.learning_rate,
            "batch_size": training.batch_size,
        }
    )


def log_epoch(log: TensorBoardLog, line: EpochLine, result: EpochResult, plan: Plan, model: keras.Model) -> None:
    """Write one epoch: its line of metrics.jsonl, and kernels and histograms if the spec asks for them."""
    epoch, rate = line.epoch, {"learning_rate": line.learning_rate}
    log.scalars("train", epoch, {**line.train.as_json(), **rate})
    if line.validation is not None:
        log.scalars("validation", epoch, {**line.validation.as_json(), **rate})
    log_hparams_metrics(log, line)
    if plan.spec.tensorboard.kernels:
        for conv in plan.convs:
            if conv.pattern is not None:
                kernel = model.get_layer(conv.name).kernel.numpy()
                log.image("train", f"kernels/{conv.name}", epoch, draw_kernels(conv.pattern, kernel, conv.name))
    if plan.spec.tensorboard.histograms:
        for at, variable in enumerate(model.trainable_variables):
            log.histogram("train", f"weights/{variable.path}", epoch, variable.numpy())
            if result.gradient_norms is not None:
                log.histogram("train", f"gradient_norms/{variable.path}", epoch, result.gradient_norms[:, at])
    log.flush()


def log_hparams_metrics(log: TensorBoardLog, line: EpochLine) -> None:
    """Write what the HParams tab shows of an epoch; a log does not keep it from an earlier process."""
    if line.validation is not None:
        log.hparams_metrics(line.epoch, {"validation accuracy": line.validation.accuracy})


def log_end(
    log: TensorBoardLog,
    epoch: int,
    last_epoch: int,
    test: Evaluation,
    validation: Evaluation | None,
    extra: Mapping[str, float],
) -> None:
    """Write the test of the best epoch; the HParams table shows its validation accuracy beside it."""
    log.scalars("test", epoch, {"loss": test.loss, "accuracy": test.accuracy, **extra})
    log.image(
        "test", "confusion", epoch, draw_confusion(np.array(test.confusion), [result.name for result in test.classes])
    )
    log.hparams_metrics(last_epoch, {"test accuracy": test.accuracy})
    if validation is not None:
        log.hparams_metrics(last_epoch, {"validation accuracy": validation.accuracy})
    log.flush()
