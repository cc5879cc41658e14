"""Kill runs with SIGKILL, resume each, and compare it, bit by bit, with a run that was never stopped.

    python experiments/faults/kill_loop.py --kills 50 --seed 0   at random moments, shared among all configurations
    python experiments/faults/kill_loop.py --kills 9 --config resnet --config lion
    python experiments/faults/kill_loop.py --writes              before, in and after every write, fsync and rename

Each command runs in a fork of this process, which has imported TensorFlow and run nothing in it. A killed command is
started again until it finishes; with --kills it may be killed twice. Then every file of the run must equal that of the
run that was never stopped, apart from times, and `tiedexp eval`, in another process, must print what result.json holds.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BASE = {
    "name": "killed",
    "dataset": {"name": "digits", "limit": 300},
    "model": {"depth": 2, "width": 4, "kernel_size": 3},
    "training": {"epochs": 3, "batch_size": 30},
}
AUGMENTED = {
    "model": {"dropout": 0.2, "tying": {"pattern": "point", "implementation": "factored"}},
    "training": {
        "optimizer": {"name": "adam", "learning_rate": 0.01},
        "schedule": {"name": "cosine", "warmup_epochs": 1},
        "early_stopping": {"patience": 6},
        "augmentation": {"pad_crop": 1, "flip": "horizontal", "rotation": 10.0, "cutout": 2, "mixup": 0.2},
    },
}
EXTENDED_EPOCHS = 6


@dataclass(frozen=True)
class Config:
    """What is killed: a command, and the spec as changes to `BASE`."""

    changes: dict[str, Any]
    command: Literal["train", "extend", "reproduce"] = "train"

    @property
    def spec(self) -> dict[str, Any]:
        return merge(BASE, self.changes)


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A nested mapping with changes."""
    nested = {key: merge(base.get(key, {}), value) for key, value in changes.items() if isinstance(value, dict)}
    return {**base, **changes, **nested}


