"""Kill a sweep's parent, or one of its workers, with SIGKILL; run it again until it is complete; compare it.

    python experiments/faults/sweep_kills.py --kills 10 --seed 0

In the end no run may be missing, none may have been done twice, and all weights, metrics and series must be those of a
sweep that nobody disturbed. Exit code 1 if anything is otherwise.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kill_loop import read_run

SWEEP = """\
name: killed
base:
  name: base
  dataset: {name: digits, limit: 300}
  model: {depth: 2, width: 4, kernel_size: 3, dropout: 0.2}
  training: {epochs: 12, batch_size: 30, threads: 1, steps_per_execution: 1, augmentation: {pad_crop: 1, mixup: 0.2}}
  checkpoint: {every_steps: 4}
grid:
  model.tying.pattern: [point, rings, full]
seeds: 2
"""
NUM_RUNS = 6
MAX_STARTS = 5  # after the last kill


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10, help="how many processes are killed")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed, and when")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="sweep-kills-") as folder:
        (Path(folder) / "sweep.yaml").write_text(SWEEP)
        straight, killed = Path(folder) / "straight", Path(folder) / "killed"
        begin = time.monotonic()
        if start(straight).wait():
            sys.exit("the sweep that nobody disturbs fails")
        whole = time.monotonic() - begin
        print(f"seed {options.seed}; a sweep takes {whole:.1f} s")
        problems, kills, sweeps = [], 0, 0
        while kills < options.kills and not problems:
            sweeps += 1
            killed = Path(folder) / f"killed-{sweeps}"
            while kills < options.kills and (told := kill_once(killed, chance, whole)):
                kills += 1
                print(f"kill {kills}, in sweep {sweeps}: {told}", flush=True)
            starts = 1
            while start(killed).wait() and starts < MAX_STARTS:
                starts += 1
            problems = compare(straight / "killed", killed / "killed")
    print("\n".join(problems) or f"{kills} kills in {sweeps} sweeps: all runs are there, done once, and identical")
    return 1 if problems else 0


def start(root: Path) -> subprocess.Popen[bytes]:
    """The sweep, in a process group of its own, as a shell has it."""
    code = "from tiedexp.cli import main; main()"
    command = [sys.executable, "-c", code, "sweep", "../sweep.yaml", "--runs", ".", "--jobs", "2", "-q"]
    root.mkdir(exist_ok=True)
    with (root / "out.txt").open("ab") as out:
        return subprocess.Popen(command, cwd=root, stdout=out, stderr=out, start_new_session=True)


def kill_once(root: Path, chance: random.Random, whole: float) -> str:
    """Start the sweep and kill something in it; says what, or nothing if the sweep came to its end before."""
    process = start(root)
    victim, after = chance.choice(["parent", "worker"]), chance.random() * whole
    end = time.monotonic() + after
    while time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None:
        return ""
    if victim == "parent":
        process.kill()
        process.wait()
        return f"the parent after {after:.1f} s"
    pids = find_workers(process.pid, root)
    while not pids and process.poll() is None:
        time.sleep(0.02)
        pids = find_workers(process.pid, root)
    if not pids:
        return ""
    os.kill(chance.choice(pids), signal.SIGKILL)
    return f"a worker after {after:.1f} s; the sweep ended with exit code {process.wait()}"


def find_workers(parent: int, root: Path) -> list[int]:
    """The processes that are in a run now: the last that each log names, if its run is not done."""
    found = []
    for log in root.glob("killed/*/seed-*/log.txt"):
        attempts = log.read_text().split("--- ")[1:]
        if attempts and "finished" not in attempts[-1] and (named := re.search(r"process (\d+)", attempts[-1])):
            status = Path(f"/proc/{named[1]}/cmdline")
            if status.is_file() and b"forkserver" in status.read_bytes() and int(named[1]) != parent:
                found.append(int(named[1]))
    return found


def compare(straight: Path, killed: Path) -> list[str]:
    """What is not as it should be."""
    problems = []
    runs = sorted(path.relative_to(straight) for path in straight.glob("*/seed-*"))
    if len(runs) != NUM_RUNS:
        problems.append(f"the undisturbed sweep has {len(runs)} runs")
    for run in runs:
        if not (killed / run / "result.json").is_file():
            problems.append(f"{run} is lost")
            continue
        expected, found = read_run(straight / run), read_run(killed / run)
        different = [name for name in expected.keys() | found.keys() if found.get(name) != expected.get(name)]
        if different:
            problems.append(f"{run} differs: {', '.join(sorted(different))}")
        attempts = (killed / run / "log.txt").read_text().split("--- ")[1:]
        trained = [[int(epoch) for epoch in re.findall(r"^epoch (\d+):", text, re.MULTILINE)] for text in attempts]
        epochs = [epoch for attempt in trained for epoch in attempt]
        # An epoch is printed after its checkpoint: one that is printed is never done again.
        if len(set(epochs)) < len(epochs):
            problems.append(f"{run} was done twice: epochs {epochs}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
