"""Batches: a pure function of seed and step, and augmentation compared with NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from tiedexp.data.pipeline import Augmentation, Batches, evaluation_batches, normalisation
from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError

CLASSES = 4
EVERYTHING = Augmentation(pad_crop=2, flip="both", rotation=20.0, cutout=3, mixup=0.4)


def make_split(count, shape=(6, 7, 3), seed=0):
    """Random images whose first pixel holds their number, so that they can be told apart."""
    generator = np.random.default_rng(seed)
    images = generator.integers(1, 256, (count, *shape)).astype(np.uint8)
    images[:, 0, 0, 0] = np.arange(count)
    return Split(images, generator.integers(0, CLASSES, count))


def make_batches(split, batch_size=8, seed=5, mean=0.0, std=1 / 255, augmentation=None):
    """With the default mean and deviation, normalised pixels are 0 to 255, as the originals."""
    channels = split.images.shape[3]
    mean, std = np.broadcast_to(mean, channels), np.broadcast_to(std, channels)
    return Batches(
        split,
        num_classes=CLASSES,
        batch_size=batch_size,
        seed=seed,
        mean=mean,
        std=std,
        augmentation=augmentation or Augmentation(),
    )


def draw(batches, step, shard=0, num_shards=1):
    return tuple(part.numpy() for part in batches(tf.constant(step, tf.int64), shard, num_shards))


def numbers_of(images):
    return np.rint(images[:, 0, 0, 0]).astype(int).tolist()


# Order


def test_an_epoch_is_a_permutation_and_the_next_one_another():
    split = make_split(40)
    batches = make_batches(split)
    assert batches.steps_per_epoch == 5
    epochs = [[n for step in range(5) for n in numbers_of(draw(batches, 5 * epoch + step)[0])] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(40))


def test_images_and_labels_belong_together_and_are_normalised():
    split = make_split(40)
    mean, std = np.array([0.1, 0.5, 0.6], np.float32), np.array([0.2, 0.3, 0.4], np.float32)
    images, labels = draw(make_batches(split, mean=mean, std=std), 7)
    indices = numbers_of(draw(make_batches(split), 7)[0])
    np.testing.assert_allclose(images, (split.images[indices] / 255 - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(labels, np.eye(CLASSES)[split.labels[indices]])
    assert images.dtype == labels.dtype == np.float32


def test_the_rest_of_an_epoch_is_dropped_and_is_not_always_the_same():
    batches = make_batches(make_split(21))
    assert batches.steps_per_epoch == 2
    dropped = set()
    for epoch in range(20):
        seen = [n for step in range(2) for n in numbers_of(draw(batches, 2 * epoch + step)[0])]
        assert len(set(seen)) == 16
        dropped |= set(range(21)) - set(seen)
    assert len(dropped) > 15


def test_fewer_images_than_a_batch_go_round():
    batches = make_batches(make_split(3), batch_size=8)
    assert batches.steps_per_epoch == 1
    for step in range(4):
        seen = numbers_of(draw(batches, step)[0])
        assert seen[:3] == seen[3:6]
        assert sorted(seen[:3]) == [0, 1, 2]


def test_every_place_is_as_likely_for_every_image():
    """The shuffle that TensorFlow offers fails this with neighbouring seeds (p < 1e-20)."""
    count, epochs = 50, 1000
    split = Split(np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1), np.zeros(count, np.int64))
    batches = make_batches(split, batch_size=count)
    run = tf.function(lambda step: batches(step)[0][:, 0, 0, 0])
    orders = np.stack([run(tf.constant(epoch, tf.int64)).numpy() for epoch in range(epochs)]).astype(int)
    for place in range(0, count, 7):
        assert stats.chisquare(np.bincount(orders[:, place], minlength=count)).pvalue > 1e-5
    distance = (orders[:, 1] - orders[:, 0]) % count - 1
    assert stats.chisquare(np.bincount(distance, minlength=count - 1)).pvalue > 1e-5


# Purity


def test_the_same_step_is_the_same_batch_in_another_object_and_in_a_graph():
    split = make_split(40)
    batches, again = (make_batches(split, augmentation=EVERYTHING) for _ in range(2))
    in_graph = tf.function(batches)
    draw(batches, 3)
    for step in (9, 2):
        expected = draw(again, step)
        for part, in_a_graph, wanted in zip(
            draw(batches, step), in_graph(tf.constant(step, tf.int64)), expected, strict=True
        ):
            np.testing.assert_array_equal(part, wanted)
            np.testing.assert_allclose(in_a_graph, wanted, atol=1e-3)  # a graph may round otherwise


def test_seed_and_step_both_matter():
    split = make_split(40)
    first, seeded = (make_batches(split, seed=seed, augmentation=EVERYTHING) for seed in (1, 2))
    assert not np.array_equal(draw(first, 0)[0], draw(seeded, 0)[0])
    assert not np.array_equal(draw(first, 0)[0], draw(first, 1)[0])


@pytest.mark.parametrize(
    "augmentation", [Augmentation(), EVERYTHING, Augmentation(mixup=1.0), Augmentation(pad_crop=1, cutout=2)], ids=str
)
@pytest.mark.parametrize("num_shards", [2, 4, 8])
def test_shards_are_slices_of_the_whole_batch(augmentation, num_shards):
    batches = make_batches(make_split(40), augmentation=augmentation)
    whole = draw(batches, 11)
    shards = [draw(batches, 11, tf.constant(shard), num_shards) for shard in range(num_shards)]
    for part in range(2):
        np.testing.assert_array_equal(np.concatenate([shard[part] for shard in shards]), whole[part])


def test_it_works_under_op_determinism():
    """In a process of its own, because determinism cannot be switched off once it is on."""
    import subprocess
    import sys

    code = """