CONFIGS = {
    "plain": Config({}),
    "resnet": Config({"model": {"family": "resnet", "depth": 8, "width": 8}}),
    "mixup": Config(merge(AUGMENTED, {"training": {"gradient_clipping": 0.5}, "tensorboard": {"histograms": True}})),
    "lion": Config({"training": {"optimizer": {"name": "lion", "weight_decay": 0.01}, "label_smoothing": 0.1}}),
    "steps": Config(
        merge(AUGMENTED, {"training": {"epochs": 4, "steps_per_execution": 1}, "checkpoint": {"every_steps": 4}})
    ),
    "mean": Config(
        {
            "model": {"tying": {"pattern": "rings", "gradient": "mean"}},
            "training": {"optimizer": {"name": "sgd", "nesterov": True}},
        }
    ),
    "bfloat16": Config({"model": {"tying": {"pattern": "mirror_h"}}, "training": {"precision": "mixed_bfloat16"}}),
    "jit": Config({"model": {"dropout": 0.2}, "training": {"jit": True}}),
    "extend": Config({"model": {"dropout": 0.2, "tying": {"pattern": "point"}}}, "extend"),
    "reproduce": Config({"model": {"family": "resnet", "depth": 8, "width": 4}}, "reproduce"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many runs are killed at random moments, in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--config", action="append", choices=CONFIGS, help="may be repeated; default: all")
    parser.add_argument("--writes", action="store_true", help="kill at every write of a run of one epoch instead")
    parser.add_argument("--sample", type=int, help="with --writes: only this many of the places, chosen by --seed")
    options = parser.parse_args()
    from tiedexp.backend import quiet_tensorflow

    with quiet_tensorflow(), tempfile.TemporaryDirectory(prefix="kill-loop-") as folder:
        import tiedexp.cli
        import tiedexp.sweep.preload  # noqa: F401  before all forks

        problems = list((_try_writes if options.writes else _try_moments)(Path(folder), options))
    identical = problems.count("")
    print(f"{len(problems)} killed runs, {identical} identical to the run that was never stopped")
    return 0 if problems and identical == len(problems) else 1


def _try_moments(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    """The problem of each killed run, "" where there is none."""
    names = list(dict.fromkeys(options.config or CONFIGS))
    for at, name in enumerate(names):
        kills = options.kills // len(names) + (at < options.kills % len(names))
        if kills:
            yield from _kill_config(folder, name, kills, random.Random(f"{options.seed} {name}"))


def _kill_config(folder: Path, name: str, kills: int, moments: random.Random) -> Iterator[str]:
    command = _build_command(folder / name, CONFIGS[name])
    first, whole = _time_run(command, folder / name / "straight")
    expected = read_run(find_run(folder / name / "straight"))
    print(f"{name}: a run takes {first:.2f} s to its first checkpoint and {whole - first:.2f} s from there", flush=True)
    for number in range(1, kills + 1):
        root = folder / name / f"killed-{number}"
        told: list[str] = []
        while not told:
            shutil.rmtree(root, ignore_errors=True)  # one that ended before its moment
            told = _kill_randomly(command, root, moments, first, whole)
        _run(command, root)
        splits = ("test", "validation") if number == 1 else ("test",)
        yield _compare(f"{name}: kill {number} at {' and '.join(told)}", root, expected, splits)
        shutil.rmtree(root)


def _kill_randomly(
    command: Callable[[Path], list[str]], root: Path, moments: random.Random, first: float, whole: float
) -> list[str]:
    """Kill a command once or twice; the moments, none if it ended before all of them."""
    told = []
    for _ in range(moments.choice([1, 1, 2])):
        # Three in four after its first checkpoint: compiling takes longer than everything else.
        training, share = moments.random() < 0.75, moments.random()
        if not _run(command, root, kill_after=share * (whole - first if training else first), training=training):
            told.append(f"{share:.4f} of its {'training' if training else 'start'} ({_describe(root)})")
    return told


def _build_command(folder: Path, config: Config) -> Callable[[Path], list[str]]:
    """The command line of a configuration, for a root of runs; what it starts from is trained now."""
    folder.mkdir()
    spec = folder / "spec.yaml"
    spec.write_text(json.dumps(config.spec))

    def train(root: Path) -> list[str]:
        return ["train", str(spec), "--runs", str(root), "--quiet"]

    if config.command == "train":
        return train
    _run(train, folder / "parent")
    options = {"extend": ["--epochs", str(EXTENDED_EPOCHS)], "reproduce": []}[config.command]
    run = str(find_run(folder / "parent"))
    return lambda root: [config.command, run, *options, "--runs", str(root), "--quiet"]


def _time_run(command: Callable[[Path], list[str]], root: Path) -> tuple[float, float]:
    """Run a command undisturbed; seconds to its first checkpoint, and to its end."""
    begin, first = time.perf_counter(), 0.0
    child = _start(command, root)
    while (status := _poll(child)) is None:
        if not first and _list_checkpoints(root):
            first = time.perf_counter() - begin
        time.sleep(0.002)
    _check(status, root)
    return first, time.perf_counter() - begin


def _try_writes(folder: Path, options: argparse.Namespace) -> Iterator[str]:
    short = {"training": {"epochs": 1, "steps_per_epoch": 6, "early_stopping": None}}
    command = _build_command(folder / "writes", Config(merge(CONFIGS["steps"].changes, short)))
    straight, counted = folder / "writes" / "straight", folder / "writes" / "counted"
    _run(command, straight)
    expected = read_run(find_run(straight))
    _run(command, counted, prepare=lambda: _watch_writes(None, folder / "places"))
    places = list(enumerate((folder / "places").read_text().splitlines()))
    chosen = places if options.sample is None else random.Random(options.seed).sample(places, options.sample)
    print(f"{len(places)} places, {len(chosen)} of them tried")
    for number, place in chosen:
        root = folder / "writes" / f"killed-{number}"
        if _run(command, root, prepare=lambda at=number: _watch_writes(at, None)):  # type: ignore[misc]
            print(f"{place}: not killed")
            yield "it was not killed"
            continue
        _run(command, root)
        yield _compare(place, root, expected)
        shutil.rmtree(root)


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


def _run(
    command: Callable[[Path], list[str]],
    root: Path,
    *,
    kill_after: float | None = None,
    training: bool = False,
    prepare: Callable[[], None] = lambda: None,
) -> bool:
    """Run a command in a child, and kill it this many seconds after its start, or its first checkpoint if in training.

    Returns:
        whether it ended by itself.
    """
    before = _list_checkpoints(root)
    child = _start(command, root, prepare)
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
    _check(status, root)
    return os.WIFEXITED(status)


def _start(command: Callable[[Path], list[str]], root: Path, prepare: Callable[[], None] = lambda: None) -> int:
    """Run a command of tiedexp in a child; its number. What it prints goes to files beside the root."""
    arguments = command(root)
    root.mkdir(exist_ok=True)
    child = os.fork()
    if child == 0:
        _run_child(arguments, root, prepare)
    return child


def _run_child(arguments: list[str], root: Path, prepare: Callable[[], None]) -> None:
    code = 1
    try:
        for descriptor, suffix in ((1, ".out"), (2, ".err")):
            file = os.open(root.with_suffix(suffix), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(file, descriptor)
        from tiedexp.cli import main

        prepare()
        sys.argv = ["tiedexp", *arguments]
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    finally:
        if sys.exc_info()[0] is not None:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _check(status: int, root: Path) -> None:
    """End this program if a child failed by itself."""
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        printed = root.with_suffix(".out").read_text() + root.with_suffix(".err").read_text()
        sys.exit(f"a command failed with exit code {os.WEXITSTATUS(status)}:\n{printed}")


def _poll(child: int) -> int | None:
    """The child's status if it has ended."""
    ended, status = os.waitpid(child, os.WNOHANG)
    return status if ended else None


def _list_checkpoints(root: Path) -> set[str]:
    return {path.name for path in root.glob("*/seed-0/checkpoints/epoch-*.json")}


def find_run(root: Path) -> Path:
    """The only run below a root."""
    (run,) = root.glob("*/seed-0")
    return run


def _describe(root: Path) -> str:
    """What a killed run left."""
    names = sorted(name.removesuffix(".json") for name in _list_checkpoints(root))
    left = [path.name for path in root.rglob(".unfinished-*")]
    return ", ".join([names[-1] if names else "no checkpoint", *(f"half a {name.split('-', 2)[2]}" for name in left)])


def _compare(place: str, root: Path, expected: dict[str, Any], evaluated: Sequence[str] = ()) -> str:
    """What differs from the run that was never stopped, and from `eval` of some splits; "" if nothing does."""
    found = read_run(find_run(root))
    different = [name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)]
    result = json.loads((find_run(root) / "result.json").read_text())
    different += [f"eval --split {split}" for split in evaluated if _evaluate(root, split) != result[split]]
    problem = ", ".join(sorted(different))
    print(f"{place}: {f'DIFFERENT: {problem}' if problem else 'identical'}", flush=True)
    return problem


def _evaluate(root: Path, split: str) -> dict[str, Any]:
    """What `tiedexp eval` says of the run, as result.json has it."""
    _run(lambda root: ["eval", str(find_run(root)), "--split", split, "--json"], root)
    printed = json.loads(root.with_suffix(".out").read_text())
    about = ("run", "split", "epoch", "transform", "data")
    return {key: value for key, value in printed.items() if key not in about}


# What may differ: times, what a process is called, and the checksum of a file that holds these.
UNLIKE = (
    "seconds",
    "epoch_seconds",
    "first_of_process",
    "timed_steps",
    "timed_seconds",
    "time",
    "images_per_second",
    "started",
    "command",
    "pid",
    "checksum",
)
UNLIKE_TAGS = (
    "images_per_second",
    "_hparams_/experiment",
    "_hparams_/session_start_info",
    "_hparams_/session_end_info",
)


def read_run(run: Path) -> dict[str, Any]:
    """All files of a run, by name, apart from what may differ; event files as the series of their directory."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in run.rglob("*") if path.is_file()):
        name = str(path.relative_to(run))
        if "tfevents" in name:
            for tag, value in _read_events(path):
                found.setdefault(f"{path.parent.relative_to(run)}:{tag}", []).append(value)
        elif path.suffix in (".json", ".jsonl"):
            text = path.read_text()
            found[name] = [_strip(json.loads(part)) for part in (text.splitlines() if "jsonl" in name else [text])]
        elif name not in (".lock", ".seal", "log.txt"):
            found[name] = path.read_bytes()
    return found


def _strip(content: Any) -> Any:
    """JSON without what may differ."""
    if isinstance(content, list):
        return [_strip(entry) for entry in content]
    return {k: _strip(v) for k, v in content.items() if k not in UNLIKE} if isinstance(content, dict) else content


def _read_events(path: Path) -> Iterator[tuple[str, Any]]:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.tag not in UNLIKE_TAGS:
                yield value.tag, (event.step, value.tensor.SerializeToString(), value.metadata.SerializeToString())


if __name__ == "__main__":
    sys.exit(main())
