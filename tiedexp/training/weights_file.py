"""What a file of weights may hold, looked at before anything in it is loaded.

HDF5 can do more than hold arrays: link to other files, keep a dataset's values in them, compress, declare arrays of
any size in a few bytes. Keras writes none of that into the weights of a model, so all of it is refused.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import h5py

from tiedexp.errors import RunError

_MAX_DEPTH = 16  # layers/NAME/.../vars/0
_LAYOUTS = (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT)
# What h5py raises where the file is damaged.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError)


def check_weights_file(path: Path, variables: Iterable[Any]) -> None:
    """Refuse a file that is not plain arrays of the shapes of a model's variables.

    Args:
        path: the HDF5 file.
        variables: of the model. The state of an optimizer, which may be there too, has their shapes or is scalars.

    Raises:
        RunError: not HDF5; a link, or values kept in another file; an array that is compressed, or of a shape that no
            variable has, or with more values than the file has bytes; far more arrays than the model has.
    """
    shapes = [tuple(variable.shape) for variable in variables]
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise RunError(f"{path} is not loaded: it is not a regular file")
        with h5py.File(path, "r") as file:
            for number, dataset in enumerate(_walk(file, path, depth=1)):
                if number > 16 * len(shapes) + 1000:
                    raise RunError(f"{path} is not loaded: it has far more entries than the model has weights")
                if isinstance(dataset, h5py.Dataset):
                    refusal = _find_refusal(dataset, {*shapes, ()}, path.stat().st_size)
                    if refusal:
                        raise RunError(f"{path} is not loaded: {dataset.name} {refusal}")
    except _DAMAGE as error:
        raise RunError(f"{path} is not loaded: it is not an HDF5 file that can be read: {error}") from error


def _walk(group: Any, path: Path, depth: int) -> Iterator[Any]:
    """All groups and datasets below a group; no link is followed."""
    if depth > _MAX_DEPTH:
        raise RunError(f"{path} is not loaded: its groups are nested deeper than {_MAX_DEPTH} levels")
    for name in group:
        link = group.get(name, getclass=True, getlink=True)
        if link is not h5py.HardLink:
            raise RunError(f"{path} is not loaded: {group.name}/{name} is a link ({link.__name__}), not weights")
        entry = group[name]
        yield entry
        if isinstance(entry, h5py.Group):
            yield from _walk(entry, path, depth + 1)


def _find_refusal(dataset: Any, shapes: set[tuple[int, ...]], file_size: int) -> str:
    """What is wrong with an array; nothing if it is plain. Its values are not read."""
    if dataset.external or dataset.is_virtual:
        return "keeps its values in another file"
    if dataset.shape not in shapes:
        return f"has shape {dataset.shape}, which no weight of the model has"
    if dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8:
        return f"holds {dataset.dtype}, not numbers"
    properties = dataset.id.get_create_plist()
    if properties.get_layout() not in _LAYOUTS or properties.get_nfilters() or len(dataset.attrs):
        return "is compressed, in pieces or annotated; Keras writes weights plainly"
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    if size > file_size or dataset.id.get_storage_size() != size:
        return f"should have {size} bytes, but they are not in the file"
    return ""
