"""The records in the JSON files of a run."""

from __future__ import annotations

import pytest
from samples import make_line

from tiedexp.runs.records import average_epoch_seconds

SECONDS = [8.0, 1.0, 1.5, 9.0, 2.0]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([True, False, False, True, False], 1.5),  # resumed after epoch 3
        ([True, True, True, True, True], None),  # each epoch in its own process
        ([None, None, None, None, None], 3.375),  # of an older version: only epoch 1 is known to start a process
        ([None, None, None, True, False], 1.5),  # started by an older version
    ],
)
def test_the_first_epoch_of_each_process_is_not_averaged(first, expected):
    lines = [
        make_line(epoch, seconds=seconds, **({} if is_first is None else {"first_of_process": is_first}))
        for epoch, (seconds, is_first) in enumerate(zip(SECONDS, first, strict=True), 1)
    ]
    assert average_epoch_seconds(lines) == expected


def test_a_run_of_one_epoch_has_no_average():
    assert average_epoch_seconds([make_line(1)]) is None
    assert average_epoch_seconds([]) is None
