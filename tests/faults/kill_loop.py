"""Kill runs with SIGKILL, let each go on, and compare it with a run that was never stopped: to the bit.

    python tests/faults/kill_loop.py --kills 50 --seed 0      at random moments
    python tests/faults/kill_loop.py --writes                 before, in and after every write, fsync and rename

Each run is a fork of this process, which has imported TensorFlow and run nothing in it. A killed run is started again
until it comes to its end: with --kills it may be killed twice. Then all weights that are kept, optimizer included,
metrics.jsonl and result.json (but for times) and what TensorBoard shows must be those of the run that never stopped.
Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SPEC = {
    "name": "killed",
    "dataset": {"name": "digits", "limit": 300},
    "model": {
        "depth": 2,
        "width": 4,
        "kernel_size": 3,
        "dropout": 0.2,
        "tying": {"pattern": "point", "implementation": "factored"},
    },
    "training": {
        "epochs": 8,
        "batch_size": 30,
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "early_stopping": {"patience": 6},
        "augmentation": {"pad_crop": 1, "flip": "horizontal", "rotation": 10.0, "cutout": 2, "mixup": 0.2},
        "steps_per_execution": 1,
    },
    "checkpoint": {"every_steps": 4},
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many runs are killed at a random moment")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--writes", action="store_true", help="kill at every write of a run of one epoch instead")
    parser.add_argument("--sample", type=int, help="with --writes: only so many of these places, chosen by --seed")
    options = parser.parse_args()
    import tiedexp.experiment.run  # noqa: F401  before all forks

    with tempfile.TemporaryDirectory(prefix="kill-loop-") as folder:
        tried = _try_writes(Path(folder), options) if options.writes else _try_moments(Path(folder), options)
    bad = [name for name, problem in tried if problem]
    print(f"{len(tried)} killed runs, {len(tried) - len(bad)} identical to the run that never stopped")
    return 1 if bad or not tried else 0


def _try_moments(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """(place, problem) of each killed run."""
    moments = random.Random(options.seed)
    straight = _finish(folder / "straight", SPEC)
    expected = read_run(straight)
    begin = (straight / "spec.yaml").stat().st_mtime
    first = min(path.stat().st_mtime for path in (straight / "checkpoints").iterdir()) - begin
    whole = (straight / "result.json").stat().st_mtime - begin
    print(f"seed {options.seed}; a run takes {first:.2f} s to its first epochs and {whole - first:.2f} s from there")
    tried = []
    for number in range(1, options.kills + 1):
        root = folder / f"killed-{number}"
        told = []
        for _ in range(moments.choice([1, 1, 2])):
            # Three in four after its first checkpoint, for compiling takes longer than all the rest.
            training, share = moments.random() < 0.75, moments.random()
            ended = _fork(root, SPEC, kill_after=share * (whole - first if training else first), training=training)
            moment = f"{share:.4f} of its {'training' if training else 'start'}"
            told.append(f"{moment} ({'it had ended' if ended else _describe(root)})")
        tried.append(_compare(f"kill {number} at {' and '.join(told)}", _finish(root, SPEC), expected))
        shutil.rmtree(root)
    return tried


def _try_writes(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    spec = {**SPEC, "training": {**SPEC["training"], "epochs": 1, "steps_per_epoch": 6, "early_stopping": None}}  # type: ignore[dict-item]
    expected = read_run(_finish(folder / "straight", spec))
    _fork(folder / "counted", spec, prepare=lambda: _watch_writes(None, folder / "places"))
    places = list(enumerate((folder / "places").read_text().splitlines()))
    chosen = places if options.sample is None else random.Random(options.seed).sample(places, options.sample)
    print(f"{len(places)} places, {len(chosen)} of them tried")
    tried = []
    for number, place in chosen:
        root = folder / f"killed-{number}"
        if _fork(root, spec, prepare=lambda at=number: _watch_writes(at, None)):  # type: ignore[misc]
            tried.append((place, "it was not killed"))
            print(f"{place}: not killed")
            continue
        tried.append(_compare(place, _finish(root, spec), expected))
        shutil.rmtree(root)
    return tried


def _watch_writes(kill_at: int | None, places: Path | None) -> None:
    """Number the places before, in and after each write, fsync and rename of this process, and kill it at one."""
    count = 0
    real = {"fsync": os.fsync, "replace": os.replace, "write_bytes": Path.write_bytes, "write_text": Path.write_text}

    def pass_place(text: str) -> None:
        nonlocal count
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1
        if places is not None:
            with places.open("a") as file:
                file.write(f"{text}\n")

    def fsync(descriptor: int) -> None:
        name = re.sub(r"^.unfinished-\d+-", "", Path(f"/proc/self/fd/{descriptor}").readlink().name)
        pass_place(f"before the fsync of {name}")
        real["fsync"](descriptor)
        pass_place(f"after the fsync of {name}")

    def replace(source: Any, target: Any) -> None:
        pass_place(f"before the rename to {Path(target).name}")
        real["replace"](source, target)
        pass_place(f"after the rename to {Path(target).name}")

    def write(method: str) -> Callable[..., int]:
        def write_in_parts(path: Path, content: Any, **options: Any) -> int:
            if ".unfinished" not in path.name:
                return real[method](path, content, **options)  # type: ignore[return-value]
            real[method](path, content[: len(content) // 2], **options)
            pass_place(f"in the write of {path.name.split('-', 2)[2]}")
            return real[method](path, content, **options)  # type: ignore[return-value]

        return write_in_parts

    os.fsync, os.replace = fsync, replace  # type: ignore[assignment]
    Path.write_bytes, Path.write_text = write("write_bytes"), write("write_text")  # type: ignore[assignment,method-assign]


def _fork(
    root: Path,
    spec: dict[str, Any],
    *,
    kill_after: float | None = None,
    training: bool = False,
    prepare: Callable[[], None] | None = None,
) -> bool:
    """Run the spec in a child, and kill it so many seconds after its start, or its first checkpoint if in training.

    Returns:
        whether it came to its end.
    """
    before = _list_checkpoints(root)
    child = os.fork()
    if child == 0:
        _run_child(root, spec, prepare)
    status = None
    if kill_after is not None:
        while training and status is None and _list_checkpoints(root) <= before:
            time.sleep(0.002)
            status = _poll(child)
        end = time.perf_counter() + kill_after
        while status is None and (left := end - time.perf_counter()) > 0:
            time.sleep(min(left, 0.05))
            status = _poll(child)
        if status is None:
            os.kill(child, signal.SIGKILL)  # it is ours until waited for
    if status is None:
        status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit(f"a run failed:\n{(root.parent / 'child.log').read_text()}")
    return os.WIFEXITED(status)


def _poll(child: int) -> int | None:
    """The child's status if it has ended."""
    ended, status = os.waitpid(child, os.WNOHANG)
    return status if ended else None


