"""Relative error of the weight gradient on positive data: the compiled convolution against TensorFlow's dense one.

    python experiments/benchmarks/gradient_accuracy.py [--batch 64] [--side 112] [--channels 16] [--threads 1,2,16]

Images and upstream are uniform from 0 to 1, and the pattern is `block` in 5x5. The reference is TensorFlow's gradient
in float64, summed over the cells of each tap. Prints the largest relative error of each; that of the compiled code
should be at most three times that of the dense gradient.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import tensorflow as tf

from tiedexp.convolution.cpp.compiler import build_library

# `block` in 5x5 as in the attributes of the operations: sums over 1x2, 2x1 and 2x2 cells, and nine taps.
SUMS = [2, -1, 0, 0, 1, -1, 0, 1, 1, 2, -1, 0, 0, 1, -1, 1, 0, 1, 2, 0, 0, 0, 1, 0, 1, 0, 1]
TAPS = [2, 0, 0, 2, 0, 3, 2, 3, 0, 2, 3, 3, 1, 0, 2, 1, 3, 2, 0, 2, 0, 0, 2, 3, -1, 2, 2]
SIZES = {-1: (1, 1), 0: (1, 2), 1: (2, 1), 2: (2, 2)}  # of the figures of the images, in cells
SIDE = 5


def footprints() -> np.ndarray:
    """(taps, rows, cols): the cells that each tap stands for."""
    result = np.zeros((len(TAPS) // 3, SIDE, SIDE))
    for figure, (image, row, col) in zip(result, np.reshape(TAPS, (-1, 3)), strict=True):
        rows, cols = SIZES[int(image)]
        figure[row : row + rows, col : col + cols] = 1
    return result


def dense_gradient(images: np.ndarray, upstream: np.ndarray, dtype: str, per_part: int) -> np.ndarray:
    """(rows, cols, channels, filters), float64; of so many images at a time."""
    shape = [SIDE, SIDE, images.shape[-1], upstream.shape[-1]]
    total = np.zeros(shape)
    for first in range(0, len(images), per_part):
        part = slice(first, first + per_part)
        total += tf.raw_ops.Conv2DBackpropFilter(
            input=tf.constant(images[part], dtype),
            filter_sizes=shape,
            out_backprop=tf.constant(upstream[part], dtype),
            strides=[1, 1, 1, 1],
            padding="SAME",
        ).numpy()
    return total


def compiled_gradient(operations: Any, images: np.ndarray, upstream: np.ndarray, threads: int) -> np.ndarray:
    """(taps, channels, filters)."""
    window = [SIDE // 2, SIDE // 2, *images.shape[1:3]]
    sizes = [SIDE, SIDE, 1, 1, 1, threads]
    gradient = operations.tiedexp_correlate(images, upstream, window, sums=SUMS, taps=TAPS, sizes=sizes)
    return np.asarray(gradient.numpy())


def largest_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float((np.abs(found - expected) / expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--side", type=int, default=112)
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--threads", default="1,2,16", help="numbers of threads of the compiled code")
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    shape = (arguments.batch, arguments.side, arguments.side, arguments.channels)
    images, upstream = (rng.uniform(size=shape).astype("float32") for _ in range(2))
    exact = dense_gradient(images, upstream, "float64", per_part=8)
    dense = largest_error(dense_gradient(images, upstream, "float32", per_part=arguments.batch), exact)
    print(f"dense Conv2D          {dense:.2e}")
    operations = tf.load_op_library(str(build_library().library))
    expected = np.tensordot(footprints(), exact, 2)
    for threads in map(int, arguments.threads.split(",")):
        error = largest_error(compiled_gradient(operations, images, upstream, threads), expected)
        print(f"compiled, {threads:2d} threads  {error:.2e}  {error / dense:.2f} times dense")


if __name__ == "__main__":
    main()
