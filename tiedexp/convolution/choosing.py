"""Which method computes a tied convolution fastest, estimated from the pattern and the sizes alone.

The output, the input gradient and the weight gradient each have a choice of their own, between the expanded kernel and
compiled code, by estimated cost (`tiedexp.convolution.costs`). The estimate is a pure function, so a deterministic run
makes the same choice everywhere; `tiedexp.convolution.measuring` refines it by timing where that is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

from tiedexp.convolution.costs import (
    DEPTHWISE_FORWARD,
    DEPTHWISE_INPUT_GRADIENT,
    DEPTHWISE_PADDED,
    DEPTHWISE_SMALL,
    DEPTHWISE_WEIGHT_GRADIENT,
    ConvSize,
    Work,
    cost_dense,
    cost_native,
    cost_native_gradient,
    count_reads,
)
from tiedexp.convolution.factoring import Factoring, factor, factor_cells, use_weights_of
from tiedexp.errors import PatternError
from tiedexp.patterns.grid import Pattern

EXPAND = "expand"
NATIVE = "native"  # by compiled code, from sums of the input over each group's cells
# Estimates are a little off, so compiled code must promise to take at most this fraction of the expanded kernel's time.
MARGIN = 0.88
# Saved layers and manifests of tiedexp 0.1.0 have these: sums of the input by TensorFlow's operations, and the tensor
# whose sums gave the weight gradient.
FORMER_METHODS = ("boxes", "row boxes", "column boxes", "sums")
FORMER_KEY = "weight_gradient_of"


@dataclass(frozen=True)
class Choice:
    """The method that computes each part of a training step: "expand" or "native".

    Where compiled code cannot run, the kernel is expanded whatever the choice.

    Args:
        forward: the output.
        input_gradient: the gradient with respect to the input.
        weight_gradient: the gradient with respect to the free weights.
    """

    forward: str = EXPAND
    input_gradient: str = EXPAND
    weight_gradient: str = EXPAND

    @classmethod
    def of(cls, value: Mapping[str, Any], pattern: Pattern) -> Choice:
        """A choice from its mapping, checked against the methods that the pattern has.

        Raises:
            PatternError: a key is unknown, or the pattern does not have the method.
        """
        value = {
            key: NATIVE if method in FORMER_METHODS else method for key, method in value.items() if key != FORMER_KEY
        }
        unknown = set(value) - set(PARTS)
        if unknown:
            raise PatternError(f"unknown keys {sorted(unknown)} in `implementation`; the keys are {', '.join(PARTS)}")
        methods = (EXPAND,) if factor(pattern) is None else (EXPAND, NATIVE)
        for key, method in value.items():
            if method not in methods:
                raise PatternError(
                    f"`implementation`: {key} is '{method}', but for this pattern it can be {', '.join(methods)}"
                )
        return cls(**value)

    @property
    def is_expanded(self) -> bool:
        """Whether every part uses the expanded kernel."""
        return self == Choice()

    def fit(self, size: ConvSize) -> Choice:
        """This choice, with the expanded kernel for the parts that compiled code cannot compute at a size."""
        return Choice(*(method if can_compile(part, size) else EXPAND for part, method in self.as_dict().items()))

    def __str__(self) -> str:
        methods = self.as_dict().values()
        return self.forward if len(set(methods)) == 1 else " | ".join(methods)

    def as_dict(self) -> dict[str, str]:
        """The fields, as text."""
        return asdict(self)


FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = PARTS = tuple(field.name for field in fields(Choice))


def can_compile(part: str, size: ConvSize) -> bool:
    """Whether compiled code can compute a part: all but the input gradient of a convolution with strides."""
    return part != INPUT_GRADIENT or size.strides == (1, 1)


@lru_cache(maxsize=512)
def find_factoring(pattern: Pattern, depthwise: bool = False, strides: tuple[int, int] = (1, 1)) -> Factoring:
    """The factoring with which compiled code computes the output and the weight gradient.

    A depthwise convolution reads the cells themselves where sums would be no less work.
    """
    factoring, cells = factor(pattern), factor_cells(pattern)
    if factoring is None or not depthwise:
        return factoring or cells
    pixels = DEPTHWISE_PADDED * strides[0] * strides[1]
    return factoring if count_reads(factoring, pixels) < count_reads(cells, pixels) else cells


@lru_cache(maxsize=512)
def find_rotated_factoring(pattern: Pattern, depthwise: bool = False) -> Factoring:
    """The factoring with which compiled code computes the input gradient, with the free weights of the pattern.

    The gradient of a convolution with respect to its input is a convolution with the kernel rotated by 180 degrees.
    """
    rotated = pattern.transform("rot180")
    return use_weights_of(pattern, rotated, find_factoring(rotated, depthwise))


def estimate(pattern: Pattern, size: ConvSize, part: str, method: str) -> Work:
    """The work of one part of a training step, computed by one method.

    Args:
        pattern: how the kernel is tied.
        size: the sizes of the convolution.
        part: one of `PARTS`.
        method: `EXPAND` or `NATIVE`.
    """
    if method == EXPAND:
        small = pattern.index.size <= DEPTHWISE_SMALL
        depthwise = {
            FORWARD: DEPTHWISE_FORWARD,
            INPUT_GRADIENT: DEPTHWISE_INPUT_GRADIENT,
            WEIGHT_GRADIENT: DEPTHWISE_FORWARD if small else DEPTHWISE_WEIGHT_GRADIENT,
        }
        return cost_dense(pattern, size, depthwise[part])
    if part == INPUT_GRADIENT:
        return cost_native(find_rotated_factoring(pattern, size.is_depthwise), size.reversed())
    factoring = find_factoring(pattern, size.is_depthwise, size.strides)
    return cost_native(factoring, size) if part == FORWARD else cost_native_gradient(factoring, size)


def estimate_step(pattern: Pattern, size: ConvSize, choice: Choice) -> Work:
    """The work of a training step of a layer: the output and both gradients."""
    return sum((estimate(pattern, size, part, method) for part, method in choice.as_dict().items()), Work())


def compare_methods(pattern: Pattern, size: ConvSize, part: str) -> float | None:
    """The estimated time of compiled code for a part, divided by that of the expanded kernel; None if it cannot run."""
    if factor(pattern) is None or not can_compile(part, size):
        return None
    return estimate(pattern, size, part, NATIVE).cost / estimate(pattern, size, part, EXPAND).cost


@lru_cache(maxsize=4096)
def choose(pattern: Pattern, size: ConvSize, implementation: str = "auto", native: bool = False) -> Choice:
    """The fastest methods by the estimate.

    Args:
        pattern: how the kernel is tied.
        size: the sizes of the convolution.
        implementation: "auto"; "expand" for the expanded kernel; "factored" for compiled code wherever it can run,
            even if the expanded kernel is faster.
        native: whether compiled code can run on this machine.
    """
    if implementation == EXPAND or not native:
        return Choice()
    ratios = {part: compare_methods(pattern, size, part) for part in PARTS}
    limit = MARGIN if implementation == "auto" else float("inf")
    return Choice(**{part: NATIVE for part, ratio in ratios.items() if ratio is not None and ratio <= limit})
