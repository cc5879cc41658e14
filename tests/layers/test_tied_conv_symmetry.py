"""If a kernel is symmetric under a transform, its layer commutes with that transform of the image."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import TRANSFORMS, Pattern

# On (batch, rows, cols, channels).
ON_IMAGES = {
    "flip_h": lambda x: x[:, :, ::-1],
    "flip_v": lambda x: x[:, ::-1],
    "rot90": lambda x: np.rot90(x, 1, axes=(1, 2)),
    "rot180": lambda x: np.rot90(x, 2, axes=(1, 2)),
    "rot270": lambda x: np.rot90(x, 3, axes=(1, 2)),
    "transpose": lambda x: x.transpose(0, 2, 1, 3),
    "anti_transpose": lambda x: np.rot90(x, 2, axes=(1, 2)).transpose(0, 2, 1, 3),
}
NAMES = [
    "full",
    "block",
    "mirror_h",
    "mirror_v",
    "mirror_hv",
    "point",
    "transpose",
    "rot90",
    "d4",
    "rings",
    "rings_circular",
    "centre_surround",
    "hankel",
    "toeplitz",
    "anti_point",
    "anti_h",
    "anti_v",
    "row",
    "causal",
    "hashed",
]


def test_every_transform_is_covered() -> None:
    assert set(ON_IMAGES) == set(TRANSFORMS)


@pytest.mark.parametrize("name", NAMES)
def test_commutes_exactly_with_the_symmetries_of_its_pattern(name: str) -> None:
    pattern = Pattern.preset(name, 5)
    layer = TiedConv2D(3, pattern, padding="same", use_bias=False, dtype="float64", kernel_initializer="normal")
    images = np.random.default_rng(0).normal(size=(2, 12, 12, 2))
    outputs = keras.ops.convert_to_numpy(layer(images))
    commuting, anticommuting = set(), set()
    for transform, apply in ON_IMAGES.items():
        moved = keras.ops.convert_to_numpy(layer(apply(images)))
        if np.allclose(moved, apply(outputs), atol=1e-12):
            commuting.add(transform)
        if np.allclose(moved, -apply(outputs), atol=1e-12):
            anticommuting.add(transform)
    assert commuting == pattern.symmetries
    assert anticommuting == pattern.antisymmetries


def test_hands_off_the_expected_names() -> None:
    # Without symmetries, the test above would prove nothing.
    claims = {name: Pattern.preset(name, 5) for name in NAMES}
    assert claims["d4"].symmetries == set(TRANSFORMS)
    assert claims["rot90"].symmetries == {"rot90", "rot180", "rot270"}
    assert claims["mirror_h"].symmetries == {"flip_h"}
    assert claims["anti_point"].antisymmetries == {"rot180"}
    assert claims["anti_h"].antisymmetries == {"flip_h"}
    assert claims["block"].symmetries == claims["full"].symmetries == claims["causal"].symmetries == set()
