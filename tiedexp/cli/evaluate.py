"""`tiedexp eval`: tests the model of a run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tiedexp.cli.options import DataDir, Json, RunPath
from tiedexp.cli.printing import print_json, warn

if TYPE_CHECKING:
    from tiedexp.runs.records import Evaluation

MAX_CLASSES_SHOWN = 20


class SplitName(StrEnum):
    """Splits of a dataset."""

    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"


class CheckpointName(StrEnum):
    """Checkpoints of a run."""

    BEST = "best"
    LAST = "last"


def evaluate(
    run: RunPath,
    split: Annotated[SplitName, typer.Option(help="The images to test on.")] = SplitName.TEST,
    checkpoint: Annotated[CheckpointName, typer.Option(help="The weights to test.")] = CheckpointName.BEST,
    transform: Annotated[
        str | None,
        typer.Option(
            help="Transform the images first: rot90, rot180, rot270, flip_h, flip_v, transpose, or e.g. translate=2."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Test on all images of another dataset: a name, a directory of class directories, or an .npz file."
        ),
    ] = None,
    data_dir: DataDir = None,
    confusion: Annotated[
        Path | None, typer.Option(help="Write a picture of the confusion matrix to this PNG file.")
    ] = None,
    json: Json = False,
) -> None:
    """Test the model of a run, on its own images or on others.

    Prints the loss, the accuracy with its interval, the top-5 accuracy, the calibration error, each class and the
    confusion matrix. The run can come from anywhere: data files that it names are opened only if you trained it
    yourself, in the directory where it is now.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.cli.pictures import check_picture
    from tiedexp.experiment.preparation import evaluation_source
    from tiedexp.runs.directory import RunDirectory
    from tiedexp.spec.loading import load_spec

    if confusion is not None:
        check_picture(confusion)
    directory = RunDirectory.open(run)
    spec = load_spec(directory.spec, allow_extends=False)
    evaluation_source(directory, spec, data=data, data_dir=data_dir).check()
    with quiet_tensorflow():
        from tiedexp.experiment.evaluate import evaluate_run

        evaluation, epoch = evaluate_run(
            directory,
            split=split.value,
            checkpoint=checkpoint.value,
            transform=transform,
            data=data,
            data_dir=data_dir,
            warn=warn,
        )
    if confusion is not None:
        _draw(evaluation, confusion)
    if json:
        about = {"run": str(run), "split": split.value, "epoch": epoch, "transform": transform, "data": data}
        print_json({**about, **evaluation.as_json()})
    else:
        images = " ".join(filter(None, [split.value, data and f"of {data}", transform and f"after {transform}"]))
        _show(evaluation, f"{run}, epoch {epoch}, {images}")


def _draw(evaluation: Evaluation, path: Path) -> None:
    import numpy as np

    from tiedexp.cli.pictures import write_picture
    from tiedexp.drawing.confusion import draw_confusion

    names = [result.name for result in evaluation.classes]
    write_picture(path, draw_confusion(np.array(evaluation.confusion), names))


def _show(evaluation: Evaluation, title: str) -> None:
    from rich.table import Table
    from rich.text import Text

    from tiedexp.cli.console import Console

    console = Console(highlight=False)
    low, high = evaluation.accuracy_interval
    console.print(title, markup=False, soft_wrap=True)
    table = Table.grid(padding=(0, 2))
    table.add_row("images", f"{evaluation.images:,}")
    table.add_row("loss", f"{evaluation.loss:.4f}")
    table.add_row("accuracy", f"[bold]{evaluation.accuracy:.4f}[/]  (95% interval {low:.4f} to {high:.4f}, Wilson)")
    if evaluation.top5_accuracy is not None:
        table.add_row("top-5", f"{evaluation.top5_accuracy:.4f}")
    table.add_row("calibration error", f"{evaluation.calibration_error:.4f}")
    console.print(table)
    classes = Table(title="classes", title_justify="left", box=None)
    for name in ("class", "images", "precision", "recall", "F1"):
        classes.add_column(name, justify="left" if name == "class" else "right")
    for result in evaluation.classes:
        numbers = (f"{value:.4f}" for value in (result.precision, result.recall, result.f1))
        classes.add_row(Text(result.name), f"{result.images:,}", *numbers)
    console.print(classes)
    if len(evaluation.classes) <= MAX_CLASSES_SHOWN:
        console.print(_confusion_table(evaluation))
    else:
        console.print(f"{len(evaluation.classes)} classes: --confusion FILE.png draws the confusion matrix")


def _confusion_table(evaluation: Evaluation) -> object:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="confusion: one row per true class, one column per predicted class", title_justify="left", box=None
    )
    table.add_column("")
    for result in evaluation.classes:
        table.add_column(Text(result.name[:6]), justify="right")
    for at, (result, row) in enumerate(zip(evaluation.classes, evaluation.confusion, strict=True)):
        cells = [
            f"[bold]{count}[/]" if column == at else str(count) if count else "[dim].[/]"
            for column, count in enumerate(row)
        ]
        table.add_row(Text(result.name), *cells)
    return table
