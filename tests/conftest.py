"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from samples import make_evaluation, make_line, make_manifest, make_result, write_run

from tiedexp.convolution.cpp.compiler import build_library
from tiedexp.patterns.grid import Pattern

Array = np.ndarray
Pair = tuple[int, int]
ROOT = Path(__file__).resolve().parent.parent

# Tests must not read or write the runs and data of the person who runs them.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
for variable in ("TIEDEXP_RUNS", "TFDS_DATA_DIR"):
    os.environ.pop(variable, None)
# Methods are chosen by the estimate alone, so that they are the same on every machine; tests of measuring turn it on.
os.environ["TIEDEXP_MEASURE"] = "0"


@pytest.fixture(scope="session", autouse=True)
def _compiled() -> None:
    """Compile the convolution before the first test, so that no test waits for it or prints that it is compiled."""
    build_library()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The directory of the real MNIST and CIFAR-10 beside the checkout; without it, tests that need it are skipped."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the real data in ../shared/data, which does not exist")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Give the tests their own key of seals, apart from that of the person who runs them."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def _no_determinism_left_behind() -> Iterator[None]:
    """Undo that a run asks TensorFlow for deterministic operations, for the tests after it in this process."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        if config.is_op_determinism_enabled():
            config.disable_op_determinism()


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a finished run as training does, but without training: `make_run("block", seed=1, test=0.9)`."""

    def make(
        pattern: str = "block",
        seed: int = 0,
        *,
        test: float = 0.9,
        validation: float | None = 0.8,
        root: Path = tmp_path / "runs",
        weights: int = 1000,
        **changes: Any,
    ) -> Path:
        spec: dict[str, Any] = {
            "name": pattern,
            "dataset": {"name": "digits"},
            "model": {"depth": 2, "width": 4, "kernel_size": 5},
            "training": {"epochs": 3},
            "seed": seed,
        }
        if pattern != "none":
            spec["model"]["tying"] = {"pattern": pattern, "layers": "all"}
        for key, value in changes.items():  # model__depth=4
            section = spec
            *steps, last = key.split("__")
            for step in steps:
                section = section.setdefault(step, {})
            section[last] = value
        confusion = ((45, 5), (10 - seed, 40 + seed))
        path = root / f"{spec['name']}-{'-'.join(map(str, changes.values())) or 'abc'}" / f"seed-{seed}"
        write_run(
            path,
            make_manifest(spec=spec, pattern=pattern, unique_weights=weights, macs_tied=4 * weights),
            [
                make_line(
                    epoch,
                    train=test - 0.1 / epoch,
                    validation=None if validation is None else validation - 0.1 / epoch,
                    seconds=8.0 if epoch == 1 else 1.0,
                )
                for epoch in range(1, 4)
            ],
            make_result(
                test=make_evaluation(test, confusion=confusion),
                validation=None if validation is None else make_evaluation(validation, confusion=confusion),
                best_epoch=3,
                epochs=3,
                seconds=10.0,
            ),
        )
        return path

    return make


@pytest.fixture
def make_logged_run() -> Callable[[Path], Path]:
    """Write what `board` needs of a run, at a path."""
    from tiedexp.runs.directory import RunDirectory
    from tiedexp.runs.tensorboard import TensorBoardLog

    def make(path: Path) -> Path:
        path.mkdir(parents=True)
        RunDirectory(path).write_failure("a run that never trained")
        with TensorBoardLog(path / "tensorboard") as log:
            log.layout()
            log.hparams({"pattern": "block"})
            log.scalars("train", 1, {"loss": 1.0})
        return path

    return make


@pytest.fixture
def logged_runs(tmp_path: Path, make_logged_run: Callable[[Path], Path]) -> Path:
    """The directory of three such runs of two experiments."""
    for name in ("tiny-1a2b/seed-0", "tiny-1a2b/seed-1", "other-3c4d/seed-0"):
        make_logged_run(tmp_path / "runs" / name)
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


# An independent convolution in NumPy, and random patterns


def convolve(
    images: Array,
    kernel: Array,
    bias: Array | float = 0.0,
    *,
    strides: Pair = (1, 1),
    padding: str = "valid",
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Array:
    """A convolution in float64 by its definition: a sum of products for each pixel.

    Args:
        images: (batch, rows, cols, channels).
        kernel: (rows, cols, channels // groups, filters).
    """
    extents = [(side - 1) * rate + 1 for side, rate in zip(kernel.shape[:2], dilation, strict=True)]
    sizes = images.shape[1:3]
    if padding == "same":  # TensorFlow's: the odd pixel goes below and to the right
        outputs = [-(-size // stride) for size, stride in zip(sizes, strides, strict=True)]
        missing = [
            max((output - 1) * stride + extent - size, 0)
            for output, stride, extent, size in zip(outputs, strides, extents, sizes, strict=True)
        ]
        pads = [(total // 2, total - total // 2) for total in missing]
        images = np.pad(images, [(0, 0), *pads, (0, 0)])
    else:
        outputs = [(size - extent) // stride + 1 for size, extent, stride in zip(sizes, extents, strides, strict=True)]
    per_group = kernel.shape[3] // groups
    result = np.zeros((len(images), *outputs, kernel.shape[3]))
    for group in range(groups):
        channels = slice(group * kernel.shape[2], (group + 1) * kernel.shape[2])
        filters = slice(group * per_group, (group + 1) * per_group)
        for row in range(outputs[0]):
            for col in range(outputs[1]):
                top, left = row * strides[0], col * strides[1]
                window = images[
                    :, top : top + extents[0] : dilation[0], left : left + extents[1] : dilation[1], channels
                ]
                result[:, row, col, filters] = np.tensordot(window, kernel[..., filters], axes=3)
    return result + bias


def convolve_depthwise(images: Array, kernel: Array, bias: Array | float = 0.0, **options: object) -> Array:
    """A depthwise convolution; the kernel is (rows, cols, channels, multiplier), outputs are in channel order."""
    channels = kernel.shape[2]
    parts = [
        convolve(images[..., channel : channel + 1], kernel[:, :, channel : channel + 1], **options)  # type: ignore[arg-type]
        for channel in range(channels)
    ]
    return np.concatenate(parts, axis=-1) + bias


def build_random_pattern(seed: int) -> Pattern:
    """A random grid of up to 5x5 cells with signs and fixed zeros."""
    rng = np.random.default_rng(seed)
    index = rng.integers(-1, rng.integers(1, 7), size=rng.integers(1, 6, size=2))
    index.flat[rng.integers(index.size)] = 0
    return Pattern(index, np.where(index < 0, 0, rng.choice([-1, 1], index.shape)))


@pytest.fixture(scope="session")
def numpy_conv() -> Callable[..., Array]:
    return convolve


@pytest.fixture(scope="session")
def numpy_depthwise_conv() -> Callable[..., Array]:
    return convolve_depthwise


@pytest.fixture(scope="session")
def random_pattern() -> Callable[[int], Pattern]:
    return build_random_pattern
