"""Keras's own tests of `Conv2D` and `DepthwiseConv2D`, run with tied layers whose pattern ties nothing.

They come with Keras. Their modules are executed with our classes instead of those of `keras.layers`; none of the tests
is copied or changed.
"""

from __future__ import annotations

import importlib.util
import re
import unittest
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import keras
import keras.src
import keras.src.testing
import pytest

from tiedexp.layers import TiedConv2D, TiedDepthwiseConv2D

IMPLEMENTATIONS = ("auto", "expand", "factored")

# Tests that a tied layer cannot pass, and why.
INAPPLICABLE = {
    "ConvCorrectnessTest.test_conv_constraints": (
        "reads the constraint off the kernel, which is a tensor; the variable of the free weights has it"
    ),
}


def make_layers(implementation: str) -> SimpleNamespace:
    """`keras.layers`, with tied layers that take the arguments of the layers they replace."""

    class Conv2D(TiedConv2D):
        def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", **kwargs: Any):
            kwargs = {**kwargs, "strides": strides, "padding": padding, "implementation": implementation}
            super().__init__(filters, kwargs.pop("pattern", "full"), kernel_size, **kwargs)

    class DepthwiseConv2D(TiedDepthwiseConv2D):
        def __init__(self, kernel_size: Any, **kwargs: Any):
            kwargs = {**kwargs, "implementation": implementation}
            super().__init__(kwargs.pop("pattern", "full"), kernel_size, **kwargs)

    replaced = [
        keras.saving.register_keras_serializable(f"own-{implementation}")(cls) for cls in (Conv2D, DepthwiseConv2D)
    ]
    return SimpleNamespace(**{**vars(keras.src.layers), **{cls.__name__: cls for cls in replaced}})


def load_tests(name: str, implementation: str) -> ModuleType:
    """A test module of Keras, executed with our layers."""
    original = importlib.util.find_spec(f"keras.src.layers.convolutional.{name}")
    assert original is not None
    assert original.origin is not None
    spec = importlib.util.spec_from_file_location(f"{name}_{implementation}", original.origin)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.src, "layers", make_layers(implementation))
        spec.loader.exec_module(module)
    assert issubclass(module.layers.Conv2D, TiedConv2D)  # not Keras's own
    return module


def find_cases() -> dict[str, unittest.TestCase]:
    """The two-dimensional tests, by implementation and name."""
    found = {}
    for implementation in IMPLEMENTATIONS:
        for name in ("conv_test", "depthwise_conv_test"):
            for cls in vars(load_tests(name, implementation)).values():
                if isinstance(cls, type) and issubclass(cls, unittest.TestCase):
                    for method in unittest.TestLoader().getTestCaseNames(cls):
                        if not re.search("conv[13]d", method):
                            found[f"{implementation}-{cls.__name__}.{method}"] = cls(method)
    return found


CASES = find_cases()


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """The inputs are the same in every run, and settings of Keras do not leak into other tests."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.enable_traceback_filtering()


@pytest.mark.filterwarnings("ignore")  # Keras does not ask its tests to run without warnings
@pytest.mark.parametrize("name", CASES)
def test_of_keras(name: str) -> None:
    reason = INAPPLICABLE.get(name.partition("-")[2])
    if reason:
        pytest.skip(reason)
    result = unittest.TestResult()
    CASES[name].run(result)
    problems = "\n".join(text for _, text in [*result.errors, *result.failures])
    assert not problems, problems
    assert (result.testsRun, result.skipped) == (1, [])


def test_what_cannot_hold_is_still_there() -> None:
    assert {name.partition("-")[2] for name in CASES} >= INAPPLICABLE.keys()
