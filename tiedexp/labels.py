"""The labels of variants, wherever they are shown."""

from __future__ import annotations

from collections.abc import Mapping

PATTERN = "model.tying.pattern"
_SHORT = {"model.depth": "d{}", "model.width": "w{}", "dataset.name": "{}", PATTERN: "{}", "name": "{}"}

Setting = str | int | float | bool | None


def make_label(settings: Mapping[str, Setting]) -> str:
    """A short label for settings, e.g. `block d4 batch_size=64`.

    Args:
        settings: values by dotted keys of the spec: the pattern as its short name (`none` without tying), and a kernel
            size as a number or `[rows, cols]`. None is left out.
    """
    words = []
    for key, value in settings.items():
        if key == PATTERN and value == "none":
            words.append("untied")
        elif key == "model.kernel_size":
            sides = str(value).strip("[]").split(", ")
            words.append(f"{sides[0]}x{sides[-1]}")
        elif value is not None:
            words.append(_SHORT.get(key, f"{key.rpartition('.')[2]}={{}}").format(value))
    return " ".join(words)
