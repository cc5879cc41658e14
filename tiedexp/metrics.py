"""How good a model is on a split: from its logits to all the figures that are reported."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special
import scipy.stats
import sklearn.metrics

from tiedexp.errors import DivergenceError
from tiedexp.runs.records import ClassResult, Evaluation

CALIBRATION_BINS = 15


class Predictor:
    """Runs a model over batches, with one graph for batches of any size.

    A graph for a fixed size may round differently. If each size had its own graph, the logits would depend on the sizes
    that this process has seen before.

    Args:
        model: images to logits; its input shape must be known except for the batch.
    """

    def __init__(self, model: Any):
        import tensorflow as tf

        (images,) = model.inputs
        self._predict = tf.function(
            lambda images: model(images, training=False),
            input_signature=[tf.TensorSpec((None, *images.shape[1:]), images.dtype)],
            autograph=False,
        )

    def __call__(self, batches: Iterable[tuple[Any, Any]]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Compute the logits of batches.

        Args:
            batches: pairs of images, (batch, rows, cols, channels), and labels, (batch,).

        Returns:
            The logits, float64 (images, classes), and the labels, int64 (images,), of all batches.
        """
        results = [(self._predict(images).numpy(), np.asarray(labels)) for images, labels in batches]
        logits, labels = (np.concatenate(parts) for parts in zip(*results, strict=True))
        return logits.astype(np.float64), labels.astype(np.int64)


def compute_loss_and_accuracy(logits: npt.NDArray[Any], labels: npt.NDArray[Any]) -> tuple[float, float]:
    """The mean cross-entropy and the accuracy, from logits (images, classes) and labels (images,).

    Raises:
        DivergenceError: the logits contain NaN or infinity.
    """
    bad = np.count_nonzero(~np.isfinite(logits).all(axis=1))
    if bad:
        raise DivergenceError(f"the model's outputs contain NaN or infinity for {bad:,} of {len(logits):,} images")
    log_probabilities = scipy.special.log_softmax(logits, axis=1)
    loss = -log_probabilities[np.arange(len(labels)), labels].mean()
    return float(loss), float((logits.argmax(axis=1) == labels).mean())


def compute_evaluation(logits: npt.NDArray[Any], labels: npt.NDArray[Any], class_names: Sequence[str]) -> Evaluation:
    """All results, from logits (images, classes) and labels (images,).

    Raises:
        DivergenceError: the logits contain NaN or infinity.
    """
    loss, accuracy = compute_loss_and_accuracy(logits, labels)
    log_probabilities = scipy.special.log_softmax(logits, axis=1)
    predictions = logits.argmax(axis=1)
    hits = predictions == labels
    interval = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(0.95, method="wilson")
    every_class = np.arange(len(class_names))
    precision, recall, f1, images = sklearn.metrics.precision_recall_fscore_support(
        labels, predictions, labels=every_class, zero_division=0.0
    )
    top5 = None
    if len(class_names) > 5:
        top5 = float(sklearn.metrics.top_k_accuracy_score(labels, logits, k=5, labels=every_class))
    return Evaluation(
        images=len(hits),
        loss=loss,
        accuracy=accuracy,
        accuracy_interval=(float(interval.low), float(interval.high)),
        top5_accuracy=top5,
        calibration_error=_calibration_error(np.exp(log_probabilities.max(axis=1)), hits),
        classes=tuple(
            ClassResult(name=name, images=int(count), precision=float(p), recall=float(r), f1=float(f))
            for name, count, p, r, f in zip(class_names, images, precision, recall, f1, strict=True)
        ),
        confusion=tuple(
            tuple(row) for row in sklearn.metrics.confusion_matrix(labels, predictions, labels=every_class).tolist()
        ),
    )


def _calibration_error(confidence: npt.NDArray[Any], hits: npt.NDArray[Any]) -> float:
    """The mean over all images of |accuracy - confidence| in their bin of confidence."""
    bins = np.minimum((confidence * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=hits - confidence, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(hits))
