"""Which way to compute a tied convolution is the fastest: an estimate from the pattern and the sizes alone.

Forward, gradient with respect to the input and gradient with respect to the weights are chosen apart, each among the
expanded kernel, the pattern's factorings and compiled code, by their costs (`tiedexp.patterns.costs`). The estimate is
a pure function, so that a deterministic run makes the same choice everywhere; `tiedexp.layers.measuring` refines it by
the clock where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from tiedexp.errors import PatternError
from tiedexp.patterns.costs import (
    DEPTHWISE_FORWARD,
    DEPTHWISE_INPUT_GRADIENT,
    DEPTHWISE_PADDED,
    DEPTHWISE_SMALL,
    DEPTHWISE_WEIGHT_GRADIENT,
    ConvSize,
    Work,
    cost_dense,
    cost_gradient,
    cost_images,
    cost_native,
    cost_native_gradient,
    cost_taps,
    count_reads,
)
from tiedexp.patterns.factoring import Factoring, factor, factor_cells, factor_rotated, factor_rotated_cells
from tiedexp.patterns.grid import Pattern

EXPAND = "expand"
NATIVE = "native"  # by compiled code, from the sums of the groups
# An estimate must promise this much before the expanded kernel is left, as it is a little wrong.
MARGIN = 0.88


@dataclass(frozen=True)
class Choice:
    """How each part of a training step is computed: "expand", the name of a factoring, or "native".

    "native" is the factoring "sums" in compiled code; where that cannot run, the kernel is expanded.

    Args:
        forward: the output.
        input_gradient: the gradient with respect to the input.
        weight_gradient: the gradient with respect to the free weights.
        weight_gradient_of: which tensor's sum images serve for it, "input" or "output" (then shared with the
            gradient with respect to the input, if that has the same factoring).
    """

    forward: str = EXPAND
    input_gradient: str = EXPAND
    weight_gradient: str = EXPAND
    weight_gradient_of: str = "input"

    @classmethod
    def of(cls, value: Mapping[str, Any], pattern: Pattern) -> Choice:
        """A choice from its mapping, checked against the factorings the pattern has.

        Raises:
            PatternError: unknown keys, or no such factoring.
        """
        fields = asdict(cls())
        unknown = set(value) - set(fields)
        if unknown:
            raise PatternError(f"unknown keys {sorted(unknown)} in `implementation`; there are {', '.join(fields)}")
        names = (EXPAND, *_names(factor(pattern), native=True))
        rotated_names = (EXPAND, *_names(factor_rotated(pattern), native=True))
        choice = cls(**{**fields, **value})
        allowed = {
            "forward": names,
            "input_gradient": rotated_names,
            "weight_gradient": names if choice.weight_gradient_of == "input" else rotated_names,
            "weight_gradient_of": ("input", "output"),
        }
        for key, options in allowed.items():
            if getattr(choice, key) not in options:
                raise PatternError(
                    f"`implementation`: {key} is '{getattr(choice, key)}', but this pattern has {', '.join(options)}"
                )
        return choice

    @property
    def is_expanded(self) -> bool:
        """Whether nothing is factored."""
        return self.forward == self.input_gradient == self.weight_gradient == EXPAND

    def fit(self, size: ConvSize) -> Choice:
        """The same with the expanded kernel in place of what cannot be at a size."""
        fields = self.as_dict()
        if size.groups > 1:  # sum images in memory know none
            fields.update(
                (key, EXPAND) for key in ("forward", "input_gradient", "weight_gradient") if fields[key] != NATIVE
            )
        if not can_factor_backward(size):
            fields["input_gradient"] = EXPAND
            if self.weight_gradient_of == "output":
                fields.update(weight_gradient=EXPAND, weight_gradient_of="input")
        return Choice(**fields)

    def __str__(self) -> str:
        if self.forward == self.input_gradient == self.weight_gradient:
            return self.forward
        return f"{self.forward} | {self.input_gradient} | {self.weight_gradient}"

    def as_dict(self) -> dict[str, str]:
        """The fields, as text."""
        return asdict(self)


def find_factoring(
    pattern: Pattern, name: str, depthwise: bool = False, strides: tuple[int, int] = (1, 1)
) -> Factoring:
    """The factoring of a pattern with a name, or the one that "native" uses.

    For each channel on its own (`depthwise`) that is the cells themselves where sums would be no less work.
    """
    found = _find(factor(pattern), name)
    return _lighter(found, factor_cells(pattern), strides) if depthwise and name == NATIVE else found


def find_rotated_factoring(pattern: Pattern, name: str, depthwise: bool = False) -> Factoring:
    """The same of the pattern's kernel turned by 180 degrees."""
    found = _find(factor_rotated(pattern), name)
    return _lighter(found, factor_rotated_cells(pattern), (1, 1)) if depthwise and name == NATIVE else found


def _find(factorings: Sequence[Factoring], name: str) -> Factoring:
    return next(factoring for factoring in factorings if factoring.name == ("sums" if name == NATIVE else name))


def _lighter(sums: Factoring, cells: Factoring, strides: tuple[int, int]) -> Factoring:
    pixels = DEPTHWISE_PADDED * strides[0] * strides[1]
    return sums if count_reads(sums, pixels) < count_reads(cells, pixels) else cells


def _names(factorings: Sequence[Factoring], native: bool) -> list[str]:
    """Ways to use factorings, the compiled one among them if it may be."""
    names = [factoring.name for factoring in factorings]
    return [*names, NATIVE] if native and "sums" in names else names


