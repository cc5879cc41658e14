"""What checkpoints cost: the wall time of a training over that of the same training without the time in checkpoints.

    python experiments/benchmarks/checkpoint_cost.py --data-dir DIR [KEY=VALUE]...

Both are taken from one and the same run of configs/mnist_block.yaml, so nothing else that the machine does comes
between: the seconds in which checkpoints are checked, written, synced and pruned, and event files synced before them,
are added up. The first epoch, which compiles, is left out of both. It is done at the ends of epochs alone, and within
epochs too, every 100 steps.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "mnist_block.yaml"


def measure(data_dir: Path | None, overrides: list[str]) -> tuple[float, float, int]:
    """(seconds of training, seconds of them in checkpoints, number of checkpoints), of all epochs but the first."""
    from tiedexp.experiment import run as experiment
    from tiedexp.experiment.observer import RunObserver
    from tiedexp.runs.tensorboard import TensorBoardLog
    from tiedexp.spec.loading import load_spec
    from tiedexp.training.checkpoint import CheckpointStore

    spent, saves, ends = [0.0], [0], []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                spent[0] += time.perf_counter() - begin
                saves[0] += function.__name__ == "save"

        return call

    class Clock(RunObserver):
        def epoch_finished(self, line: Any) -> None:
            ends.append((time.perf_counter(), spent[0], saves[0]))

    places = [(CheckpointStore, "save"), (CheckpointStore, "prune"), (experiment, "check_finite")]
    places.append((TensorBoardLog, "flush"))
    real = [getattr(*place) for place in places]
    for place, function in zip(places, real, strict=True):
        setattr(*place, timed(function))
    try:
        with tempfile.TemporaryDirectory() as root:
            spec = load_spec(CONFIG, overrides)
            experiment.run_experiment(spec, root=Path(root), data_dir=data_dir, observer=Clock())
    finally:
        for place, function in zip(places, real, strict=True):
            setattr(*place, function)
    first, last = ends[0], ends[-1]
    return last[0] - first[0], last[1] - first[1], last[2] - first[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="TFDS data directory with mnist")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="changes to the spec")
    options = parser.parse_args()
    for every in (0, 100):
        seconds, spent, saves = measure(options.data_dir, [*options.overrides, f"checkpoint.every_steps={every}"])
        print(
            f"every_steps={every}: {seconds:.1f} s, of them {spent:.3f} s in {saves} checkpoints: "
            f"ratio {seconds / (seconds - spent):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
