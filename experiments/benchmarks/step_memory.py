"""Peak memory of a layer's training step: `auto` against the expanded kernel.

    python experiments/benchmarks/step_memory.py                # presets of the suite, 5x5, 64x16x16x64->64

Each runs in a process of its own, which takes the step a few times. Compared is what the step, with its inputs, adds
to the process's resident memory at its highest (VmHWM) over what it was after a step on one image. Prints a line a
pattern.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

PRESETS = "tile mirror_h mirror_hv point rot90 d4 rings row column toeplitz checkerboard block hashed"

STEP = """
import sys
from pathlib import Path
import tensorflow as tf
from tiedexp.layers.tied_conv import TiedConv2D

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])

implementation, name, size, batch, rows, cols, channels, filters = sys.argv[1:]
batch, rows, cols, channels, filters = map(int, (batch, rows, cols, channels, filters))
pattern = {"preset": name, **({"groups": 9} if name == "hashed" else {})}
layer = TiedConv2D(filters, pattern, int(size), padding="same", use_bias=False, implementation=implementation)

@tf.function
def step(images, upstream):
    with tf.GradientTape() as tape:
        tape.watch(images)
        output = layer(images)
    return output, tape.gradient(output, [images, layer.free_kernel.value], upstream)

def data(count):
    images = tf.random.stateless_normal((count, rows, cols, channels), (0, 1))
    return images, tf.random.stateless_normal((count, rows, cols, filters), (0, 2))

layer.build((batch, rows, cols, channels))
step(*data(1))  # what TensorFlow itself takes to start
before = status("VmRSS")
inputs = data(batch)
for _ in range(5):
    step(*inputs)
print(status("VmHWM") - before)
"""


def measure(implementation: str, name: str, size: int, shape: str) -> float:
    """Mebibytes."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", STEP, implementation, name, str(size), *shape.split(",")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return int(done.stdout) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("presets", nargs="*", default=PRESETS.split())
    parser.add_argument("--kernel-size", type=int, default=5)
    parser.add_argument("--shape", default="64,16,16,64,64", help="BATCH,ROWS,COLS,CHANNELS,FILTERS")
    parser.add_argument("--implementation", default="auto")
    arguments = parser.parse_args()
    for name in arguments.presets:
        dense = measure("expand", name, arguments.kernel_size, arguments.shape)
        ours = measure(arguments.implementation, name, arguments.kernel_size, arguments.shape)
        print(f"{name}: expand {dense:.1f} MiB, {arguments.implementation} {ours:.1f} MiB, ratio {ours / dense:.2f}")


if __name__ == "__main__":
    main()
