"""The headers of the compiled code in programs of their own: random convolutions, the division of work, threads."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="compiled only on Linux")

NATIVE = ("-march=native",) if platform.machine() == "x86_64" else ()
SANITIZERS = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def test_random_programs_with_sanitizers(run_program: Callable[..., str]) -> None:
    """No read or write outside of a buffer and no undefined behaviour, and the results of a plain loop."""
    assert run_program("random_programs.cc", 300, flags=SANITIZERS) == "all equal\n"


@pytest.mark.parametrize("compiler", ["clang++"])
def test_random_programs_with_another_compiler(compiler: str, run_program: Callable[..., str]) -> None:
    assert run_program("random_programs.cc", 300, compiler=compiler, flags=("-O2", *NATIVE)) == "all equal\n"


def test_many_threads_have_equal_work(run_program: Callable[..., str]) -> None:
    """Even those of a single image."""
    lines = run_program("work.cc").splitlines()
    assert len(lines) == 7 * 2 * 4  # layers, output and gradient, numbers of threads
    for line in lines:
        name, threads, busy, mean, most = line.split(";")
        assert int(busy) >= 0.6 * int(threads), line
        assert float(most) <= 1.6 * float(mean), line
        assert float(mean) > 0, name


def test_threads_after_a_fork_and_an_exception(run_program: Callable[..., str]) -> None:
    assert run_program("threads.cc").splitlines() == [
        "4 threads ran",
        "caught: no memory",
        "4 threads ran",
        "child: 4 threads ran",
        "child ended with 0",
    ]
