"""The initializer, regularizer and constraint apply to the expanded kernel."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.patterns.grid import Pattern

DENSE = ("full", "block", "d4", "rings", "hashed", "row")
MASKED = ("cross", "atrous", "causal", "rings_circular", "anti_h", "anti_point")


class TestInitialVariance:
    """For white inputs the variance of an output is non-zero cells x in_channels x variance of a weight."""

    def moments(self, name: str, initializer: object) -> tuple[float, float]:
        """(mean over filters of the outputs' variance, mean square of the dense layer's kernel) of a fresh layer."""
        keras.utils.set_random_seed(0)
        in_channels, filters = 16, 2000
        layer = TiedConv2D(filters, name, 5, use_bias=False, kernel_initializer=initializer)
        images = np.random.default_rng(0).normal(size=(200, 5, 5, in_channels)).astype("float32")
        outputs = keras.ops.convert_to_numpy(layer(images))
        # Given the weights, the variance over white inputs is the sum of their squares; the images check that, too.
        squares = float((np.asarray(layer.kernel) ** 2).sum(axis=(0, 1, 2)).mean())
        np.testing.assert_allclose(outputs.var(), squares, rtol=0.05)
        return float(outputs.var()), squares

    @pytest.mark.parametrize("name", DENSE + MASKED)
    def test_he_normal_gives_two(self, name: str) -> None:
        # He et al. 2015: variance 2 / fan_in, the fan-in being (non-zero cells) x channels.
        _, squares = self.moments(name, keras.initializers.HeNormal(seed=1))
        np.testing.assert_allclose(squares, 2.0, rtol=0.03)

    @pytest.mark.parametrize("name", ["block", "cross"])
    def test_glorot_uniform(self, name: str) -> None:
        # 2 / (fan_in + fan_out), both with the non-zero cells: cells x 16 x 2 / (cells x (16 + 2000)).
        _, squares = self.moments(name, keras.initializers.GlorotUniform(seed=1))
        np.testing.assert_allclose(squares, 16 * 2 / 2016, rtol=0.03)

    @pytest.mark.parametrize("name", ["block", "cross"])
    def test_an_explicit_deviation_is_taken_at_its_word(self, name: str) -> None:
        _, squares = self.moments(name, keras.initializers.RandomNormal(stddev=0.1, seed=1))
        np.testing.assert_allclose(squares, 0.01 * 16 * Pattern.preset(name, 5).num_cells, rtol=0.03)

    def test_other_initializers_keep_their_values(self) -> None:
        for initializer, value in (("zeros", 0), ("ones", 1), (keras.initializers.Constant(0.3), 0.3)):
            layer = TiedConv2D(2, "cross", 5, kernel_initializer=initializer)
            layer.build((None, 9, 9, 1))
            assert (layer.free_kernel.numpy() == np.float32(value)).all()

    def test_a_function_serves_as_initializer(self) -> None:
        shapes = []

        def initializer(shape: tuple[int, ...], dtype: str | None = None) -> object:
            shapes.append(shape)
            return keras.ops.reshape(keras.ops.arange(np.prod(shape), dtype=dtype), shape)

        layer = TiedConv2D(2, "A-A/.B", kernel_initializer=initializer)
        layer.build((None, 9, 9, 1))
        assert shapes == [(2, 2, 1, 2)]
        # The first cell of A and of B, of the full draw.
        assert layer.free_kernel.numpy().tolist() == [[[0, 1]], [[6, 7]]]


class TestRegularizers:
    @pytest.mark.parametrize("name", ["block", "cross", "anti_point", "hashed"])
    @pytest.mark.parametrize(
        "regularizer", [keras.regularizers.L2(0.1), keras.regularizers.L1L2(0.1, 0.2)], ids=["l2", "l1l2"]
    )
    def test_loss_is_that_of_the_dense_kernel(self, name: str, regularizer: object) -> None:
        layer = TiedConv2D(3, name, 5, kernel_regularizer=regularizer, dtype="float64")
        layer.build((None, 9, 9, 2))
        (loss,) = layer.losses
        kernel = layer.pattern.expand(layer.free_kernel.numpy())
        by_hand = (
            getattr(regularizer, "l2", 0) * (kernel**2).sum() + getattr(regularizer, "l1", 0) * np.abs(kernel).sum()
        )
        np.testing.assert_allclose(float(loss), by_hand, rtol=1e-7)  # Keras keeps the factor in float32
        np.testing.assert_allclose(float(loss), float(layer.to_conv2d().losses[0]), rtol=1e-12)

    def test_l2_counts_a_weight_once_a_cell(self) -> None:
        layer = TiedConv2D(1, "AAB/AA-B", kernel_regularizer=keras.regularizers.L2(1.0), kernel_initializer="zeros")
        layer.build((None, 9, 9, 1))
        layer.free_kernel.assign([[[2.0]], [[3.0]]])
        assert float(layer.losses[0]) == 4 * 2**2 + 2 * 3**2

    def test_bias_and_activity(self) -> None:
        layer = TiedConv2D(
            2,
            "block",
            3,
            bias_regularizer=keras.regularizers.L2(1.0),
            bias_initializer="ones",
            activity_regularizer="l2",
        )
        layer(np.zeros((1, 5, 5, 1), "float32"))
        assert sorted(float(loss) for loss in layer.losses) == pytest.approx([0.01 * 9 * 2, 2.0])


class TestConstraints:
    def step(self, constraint: object, pattern: str, free: list[float]) -> np.ndarray:
        layer = TiedConv2D(1, pattern, kernel_constraint=constraint, use_bias=False)
        layer.build((None, 9, 9, 1))
        layer.free_kernel.assign(np.array(free, "float32").reshape(-1, 1, 1))
        optimizer = keras.optimizers.SGD(0.0)
        optimizer.apply([keras.ops.zeros(layer.free_kernel.shape)], layer.trainable_variables)
        return layer.free_kernel.numpy().ravel()

    def test_max_norm_is_of_the_expanded_kernel(self) -> None:
        # AAAA/B..-B with A = 3, B = 4: norm sqrt(4 * 9 + 2 * 16) = sqrt(68), brought down to 2.
        constraint = keras.constraints.MaxNorm(2.0, axis=[0, 1, 2])
        free = self.step(constraint, "AAAA/B..-B", [3, 4])
        np.testing.assert_allclose(free, np.array([3, 4]) * 2 / np.sqrt(68), rtol=1e-5)

    def test_a_kernel_within_the_norm_is_left_alone(self) -> None:
        free = self.step(keras.constraints.MaxNorm(10.0, axis=[0, 1, 2]), "AAAA/B..-B", [3, 4])
        np.testing.assert_allclose(free, [3, 4], rtol=1e-5)

    def test_non_negative(self) -> None:
        assert self.step("non_neg", "AAB/AAB", [-1, 2]).tolist() == [0, 2]

    def test_cells_that_a_constraint_sets_apart_are_averaged(self) -> None:
        # One of A and -A is negative and becomes 0: the mean over the cells, without signs, is half of A.
        assert self.step("non_neg", "A-A/BB", [2, 3]).tolist() == [1, 3]
        assert self.step("non_neg", "A-A/BB", [-2, 3]).tolist() == [-1, 3]
        # Each column is scaled to norm 1: (A, A) = (3, 3) becomes 1/sqrt(2), (B, A) = (4, 3) becomes (4/5, 3/5).
        free = self.step(keras.constraints.MaxNorm(1.0, axis=0), "AB/AA", [3, 4])
        np.testing.assert_allclose(free, [(2 / np.sqrt(2) + 3 / 5) / 3, 4 / 5], rtol=1e-5)

    def test_unit_norm(self) -> None:
        free = self.step(keras.constraints.UnitNorm(axis=[0, 1, 2]), "AAB/AAB", [1, -1])
        np.testing.assert_allclose(4 * free[0] ** 2 + 2 * free[1] ** 2, 1, rtol=1e-5)
        assert free[1] < 0 < free[0]

    @pytest.mark.parametrize("pattern", ["AAA/AAA/AAA", "AAAAA/AA..-A", "AAB/BAB/BBA"])
    def test_repeated_averaging_does_not_drift(self, pattern: str) -> None:
        # A kernel that satisfies the constraint: a hundred projections must not change a bit of it.
        layer = TiedConv2D(8, pattern, kernel_constraint=lambda kernel: kernel, use_bias=False)
        layer.build((None, 9, 9, 4))
        before = layer.free_kernel.numpy()
        for _ in range(100):
            layer.free_kernel.assign(layer.free_kernel.constraint(layer.free_kernel))
        np.testing.assert_array_equal(layer.free_kernel.numpy(), before)
