"""Divisions of a split: exact sizes, every class in proportion, reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiedexp.data.splits import Split, compute_fingerprint, count_test_split, limit_split, split_test, split_validation
from tiedexp.errors import DatasetError


def make_split(labels):
    """Images that can be told apart, because each contains its own number."""
    labels = np.asarray(labels, dtype=np.int64)
    numbers = np.arange(len(labels))
    images = np.stack([numbers // 256, numbers % 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)
    return Split(images, labels)


def numbers_of(split):
    return (split.images[:, 0, 0, 0].astype(int) * 256 + split.images[:, 0, 1, 0]).tolist()


@pytest.mark.parametrize(("size", "expected"), [(20, 20), (0.25, 25), (13, 13)])
def test_validation_is_stratified_and_exact(size, expected):
    whole = make_split([0] * 60 + [1] * 30 + [2] * 10)
    train, validation = split_validation(whole, size, seed=3)
    assert (len(train), len(validation)) == (100 - expected, expected)
    assert sorted(numbers_of(train) + numbers_of(validation)) == list(range(100))
    for label, share in enumerate((0.6, 0.3, 0.1)):
        assert abs(np.count_nonzero(validation.labels == label) - share * expected) < 1
    for part in (train, validation):
        np.testing.assert_array_equal(part.labels, whole.labels[numbers_of(part)])


def test_validation_depends_on_the_seed_alone():
    whole = make_split([0, 1] * 50)
    first, again, other = (numbers_of(split_validation(whole, 10, seed)[1]) for seed in (1, 1, 2))
    assert first == again != other


def test_no_validation():
    whole = make_split([0, 1])
    train, validation = split_validation(whole, 0, 1)
    assert train is whole
    assert validation.images.shape == (0, 1, 2, 1)


@pytest.mark.parametrize(
    ("labels", "size", "message"),
    [
        ([0, 1] * 5, 10, "10 validation images cannot be held out of 10"),
        ([0, 1] * 5, 11, "11 validation images cannot be held out of 10"),
        ([0, 1] * 5, 0.01, "0 validation images cannot be held out of 10"),
        ([0, 1, 2] * 5, 2, "must be from 3 to 12"),
        ([0, 1, 2] * 5, 13, "must be from 3 to 12"),
        ([0] * 5 + [7], 2, "class 7 has 1 image"),
    ],
)
def test_impossible_validation(labels, size, message):
    with pytest.raises(DatasetError, match=message):
        split_validation(make_split(labels), size, 0)


def test_the_test_split_is_a_fixed_fifth():
    whole = make_split([0, 1, 2, 3, 4] * 21)
    train, test = split_test(whole)
    assert (len(train), len(test)) == count_test_split(105) == (84, 21)
    assert numbers_of(split_test(whole)[1]) == numbers_of(test)


@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=60), limit=st.integers(1, 70))
def test_a_limit_lets_the_classes_take_turns(labels, limit):
    whole = make_split(labels)
    limited = limit_split(whole, limit)
    chosen = numbers_of(limited)
    assert len(limited) == min(limit, len(labels))
    assert chosen == sorted(set(chosen))
    np.testing.assert_array_equal(limited.labels, whole.labels[chosen])
    kept, there = (np.bincount(part.labels, minlength=4) for part in (limited, whole))
    # A class has fewer images than another by more than one only if it has no more to give.
    assert all(kept[label] >= kept.max() - 1 or kept[label] == there[label] for label in range(4))
    assert numbers_of(limit_split(whole, limit)) == chosen


def test_a_limit_does_not_take_the_first_images():
    assert numbers_of(limit_split(make_split([0] * 100), 10)) != list(range(10))


def test_the_fingerprint_is_of_contents_and_shapes():
    split = make_split([0, 1, 2, 3])
    fingerprint = compute_fingerprint([split])
    assert fingerprint == compute_fingerprint([split.take(np.arange(4))])
    assert len(fingerprint) == 16
    int(fingerprint, 16)
    changed = split.images.copy()
    changed[3, 0, 1, 0] ^= 1
    others = [
        Split(changed, split.labels),
        Split(split.images, split.labels[::-1]),
        Split(split.images.reshape(4, 2, 1, 1), split.labels),
    ]
    assert len({fingerprint, *(compute_fingerprint([other]) for other in others)}) == 4


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (np.zeros((2, 3, 3, 1)), np.zeros(2, int)),
        (np.zeros((2, 3, 3), np.uint8), np.zeros(2, int)),
        (np.zeros((2, 3, 3, 1), np.uint8), np.zeros(3, int)),
    ],
)
def test_arrays_that_are_no_split(images, labels):
    with pytest.raises(ValueError, match="a split is uint8 images"):
        Split(images, labels)
