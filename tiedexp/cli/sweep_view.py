"""What `tiedexp sweep` shows."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from tiedexp.cli.console import Console, TerminalView
from tiedexp.cli.printing import format_count, print_json
from tiedexp.sweep.estimate import Estimate
from tiedexp.sweep.observer import SweepObserver
from tiedexp.sweep.planning import SweepPlan, SweepRun
from tiedexp.sweep.worker import Progress

BAR = 20  # characters


class View(TerminalView, SweepObserver):
    """Shows nothing."""


class LineView(View):
    """Shows one line per event, for logs and for terminals that cannot redraw."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def begins(self, plan: SweepPlan, todo: Sequence[SweepRun], workers: str) -> None:
        self._count, self._ended = len(todo), 0
        self.say(f"{plan.sweep.name}: {len(todo)} of {format_count(len(plan.runs), 'run')} to do, {workers}")

    def retries(self, run: SweepRun, message: str) -> None:
        self.say(f"retry   {run.title}: {message}")

    def finished(self, run: SweepRun, accuracy: float | None) -> None:
        self._ended += 1
        shown = "" if accuracy is None else f": test accuracy {accuracy:.4f}"
        self.say(f"done    {run.title}{shown} ({self._ended} of {self._count})")

    def failed(self, run: SweepRun, message: str) -> None:
        self._ended += 1
        self.say(f"failed  {run.title}: {message}")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text, markup=False, soft_wrap=True)


@dataclass
class _Row:
    progress: Progress
    started: float


class LiveView(LineView):
    """Shows lines for runs that ended, and below them a table of the active runs."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: dict[str, tuple[SweepRun, _Row]] = {}
        self._started = time.monotonic()
        self._live = Live(console=self.console, auto_refresh=False, transient=True)

    @staticmethod
    def is_possible() -> bool:
        """Whether standard output is a terminal that can redraw."""
        return Console().is_terminal

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def stop(self) -> None:
        """Remove the table."""
        self._live.stop()

    def started(self, run: SweepRun) -> None:
        epochs = run.spec.training.epochs
        self._rows[run.path] = run, _Row(Progress(0, epochs, 0.0, None), time.monotonic())

    def progressed(self, run: SweepRun, progress: Progress) -> None:
        self._rows[run.path][1].progress = progress

    def retries(self, run: SweepRun, message: str) -> None:
        self._rows.pop(run.path, None)
        super().retries(run, message)

    def finished(self, run: SweepRun, accuracy: float | None) -> None:
        self._rows.pop(run.path, None)
        super().finished(run, accuracy)

    def failed(self, run: SweepRun, message: str) -> None:
        self._rows.pop(run.path, None)
        super().failed(run, message)

    def refresh(self) -> None:
        self._live.update(self._draw(), refresh=True)

    def _draw(self) -> Table:
        table = Table.grid(padding=(0, 2))
        # No markup: `say` prints without it, and the table is redrawn with what `say` prints.
        table.add_row(*(Text(head, style="bold") for head in ("run", "epoch", "", "accuracy", "time")))
        now = time.monotonic()
        for run, row in self._rows.values():
            at = row.progress
            full = round(BAR * at.share)
            bar = Text("━" * full, style="green") + Text("━" * (BAR - full), style="bright_black")
            accuracy = "" if at.accuracy is None else f"{at.accuracy:.4f}"
            epoch = f"{min(at.epoch + 1, at.epochs)}/{at.epochs}"
            table.add_row(Text(run.title), epoch, bar, accuracy, format_seconds(now - row.started))
        done = self._ended + sum(row.progress.share for _, row in self._rows.values())
        left = format_seconds((now - self._started) * (self._count - done) / done) if done > 0.05 else "?"
        table.add_row(Text(f"{self._ended} of {self._count} done", style="bold"), "", "", "", f"{left} left")
        return table


def show_plan(plan: SweepPlan, chosen: Sequence[SweepRun], estimates: Mapping[str, Estimate], *, as_json: bool) -> None:
    """Print the runs of a sweep, the state of each, and the time and disk space that is still needed."""
    left = [run for run in chosen if not run.directory.finished]
    seconds = _total([estimates[run.path].wall_seconds for run in left])
    disk = sum(estimates[run.path].bytes for run in left)
    if as_json:
        content = {
            "sweep": str(plan.directory.path),
            "runs": [
                {
                    "path": run.path,
                    "variant": run.spec.name,
                    "label": run.variant.label,
                    "seed": run.spec.seed,
                    "width": run.spec.model.width,
                    "state": run.directory.state,
                    "seconds": estimates[run.path].seconds,
                    "bytes": estimates[run.path].bytes,
                }
                for run in chosen
            ],
            "left": len(left),
            "seconds": seconds,
            "bytes": disk,
        }
        print_json(content)
        return
    console = Console(highlight=False)
    table = Table(box=None)
    for column in ("variant", "seed", "width", "state", "time", "disk"):
        table.add_column(column, justify="left" if column in ("variant", "state") else "right")
    for run in chosen:
        estimate = estimates[run.path]
        time_left = "" if run.directory.finished else format_seconds(estimate.seconds)
        size = "" if run.directory.finished else format_bytes(estimate.bytes)
        name = escape(run.variant.label)
        table.add_row(name, str(run.spec.seed), str(run.spec.model.width), run.directory.state, time_left, size)
    console.print(table)
    console.print(
        f"\n{len(chosen) - len(left)} of {format_count(len(chosen), 'run')} finished, {len(left)} left", end=""
    )
    console.print(f": about {format_seconds(seconds)} and {format_bytes(disk)} of disk" if left else "")
    console.print(str(plan.directory.path), markup=False, soft_wrap=True)


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def format_seconds(seconds: float | None) -> str:
    """A duration, e.g. 45 s, 3:20 min or 2:05 h; `?` if it is None."""
    if seconds is None:
        return "?"
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 6000 else f"{whole // 3600}:{whole // 60 % 60:02} h"


def format_bytes(count: int) -> str:
    """A size in kB, MB or GB."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
