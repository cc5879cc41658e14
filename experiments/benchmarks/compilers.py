"""A layer of every pattern and shape of experiments/speed, by the code of several compilers, in turns.

    python experiments/benchmarks/compilers.py [--compilers g++ clang++ ziglang] [--presets block d4] [--shapes 0 2]
        [--rounds 7] [--implementation auto] [--part step] [--threads 2] [--cache FOLDER] [--least 0.97]

Each compiler has a process of its own. In every round each process computes the part by the expanded kernel and then by
`--implementation`, so that what slows down the machine slows down all of them. A ratio is the first time divided by the
second (above 1: tying gains), and the median of the rounds. Prints the ratios of every layer and, for each compiler,
their geometric mean, the lowest, and how fast its code is compared with the first compiler's (the time of the first
divided by its own; geometric mean and lowest). Exits with 1 if a ratio is below `--least`.

The default takes about six minutes on two cores, and zig compiles for a minute or two more the first time; `--cache`
keeps the compiled libraries for the next time. The choices of "auto" are those of the estimate. To measure a processor
without AVX-512, set ONEDNN_MAX_CPU_ISA=AVX2 and give e.g. --compilers "g++ -march=haswell" "clang++ -march=haswell".
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

from speed_against import PRESETS, SHAPES, Worker

CHECKOUT = Path(__file__).resolve().parents[2]
ZIG = "ziglang"
COMPILERS = ("g++", "clang++", ZIG)
PARTS = ("step", "forward", "input gradient", "weight gradient")

# Reads the sizes of a layer and builds it twice; then computes both for every further line until the next sizes.
WORKER = """
import json, sys, time
import tensorflow as tf
from tiedexp.convolution.cpp.library import find_obstacle
from tiedexp.layers.tied_conv import TiedConv2D

tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
if find_obstacle():
    sys.exit(find_obstacle())

def build(implementation, part, pattern, kernel_size, batch, rows, cols, channels, filters):
    layer = TiedConv2D(
        filters, pattern, kernel_size, padding="same", use_bias=False, implementation=implementation
    )
    images = tf.random.stateless_normal((batch, rows, cols, channels), (0, 1))
    upstream = tf.random.stateless_normal((batch, rows, cols, filters), (0, 2))
    layer.build(images.shape)

    @tf.function
    def compute():
        with tf.GradientTape() as tape:
            tape.watch(images)
            output = layer(images)
        if part == "forward":
            return output
        gradients = tape.gradient(output, [images, layer.free_kernel.value], upstream)
        return {"step": (output, gradients), "input gradient": gradients[0], "weight gradient": gradients[1]}[part]

    compute()
    return str(layer.choice), compute

def clock(compute):
    begin = time.perf_counter()
    tf.nest.map_structure(lambda tensor: tensor.numpy()[..., :1], compute())
    return 1000 * (time.perf_counter() - begin)

for line in sys.stdin:
    if line.startswith("["):
        implementation, *layer = json.loads(line)
        _, expanded = build("expand", *layer)
        choice, tied = build(implementation, *layer)
        print(json.dumps(choice), flush=True)
    else:
        print(json.dumps([clock(expanded), clock(tied)]), flush=True)
"""


def start_worker(compiler: str, number: int, cache: Path, threads: int) -> Worker:
    """A process that computes with the code of a compiler."""
    command = f"{sys.executable} -m ziglang c++" if compiler == ZIG else compiler
    home = cache / f"{number}-{compiler.replace('/', '_').replace(' ', '_')}"
    return Worker(CHECKOUT, WORKER, str(threads), CXX=command, XDG_CACHE_HOME=str(home), TIEDEXP_NATIVE="1")


def compute_mean(ratios: list[float]) -> float:
    """The geometric mean."""
    return math.exp(statistics.fmean(map(math.log, ratios)))


def measure(workers: list[Worker], layer: list[object], rounds: int) -> tuple[list[str], list[list[float]]]:
    """What each worker chose, and for each its ratio and its speed compared with the first worker's."""
    choices = [worker.ask(json.dumps(layer)) for worker in workers]
    times = [[worker.ask("compute") for worker in workers] for _ in range(rounds + 1)][1:]  # the first warms up
    ratios = [
        [
            statistics.median(turn[number][0] / turn[number][1] for turn in times),
            statistics.median(turn[0][1] / turn[number][1] for turn in times),
        ]
        for number in range(len(workers))
    ]
    return choices, ratios


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compilers", nargs="+", default=COMPILERS, help=f"commands; {ZIG} is the package")
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=PRESETS, metavar="PRESET")
    parser.add_argument("--shapes", type=int, nargs="+", choices=range(len(SHAPES)), default=range(len(SHAPES)))
    parser.add_argument("--kernel-size", type=int, default=5)
    parser.add_argument("--implementation", choices=("auto", "factored"), default="auto")
    parser.add_argument("--part", choices=PARTS, default="step")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="a folder that keeps the libraries (default: a temporary one)")
    parser.add_argument("--least", type=float, default=0.97)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as temporary:
        cache = (arguments.cache or Path(temporary)).resolve()
        workers = [
            start_worker(compiler, number, cache, arguments.threads)
            for number, compiler in enumerate(arguments.compilers)
        ]
        table = []
        for name in arguments.presets:
            preset, _, groups = name.partition(":groups=")
            pattern = {"preset": preset, **({"groups": int(groups)} if groups else {})}
            for shape in (SHAPES[number] for number in arguments.shapes):
                layer = [arguments.implementation, arguments.part, pattern, arguments.kernel_size, *shape]
                choices, ratios = measure(workers, layer, arguments.rounds)
                table.append(ratios)
                cells = " ".join(f"{ratio:6.2f}" for ratio, _ in ratios)
                print(f"{name:16} {shape!s:24} {cells}  {' against '.join(dict.fromkeys(choices))}", flush=True)
        for worker in workers:
            worker.close()
    for compiler, column in zip(arguments.compilers, zip(*table, strict=True), strict=True):
        ratios, relative = ([pair[number] for pair in column] for number in (0, 1))
        print(
            f"{compiler}: geometric mean {compute_mean(ratios):.3f}, lowest {min(ratios):.3f}; "
            f"compared with {arguments.compilers[0]} {compute_mean(relative):.3f}, lowest {min(relative):.3f}"
        )
    sys.exit(any(ratio < arguments.least for row in table for ratio, _ in row))


if __name__ == "__main__":
    main()
