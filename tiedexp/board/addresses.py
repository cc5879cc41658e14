"""Addresses of TensorBoard's pages that show something when they open, however many runs there are.

Custom Scalars, Images and Text share a filter, `regexInput`. TensorBoard 2.21 ticks the runs that match it if there are
at most 40, and otherwise none, so that these pages are empty. Time Series ticks all runs that match `runFilter`. Both
filters stay in the address when another page is chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlencode

MAX_TICKED = 40
_WHOLE = 1  # the run ".", which shows what is about the whole sweep
_LOGS = ("", "/train", "/validation", "/test")  # each is a run for TensorBoard


def address_of_sweep(url: str, folder: Path, variants: Sequence[str], seed: int, *, has_means: bool) -> str:
    """The address of Custom Scalars that compares the means, or the runs of one seed if there are no means.

    Images and Text show the runs of that seed; if there are too many, those of the first variants.

    Args:
        url: the URL of TensorBoard.
        folder: the folder of the `SweepBoard`.
        variants: the names under which the variants are shown.
        seed: a seed that all variants have.
        has_means: whether there are several seeds.
    """
    of_seed = [f" s{seed}{log}" for log in ("", "/train", "/test")]
    room = MAX_TICKED - _WHOLE
    filters = [r"^\.$"]
    if has_means:
        means = min(len(variants), room - len(of_seed))
        filters.append(_match(variants, [" mean"], means))
        room -= means
    filters.append(_match(variants, of_seed, room))
    series = _match(variants, [f"{' mean' if has_means else f' s{seed}'}/{_choose_split(folder)}"], MAX_TICKED)
    return _build_address(url, "custom_scalars", "|".join(filters), series)


def address_of_runs(url: str, folder: Path, names: Sequence[str]) -> str:
    """The address of Time Series; if there are many runs, the other pages show the first ones.

    Args:
        url: the URL of TensorBoard.
        folder: the folder with the links to the runs.
        names: the names of the runs in it.
    """
    if len(names) * len(_LOGS) <= MAX_TICKED:
        return url
    return _build_address(
        url, "timeseries", _match(names, _LOGS, MAX_TICKED), _match(names, [f"/{_choose_split(folder)}"], MAX_TICKED)
    )


def _match(names: Sequence[str], endings: Sequence[str], room: int) -> str:
    """A regular expression for names with these endings: for all of them, or the first if there is no room for all."""
    ending = f"{_any_of(endings)}$"
    count = room // len(endings)
    return ending if len(names) <= count else f"^{_any_of(names[:count])}{ending}"


def _any_of(texts: Sequence[str]) -> str:
    escaped = [re.sub(r"[\\^$.*+?()\[\]{}|]", r"\\\g<0>", text) for text in texts]  # `re.escape` escapes blanks, too
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _choose_split(folder: Path) -> str:
    """`validation`, or `train` if the runs have no validation."""
    splits = {path.name for depth in ("*", "*/*") for path in folder.glob(f"{depth}/[tv]*")}
    return "train" if "train" in splits and "validation" not in splits else "validation"


def _build_address(url: str, page: str, regex: str, series: str) -> str:
    query = urlencode(
        {"runFilter": series, "tagFilter": "^(accuracy|loss)$", "smoothing": 0}, quote_via=quote, safe="/"
    )
    return f"{url}?{query}#{page}&regexInput={quote(regex)}&_smoothingWeight=0"
