"""A sweep before anything runs: which runs there are, where they are, and how they stand."""

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

MeasureStep = Callable[[ExperimentSpec], float]  # seconds of a training step


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep.

    Args:
        variant: its variant, with the width that it got.
        spec: the experiment, with its seed.
        path: below the sweep's directory.
        directory: on disk.
    """

    variant: Variant
    spec: ExperimentSpec
    path: str
    directory: RunDirectory

    @property
    def title(self) -> str:
        """For people: `block d4 s0`."""
        return f"{self.variant.label} s{self.spec.seed}"


@dataclass(frozen=True)
class SweepPlan:
    """A sweep's runs, and its directory, which is the root of them."""

    sweep: Sweep
    directory: SweepDirectory
    runs: tuple[SweepRun, ...]

    @property
    def record(self) -> SweepRecord:
        """What sweep.json says of it."""
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
        """Write the plan; the runs of an earlier one stay planned until this one is complete."""
        self.directory.write(self.record, self.sweep.text, keep=True)

    def end(self) -> None:
        """Write this plan alone if all of its runs are finished."""
        if all(run.directory.finished for run in self.runs):
            self.directory.write(self.record, self.sweep.text)

    def select(self, patterns: Sequence[str]) -> tuple[SweepRun, ...]:
        """The runs whose path, variant or label fits one of the shell-like patterns; all without patterns.

        Raises:
            SpecError: a pattern that no run fits.
        """
        for pattern in patterns:
            if not any(_fits(run, pattern) for run in self.runs):
                raise SpecError(f"--only {pattern}: no run of the sweep fits; one is {self.runs[0].path}")
        return tuple(run for run in self.runs if not patterns or any(_fits(run, pattern) for pattern in patterns))


def plan_sweep(
    sweep: Sweep, root: Path, *, data_dir: Path | None = None, measure_step: MeasureStep | None = None
) -> SweepPlan:
    """Lay out the runs of a sweep, each variant at the width that its budget asks for.

    Args:
        sweep: what its file says.
        root: directory of all runs; the sweep's own is below.
        data_dir: TFDS data directory.
        measure_step: times a training step, where the sweep matches times; widths that an earlier plan found are kept.

    Raises:
        DatasetError: data that is not there.
        SpecError: times are to be matched and cannot be measured here.
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
        known = _matched_before(sweep, baseline, directory)
        if known is not None:
            return tuple(replace(each, spec=with_width(each.spec, known[each.name])) for each in sweep.variants)
        if measure_step is None:
            raise SpecError("match: time measures the steps of every variant, which this command does not do")
        fit = partial(match_time, measure=measure_step, target=measure_step(baseline.spec))
    else:
        count = partial(count_weights if sweep.match == "weights" else count_macs, data_dir=data_dir)
        fit = partial(match_count, count=count, target=count(baseline.spec))
    return tuple(each if each is baseline else replace(each, spec=fit(each.spec)) for each in sweep.variants)


def _matched_before(sweep: Sweep, baseline: Variant, directory: SweepDirectory) -> Mapping[str, int] | None:
    """The widths that an earlier plan measured for just these variants and baseline, by their names."""
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


def _fits(run: SweepRun, pattern: str) -> bool:
    return any(fnmatch(name, pattern) for name in (run.path, run.spec.name, run.variant.label, run.title))