import numpy as np, tensorflow as tf
from tiedexp.data.pipeline import Augmentation, Batches
from tiedexp.data.splits import Split
tf.config.experimental.enable_op_determinism()
split = Split(np.arange(2304, dtype=np.int64).astype(np.uint8).reshape(9, 16, 16, 1), np.arange(9) % 3)
changes = Augmentation(pad_crop=2, flip="both", rotation=20.0, cutout=3, mixup=0.4)
batches = Batches(split, num_classes=3, batch_size=4, seed=0, mean=[0.5], std=[0.5], augmentation=changes)
run = tf.function(batches)
for step in range(3):
    first, second = (run(tf.constant(step, tf.int64)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second))
print("fine")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "fine", done.stderr


# Augmentation


def draw_pairs(augmentation, steps=12, shape=(6, 7, 3)):
    """Augmented images beside the originals, both as 0 to 255."""
    split = make_split(40, shape)
    plain, changed = make_batches(split), make_batches(split, augmentation=augmentation)
    for step in range(steps):
        for original, image in zip(draw(plain, step)[0], draw(changed, step)[0], strict=True):
            yield np.rint(original), image


@pytest.mark.parametrize("pad", [1, 3, 9])
def test_pad_crop_is_a_window_of_the_padded_image(pad):
    shifts = set()
    for original, image in draw_pairs(Augmentation(pad_crop=pad)):
        rows, cols, _ = original.shape
        padded = np.pad(original, ((pad, pad), (pad, pad), (0, 0)))
        windows = [
            (row, col)
            for row in range(2 * pad + 1)
            for col in range(2 * pad + 1)
            if np.allclose(padded[row : row + rows, col : col + cols], image, atol=1e-3)
        ]
        assert windows
        shifts.add(windows[0])
    assert len(shifts) > min(6, pad * 6)
    assert {row for row, _ in shifts} >= {0, 2 * pad} or pad == 9


FLIPS = {
    "horizontal": [lambda image: image, lambda image: image[:, ::-1]],
    "vertical": [lambda image: image, lambda image: image[::-1]],
    "both": [lambda i: i, lambda i: i[:, ::-1], lambda i: i[::-1], lambda i: i[::-1, ::-1]],
}


@pytest.mark.parametrize("flip", FLIPS)
def test_flips_are_exact_and_equally_frequent(flip):
    counts = np.zeros(len(FLIPS[flip]), int)
    for original, image in draw_pairs(Augmentation(flip=flip), steps=40):
        matches = [np.allclose(change(original), image, atol=1e-3) for change in FLIPS[flip]]
        assert sum(matches) == 1
        counts[matches.index(True)] += 1
    assert stats.chisquare(counts).pvalue > 1e-4


def test_rotation_against_scipy():
    """The result is a smooth image rotated by the angle that fits best."""
    from scipy.ndimage import rotate

    ramp = np.add.outer(np.arange(15) * 6, np.arange(15) * 10)[..., np.newaxis]
    split = Split(np.repeat(ramp[np.newaxis], 40, axis=0).astype(np.uint8), np.zeros(40, np.int64))
    images = draw(make_batches(split, batch_size=40, augmentation=Augmentation(rotation=30.0)), 0)[0]
    angles = np.arange(-32, 32.1, 0.25)
    references = [rotate(ramp[..., 0].astype(float), angle, reshape=False, order=1) for angle in angles]
    inner = np.hypot(*np.mgrid[-7:8, -7:8]) < 6  # away from the border, where black comes in
    best = []
    for image in images:
        errors = [np.abs(reference - image[..., 0])[inner].max() for reference in references]
        assert min(errors) < 2.0
        best.append(angles[int(np.argmin(errors))])
    assert -30.25 <= min(best) < -25
    assert 25 < max(best) <= 30.25


def test_rotation_brings_in_black():
    white = Split(np.full((8, 9, 9, 1), 255, np.uint8), np.zeros(8, np.int64))
    images = draw(make_batches(white, augmentation=Augmentation(rotation=45.0)), 0)[0]
    assert images.min() == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(images[:, 2:7, 2:7], 255, atol=1e-2)


