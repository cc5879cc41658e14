"""Checks of a weights file before anything in it is loaded.

HDF5 files can hold more than arrays: links to other files, datasets whose values are in other files, compressed data,
and declarations of huge arrays in a few bytes. Keras writes none of that into a weights file, so all of it is refused.
And the HDF5 library itself crashes on some damaged files, or allocates all memory. So a separate process with little
memory and time looks at the file first.
"""

from __future__ import annotations

import io
import json
import math
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tiedexp.errors import RunError
from tiedexp.files.atomic import replace_file

MAX_VALUES = 2**18  # of an array that `read_array` reads
# The names that Keras gives to the kernels of a model's first tied convolution and its first untied one.
FIRST_TIED, FIRST_UNTIED = "layers/tied_conv2d/vars/0", "layers/conv2d/vars/0"
_MAX_DEPTH = 16  # layers/NAME/.../vars/0
_MAX_MEMORY = 512 * 2**20
_MAX_SECONDS = 60


def check_weights_file(path: Path, variables: Iterable[Any]) -> None:
    """Refuse a file that holds anything but plain arrays in the shapes of a model's variables.

    It takes a fraction of a second.

    Args:
        path: the HDF5 file.
        variables: the variables of the model. The file may also hold the state of an optimizer, which has the same
            shapes or is scalar.

    Raises:
        RunError: the file is not HDF5 or is damaged; it has links, values in another file, compressed arrays, arrays of
            a shape that no variable has, arrays larger than the file, or far more arrays than the model.
    """
    _look(path, {"shapes": [tuple(variable.shape) for variable in variables]})


def read_array(path: Path, names: Sequence[str]) -> list[Any]:
    """Read one array of a weights file, as nested lists.

    Args:
        path: the HDF5 file.
        names: possible names of the array, e.g. `layers/conv2d/vars/0`; the first one in the file is read.

    Raises:
        RunError: see `check_weights_file`; or none of the arrays exists, or it has more than `MAX_VALUES` values.
    """
    values: list[Any] = json.loads(_look(path, {"read": list(names)}))
    return values


def write_array(path: Path, name: str, values: Any) -> None:
    """Create or replace a weights file that holds one array, for `read_array`.

    Args:
        path: the HDF5 file, in an existing directory.
        name: the name of the array.
        values: the array.
    """
    import h5py

    stored = io.BytesIO()  # in memory: if HDF5 writes to a full disk, the process aborts
    with h5py.File(stored, "w") as file:
        file[name] = values
    with replace_file(path) as unfinished:
        unfinished.write_bytes(stored.getvalue())


def _look(path: Path, task: Mapping[str, Any]) -> str:
    """The output of the process that opens the file; RunError with its message if it refuses the file."""
    if not path.exists() or not stat.S_ISREG(path.lstat().st_mode):
        raise RunError(f"{path} is not loaded: it is not a regular file")
    package_parent = str(Path(__file__).parents[2])
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [package_parent, os.environ.get("PYTHONPATH")])),
        "OPENBLAS_NUM_THREADS": "1",  # each thread takes memory
    }
    answer = subprocess.run(
        [sys.executable, "-P", "-m", "tiedexp.training.weights_file", str(path)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if answer.returncode != 0:
        reason = answer.stdout.strip() or "it is so damaged that the HDF5 library crashes"
        raise RunError(f"{path} is not loaded: {reason}")
    return answer.stdout


class _RefusedError(Exception):
    """The file is not loaded; says why."""


def _main() -> None:
    """The separate process: the file is the argument, the task comes on stdin. Exits with 1 if the file is refused."""
    task = json.load(sys.stdin)
    for limit, value in ((resource.RLIMIT_DATA, _MAX_MEMORY), (resource.RLIMIT_CPU, _MAX_SECONDS)):
        with suppress(ValueError, OSError):  # the system has no such limit, or a lower one
            resource.setrlimit(limit, (value, value))
    try:
        print(_do_task(Path(sys.argv[1]), task))
    except _RefusedError as refusal:
        print(refusal)
        sys.exit(1)


def _do_task(path: Path, task: Mapping[str, Any]) -> str:
    """Check the file, or return one of its arrays as JSON."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "read" in task:
                return _read_first(file, task["read"], path.stat().st_size)
            _check_all(file, [tuple(shape) for shape in task["shapes"]], path.stat().st_size)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, NotImplementedError) as error:  # what h5py raises
        raise _RefusedError(" ".join(f"it is not a readable HDF5 file: {error}".split())) from error
    return ""


def _check_all(file: Any, shapes: list[tuple[int, ...]], file_size: int) -> None:
    """Refuse anything but plain arrays of these shapes, without reading them."""
    import h5py

    for number, entry in enumerate(_walk(file, depth=1)):
        if number > 16 * len(shapes) + 1000:
            raise _RefusedError("it has far more entries than the model has weights")
        if isinstance(entry, h5py.Dataset):
            _check_dataset(entry, {*shapes, ()}, file_size)


def _read_first(file: Any, names: Sequence[str], file_size: int) -> str:
    import h5py

    for name in names:
        entry = file
        for step in name.split("/"):
            entry = _follow(entry, step) if step in entry else None
            if entry is None:
                break
        else:
            if not isinstance(entry, h5py.Dataset):
                raise _RefusedError(f"{name} is not an array")
            if math.prod(entry.shape) > MAX_VALUES:
                raise _RefusedError(f"{name} has shape {entry.shape}, which is too large to show")
            _check_dataset(entry, {entry.shape}, file_size)
            return json.dumps(entry[()].tolist())
    raise _RefusedError(f"it has no {' or '.join(names)}")


def _walk(group: Any, depth: int) -> Iterator[Any]:
    """All groups and datasets below a group, without following links."""
    import h5py

    if depth > _MAX_DEPTH:
        raise _RefusedError(f"its groups are nested deeper than {_MAX_DEPTH} levels")
    for name in group:
        entry = _follow(group, name)
        yield entry
        if isinstance(entry, h5py.Group):
            yield from _walk(entry, depth + 1)


def _follow(group: Any, name: str) -> Any:
    """The entry of a group, if it is not a link."""
    import h5py

    link = group.get(name, getclass=True, getlink=True)
    if link is not h5py.HardLink:
        kind = "damaged" if link is None else f"a link ({link.__name__})"
        raise _RefusedError(f"{group.name.rstrip('/')}/{name} is {kind}, not weights")
    return group[name]


def _check_dataset(dataset: Any, shapes: set[tuple[int, ...]], file_size: int) -> None:
    import h5py

    def refuse_if(wrong: bool, reason: str) -> None:
        if wrong:
            raise _RefusedError(f"{dataset.name} {reason}")

    refuse_if(bool(dataset.external) or dataset.is_virtual, "has its values in another file")
    refuse_if(dataset.shape not in shapes, f"has shape {dataset.shape}, which no weight of the model has")
    refuse_if(dataset.dtype.kind not in "fiub" or dataset.dtype.itemsize > 8, f"holds {dataset.dtype}, not numbers")
    properties = dataset.id.get_create_plist()
    is_plain = properties.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not properties.get_nfilters()
    refuse_if(
        not is_plain or len(dataset.attrs) > 0, "is compressed, chunked or has attributes, which Keras never writes"
    )
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    is_there = size <= file_size and dataset.id.get_storage_size() == size
    refuse_if(not is_there, f"should have {size} bytes, but the file does not hold them")


if __name__ == "__main__":
    _main()
