"""Whether a run from elsewhere can be tested on this machine, before anything large is made."""

from __future__ import annotations

import math
import os
from pathlib import Path

from tiedexp.data.sources import DatasetShape
from tiedexp.errors import RunError
from tiedexp.experiment.plan import Plan

_FLOAT_BYTES = 4


def check_fits(plan: Plan, data: DatasetShape, weights: Path, batch_size: int) -> None:
    """Refuse a model that cannot be what the weights belong to, or that needs more memory than there is.

    Args:
        plan: the model.
        data: the images, not yet loaded.
        weights: the file of weights.
        batch_size: images at a time.

    Raises:
        RunError: says how much is needed and how much there is.
    """
    stored, wanted = weights.stat().st_size, _FLOAT_BYTES * plan.cost.unique_weights
    if stored < wanted:
        raise RunError(
            f"{weights} has {stored:,} bytes, but the weights of the model in the run's spec take {wanted:,}"
        )
    needed, there = _estimate_memory(plan, data, batch_size), _find_memory()
    if there is not None and needed > there:
        raise RunError(
            f"the model and images of the run's spec need about {needed / 2**30:,.0f} GiB of memory; "
            f"this machine has {there / 2**30:,.0f}"
        )


def _estimate_memory(plan: Plan, data: DatasetShape, batch_size: int) -> int:
    """Bytes of the images, the expanded kernels, and the largest layer's inputs and outputs."""
    images = (data.train_images + data.test_images) * math.prod(data.image_shape)
    largest = max(math.prod(layer.output_shape) for layer in plan.cost.layers)
    return images + _FLOAT_BYTES * (plan.cost.expanded_weights + 2 * batch_size * largest)


def _find_memory() -> int | None:
    """Bytes of memory in this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None
