"""The pictures are PNGs, and their pixels show what they should."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

import tiedexp
from tiedexp.drawing.confusion import draw_confusion
from tiedexp.drawing.kernels import draw_kernel_change, draw_kernels
from tiedexp.drawing.patterns import draw_pattern
from tiedexp.drawing.speed import draw_speed
from tiedexp.patterns.grid import Pattern

BLOCK = Pattern.preset("block", 5)


def pixels_of(png: bytes) -> np.ndarray:
    """(height, width, 3) uint8."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def colours_of(png: bytes, least: int) -> set[tuple[int, ...]]:
    """The colours that cover at least this many pixels."""
    colours, counts = np.unique(pixels_of(png).reshape(-1, 3), axis=0, return_counts=True)
    return {tuple(colour) for colour in colours[counts >= least].tolist()}


def kernel_of(pattern: Pattern, channels: int, filters: int, seed: int = 0) -> np.ndarray:
    free = np.random.default_rng(seed).normal(size=(pattern.num_groups, channels, filters))
    return pattern.expand(free)


def test_a_pattern_has_one_colour_per_group():
    colours = colours_of(draw_pattern(BLOCK), least=1500) - {(255, 255, 255), (34, 34, 34)}
    assert len(colours) == 9


def cell_colour(pattern: Pattern, row: int, col: int) -> tuple[int, ...]:
    """The colour of a cell, beside its letter."""
    pixels = pixels_of(draw_pattern(pattern))
    rows, cols = pattern.shape
    height, width = (0.5 * rows + 0.2), (0.5 * cols + 0.2)  # inches: cells of 0.5, a margin of 0.1
    y, x = (0.1 + 0.5 * (row + 0.2)) / height, (0.1 + 0.5 * (col + 0.2)) / width
    return tuple(pixels[int(y * pixels.shape[0]), int(x * pixels.shape[1])].tolist())


def test_equal_cells_have_one_colour_and_other_groups_another():
    pattern = Pattern.parse("AAB/AAB/CC.")
    assert cell_colour(pattern, 0, 0) == cell_colour(pattern, 1, 1)
    assert cell_colour(pattern, 0, 2) == cell_colour(pattern, 1, 2)
    assert len({cell_colour(pattern, *cell) for cell in [(0, 0), (0, 2), (2, 0)]}) == 3
    assert cell_colour(pattern, 2, 2) == (255, 255, 255)


def test_a_negative_cell_is_darker_than_its_group():
    pattern = Pattern.parse("A-A")
    assert sum(cell_colour(pattern, 0, 1)) < sum(cell_colour(pattern, 0, 0)) < 3 * 255


@pytest.mark.parametrize(
    "pattern",
    [
        Pattern.preset("full", 1),
        Pattern.preset("full", 11),
        Pattern.preset("anti_point", (2, 7)),
        Pattern.preset("rings_circular", 31),
        Pattern.preset("hashed", 127, groups=500),
    ],
    ids=lambda pattern: "x".join(map(str, pattern.shape)),
)
def test_any_pattern_can_be_drawn(pattern):
    assert pixels_of(draw_pattern(pattern)).min() < 100


def test_kernels_use_a_scale_symmetric_about_zero():
    """The largest weight, here negative, is at the blue end; zero is white, and nothing reaches the red end."""
    kernel = np.zeros((1, 2, 1, 1))
    kernel[0, 0], kernel[0, 1] = -2.0, 0.5
    colours = colours_of(draw_kernels(Pattern.parse("AB"), kernel, "conv"), least=2000)
    scale = colormaps["RdBu_r"]
    assert scale(0.0, bytes=True)[:3] in colours
    assert scale(0.625, bytes=True)[:3] in colours
    assert scale(1.0, bytes=True)[:3] not in colours


@pytest.mark.parametrize(("channels", "filters"), [(1, 1), (1, 64), (3, 5), (64, 1), (64, 256), (2, 9)])
def test_any_number_of_kernels(channels, filters):
    picture = pixels_of(draw_kernels(BLOCK, kernel_of(BLOCK, channels, filters), "conv_1"))
    assert picture.shape == (360, 660, 3)


