"""The plan of a sweep: its runs, their directories and their states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from tiedexp.errors import RunError, SpecError
from tiedexp.experiment.preparation import locate_run, training_source
from tiedexp.runs.directory import RunDirectory
from tiedexp.runs.sweeps import PlannedRun, SweepDirectory, SweepRecord
from tiedexp.runs.sweeps import Variant as VariantRecord
from tiedexp.spec.schema import ExperimentSpec
from tiedexp.sweep.matching import count_macs, count_weights, match_count, match_time, with_width
from tiedexp.sweep.variants import Sweep, Variant

MeasureStep = Callable[[ExperimentSpec], float]  # returns the seconds of a training step


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Args:
        variant: the variant, at its matched width.
        spec: the experiment, with its seed.
        path: relative to the sweep's directory.
        directory: the run's directory.
    """

    variant: Variant
    spec: ExperimentSpec
    path: str
    directory: RunDirectory

    @property
    def title(self) -> str:
        """The name shown to the user, e.g. `block d4 s0`."""
        return f"{self.variant.label} s{self.spec.seed}"


@dataclass(frozen=True)
class SweepPlan:
    """A sweep's runs, and the directory that contains them."""

    sweep: Sweep
    directory: SweepDirectory
    runs: tuple[SweepRun, ...]

    @property
    def record(self) -> SweepRecord:
        """The content of sweep.json."""
        return SweepRecord(
            name=self.sweep.name,
            baseline=self.sweep.baseline,
            match=self.sweep.match,
            axes=self.sweep.axes,
            variants=tuple(
                VariantRecord(name=each.name, label=each.label, settings=each.settings, width=each.spec.model.width)
                for each in self.sweep.variants
            ),
            runs=tuple(PlannedRun(variant=run.spec.name, seed=run.spec.seed, path=run.path) for run in self.runs),
        )

    def begin(self) -> None:
        """Write the plan; runs of an earlier plan remain in it until this one is complete."""
        self.directory.write(self.record, self.sweep.text, keep=True)

    def end(self) -> None:
        """If all runs are finished, write the plan without those of earlier plans."""
        if all(run.directory.finished for run in self.runs):
            self.directory.write(self.record, self.sweep.text)

    def select(self, patterns: Sequence[str]) -> tuple[SweepRun, ...]:
        """The runs whose path, variant or label matches one of the shell-style patterns; without patterns, all runs.

        Raises:
            SpecError: no run matches one of the patterns.
        """
        for pattern in patterns:
            if not any(_matches(run, pattern) for run in self.runs):
                raise SpecError(
                    f"--only {pattern}: no run of the sweep matches; one of its runs is {self.runs[0].path}"
                )
        return tuple(run for run in self.runs if not patterns or any(_matches(run, pattern) for pattern in patterns))


def plan_sweep(
    sweep: Sweep, root: Path, *, data_dir: Path | None = None, measure_step: MeasureStep | None = None
) -> SweepPlan:
    """Lay out the runs of a sweep, with each variant at the width that `match` asks for.

    Args:
        sweep: the sweep, as read from its file.
        root: the directory of all runs, which contains the sweep's directory.
        data_dir: TFDS data directory.
        measure_step: measures a training step if the sweep matches times and no earlier plan found the widths.

    Raises:
        DatasetError: data is missing.
        SpecError: the sweep matches times, and there is no `measure_step`.
    """
    directory = SweepDirectory(root / sweep.name)
    for spec in {variant.spec.dataset: variant.spec for variant in sweep.variants}.values():
        training_source(spec, data_dir).check()
    sweep = replace(sweep, variants=_match(sweep, directory, data_dir, measure_step))
    runs = []
    for variant in sweep.variants:
        for seed in sweep.seeds:
            spec = variant.spec.model_copy(update={"seed": seed})
            run = locate_run(spec, directory.path)
            runs.append(SweepRun(variant, spec, run.path.relative_to(directory.path).as_posix(), run))
    return SweepPlan(sweep, directory, tuple(runs))


def _match(
    sweep: Sweep, directory: SweepDirectory, data_dir: Path | None, measure_step: MeasureStep | None
) -> tuple[Variant, ...]:
    if sweep.match is None:
        return sweep.variants
    baseline = next(variant for variant in sweep.variants if variant.name == sweep.baseline)
    if sweep.match == "time":
        known = _read_matched_widths(sweep, baseline, directory)
        if known is not None:
            return tuple(replace(each, spec=with_width(each.spec, known[each.name])) for each in sweep.variants)
        if measure_step is None:
            raise SpecError("`match: time` needs the step time of every variant, which this command does not measure")
        fit = partial(match_time, measure=measure_step, target=measure_step(baseline.spec))
    else:
        count = partial(count_weights if sweep.match == "weights" else count_macs, data_dir=data_dir)
        fit = partial(match_count, count=count, target=count(baseline.spec))
    return tuple(each if each is baseline else replace(each, spec=fit(each.spec)) for each in sweep.variants)


def _read_matched_widths(sweep: Sweep, baseline: Variant, directory: SweepDirectory) -> Mapping[str, int] | None:
    """The widths, by variant, that an earlier plan found for the same variants and the same baseline."""
    try:
        record = directory.read()
    except RunError:
        return None
    before = {variant.name: variant.settings for variant in record.variants}
    same_variants = all(before.get(variant.name) == variant.settings for variant in sweep.variants)
    baseline_path = locate_run(baseline.spec, Path()).path.parent.as_posix()
    same_baseline = any(run.path.startswith(f"{baseline_path}/") for run in record.runs)
    if record.match != sweep.match or not same_variants or not same_baseline:
        return None
    return {variant.name: variant.width for variant in record.variants}


def _matches(run: SweepRun, pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in (run.path, run.spec.name, run.variant.label, run.title))
