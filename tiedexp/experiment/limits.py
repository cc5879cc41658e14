"""Whether a run fits into this machine's memory, checked before anything large is allocated.

On a CPU TensorFlow does not report that memory ran out: its C++ code aborts the process, or the kernel kills it.
"""

from __future__ import annotations

import math
from pathlib import Path

from tiedexp.data.sources import Dataset, DatasetShape
from tiedexp.errors import RunError
from tiedexp.experiment.preparation import Plan
from tiedexp.host import find_memory

_FLOAT_BYTES = 4


def check_fits(plan: Plan, data: DatasetShape, weights: Path, batch_size: int) -> None:
    """Refuse a model that cannot belong to the weights, or that needs more memory than there is.

    Args:
        plan: the model.
        data: the shape and number of the images, which are not loaded yet.
        weights: the weights file.
        batch_size: images per batch.

    Raises:
        RunError: the file is too small for the model, or there is too little memory.
    """
    stored, wanted = weights.stat().st_size, _FLOAT_BYTES * plan.cost.unique_weights
    if stored < wanted:
        raise RunError(
            f"{weights} has {stored:,} bytes, but the weights of the model in the run's spec take {wanted:,}"
        )
    images = (data.train_images + data.test_images) * math.prod(data.image_shape)
    largest = max(math.prod(layer.output_shape) for layer in plan.cost.layers)
    needed = images + _FLOAT_BYTES * (plan.cost.expanded_weights + 2 * batch_size * largest)
    _check_memory(needed, "the model and images of the run's spec")


def check_step_fits(plan: Plan, dataset: Dataset) -> None:
    """Refuse a training step on CPUs that needs more memory than there is.

    The estimate is a lower bound, so not every step that is too large is refused: it counts the images, the expanded
    kernels, and the outputs of convolutions and normalisations, which are kept for the gradients.

    Raises:
        RunError: there is too little memory; says how much is needed.
    """
    training = plan.spec.training
    images = dataset.train.images.nbytes + dataset.test.images.nbytes
    outputs = training.batch_size * sum(math.prod(layer.output_shape) for layer in plan.cost.layers)
    size = _FLOAT_BYTES if training.precision == "float32" else _FLOAT_BYTES // 2
    needed = images + _FLOAT_BYTES * plan.cost.expanded_weights + size * outputs
    advice = "; a smaller training.batch_size or model.width needs less"
    _check_memory(needed, "the images, the model and its training step", advice)


def _check_memory(needed: int, whose: str, advice: str = "") -> None:
    there = find_memory()
    if there is not None and needed > there:
        raise RunError(
            f"{whose} need about {needed / 2**30:,.1f} GiB of memory; there are {there / 2**30:,.1f}{advice}"
        )