def changed_box(one: bytes, other: bytes) -> tuple[int, int, int, int]:
    """The top, left, height and width of the part that differs between two pictures."""
    ys, xs = np.nonzero((pixels_of(one) != pixels_of(other)).any(axis=2))
    return int(ys.min()), int(xs.min()), int(np.ptp(ys)) + 1, int(np.ptp(xs)) + 1


def test_a_weight_is_where_its_channel_filter_row_and_column_say():
    """Each channel has a new row of kernels, and between kernels is a gap of one cell."""
    pattern, kernel = Pattern.preset("full", (2, 3)), np.full((2, 3, 2, 2), 0.5)
    kernel[0, 0, 0, 0] = -1.0  # keeps the scale
    other = kernel.copy()
    other[0, 0, 0, 0] = 1.0
    top, left, _, unit = changed_box(draw_kernels(pattern, kernel, "a"), draw_kernels(pattern, other, "a"))
    for row, col, channel, filter_ in np.argwhere(kernel > 0):
        other = kernel.copy()
        other[row, col, channel, filter_] = -0.5
        y, x, height, width = changed_box(draw_kernels(pattern, kernel, "a"), draw_kernels(pattern, other, "a"))
        assert (y - top, x - left) == pytest.approx((unit * (3 * channel + row), unit * (4 * filter_ + col)), abs=4)
        assert (height, width) == pytest.approx((unit, unit), abs=2)


def test_kernels_of_two_times_have_one_scale():
    """The weight before is half of the weight after, so its colour is that of a half, and each is in its own mosaic."""
    pattern = Pattern.parse("AB")
    before, after = np.zeros((1, 2, 1, 1)), np.zeros((1, 2, 1, 1))
    before[0, 0], after[0, 1] = 0.5, -1.0
    drawn = pixels_of(draw_kernel_change(pattern, before, after, "conv", ("before", "after")))
    scale = colormaps["RdBu_r"]
    columns = {}
    for share in (0.75, 0.0):
        _, xs = np.nonzero((drawn[:, :740] == scale(share, bytes=True)[:3]).all(axis=2))
        assert len(xs) > 10_000
        columns[share] = int(xs.min()), int(xs.max())
    assert columns[0.75] == pytest.approx((226, 226 + 119), abs=2)  # the left cell of the left mosaic
    assert columns[0.0] == pytest.approx((490 + 120, 490 + 239), abs=2)  # the right cell of the right one


def test_before_and_after_are_not_exchanged_or_mixed():
    kernels = [kernel_of(BLOCK, 2, 3, seed) for seed in (0, 1)]
    kernels[0][0, 0, 0, 0] = 9.0  # keeps the scale
    names = ("before training", "after epoch 3")
    drawn = draw_kernel_change(BLOCK, *kernels, "a", names)
    other = kernels[1].copy()
    other[0, 0, 1, 2] += 1
    _, left, _, _ = changed_box(drawn, draw_kernel_change(BLOCK, kernels[0], other, "a", names))
    assert left > 480
    other = kernels[0].copy()
    other[0, 0, 1, 2] += 1
    _, left, _, width = changed_box(drawn, draw_kernel_change(BLOCK, other, kernels[1], "a", names))
    assert left + width < 480


def test_the_ends_of_the_scale_are_written():
    """Ten times the weights have the same colours, so only the numbers can differ."""
    kernel = kernel_of(BLOCK, 2, 3)
    once, often = draw_kernels(BLOCK, kernel, "a"), draw_kernels(BLOCK, 10 * kernel, "a")
    assert changed_box(once, often)[3] < 60


def test_pictures_drawn_before_do_not_show_through():
    kernel = kernel_of(BLOCK, 2, 3)
    first = draw_kernels(BLOCK, kernel, "a")
    others = [
        draw_kernels(Pattern.preset("full", 5), kernel, "a"),
        draw_kernels(BLOCK, kernel, "b"),
        draw_kernels(BLOCK, kernel_of(BLOCK, 3, 2), "a"),
        draw_kernels(BLOCK, -kernel, "a"),
    ]
    assert draw_kernels(BLOCK, kernel, "a") == first
    assert first not in others


