"""Many inputs for everything that is read, by tests/fuzz/test_fuzz.py.

    python experiments/faults/fuzz.py --inputs 20000

Prints how many inputs each reader took and the seed; exit code 1 if any input ended in something else than a value or
an error of ours, or took longer than a second.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from pathlib import Path

import pytest

FUZZ_TESTS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "test_fuzz.py"
TESTS = 17  # in test_fuzz.py, which share the inputs


class Counts:
    """Finds the counts of the test module when the tests are done."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    def pytest_runtest_teardown(self, item: pytest.Item) -> None:
        self.counts = dict(getattr(item, "module").COUNTS)  # noqa: B009


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="of all readers together, at least")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    os.environ["TIEDEXP_FUZZ_INPUTS"] = str(-(-arguments.inputs // TESTS))
    counts = Counts()
    begin = time.perf_counter()
    code = pytest.main(
        [str(FUZZ_TESTS), f"--hypothesis-seed={arguments.seed}", "-p", "no:cacheprovider"], plugins=[counts]
    )
    for name, count in counts.counts.items():
        print(f"{name:14} {count:7,} inputs")
    total = sum(counts.counts.values())
    verdict = "every one a value or an error of ours" if code == 0 else "NOT all of them well"
    print(f"{total:,} inputs in {time.perf_counter() - begin:.0f} s, seed {arguments.seed}: {verdict}")
    return int(code != 0 or total < arguments.inputs)


if __name__ == "__main__":
    sys.exit(main())
