"""The folder in which TensorBoard is shown a sweep.

    <folder>/                       the columns of the HParams tab, the layout of the Custom Scalars tab, a text
      block d4 s0/                  a run: its values and metrics for the HParams tab, its spec
        train, validation, test     links to the series of the run
      block d4 mean/                over the seeds: what the page "patterns compared" draws
        train/  validation/  test/  the mean of each series, and over how many seeds it is
      block d4 mean-std/, mean+std/ the same, one standard deviation below and above the mean

The events at the top of a run's log are not linked: they declare the columns of that run alone, and of several such
declarations TensorBoard uses an arbitrary one.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tiedexp.board.history import RunHistory, RunReader
from tiedexp.board.hparams import describe_columns, read_hparams
from tiedexp.board.links import check_log
from tiedexp.board.means import Spread, spread_series, spread_tests
from tiedexp.errors import RunError
from tiedexp.runs.events import EventFile, list_event_files
from tiedexp.runs.summaries import (
    HParam,
    Metric,
    experiment_summary,
    layout_summary,
    line_chart,
    margin_chart,
    scalar_summary,
    session_end_summary,
    session_summary,
    text_summary,
)
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord
from tiedexp.runs.tensorboard import HPARAMS_METRICS, SPLITS, TRAINING_CHARTS, Split

PAGE = "patterns compared"
MAX_NAME_BYTES = 120
METRICS = (*map(Metric, HPARAMS_METRICS), Metric("loss", "test"))

# TensorBoard draws charts with margins in the reverse order.
_COMPARED: tuple[tuple[Split, str], ...] = (
    ("train", "loss"),
    ("train", "accuracy"),
    ("validation", "loss"),
    ("validation", "accuracy"),
)

Event = tuple[int, Any]  # a step and a summary


@dataclass
class _ShownRun:
    """A run, and what the folder shows of it."""

    planned: PlannedRun
    name: str
    reader: RunReader
    latest: RunHistory | None = None
    written: RunHistory | None = None


@dataclass
class _ShownVariant:
    """The runs of a variant, and the histories that the means in the folder are computed from."""

    name: str
    runs: list[_ShownRun]
    written: list[RunHistory] = field(default_factory=list)
    has_means: bool = False


class SweepBoard:
    """Shows a sweep in a folder, which can be updated while its runs continue. Nothing is written into the sweep.

    Args:
        sweep: the sweep.
        folder: the folder that TensorBoard shows; it contains nothing else.

    Raises:
        RunError: the sweep's record cannot be read, or one of its runs is not inside its directory.
    """

    def __init__(self, sweep: SweepDirectory, folder: Path):
        self._folder = folder
        self._record = sweep.read()
        self._columns: list[HParam] | None = None
        names = name_variants(self._record)
        self._variants = [_ShownVariant(names[variant.name], []) for variant in self._record.variants]
        by_variant = {variant.name: shown for variant, shown in zip(self._record.variants, self._variants, strict=True)}
        for planned in self._record.runs:
            variant = by_variant[planned.variant]
            run = _ShownRun(planned, f"{variant.name} s{planned.seed}", RunReader(sweep.run(planned)))
            variant.runs.append(run)

    @property
    def shown(self) -> int:
        """How many runs are shown."""
        return sum(run.written is not None for variant in self._variants for run in variant.runs)

    @property
    def planned(self) -> int:
        """How many runs are planned."""
        return len(self._record.runs)

    @property
    def variants(self) -> list[str]:
        """The names under which the variants are shown."""
        return [variant.name for variant in self._variants]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the sweep, each once."""
        return list(dict.fromkeys(run.seed for run in self._record.runs))

    def update(self, *, strict: bool = False) -> None:
        """Update the folder from the runs.

        Args:
            strict: whether a run that cannot be read is an error. If not, it stays as it was shown before; a run
                that is just being restarted cannot be read, either.

        Raises:
            RunError: a run is damaged, or has a link that leads out of it.
        """
        changed = False
        for run in self._all_runs():
            with _tolerating(strict):
                run.latest = run.reader.read()
        if self._columns is None:
            self._columns = describe_columns(
                self._record, {run.planned.variant: run.latest.manifest for run in self._all_runs() if run.latest}
            )
            changed = True
        for run in self._all_runs():
            with _tolerating(strict):
                changed |= self._show_run(run)
        for variant in self._variants:
            changed |= self._show_means(variant)
        if changed:
            self._show_whole(self._columns)

    def _all_runs(self) -> Iterator[_ShownRun]:
        for variant in self._variants:
            yield from variant.runs

    def _show_run(self, run: _ShownRun) -> bool:
        """Update a run; whether anything changed."""
        assert self._columns is not None
        history, folder = run.latest, self._folder / run.name
        if history is not None:
            _link_splits(run.reader.run.tensorboard.resolve(), folder)
        if history is run.written:
            return False
        if run.written is not None and (history is None or run.written.succeeded not in (None, history.succeeded)):
            # TensorBoard keeps the first event on how a run ended until the run is gone for a while.
            shutil.rmtree(folder)
            run.written = None
        elif history is not None:
            _write(folder, _run_events(self._columns, self._record, run.planned, history))
            run.written = history
        return True

    def _show_means(self, variant: _ShownVariant) -> bool:
        """Update the means of a variant; whether anything changed."""
        histories = [run.latest for run in variant.runs if run.latest is not None]
        if histories == variant.written:
            return False
        spreads = spread_history(histories)
        _write(self._folder / f"{variant.name} mean", _margin_events(spreads))
        for suffix, sign in (("mean", 0), ("mean-std", -1), ("mean+std", 1)):
            for split, steps in spreads.items():
                _write(self._folder / f"{variant.name} {suffix}" / split, _mean_events(steps, sign))
        variant.written, variant.has_means = histories, bool(spreads["train"])
        return True

    def _show_whole(self, columns: Sequence[HParam]) -> None:
        has_means = any(variant.has_means for variant in self._variants)
        charts = [_compared_chart(split, tag) for split, tag in _COMPARED] if has_means else [_SINGLE_CHART]
        _write(
            self._folder,
            [
                (0, experiment_summary(columns, METRICS)),
                (0, layout_summary({PAGE: charts, "Training": TRAINING_CHARTS})),
                (0, text_summary("seeds", _seeds_table(self._variants))),
            ],
        )


