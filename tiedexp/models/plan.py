"""The convolutions of each model family, listed before anything is built: sizes, strides, patterns and names.

Both the builders (plain.py, resnet.py) and the cost (cost.py) read this list, so `tiedexp validate` prints what Keras
then builds, without loading Keras.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiedexp.convolution.costs import BATCH, ConvSize
from tiedexp.patterns.grid import Pattern

MAX_PLAIN_STAGES = 3


@dataclass(frozen=True)
class ConvPlan:
    """One convolution of a model, without bias and with "same" padding.

    Args:
        number: its position, counted from 1 at the input; the layer's name is `conv_<number>`.
        stage: the number of its stage, from 1 (0 for a ResNet's first conv); a stage has one resolution and width.
        in_channels: channels of its input.
        filters: channels of its output.
        kernel_size: (rows, cols).
        strides: in pixels, along rows and columns.
        input_size: (rows, cols) of its input.
        output_size: (rows, cols) of its output.
        pattern: how the kernel is tied; None for a standard convolution.
    """

    number: int
    stage: int
    in_channels: int
    filters: int
    kernel_size: tuple[int, int]
    strides: int
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    pattern: Pattern | None

    @property
    def name(self) -> str:
        """The layer's name, the same in every run."""
        return f"conv_{self.number}"

    @property
    def size(self) -> ConvSize:
        """The sizes on which the choice of its methods depends."""
        strides = self.strides, self.strides
        return ConvSize(BATCH, self.input_size, self.output_size, self.in_channels, self.filters, strides)


def count_plain_convs(depth: int) -> int:
    """The number of convs: `depth` does not count the classifier."""
    return depth


def plan_plain(
    image_shape: tuple[int, int, int],
    *,
    width: int,
    kernel_size: int | tuple[int, int],
    patterns: Sequence[Pattern | None],
) -> list[ConvPlan]:
    """The convs of a plain stack: up to three stages, each at half the resolution and twice the width of the previous.

    If the convs do not divide evenly, earlier stages have one more. Small images and shallow models have fewer stages,
    so that no stage is empty and no conv sees an image smaller than 2 pixels.

    Args:
        image_shape: (rows, cols, channels).
        width: filters of the first stage.
        kernel_size: side or (rows, cols).
        patterns: one entry per conv.
    """
    rows, cols, channels = image_shape
    num_stages = 1
    while num_stages < min(MAX_PLAIN_STAGES, len(patterns)) and min(rows, cols) >> num_stages >= 2:
        num_stages += 1
    convs: list[ConvPlan] = []
    for number, pattern in enumerate(patterns, start=1):
        halvings = (number - 1) * num_stages // len(patterns)
        filters = width << halvings
        size = (rows >> halvings, cols >> halvings)
        convs.append(ConvPlan(number, halvings + 1, channels, filters, _pair(kernel_size), 1, size, size, pattern))
        channels = filters
    return convs


def count_resnet_convs(depth: int) -> int:
    """The number of convs: `depth` also counts the classifier.

    Raises:
        ValueError: no resnet has this depth.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError("a resnet has depth 6n+2, such as 8, 14, 20, 26, 32, 44 or 56")
    return depth - 1


def plan_resnet(
    image_shape: tuple[int, int, int],
    *,
    width: int,
    widen: int,
    kernel_size: int | tuple[int, int],
    patterns: Sequence[Pattern | None],
) -> list[ConvPlan]:
    """The convs of a CIFAR ResNet (He et al. 2016, section 4.2, arXiv 1512.03385): one, then three stages of n blocks.

    The stages have `width * widen` filters, twice and four times as many; the second and third begin with stride 2.
    With `widen` above 1, the widths are those of wide residual networks (Zagoruyko & Komodakis 2016, arXiv 1605.07146).

    Args:
        image_shape: (rows, cols, channels).
        width: filters of the first conv.
        widen: factor on the width of the stages.
        kernel_size: side or (rows, cols).
        patterns: one entry per conv, 6n+1 in all.

    Raises:
        ValueError: the number of patterns is not 6n+1.
    """
    blocks, rest = divmod(len(patterns) - 1, 6)
    if rest or blocks < 1:
        raise ValueError(f"a resnet has 6n+1 convs before its classifier. Received: {len(patterns)} patterns")
    rows, cols, channels = image_shape
    size = rows, cols
    convs = [ConvPlan(1, 0, channels, width, _pair(kernel_size), 1, size, size, patterns[0])]
    for number, pattern in enumerate(patterns[1:], start=2):
        stage, conv = divmod(number - 2, 2 * blocks)
        strides = 2 if stage > 0 and conv == 0 else 1
        output_size = -(-size[0] // strides), -(-size[1] // strides)
        filters = (width * widen) << stage
        in_channels = convs[-1].filters
        convs.append(
            ConvPlan(number, stage + 1, in_channels, filters, _pair(kernel_size), strides, size, output_size, pattern)
        )
        size = output_size
    return convs


def _pair(kernel_size: int | tuple[int, int]) -> tuple[int, int]:
    return (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
