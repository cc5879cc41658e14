"""What `tiedexp train` and other commands that train show."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tiedexp.cli.console import Console, TerminalView
from tiedexp.cli.printing import print_json, warn
from tiedexp.experiment.observer import RunObserver
from tiedexp.experiment.preparation import Plan, name_pattern

if TYPE_CHECKING:
    from tiedexp.data.sources import Dataset
    from tiedexp.runs.directory import RunDirectory
    from tiedexp.runs.records import EpochLine, Result
    from tiedexp.training.trainer import Progress as TrainingProgress

COLUMNS = (("epoch", 5), ("loss", 8), ("accuracy", 9), ("val loss", 9), ("val acc", 8), ("rate", 9), ("images/s", 9))


class View(TerminalView, RunObserver):
    """Shows only warnings."""

    def warned(self, text: str) -> None:
        """Print a warning on stderr."""
        warn(text)


class JsonView(View):
    """Shows only the result, as one JSON document."""

    def finished(self, run: RunDirectory, result: Result) -> None:
        """Print the run directory and the result."""
        print_json({"run": str(run.path), **result.as_json()})


class ResultView(View):
    """Shows only the result, for a person to read."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)

    def finished(self, run: RunDirectory, result: Result) -> None:
        """Print the test result and where to find the run."""
        test = result.test
        low, high = test.accuracy_interval
        ending = " (stopped early)" if result.stopped_early else ""
        self.console.print(
            f"\n[bold]test accuracy {test.accuracy:.4f}[/] (95% interval {low:.4f} to {high:.4f}), "
            f"loss {test.loss:.4f}, {test.images} images"
        )
        self.console.print(
            f"best epoch {result.best_epoch} of {result.epochs}{ending}, trained for {result.seconds:.1f} s"
        )
        path = shlex.quote(str(run.path))
        self.console.print(f"\nrun        {path}", markup=False, soft_wrap=True)
        self.console.print(f"details    tiedexp eval {path}", markup=False, soft_wrap=True)
        self.console.print(f"curves     tiedexp board {path}", markup=False, soft_wrap=True)


class TrainView(ResultView):
    """Shows a header, a progress bar for the current epoch, one row per finished epoch, and the result."""

    def __init__(self) -> None:
        super().__init__()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._ran = False
        self._task: Any = None
        self._epochs = 0

    def planned(self, plan: Plan, run: RunDirectory, device: str, dataset: Dataset, sizes: Mapping[str, int]) -> None:
        """Print the header."""
        self._ran = True
        spec, cost = plan.spec, plan.cost
        self._epochs = spec.training.epochs
        tied = sum(conv.pattern is not None for conv in plan.convs)
        rows, cols = plan.convs[0].kernel_size
        header = Table.grid(padding=(0, 2))
        header.add_row("run", f"{spec.name}, seed {spec.seed}")
        header.add_row(
            "model",
            f"{spec.model.family}, {len(plan.convs)} convs {rows}x{cols}, width {spec.model.width}; "
            f"{tied} tied: {escape(name_pattern(spec.model))}",
        )
        header.add_row("weights", f"{cost.unique_weights:,} free of {cost.expanded_weights:,}")
        header.add_row("MACs", f"{cost.macs_tied:,} tied, {cost.macs_dense:,} dense, per image")
        image = "x".join(map(str, plan.image_shape))
        counts = ", ".join(f"{count:,} {name}" for name, count in sizes.items())
        header.add_row("data", f"{escape(dataset.name)}, {image}, {plan.num_classes} classes: {counts}")
        header.add_row("device", f"{escape(device)}, {spec.training.precision}")
        self.console.print(header)
        self.console.print()
        self.console.print("  ".join(f"[bold]{name:>{width}}[/]" for name, width in COLUMNS))

    def resumed(self, epochs_done: int, steps_done: int) -> None:
        """Print where the run resumes."""
        step = f"step {steps_done} of epoch {epochs_done + 1}" if steps_done else f"epoch {epochs_done}"
        self.console.print(f"[yellow]resuming after {step}[/]")

    def epoch_started(self, epoch: int, num_steps: int) -> None:
        """Start a progress bar."""
        self._bar.start()
        self._task = self._bar.add_task(f"epoch {epoch}/{self._epochs}", total=num_steps, status="starting")

    def progressed(self, progress: TrainingProgress) -> None:
        """Update the bar."""
        status = (
            f"loss {progress.loss:.4f}  accuracy {progress.accuracy:.4f}  {progress.images_per_second:,.0f} images/s"
        )
        self._bar.update(self._task, completed=progress.step, status=status)

    def epoch_finished(self, line: EpochLine) -> None:
        """Replace the bar by a row of the table."""
        self.stop()
        values = [f"{line.epoch}"]
        for split in (line.train, line.validation):
            values += ["-", "-"] if split is None else [f"{split.loss:.4f}", f"{split.accuracy:.4f}"]
        values += [f"{line.learning_rate:.2e}", f"{line.train.images_per_second:,.0f}"]
        self.console.print("  ".join(f"{value:>{width}}" for value, (_, width) in zip(values, COLUMNS, strict=True)))

    def stop(self) -> None:
        """Remove the bar."""
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._bar.stop()
            self._task = None

    def finished(self, run: RunDirectory, result: Result) -> None:
        """Print the result, and whether it is from an earlier command."""
        if not self._ran:
            self.console.print("this run is already finished; [bold]--fresh[/] starts it over")
        super().finished(run, result)


def choose_view(*, as_json: bool, quiet: bool) -> View:
    """The view for the options of a command that trains."""
    return JsonView() if as_json else ResultView() if quiet else TrainView()
