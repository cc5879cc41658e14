"""The estimate of the costs, which is Python, and the compiled code, which it describes, agree on their constants."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tiedexp.convolution import costs, native
from tiedexp.convolution.cpp.compiler import SOURCES

FLOAT = 4  # bytes of a float32


def read_constants() -> dict[str, float]:
    """The constants of the headers. The first set of registers, which is that of AVX-512, counts."""
    constants: dict[str, float] = {}
    for header in sorted(SOURCES.glob("*.h")):
        for declaration in re.findall(r"^constexpr [\w:]+ (k\w+ = [^;]+);", header.read_text(), re.MULTILINE):
            for name, value in re.findall(r"(k\w+) = ([\d' *<.]+)(?:,|$)", declaration):
                constants.setdefault(name, eval(value.replace("'", "")))  # digits and operators alone
    return constants


@pytest.mark.parametrize(
    ("name", "convert", "expected"),
    [
        ("kBufferBytes", lambda size: size / FLOAT, costs.NATIVE_BUFFER),
        ("kMinChannels", float, costs.NATIVE_CHANNELS),
        ("kThreadCost", float, costs.NATIVE_THREAD),
        ("kCopyCost", float, costs.NATIVE_COPY),
        ("kMaxThreads", float, native.MAX_THREADS),
        ("kBytes", lambda size: size / FLOAT, costs.LANES),
    ],
)
def test_python_and_cpp_agree(name: str, convert: Callable[[float], float], expected: float) -> None:
    assert convert(read_constants()[name]) == expected
