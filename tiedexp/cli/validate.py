"""`tiedexp validate`: checks a spec, and shows what its model costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tiedexp.cli.options import DataDir, Json, Overrides, RunsRoot, SpecPath
from tiedexp.cli.printing import print_json, warn

if TYPE_CHECKING:
    from tiedexp.experiment.preparation import Plan
    from tiedexp.models.cost import LayerCost, ModelCost


def validate(
    spec: SpecPath,
    overrides: Overrides = None,
    runs: RunsRoot = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Check a spec, and show its layers and their cost."""
    from tiedexp.experiment.preparation import locate_run, plan_experiment
    from tiedexp.runs.directory import find_runs_root
    from tiedexp.spec.loading import load_spec

    plan = plan_experiment(load_spec(spec, overrides or []), data_dir=data_dir, warn=warn)
    run = locate_run(plan.spec, find_runs_root(runs)).path
    if json:
        print_json(_as_dict(plan, run))
    else:
        _show(plan, run)


def _as_dict(plan: Plan, run: Path) -> dict[str, Any]:
    from dataclasses import asdict

    cost = plan.cost
    totals = {name: getattr(cost, name) for name in ("unique_weights", "expanded_weights", "macs_dense", "macs_tied")}
    return {"run": str(run), **totals, "layers": [asdict(layer) for layer in cost.layers]}


def _show(plan: Plan, run: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from tiedexp.cli.console import Console

    console = Console(highlight=False)
    spec = plan.spec
    image = "x".join(map(str, plan.image_shape))
    name, dataset = escape(spec.name), escape(spec.dataset.name)
    console.print(f"[bold]{name}[/], seed {spec.seed}: {spec.model.family} on {dataset} ({image})\n")
    table = Table(box=None)
    for column in ("layer", "kind", "output", "groups", "weights", "expanded", "MACs", "untied"):
        table.add_column(column, justify="left" if column in ("layer", "kind") else "right")
    for layer in plan.cost.layers:
        output = "x".join(map(str, layer.output_shape))
        kind = {"tied conv": "tied", "batch norm": "norm"}.get(layer.kind, layer.kind)
        table.add_row(layer.name, kind, output, str(layer.groups or ""), *_format_counts(layer))
    cost = plan.cost
    table.add_section()
    table.add_row("[bold]all[/]", "", "", "", *(f"[bold]{count}[/]" for count in _format_counts(cost)))
    console.print(table)
    console.print(
        "\nMACs: multiply-adds of the forward pass per image, one for each group of tied cells; untied: one per cell."
    )
    methods: dict[tuple[str, float], list[str]] = {}
    for layer in cost.layers:
        if layer.computed is not None and layer.step_speedup is not None:
            methods.setdefault((layer.computed, layer.step_speedup), []).append(layer.name)
    if methods:
        console.print(
            "\nEstimate for tied convs (methods of output | input gradient | weight gradient if they differ):"
        )
    for (computed, speedup), names in methods.items():
        gain = "" if computed == "expand" else f"; speed-up of a training step over the expanded kernel: {speedup:.1f}"
        console.print(f"  {', '.join(names)}: {computed}{gain}")
    console.print("\n[green]The spec is valid.[/] Its run directory is", end=" ")
    console.print(str(run), markup=False, soft_wrap=True)


def _format_counts(cost: LayerCost | ModelCost) -> list[str]:
    """Exact counts of weights, and multiply-adds in millions if there are many, so that the table fits the terminal."""
    weights = [f"{count:,}" for count in (cost.unique_weights, cost.expanded_weights)]
    macs = [f"{count / 1e6:,.1f} M" if count >= 1e6 else f"{count:,}" for count in (cost.macs_tied, cost.macs_dense)]
    return ["" if count == "0" else count for count in (*weights, *macs)]
