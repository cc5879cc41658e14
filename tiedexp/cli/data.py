"""`tiedexp data`: lists, prepares and shows datasets."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tiedexp.cli.options import DataDir, Json
from tiedexp.cli.printing import print_json, warn

if TYPE_CHECKING:
    from rich.table import Table

    from tiedexp.data.prepared import PreparedDataset
    from tiedexp.data.sources import Dataset

app = typer.Typer(help="List, prepare and show datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_datasets(data_dir: DataDir = None, json: Json = False) -> None:
    """List the prepared datasets and some common ones."""
    from tiedexp.data.sources import find_data_dir, list_file_kinds

    directory = find_data_dir(data_dir)
    rows = _list_rows(directory)
    if json:
        print_json({"data_dir": str(directory), "datasets": rows})
        return
    from rich.markup import escape
    from rich.table import Table

    from tiedexp.cli.console import Console

    table = Table(box=None)
    for column in ("dataset", "ready", "images", "classes", "train", "test", "contents"):
        justify: Literal["left", "right"] = "right" if column in ("classes", "train", "test") else "left"
        table.add_column(column, justify=justify, no_wrap=column == "dataset")
    for row in rows:
        shape = "x".join(map(str, row["image_shape"])) if row["image_shape"] else "-"
        counts = [f"{row[key]:,}" if row[key] else "-" for key in ("num_classes", "train_images", "test_images")]
        name, meaning = escape(row["name"]), escape(row["meaning"])
        table.add_row(name, "[green]yes[/]" if row["ready"] else "", shape, *counts, meaning)
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\nTFDS data directory: {directory}", markup=False, soft_wrap=True)
    console.print("Prepare one with `tiedexp data prepare NAME`. Every image classification dataset of TFDS works.")
    console.print("To use your own images, write in a spec:")
    for name, kind in list_file_kinds().items():
        line = f"  dataset: {{name: {name}, path: {kind.example_path}}}  ({kind.meaning})"
        console.print(line, markup=False, soft_wrap=True)


@app.command("prepare")
def prepare(
    name: Annotated[str, typer.Argument(help="A TFDS dataset, e.g. mnist or emnist/letters.")],
    data_dir: DataDir = None,
) -> None:
    """Download a dataset and prepare it.

    This is the only command that needs the network.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.data.archives import prepare_dataset

    with quiet_tensorflow():
        prepared = prepare_dataset(name, data_dir)
    _report(name, prepared)


@app.command("import")
def import_(
    name: Annotated[str, typer.Argument(help="A TFDS dataset, e.g. mnist or emnist/letters.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of its original archives.")],
    data_dir: DataDir = None,
) -> None:
    """Prepare a dataset from its original archives.

    The checksums of the archives are verified. This needs no network.
    """
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.data.archives import import_archives

    with quiet_tensorflow():
        prepared = import_archives(name, directory, data_dir)
    _report(name, prepared)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A dataset, a directory of images, or an .npz file.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write samples of each class to this PNG file.")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Resize the images to this side, in pixels.")
    ] = None,
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Show the sizes, classes and samples of a dataset."""
    from tiedexp.backend import quiet_tensorflow
    from tiedexp.cli.pictures import check_picture
    from tiedexp.data.pipeline import normalisation
    from tiedexp.data.sources import KINDS, check_prepared, load_dataset, parse_source

    if output is not None:
        check_picture(output)
    source, path = parse_source(name)
    check_prepared(source, path=path, data_dir=data_dir)
    with nullcontext() if source in KINDS else quiet_tensorflow():
        dataset = load_dataset(source, path=path, data_dir=data_dir, image_size=image_size, warn=warn)
    if output is not None:
        _draw(dataset, output)
    mean, std = ([round(float(value), 4) for value in values] for values in normalisation(dataset.train))
    if json:
        print_json(_as_dict(dataset, name) | {"mean": mean, "std": std})
        return
    from rich.markup import escape

    from tiedexp.cli.console import Console

    console = Console(highlight=False)
    rows, cols, channels = dataset.image_shape
    colour = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
    console.print(
        f"[bold]{escape(name)}[/]: {rows}x{cols} {colour}, {dataset.num_classes} classes, "
        f"{len(dataset.train):,} training and {len(dataset.test):,} test images\n"
        f"training images, scaled to 0..1: mean {mean}, standard deviation {std}; fingerprint {dataset.fingerprint}\n"
    )
    console.print(_count_table(dataset))
    if output is None:
        console.print(
            f"\nTo see samples of each class:  tiedexp data show {name} --output sheet.png",
            markup=False,
            soft_wrap=True,
        )
    else:
        console.print(f"\nSamples of each class are in {output}", markup=False, soft_wrap=True)


def _list_rows(directory: Path) -> list[dict[str, Any]]:
    from tiedexp.data.catalogue import CATALOGUE
    from tiedexp.data.sources import KINDS, describe_dataset, list_file_kinds, list_prepared
    from tiedexp.errors import DatasetError

    prepared = list_prepared(directory)
    rows: list[dict[str, Any]] = []
    embedded = [name for name in KINDS if name not in list_file_kinds()]
    for name in [*embedded, *CATALOGUE, *(name for name in prepared if name not in CATALOGUE)]:
        meaning = KINDS[name].meaning if name in KINDS else ""
        row = {"name": name, "ready": name in (*embedded, *prepared), "image_shape": None, "num_classes": None}
        row |= {"train_images": None, "test_images": None}
        try:
            row |= vars(describe_dataset(name, data_dir=directory))
        except DatasetError as error:
            meaning = str(error).splitlines()[0]
        row["meaning"] = CATALOGUE[name].meaning if name in CATALOGUE and row["image_shape"] else meaning
        rows.append(row)
    return rows


def _report(name: str, prepared: PreparedDataset) -> None:
    from tiedexp.cli.console import Console

    sizes = ", ".join(f"{count:,} {split}" for split, count in prepared.split_sizes.items())
    console = Console(highlight=False)
    console.print(f"{name} is ready: {sizes}, in {prepared.directory}", markup=False, soft_wrap=True)


def _count_classes(dataset: Dataset) -> list[dict[str, Any]]:
    import numpy as np

    train, test = (
        np.bincount(split.labels, minlength=dataset.num_classes).tolist() for split in (dataset.train, dataset.test)
    )
    columns = zip(dataset.class_names, train, test, strict=True)
    return [{"name": name, "train": in_train, "test": in_test} for name, in_train, in_test in columns]


def _as_dict(dataset: Dataset, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image_shape": dataset.image_shape,
        "num_classes": dataset.num_classes,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "fingerprint": dataset.fingerprint,
        "classes": _count_classes(dataset),
    }


def _count_table(dataset: Dataset) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    table.add_column("class")
    table.add_column("train", justify="right")
    table.add_column("test", justify="right")
    for row in _count_classes(dataset):
        table.add_row(escape(row["name"]), f"{row['train']:,}", f"{row['test']:,}")
    return table


def _draw(dataset: Dataset, path: Path) -> None:
    from tiedexp.cli.pictures import write_picture
    from tiedexp.data.contact_sheet import draw_contact_sheet

    write_picture(path, draw_contact_sheet(dataset.train, dataset.class_names))