def test_only_the_first_64_kernels_are_shown():
    kernel = kernel_of(BLOCK, 16, 32)
    other = kernel.copy()
    other[:, :, 8:], other[:, :, :, 8:] = 0.01, 0.01
    assert np.array_equal(pixels_of(draw_kernels(BLOCK, kernel, "a")), pixels_of(draw_kernels(BLOCK, other, "a")))
    other[:, :, 7, 7] *= -1
    assert not np.array_equal(pixels_of(draw_kernels(BLOCK, kernel, "a")), pixels_of(draw_kernels(BLOCK, other, "a")))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_kernels_without_a_finite_weight_are_grey(value):
    colours = colours_of(draw_kernels(BLOCK, np.full((5, 5, 3, 4), value), "conv_1"), least=50000)
    assert (0xBB, 0xBB, 0xBB) in colours


def test_zero_kernels_are_white():
    colours = colours_of(draw_kernels(BLOCK, np.zeros((5, 5, 3, 4)), "conv_1"), least=30000)
    assert colormaps["RdBu_r"](0.5, bytes=True)[:3] in colours


def test_titles_are_text_not_formulas():
    pixels_of(draw_kernels(BLOCK, kernel_of(BLOCK, 1, 4), "a $x_{$ b"))


def test_a_confusion_is_coloured_by_the_share_of_its_row():
    """One of two classes is a hundred times rarer; both are always right, so both are equally dark."""

    def dark_pixels(rare: int) -> int:
        pixels = pixels_of(draw_confusion(np.array([[1000, 0], [0, rare]]), ["often", "rare"]))
        return int((pixels == colormaps["Blues"](1.0, bytes=True)[:3]).all(axis=2).sum())

    assert dark_pixels(10) == pytest.approx(dark_pixels(1000), rel=0.05)


def test_the_true_class_goes_down_and_the_predicted_one_across():
    """If a class is predicted as the other instead of itself, both cells of its row change."""
    right, wrong = (draw_confusion(np.array(matrix), ["", ""]) for matrix in ([[5, 0], [0, 5]], [[0, 5], [0, 5]]))
    _, _, height, width = changed_box(right, wrong)
    assert width == pytest.approx(2 * height, rel=0.1)


@pytest.mark.parametrize(("classes", "written"), [(20, True), (21, False)])
def test_counts_are_written_up_to_twenty_classes(classes, written):
    """Ten times the counts are the same shares, so only text can tell the pictures apart."""
    matrix, names = np.eye(classes, dtype=int), [""] * classes
    once, often = pixels_of(draw_confusion(matrix, names)), pixels_of(draw_confusion(10 * matrix, names))
    assert np.array_equal(once, often) is not written


def test_a_hundred_classes_with_names_of_any_kind():
    names = ["$x_", "漢字", "a very long name of a class indeed", "", *map(str, range(96))]
    matrix = np.random.default_rng(0).integers(0, 5, (100, 100))
    assert pixels_of(draw_confusion(matrix, names)).shape[0] > 600


def test_a_class_without_images_is_an_empty_row():
    pixels_of(draw_confusion(np.array([[3, 1], [0, 0]]), ["a", "b"]))


def test_a_matrix_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"3 classes is square. Received: shape \(2, 2\)"):
        draw_confusion(np.eye(2), ["a", "b", "c"])


@pytest.mark.parametrize("shapes", [1, 2, 3])
@pytest.mark.parametrize("methods", [2, 8])
def test_the_legend_of_a_picture_of_speed_is_within_it(shapes, methods):
    points = [
        (f"a method no. {method}", 9, 10.0 + method, f"shape {at}") for at in range(shapes) for method in range(methods)
    ]
    pixels = pixels_of(draw_speed(points))
    below = pixels[-80:]
    assert (below[:, [0, 1, -2, -1]] == 255).all()
    assert (below[-2:] == 255).all()
    assert len({tuple(pixel) for pixel in below.reshape(-1, 3).tolist()}) > methods


def test_pictures_are_encoded_in_one_place():
    package = Path(tiedexp.__file__).parent
    texts = {path: path.read_text(encoding="utf-8").lower() for path in package.rglob("*.py")}
    encoding = [path for path, text in texts.items() if "savefig(" in text or 'format="png"' in text]
    assert encoding == [package / "drawing" / "figures.py"]
