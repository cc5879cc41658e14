"""Batches as a pure function of (seed, step): no queue and no state, so a run can resume at any step on any device.

The images stay on the device as uint8, and a batch is made inside the training function:

    step -> epoch, position in the epoch -> indices (one permutation per epoch) -> images -> augmented -> normalised

Shuffling uses TensorFlow's index shuffle, a small block cipher that computes any element of a pseudorandom permutation
directly. All other random numbers come from stateless generators whose seeds depend on the seed and the step. They are
drawn for the whole batch and then divided, so a batch does not depend on the number of devices that share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tiedexp.data.splits import Split
from tiedexp.errors import DatasetError

_CHUNK = 1024  # images counted at a time, so that no copy of all images is made
_RNG = "philox"  # explicit, because the automatic choice can differ between devices
# The uses of random numbers; each has its own stream.
_ORDER, _FLIP_ROWS, _FLIP_COLS, _SHIFT, _ROTATION, _CUTOUT, _MIXUP, _MIXUP_TAIL = range(8)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images, drawn anew for every image and step, and applied in this order.

    Args:
        flip: mirror left to right (`horizontal`), top to bottom (`vertical`) or each independently (`both`), with
            probability 1/2.
        rotation: rotate by an angle drawn uniformly from -rotation to rotation, in degrees, bilinearly interpolated.
        pad_crop: shift by whole pixels, drawn uniformly from -pad_crop to pad_crop, along both axes: the same as
            padding by that many pixels and cropping. Pixels from outside are 0 (black), here and in rotation.
        cutout: side of a square that is set to the mean colour. Its centre is drawn uniformly from all pixels, so parts
            of it can lie outside (DeVries & Taylor 2017, arXiv 1708.04552).
        mixup: alpha of the Beta distribution of the weight of each image, which is mixed with another image of the
            batch; labels are mixed with the same weights (Zhang et al. 2018, arXiv 1710.09412). 0 disables it.
    """

    pad_crop: int = 0
    flip: Literal["horizontal", "vertical", "both"] | None = None
    rotation: float = 0.0
    cutout: int = 0
    mixup: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether pixels are moved."""
        return bool(self.pad_crop or self.flip or self.rotation)


def normalisation(split: Split) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The mean and standard deviation of each channel, (channels,) each, of the images divided by 255.

    Both are exact, from a histogram of the 256 values. The standard deviation of a constant channel is set to 1.

    Raises:
        DatasetError: there are no images.
    """
    if not len(split):
        raise DatasetError("cannot compute the mean, because there are no images")
    channels = split.images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for begin in range(0, len(split), _CHUNK):
        chunk = split.images[begin : begin + _CHUNK]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    share = counts / counts.sum(axis=1, keepdims=True)  # (channels, 256)
    values = np.arange(256) / 255
    mean = share @ values
    variance = (share * (values - mean[:, np.newaxis]) ** 2).sum(axis=1)
    std = np.where(variance > 0, np.sqrt(variance), 1.0)
    return mean.astype(np.float32), std.astype(np.float32)


