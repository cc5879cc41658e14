"""Images a second of `tiedexp train` against a hand-written Keras `fit` of the same model.

    python tests/benchmarks/train_throughput.py --data-dir DIR      # a TFDS directory with mnist

Both train the same untied model on MNIST with the same batch size, optimizer and default threads, each in a process of
its own, in turn, several times. The first epoch, which compiles, does not count. Prints each pair of speeds and the
median of their ratios, tiedexp over Keras.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SPEC = """
name: throughput
dataset: {name: mnist, validation: 0, limit: 30000}
model: {depth: 4, width: 16, kernel_size: 5, tying: {pattern: full}}
training: {epochs: EPOCHS, batch_size: 128, optimizer: {name: adamw, learning_rate: 1e-3, weight_decay: 1e-4}}
tensorboard: {kernels: false}
"""

KERAS = """
import sys, time
import keras, tensorflow as tf
from pathlib import Path
from tiedexp.data.sources import load_dataset
from tiedexp.models.plain import build_plain

epochs, data_dir = int(sys.argv[1]), Path(sys.argv[2])
train = load_dataset("mnist", data_dir=data_dir, limit=30000).train
model = build_plain((28, 28, 1), 10, width=16, kernel_size=5, patterns=[None] * 4)
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


def run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def time_tiedexp(folder: Path, data_dir: Path, epochs: int, env: dict[str, str]) -> float:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC.replace("EPOCHS", str(epochs)))
    tiedexp = str(Path(sys.executable).parent / "tiedexp")
    command = [
        tiedexp,
        "train",
        str(spec),
        "--runs",
        str(folder / "runs"),
        "--data-dir",
        str(data_dir),
        "--fresh",
        "--json",
    ]
    result = json.loads(run(command, env))
    lines = (Path(result["run"]) / "metrics.jsonl").read_text().splitlines()[1:]
    seconds = sum(json.loads(line)["seconds"] for line in lines)
    return 30000 // 128 * 128 * len(lines) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="TFDS directory with mnist")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    data_dir = arguments.data_dir.resolve()
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, arguments.rounds + 1):
            ours = time_tiedexp(Path(folder), data_dir, arguments.epochs, env)
            theirs = float(run([sys.executable, "-c", KERAS, str(arguments.epochs), str(data_dir)], env))
            ratios.append(ours / theirs)
            print(f"round {number}: tiedexp {ours:,.0f} images/s, Keras fit {theirs:,.0f}, ratio {ratios[-1]:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
