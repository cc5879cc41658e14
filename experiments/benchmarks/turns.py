"""What the benchmarks that train on MNIST in turn with Keras share: processes, and Keras' side of the comparison."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

# To be run after the arguments are read into `epochs` and `train`, and `model` is built.
FIT = """
import time
import keras, tensorflow as tf
model.compile(
    keras.optimizers.AdamW(1e-3, weight_decay=1e-4),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
images = tf.data.Dataset.from_tensor_slices((train.images, train.labels))
images = images.shuffle(len(train)).batch(128, drop_remainder=True)
images = images.map(lambda x, y: ((tf.cast(x, tf.float32) / 255.0 - 0.1307) / 0.3081, y)).prefetch(tf.data.AUTOTUNE)
model.fit(images, epochs=1, verbose=0)
begin = time.perf_counter()
model.fit(images, epochs=epochs - 1, verbose=0)
print(len(train) // 128 * 128 * (epochs - 1) / (time.perf_counter() - begin))
"""


def run(command: list[str]) -> str:
    """What a process prints; ends the benchmark if it fails."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def tiedexp(*arguments: str) -> dict[str, object]:
    """What a command of tiedexp answers with --json."""
    return json.loads(run([str(Path(sys.executable).parent / "tiedexp"), *arguments, "--json"]))


def time_tiedexp(spec: Path, *arguments: str, images: int) -> float:
    """Images a second of a training in batches of 128 of so many images, the first epoch left out."""
    result = tiedexp("train", str(spec), *arguments, "--fresh")
    lines = (Path(str(result["run"])) / "metrics.jsonl").read_text().splitlines()[1:]
    return images // 128 * 128 * len(lines) / sum(json.loads(line)["seconds"] for line in lines)


def compare(rounds: Iterable[tuple[float, float]], other: str) -> None:
    """Print each pair of speeds, ours and the other's, and the median of their ratios."""
    ratios = []
    for number, (ours, theirs) in enumerate(rounds, start=1):
        ratios.append(ours / theirs)
        print(
            f"round {number}: tiedexp {ours:,.0f} images/s, {other} {theirs:,.0f}, ratio {ratios[-1]:.3f}", flush=True
        )
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")