def name_variants(record: SweepRecord) -> dict[str, str]:
    """The names under which variants are shown, by their own names: their labels as unique names of directories."""
    names: dict[str, str] = {}
    for variant in record.variants:
        name = re.sub(r"[^\w ,.:=+()@-]+", "-", variant.label).encode()[:MAX_NAME_BYTES].decode(errors="ignore")
        name = name.strip(" .") or variant.name
        while name in names.values():
            name = f"{name} ({variant.name})"
        names[variant.name] = name
    return names


def spread_history(histories: Sequence[RunHistory]) -> dict[Split, dict[int, Spread]]:
    """The spread of each split over the runs of a variant."""
    return {
        split: (spread_tests if split == "test" else spread_series)([history.series[split] for history in histories])
        for split in SPLITS
    }


_SINGLE_CHART = line_chart("validation accuracy")


def _compared_tags(split: Split, tag: str) -> tuple[str, str, str]:
    """The tags of a mean and of one deviation below and above it. TensorBoard only draws a band if one run has all."""
    title = f"{PAGE}/{split} {tag}"
    return f"{title} mean", f"{title} mean-std", f"{title} mean+std"


def _compared_chart(split: Split, tag: str) -> Any:
    value, lower, upper = _compared_tags(split, tag)
    return margin_chart(f"{split} {tag}, mean and standard deviation", value=value, lower=lower, upper=upper)


def _run_events(
    columns: Sequence[HParam], record: SweepRecord, planned: PlannedRun, history: RunHistory
) -> Iterator[Event]:
    yield 0, text_summary("spec", f"```yaml\n{history.spec}\n```")
    yield 0, session_summary(read_hparams(columns, record, planned, history.manifest))
    for epoch, accuracy in sorted(history.validation_accuracy.items()):
        yield epoch, scalar_summary("validation accuracy", accuracy)
    for values in history.series["test"].values():
        yield history.epochs, scalar_summary("test accuracy", values["accuracy"])
    if history.succeeded is not None:
        yield 0, session_end_summary(succeeded=history.succeeded)


def _mean_events(steps: dict[int, Spread], sign: int) -> Iterator[Event]:
    for step, spread in steps.items():
        for tag, mean in spread.mean.items():
            yield step, scalar_summary(tag, mean + sign * spread.std[tag] if sign else mean)
        if not sign:
            yield step, scalar_summary("seeds", spread.seeds)


def _margin_events(spreads: dict[Split, dict[int, Spread]]) -> Iterator[Event]:
    for split, tag in _COMPARED:
        for step, spread in spreads[split].items():
            mean, std = spread.mean[tag], spread.std[tag]
            for name, value in zip(_compared_tags(split, tag), (mean, mean - std, mean + std), strict=True):
                yield step, scalar_summary(name, value)


def _seeds_table(variants: Iterable[_ShownVariant]) -> str:
    """A table of the number of seeds of each mean."""
    rows = [
        f"| {variant.name} | {len(variant.runs)} | {len(variant.written)} "
        f"| {sum(history.succeeded is True for history in variant.written)} |"
        for variant in variants
    ]
    head = ["| variant | seeds | started | finished |", "| --- | --- | --- | --- |"]
    note = "At each step, the mean is over the seeds that have reached it; the tag `seeds` says how many these are."
    return "\n".join([*head, *rows, "", note])


def _link_splits(log: Path, folder: Path) -> None:
    """Link the series of a run's log into a folder, unless they are linked already."""
    for split in SPLITS:
        link, series = folder / split, log / split
        if not link.is_symlink() and series.is_dir():
            check_log(log)
            folder.mkdir(exist_ok=True)
            link.symlink_to(series, target_is_directory=True)


def _write(directory: Path, events: Iterable[Event]) -> None:
    """Replace the events in a directory, which is deleted if there are none."""
    events = list(events)
    if not events:
        shutil.rmtree(directory, ignore_errors=True)
        return
    before = list_event_files(directory)
    file = EventFile(directory)
    for step, summary in events:
        file.write(step, summary)
    file.close()
    for path in before[:-1]:  # TensorBoard could be reading the last of them
        path.unlink()


def _tolerating(strict: bool) -> AbstractContextManager[None]:
    return nullcontext() if strict else suppress(RunError)
