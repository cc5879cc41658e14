"""Facts about common datasets, so that a spec can be validated before they are on this machine.

The numbers are from https://www.tensorflow.org/datasets/catalog/overview. Any other image-classification dataset of
TFDS works too once it is prepared; its own files then describe it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CatalogueEntry:
    """A dataset of TensorFlow Datasets with images of one size.

    Args:
        image_shape: (rows, cols, channels).
        num_classes: number of classes.
        train_images: in the training split.
        test_images: in the test split.
        meaning: what the images show.
    """

    image_shape: tuple[int, int, int]
    num_classes: int
    train_images: int
    test_images: int
    meaning: str


CATALOGUE = {
    "mnist": CatalogueEntry((28, 28, 1), 10, 60_000, 10_000, "handwritten digits"),
    "fashion_mnist": CatalogueEntry((28, 28, 1), 10, 60_000, 10_000, "articles of clothing"),
    "kmnist": CatalogueEntry((28, 28, 1), 10, 60_000, 10_000, "cursive Japanese characters"),
    "emnist/byclass": CatalogueEntry((28, 28, 1), 62, 697_932, 116_323, "handwritten digits and letters"),
    "emnist/bymerge": CatalogueEntry(
        (28, 28, 1), 47, 697_932, 116_323, "the same, with similar upper and lower case merged"
    ),
    "emnist/balanced": CatalogueEntry((28, 28, 1), 47, 112_800, 18_800, "the same, with equally many of each class"),
    "emnist/letters": CatalogueEntry(
        (28, 28, 1), 37, 88_800, 14_800, "handwritten letters, upper and lower case merged"
    ),
    "emnist/digits": CatalogueEntry((28, 28, 1), 10, 240_000, 40_000, "handwritten digits"),
    "emnist/mnist": CatalogueEntry((28, 28, 1), 10, 60_000, 10_000, "handwritten digits, like MNIST"),
    "cifar10": CatalogueEntry((32, 32, 3), 10, 50_000, 10_000, "photographs of animals and vehicles"),
    "cifar100": CatalogueEntry((32, 32, 3), 100, 50_000, 10_000, "photographs of 100 kinds of things"),
    "svhn_cropped": CatalogueEntry((32, 32, 3), 10, 73_257, 26_032, "single digits of house numbers"),
}