@pytest.mark.parametrize("side", [1, 2, 3, 20])
def test_cutout_is_one_square_of_the_mean_colour(side):
    rows, cols, mean = 9, 8, 0.4
    split = Split(np.full((40, rows, cols, 1), 255, np.uint8), np.zeros(40, np.int64))
    batches = make_batches(split, mean=mean, std=0.5, augmentation=Augmentation(cutout=side))
    areas = set()
    for step in range(10):
        for image in draw(batches, step)[0][..., 0]:
            cut = image == 0.0  # normalised: the mean
            np.testing.assert_allclose(image[~cut], (1 - mean) / 0.5, rtol=1e-5)
            in_rows, in_cols = np.flatnonzero(cut.any(axis=1)), np.flatnonzero(cut.any(axis=0))
            assert cut.sum() == len(in_rows) * len(in_cols)  # a rectangle ...
            assert np.ptp(in_rows) + 1 == len(in_rows) <= side  # ... without gaps, cut off by the border at most
            assert np.ptp(in_cols) + 1 == len(in_cols) <= side
            assert len(in_rows) >= min(side // 2, rows // 2)
            areas.add(cut.sum())
    assert max(areas) == (side**2 if side < 8 else rows * cols)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_mixup_mixes_each_image_and_label_with_its_neighbour(alpha):
    split = make_split(40)
    plain, mixed = make_batches(split), make_batches(split, augmentation=Augmentation(mixup=alpha))
    shares = []
    for step in range(40):
        (images, labels), (got, soft) = draw(plain, step), draw(mixed, step)
        partners, partner_labels = np.roll(images, -1, axis=0), np.roll(labels, -1, axis=0)
        for index in range(len(images)):
            difference = (images[index] - partners[index]).ravel()
            share = (got[index] - partners[index]).ravel() @ difference / (difference @ difference)
            assert -1e-5 <= share <= 1 + 1e-5
            np.testing.assert_allclose(got[index], share * images[index] + (1 - share) * partners[index], atol=1e-2)
            np.testing.assert_allclose(
                soft[index], share * labels[index] + (1 - share) * partner_labels[index], atol=1e-4
            )
            shares.append(share)
        np.testing.assert_allclose(soft.sum(axis=1), 1, atol=1e-5)
    if alpha > 0.1:  # below, the shares are 0 or 1 to float32's precision
        assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    assert np.mean(shares) == pytest.approx(0.5, abs=0.1)


def test_all_at_once_keeps_the_shape_and_is_finite():
    batches = make_batches(make_split(40), mean=0.5, std=0.25, augmentation=EVERYTHING)
    images, labels = draw(batches, 0)
    assert images.shape == (8, 6, 7, 3)
    assert labels.shape == (8, CLASSES)
    assert np.isfinite(images).all()
    assert np.abs(images).max() <= 2.0 + 1e-5


# Normalisation and evaluation


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_normalisation_against_numpy(channels):
    images = np.random.default_rng(0).integers(0, 200, (1100, 3, 4, channels)).astype(np.uint8)
    mean, std = normalisation(Split(images, np.zeros(1100, np.int64)))
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-6)
    assert mean.dtype == std.dtype == np.float32


def test_a_channel_that_never_varies():
    mean, std = normalisation(Split(np.full((3, 2, 2, 1), 51, np.uint8), np.zeros(3, np.int64)))
    assert (mean.tolist(), std.tolist()) == (pytest.approx([0.2]), [1.0])


def test_evaluation_goes_through_all_images_in_order():
    split = make_split(21)
    mean, std = normalisation(split)
    parts = list(evaluation_batches(split, batch_size=8, mean=mean, std=std))
    assert [len(labels) for _, labels in parts] == [8, 8, 5]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, (split.images / 255 - mean) / std, atol=1e-5)
    np.testing.assert_array_equal(labels, split.labels)


def test_training_and_evaluation_normalise_alike():
    split = make_split(8)
    mean, std = normalisation(split)
    trained = draw(make_batches(split, mean=mean, std=std), 0)[0]
    evaluated = next(evaluation_batches(split, batch_size=8, mean=mean, std=std))[0]
    indices = numbers_of(draw(make_batches(split), 0)[0])
    np.testing.assert_allclose(trained, evaluated[indices], atol=1e-6)


# What is refused


def test_no_images():
    empty = make_split(0)
    with pytest.raises(DatasetError, match="no images to train on"):
        make_batches(empty)
    with pytest.raises(DatasetError, match="because there are no images"):
        normalisation(empty)


def test_labels_and_shards_that_do_not_fit():
    split = make_split(8)
    with pytest.raises(ValueError, match=r"labels must be from 0 to 3\. Received: 4"):
        make_batches(Split(split.images, np.full(8, 4)))
    with pytest.raises(ValueError, match=r"must divide the batch size, 8\. Received: 3"):
        draw(make_batches(split), 0, 0, 3)
