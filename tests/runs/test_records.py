"""What the JSON files of a run say."""

from __future__ import annotations

import pytest
from samples import make_line

from tiedexp.runs.records import average_epoch_seconds

SECONDS = [8.0, 1.0, 1.5, 9.0, 2.0]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ([True, False, False, True, False], 1.5),  # a run that went on with epoch 4
        ([True, True, True, True, True], None),  # each epoch in a process of its own
        ([None, None, None, None, None], 3.375),  # of an older version: only the first is known to begin a process
        ([None, None, None, True, False], 1.5),  # begun by an older version
    ],
)
def test_epochs_that_begin_a_process_are_not_averaged(first, expected):
    lines = [
        make_line(epoch, seconds=seconds, **({} if begins is None else {"first_of_process": begins}))
        for epoch, (seconds, begins) in enumerate(zip(SECONDS, first, strict=True), 1)
    ]
    assert average_epoch_seconds(lines) == expected


def test_a_run_of_one_epoch_has_no_time():
    assert average_epoch_seconds([make_line(1)]) is None
    assert average_epoch_seconds([]) is None