class Batches:
    """The training batches: `batches(step)` returns (images, labels), which depend only on the step and the arguments.

    An epoch consists of `steps_per_epoch` batches of one permutation of the images. The remaining images, fewer than a
    batch, differ from epoch to epoch. If there are fewer images than a batch needs, an epoch is one batch that repeats
    the permutation until it is full.

    Args:
        split: the images, which are copied to the device once, as uint8.
        num_classes: number of classes.
        batch_size: images per step, over all shards.
        seed: seed of the order and of the augmentation.
        mean: the mean of each channel, (channels,), see `normalisation`.
        std: the standard deviation of each channel, (channels,).
        augmentation: random changes to the images; None for no changes.

    Raises:
        DatasetError: there are no images.
        ValueError: a label is not from 0 to `num_classes` - 1.
    """

    def __init__(
        self,
        split: Split,
        *,
        num_classes: int,
        batch_size: int,
        seed: int,
        mean: npt.ArrayLike,
        std: npt.ArrayLike,
        augmentation: Augmentation | None = None,
    ):
        import tensorflow as tf

        if not len(split):
            raise DatasetError("there are no images to train on")
        if not 0 <= split.labels.min() <= split.labels.max() < num_classes:
            raise ValueError(f"labels must be from 0 to {num_classes - 1}. Received: {split.labels.max()}")
        self.num_images = len(split)
        self.num_classes = num_classes
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = augmentation or Augmentation()
        self._images = tf.constant(split.images)
        self._labels = tf.constant(split.labels, tf.int32)
        self._scale, self._offset = find_affine(mean, std)

    @property
    def steps_per_epoch(self) -> int:
        """Number of full batches in one pass over the images, at least 1."""
        return max(1, self.num_images // self.batch_size)

    def __call__(self, step: Any, shard: Any = 0, num_shards: int = 1) -> tuple[Any, Any]:
        """The batch of a step, or a shard of it; can be called inside a `tf.function`.

        Args:
            step: a scalar int64, counted from 0 over the whole training.
            shard: the number of the shard, from 0 to num_shards - 1; an int or a scalar tensor.
            num_shards: the number of equal shards that the batch is divided into.

        Returns:
            normalised images, float32 (n, rows, cols, channels), and labels, float32 (n, classes), one-hot or mixed.
        """
        import tensorflow as tf

        if self.batch_size % num_shards:
            raise ValueError(f"num_shards must divide the batch size, {self.batch_size}. Received: {num_shards}")
        step = tf.convert_to_tensor(step, tf.int64)
        size = self.batch_size // num_shards
        mixes = self.augmentation.mixup > 0
        # Positions in the batch. Mixup mixes each image with the next, so it needs one more.
        positions = tf.cast(shard, tf.int64) * size + tf.range(size + 1 if mixes else size, dtype=tf.int64)
        positions %= self.batch_size
        indices = self._shuffle(step, positions)
        draws = _Draws(self.seed, step, self.batch_size, positions)
        images = self._augment(tf.gather(self._images, indices), draws)
        labels = tf.one_hot(tf.gather(self._labels, indices), self.num_classes)
        if not mixes:
            return images, labels
        share = draws.beta(self.augmentation.mixup)[:size]  # (n,)
        return _mix(images, share[:, tf.newaxis, tf.newaxis, tf.newaxis]), _mix(labels, share[:, tf.newaxis])

    def _shuffle(self, step: Any, positions: Any) -> Any:
        """Indices of the images, (n,), at these positions in the batch of a step."""
        import tensorflow as tf

        epoch, step_in_epoch = step // self.steps_per_epoch, step % self.steps_per_epoch
        in_epoch = (step_in_epoch * self.batch_size + positions) % self.num_images
        # tf.random.experimental.index_shuffle is this op with 4 rounds and a seed of two words, but its permutations
        # for neighbouring seeds are not uniform (chi-square). With three hashed words and 8 rounds they are.
        words = tf.random.stateless_uniform([3], _build_key(self.seed, _ORDER, epoch), None, None, tf.uint32, alg=_RNG)
        return tf.raw_ops.RandomIndexShuffle(
            index=in_epoch, seed=words, max_index=tf.constant(self.num_images - 1, tf.int64), rounds=8
        )

    def _augment(self, images: Any, draws: _Draws) -> Any:
        """Augment and normalise images: uint8 (n, rows, cols, channels) to float32 of the same shape."""
        options = self.augmentation
        if options.moves:
            images = _move(images, options, draws)
        images = self._normalise(images)
        if options.cutout:
            images *= _cutout_mask(images.shape[1:3], options.cutout, draws)
        return images

    def _normalise(self, images: Any) -> Any:
        import tensorflow as tf

        rows, cols, channels = self._images.shape[1:]
        # Flattened, because broadcasting over a whole row is several times as fast as over three channels.
        flat = tf.reshape(tf.cast(images, tf.float32), (-1, rows, cols * channels))
        flat = flat * np.tile(self._scale, cols) + np.tile(self._offset, cols)
        return tf.reshape(flat, (-1, rows, cols, channels))


class _Draws:
    """Random numbers for one step, drawn for the whole batch and returned for some positions."""

    def __init__(self, seed: int, step: Any, batch_size: int, positions: Any):
        self._seed, self._step, self._batch_size, self._positions = seed, step, batch_size, positions

    def uniform(self, stream: int, low: float, high: float, columns: int = 1, dtype: str = "float32") -> Any:
        """Numbers in [low, high), (n, columns)."""
        import tensorflow as tf

        key = _build_key(self._seed, stream, self._step)
        values = tf.random.stateless_uniform((self._batch_size, columns), key, low, high, dtype, alg=_RNG)
        return tf.gather(values, self._positions)

    def beta(self, alpha: float) -> Any:
        """Samples of Beta(alpha, alpha), (n,), as X / (X + Y) with two gamma variables.

        For small alpha both variables underflow, so their logarithms are drawn, using
        Gamma(alpha) = Gamma(alpha + 1) U^(1 / alpha).
        """
        import tensorflow as tf

        shape = (self._batch_size, 2)
        gamma = tf.random.stateless_gamma(shape, _build_key(self._seed, _MIXUP, self._step), alpha=alpha + 1.0)
        tiny = np.finfo(np.float32).tiny
        uniform = tf.random.stateless_uniform(
            shape, _build_key(self._seed, _MIXUP_TAIL, self._step), tiny, 1.0, alg=_RNG
        )
        logs = tf.math.log(gamma) + tf.math.log(uniform) / alpha
        return tf.gather(tf.sigmoid(logs[:, 0] - logs[:, 1]), self._positions)


def _build_key(seed: int, stream: int, counter: Any) -> Any:
    """The seed of a stateless generator, (2,), hashed so that neighbouring steps and seeds are unrelated."""
    import tensorflow as tf

    return tf.random.experimental.stateless_fold_in(tf.constant([seed, stream], tf.int64), counter, alg=_RNG)


def _move(images: Any, options: Augmentation, draws: _Draws) -> Any:
    """Flip, rotate and shift in one projective transform, so that pixels are interpolated at most once.

    The transform maps a pixel p = (x, y) of the result to one of the input: M (p - centre) + centre + shift.
    """
    import tensorflow as tf

    _, rows, cols, _ = images.shape
    centre_x, centre_y = (cols - 1) / 2, (rows - 1) / 2
    zero = tf.zeros_like(draws.uniform(_ROTATION, 0.0, 1.0)[:, 0])
    mirror_x, mirror_y, shift_x, shift_y, angle = zero + 1.0, zero + 1.0, zero, zero, zero
    if options.flip in ("horizontal", "both"):
        mirror_x = tf.cast(draws.uniform(_FLIP_COLS, 0, 2, dtype="int32")[:, 0] * 2 - 1, tf.float32)
    if options.flip in ("vertical", "both"):
        mirror_y = tf.cast(draws.uniform(_FLIP_ROWS, 0, 2, dtype="int32")[:, 0] * 2 - 1, tf.float32)
    if options.pad_crop:
        shifts = draws.uniform(_SHIFT, -options.pad_crop, options.pad_crop + 1, 2, "int32")
        shifts = tf.cast(shifts, tf.float32)
        shift_x, shift_y = shifts[:, 0], shifts[:, 1]
    if options.rotation:
        angle = draws.uniform(_ROTATION, -options.rotation, options.rotation)[:, 0] * (pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    a, b = mirror_x * cos, -mirror_x * sin
    c, d = mirror_y * sin, mirror_y * cos
    offset_x = centre_x + shift_x - a * centre_x - b * centre_y
    offset_y = centre_y + shift_y - c * centre_x - d * centre_y
    transforms = tf.stack([a, b, offset_x, c, d, offset_y, zero, zero], axis=1)  # (n, 8)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32) if options.rotation else images,
        transforms=transforms,
        output_shape=tf.constant([rows, cols], tf.int32),
        fill_value=tf.constant(0.0, tf.float32),
        interpolation="BILINEAR" if options.rotation else "NEAREST",
        fill_mode="CONSTANT",
    )


def _cutout_mask(shape: tuple[int, int], side: int, draws: _Draws) -> Any:
    """A mask, float32 (n, rows, cols, 1), that is 0 in the square of each image and 1 elsewhere."""
    import tensorflow as tf

    def inside(length: int, stream_column: Any) -> Any:
        distance = tf.range(length)[tf.newaxis] - stream_column[:, tf.newaxis] + side // 2  # from the square's edge
        return (distance >= 0) & (distance < side)  # (n, length)

    rows, cols = shape
    corners = draws.uniform(_CUTOUT, 0.0, 1.0, 2)
    in_rows = inside(rows, tf.cast(corners[:, 0] * rows, tf.int32))
    in_cols = inside(cols, tf.cast(corners[:, 1] * cols, tf.int32))
    cut = in_rows[:, :, tf.newaxis] & in_cols[:, tf.newaxis, :]
    return tf.cast(~cut, tf.float32)[..., tf.newaxis]


def _mix(values: Any, share: Any) -> Any:
    """Mix each value with the next: (n + 1, ...) to (n, ...)."""
    return share * values[:-1] + (1.0 - share) * values[1:]


def find_affine(mean: npt.ArrayLike, std: npt.ArrayLike) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The scale and offset for which (pixel / 255 - mean) / std = pixel * scale + offset."""
    centre, spread = np.asarray(mean, dtype=np.float64), np.asarray(std, dtype=np.float64)
    return (1.0 / (255.0 * spread)).astype(np.float32), (-centre / spread).astype(np.float32)


def evaluation_batches(
    split: Split, *, batch_size: int, mean: npt.ArrayLike, std: npt.ArrayLike
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]:
    """The images in their original order, normalised but not augmented; the last batch can be smaller.

    Yields:
        images, float32 (n, rows, cols, channels), and labels, int64 (n,).
    """
    scale, offset = find_affine(mean, std)
    for begin in range(0, len(split), batch_size):
        images = split.images[begin : begin + batch_size]
        yield images.astype(np.float32) * scale + offset, split.labels[begin : begin + batch_size]
