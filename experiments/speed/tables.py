"""The tables of README.md from its CSV file: `python experiments/speed/tables.py`."""

from __future__ import annotations

import csv
import math
from pathlib import Path


def compute_mean(values: list[float]) -> float:
    """The geometric mean."""
    return math.exp(sum(map(math.log, values)) / len(values))


def print_table(rows: list[dict[str, str]]) -> None:
    """How many times as fast `auto` is as `expand`: both are to `Conv2D` in the same round."""
    ratio = {(row["pattern"], row["shape"], row["part"], row["method"]): float(row["ratio"]) for row in rows}
    free = {row["pattern"]: row["free"] for row in rows}
    shapes = list(dict.fromkeys(row["shape"] for row in rows))

    def compare(pattern: str, part: str) -> list[float]:
        return [ratio[pattern, shape, part, "auto"] / ratio[pattern, shape, part, "expand"] for shape in shapes]

    print("| Pattern | Free |", " | ".join(shapes), "| Step | Forward |")
    print("|---|---|" + "---|" * (len(shapes) + 2))
    steps = {pattern: compare(pattern, "step") for pattern in free}
    forward = {pattern: compare(pattern, "forward") for pattern in free}
    for pattern in free:
        cells = " | ".join(f"{step:.2f}" for step in steps[pattern])
        means = f"**{compute_mean(steps[pattern]):.2f}** | {compute_mean(forward[pattern]):.2f}"
        print(f"| `{pattern}` | {free[pattern]} | {cells} | {means} |")
    if len(free) > 1:
        cells = " | ".join(f"{compute_mean(list(column)):.2f}" for column in zip(*steps.values(), strict=True))
        step, output = (compute_mean([value for row in part.values() for value in row]) for part in (steps, forward))
        print(f"| all | | {cells} | **{step:.2f}** | {output:.2f} |")


def main() -> None:
    with (Path(__file__).parent / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for size in dict.fromkeys(row["kernel_size"] for row in rows):
        print(f"\n{size}x{size}\n")
        print_table([row for row in rows if row["kernel_size"] == size])


if __name__ == "__main__":
    main()