def _usable(factorings: Sequence[Factoring], size: ConvSize, native: bool) -> list[str]:
    """Ways to use factorings at a size: sum images in memory know no groups of channels."""
    names = _names(factorings, native)
    return names if size.groups == 1 else [name for name in names if name == NATIVE]


def can_factor_backward(size: ConvSize) -> bool:
    """Whether the sum images of the output's gradient serve: not with strides, which spread it out."""
    return size.strides == (1, 1)


def estimate_forward(pattern: Pattern, size: ConvSize, name: str) -> Work:
    """The work of the output, in the way of `name`."""
    if name == EXPAND:
        return cost_dense(pattern, size, DEPTHWISE_FORWARD)
    factoring = find_factoring(pattern, name, size.is_depthwise, size.strides)
    if name == NATIVE:
        return cost_native(factoring, size)
    return cost_images(factoring, size) + cost_taps(factoring, size)


def estimate_backward(pattern: Pattern, size: ConvSize, choice: Choice) -> Work:
    """The work of both gradients."""
    turned = size.reversed()
    work = Work()
    shared = False
    if choice.input_gradient == EXPAND:
        work += cost_dense(pattern, size, DEPTHWISE_INPUT_GRADIENT)
    elif choice.input_gradient == NATIVE:
        work += cost_native(find_rotated_factoring(pattern, NATIVE, size.is_depthwise), turned)
    else:
        factoring = find_rotated_factoring(pattern, choice.input_gradient)
        work += cost_images(factoring, turned) + cost_taps(factoring, turned)
        shared = choice.weight_gradient_of == "output" and choice.weight_gradient == choice.input_gradient
    if choice.weight_gradient == EXPAND:
        small = pattern.index.size <= DEPTHWISE_SMALL
        return work + cost_dense(pattern, size, DEPTHWISE_FORWARD if small else DEPTHWISE_WEIGHT_GRADIENT)
    if choice.weight_gradient == NATIVE:
        return work + cost_native_gradient(find_factoring(pattern, NATIVE, size.is_depthwise, size.strides), size)
    if choice.weight_gradient_of == "output":
        factoring, read = find_rotated_factoring(pattern, choice.weight_gradient), turned
    else:
        factoring, read = find_factoring(pattern, choice.weight_gradient), size
    return work + (Work() if shared else cost_images(factoring, read)) + cost_gradient(factoring, read)


def estimate_step(pattern: Pattern, size: ConvSize, choice: Choice) -> Work:
    """The work of a training step of the layer: the output and both gradients."""
    return estimate_forward(pattern, size, choice.forward) + estimate_backward(pattern, size, choice)


def list_forward(pattern: Pattern, size: ConvSize, native: bool = False) -> list[str]:
    """Ways to compute the output, the cheapest first by the estimate; `native` says whether compiled code can run."""
    names = [EXPAND, *_usable(factor(pattern), size, native)]
    return sorted(names, key=lambda name: estimate_forward(pattern, size, name).cost)


def list_backward(pattern: Pattern, size: ConvSize, native: bool = False) -> list[Choice]:
    """Ways to compute the gradients (`forward` is left at "expand"), the cheapest first by the estimate."""
    choices = _backward_choices(pattern, size, native)
    return sorted(choices, key=lambda choice: estimate_backward(pattern, size, choice).cost)


def _backward_choices(pattern: Pattern, size: ConvSize, native: bool) -> Iterator[Choice]:
    yield Choice()
    names = _usable(factor(pattern), size, native)
    rotated = _usable(factor_rotated(pattern), size, native) if can_factor_backward(size) else []
    for input_gradient in (EXPAND, *rotated):
        for weight_gradient in names:
            yield Choice(EXPAND, input_gradient, weight_gradient, "input")
        for weight_gradient in rotated:
            if weight_gradient != NATIVE:  # it has no images to share
                yield Choice(EXPAND, input_gradient, weight_gradient, "output")
        if input_gradient != EXPAND:
            yield Choice(EXPAND, input_gradient, EXPAND)


@lru_cache(maxsize=4096)
def choose(pattern: Pattern, size: ConvSize, implementation: str = "auto", native: bool = False) -> Choice:
    """The cheapest way by the estimate.

    Args:
        pattern: the tying.
        size: sizes of the convolution.
        implementation: "auto"; "expand", the dense kernel; "factored", the cheapest factoring where there is one, even
            if the dense kernel is cheaper.
        native: whether compiled code can run.
    """
    if implementation == EXPAND:
        return Choice()
    forward, backward = list_forward(pattern, size, native), list_backward(pattern, size, native)
    if implementation == "factored":
        best = max(backward, key=lambda way: (_num_factored(way), -estimate_backward(pattern, size, way).cost))
        return replace(best, forward=next((name for name in forward if name != EXPAND), EXPAND))
    chosen = backward[0]
    if estimate_backward(pattern, size, chosen).cost > MARGIN * estimate_backward(pattern, size, Choice()).cost:
        chosen = Choice()
    dense = estimate_forward(pattern, size, EXPAND).cost
    worth = estimate_forward(pattern, size, forward[0]).cost <= MARGIN * dense
    return replace(chosen, forward=forward[0] if worth else EXPAND)


def _num_factored(choice: Choice) -> int:
    return (choice.input_gradient != EXPAND) + (choice.weight_gradient != EXPAND)
