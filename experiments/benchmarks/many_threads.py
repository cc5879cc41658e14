"""What the compiled convolution costs with more and more threads, and how much work each of them has.

    python experiments/benchmarks/many_threads.py [--threads 2,16,64] [--repeats 7]

Threads beyond the cores of the machine are simulated: they run one after the other. Work is in millions of
multiply-adds: of a thread on average, and of the one that has most. Wall is the time until all are done; CPU is what
they take together, which must hardly grow with their number (the last column: times that of the first number). Both are
medians, in ms. Needs a C++ compiler; nothing here imports TensorFlow.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADERS = HERE.parents[1] / "tiedexp" / "convolution" / "cpp"


def build(folder: Path) -> Path:
    program = folder / "many_threads"
    flags = ["-O3", "-march=native", "-std=c++17", "-pthread", f"-I{HEADERS}"]
    command = [os.environ.get("CXX", "c++"), *flags, str(HERE / "many_threads.cc"), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


def measure(program: Path, threads: int, repeats: int) -> list[list[str]]:
    done = subprocess.run([program, str(threads), str(repeats)], capture_output=True, text=True, check=True)
    return [line.split(";") for line in done.stdout.splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", default="2,16,64", help="numbers of threads")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.threads.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        program = build(Path(folder))
        runs = [measure(program, count, arguments.repeats) for count in counts]
    print(
        f"{'layer':24s}{'':9s}{'threads':>8s}{'busy':>6s}{'mean':>10s}{'most':>10s}{'wall':>10s}{'CPU':>10s}{'times':>7s}"
    )
    for rows in zip(*runs, strict=True):
        for name, what, threads, busy, mean, most, wall, cpu, division in rows:
            times = float(cpu) / float(rows[0][7])
            print(
                f"{name:24s}{what:9s}{threads:>8s}{busy:>6s}{mean:>10s}{most:>10s}{wall:>10s}{cpu:>10s}{times:7.2f}"
                f"  {division}"
            )


if __name__ == "__main__":
    main()