def _list_checkpoints(root: Path) -> set[str]:
    return {path.name for path in root.glob("*/seed-0/checkpoints/epoch-*.json")}


def _run_child(root: Path, spec: dict[str, Any], prepare: Callable[[], None] | None) -> None:
    code = 1
    try:
        log = os.open(root.parent / "child.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        from tiedexp.experiment.run import run_experiment
        from tiedexp.spec.schema import ExperimentSpec

        if prepare is not None:
            prepare()
        run_experiment(ExperimentSpec.model_validate(spec), root=root)
        code = 0
    finally:
        if code:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            sys.stderr.flush()
        os._exit(code)


def _finish(root: Path, spec: dict[str, Any]) -> Path:
    """Run to the end; the run's directory."""
    if not _fork(root, spec):
        sys.exit("a run was killed by something else")
    (run,) = root.glob("*/seed-0")
    return run


def _describe(root: Path) -> str:
    """What a killed run left."""
    names = sorted(name.removesuffix(".json") for name in _list_checkpoints(root))
    left = [path.name for path in root.rglob(".unfinished-*")]
    return ", ".join([names[-1] if names else "no checkpoint", *(f"half a {name.split('-', 2)[2]}" for name in left)])


def _compare(place: str, run: Path, expected: dict[str, Any]) -> tuple[str, str]:
    found = read_run(run)
    different = [name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)]
    print(f"{place}: {'DIFFERENT: ' + ', '.join(sorted(different)) if different else 'identical'}", flush=True)
    return place, ", ".join(different)


def read_run(run: Path) -> dict[str, Any]:
    """All of a run that must not depend on interruptions."""
    import h5py
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    found: dict[str, Any] = {}
    for path in (*sorted((run / "checkpoints").iterdir()), run / "initial_kernel.h5"):
        found[path.name] = None
        if path.suffix == ".h5":
            with h5py.File(path) as file:

                def note(name: str, item: Any, at: str = path.name) -> None:
                    if isinstance(item, h5py.Dataset):
                        found[f"{at}:{name}"] = (item.shape, item[()].tobytes())

                file.visititems(note)
    times = ("seconds", "epoch_seconds", "first_of_process", "time", "images_per_second")

    def strip(content: Any) -> Any:
        return {k: strip(v) for k, v in content.items() if k not in times} if isinstance(content, dict) else content

    for number, line in enumerate((run / "metrics.jsonl").read_text().splitlines(), 1):
        found[f"metrics.jsonl:{number}"] = strip(json.loads(line))
    found["result.json"] = strip(json.loads((run / "result.json").read_text()))
    for split in ("train", "validation", "test"):
        for path in sorted((run / "tensorboard" / split).glob("events*")):
            for event in EventFileLoader(str(path)).Load():
                for value in event.summary.value:
                    if value.tag != "images_per_second":
                        series = found.setdefault(f"tensorboard:{split}:{value.tag}", [])
                        series.append((event.step, value.tensor.SerializeToString()))
    return found


if __name__ == "__main__":
    sys.exit(main())
