"""A training step of every layer of experiments/speed, this checkout against another one, in turns.

    python experiments/benchmarks/speed_against.py OTHER [--rounds 15] [--kernel-size 5 7] [--least 0.97]

OTHER is a checkout of another version of tiedexp, e.g. made by `git worktree add OTHER REVISION`. Each version runs in
a process of its own, with the same environment and the choices of its estimate; both take a step in turn, so that what
slows down the machine slows down both. Prints for every layer the milliseconds of both and the ratio, other over this
one (above 1: this one is faster; the median of the rounds), then the geometric mean and the lowest ratio. Exits with 1
where a ratio is below `--least`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

PRESETS = (
    *("tile", "mirror_h", "mirror_hv", "point", "rot90", "d4", "rings", "row", "column", "toeplitz", "checkerboard"),
    *("block", "hashed:groups=9"),
)
SHAPES = ((32, 28, 28, 32, 64), (64, 16, 16, 64, 64), (128, 28, 28, 16, 16), (64, 32, 32, 32, 32))

# Reads the name of a pattern and sizes, builds the layer, and takes a step for every further line until an empty one.
WORKER = """
import json, sys, time
import numpy as np, tensorflow as tf
from tiedexp.layers.tied_conv import TiedConv2D

def build(pattern, kernel_size, batch, rows, cols, channels, filters):
    layer = TiedConv2D(filters, pattern, kernel_size, padding="same", use_bias=False)
    images = tf.random.stateless_normal((batch, rows, cols, channels), (0, 1))
    upstream = tf.random.stateless_normal((batch, rows, cols, filters), (0, 2))
    layer.build(images.shape)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images)
        return output, tape.gradient(output, [images, layer.free_kernel.value], upstream)

    step()
    return str(layer.choice), step

for line in sys.stdin:
    if line.startswith("["):
        computed, step = build(*json.loads(line))
        print(json.dumps(computed), flush=True)
    else:
        begin = time.perf_counter()
        tf.nest.map_structure(lambda tensor: tensor.numpy()[..., :1], step())
        print(1000 * (time.perf_counter() - begin), flush=True)
"""


class Worker:
    """A process that runs a script with one version of tiedexp."""

    def __init__(self, checkout: Path, script: str = WORKER, *arguments: str, **variables: str):
        fixed = {"PYTHONPATH": str(checkout), "TIEDEXP_MEASURE": "0", "TF_CPP_MIN_LOG_LEVEL": "3"}
        env = {**os.environ, **fixed, **variables}
        command = [sys.executable, "-c", script, *arguments]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout, env=env
        )

    def ask(self, line: str) -> Any:
        """What the process answers to a line."""
        assert self.process.stdin
        assert self.process.stdout
        print(line, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit("a worker ended early")
        return json.loads(answer)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kernel-size", type=int, nargs="+", default=[5, 7])
    parser.add_argument("--least", type=float, default=0.97)
    arguments = parser.parse_args()
    ours, theirs = Worker(Path(__file__).resolve().parents[2]), Worker(arguments.other.resolve())
    layers = [(name, size, *shape) for size in arguments.kernel_size for name in PRESETS for shape in SHAPES]
    layers += [("block", 11, *shape) for shape in SHAPES]
    ratios = []
    for name, size, *shape in layers:
        preset, _, groups = name.partition(":groups=")
        pattern = {"preset": preset, **({"groups": int(groups)} if groups else {})}
        computed = [worker.ask(json.dumps([pattern, size, *shape])) for worker in (ours, theirs)]
        times = [(ours.ask("step"), theirs.ask("step")) for _ in range(arguments.rounds + 1)][1:]
        ratios.append(statistics.median(other / this for this, other in times))
        this, other = (statistics.median(values) for values in zip(*times, strict=True))
        how = " against ".join(dict.fromkeys(computed))
        print(f"{size:2} {name:16} {shape!s:24} {this:8.2f} {other:8.2f} ms {ratios[-1]:.3f} {how}", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    print(f"{len(ratios)} layers: geometric mean {mean:.3f}, lowest {min(ratios):.3f}")
    sys.exit(min(ratios) < arguments.least)


if __name__ == "__main__":
    main()
