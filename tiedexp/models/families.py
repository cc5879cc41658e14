"""The model families, in one table: how each counts its depth, plans its convolutions and is built.

To add a family, write a planning function and a builder in a module of its own, and add a row to `FAMILIES`; the spec,
the commands and the experiment read this table. Only `Family.build` loads Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any

from tiedexp.models.plan import ConvPlan, count_plain_convs, count_resnet_convs, plan_plain, plan_resnet


@dataclass(frozen=True)
class Family:
    """A kind of model.

    Args:
        meaning: what it is, in a few words.
        depth: what `depth` counts, in a few words.
        count_convs: a function of `depth` that returns the number of convolutions that can be tied. It raises
            ValueError for a depth that no model of the family has.
        plan: a function of `(image_shape, *, width, kernel_size, patterns, **options)` that returns the convolutions
            in order.
        builder: "module:function", imported when a model is built. The function is called with
            `(image_shape, num_classes, convs, *, gradient, implementation, dropout, dtype)` and returns a keras.Model.
        options: the keys of a spec's `model` that only some families have and that `plan` takes in addition.
    """

    meaning: str
    depth: str
    count_convs: Callable[[int], int]
    plan: Callable[..., list[ConvPlan]]
    builder: str
    options: tuple[str, ...] = ()

    def build(
        self, image_shape: tuple[int, int, int], num_classes: int, convs: Sequence[ConvPlan], **options: Any
    ) -> Any:
        """Build a keras.Model with these convolutions and new weights."""
        return resolve_name(self.builder)(image_shape, num_classes, convs, **options)


FAMILIES = {
    "plain": Family(
        meaning="conv-BN-ReLU stack",
        depth="number of conv layers",
        count_convs=count_plain_convs,
        plan=plan_plain,
        builder="tiedexp.models.plain:build_plain",
    ),
    "resnet": Family(
        meaning="CIFAR ResNet (He et al. 2016)",
        depth="6n+2 weight layers",
        count_convs=count_resnet_convs,
        plan=plan_resnet,
        builder="tiedexp.models.resnet:build_resnet",
        options=("widen",),
    ),
}


def describe_families() -> str:
    """What each family is, in one line: `plain: conv-BN-ReLU stack; resnet: ...`."""
    return "; ".join(f"{name}: {family.meaning}" for name, family in FAMILIES.items())


def describe_depths() -> str:
    """What `depth` counts in each family, in one line."""
    return "; ".join(f"{name}: {family.depth}" for name, family in FAMILIES.items())
