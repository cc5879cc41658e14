"""Learning rates against their formulas; optimizers have the options that they were given."""

from __future__ import annotations

import inspect
import math

import keras
import numpy as np
import pytest

from tiedexp.spec.optimizers import OPTIMIZERS, BaseOptimizerSpec
from tiedexp.training.optimizers import build_optimizer, build_schedule

STEPS, EPOCHS, RATE = 10, 8, 0.4


def rates(name, **options):
    schedule = build_schedule(name, RATE, steps_per_epoch=STEPS, epochs=EPOCHS, **options)
    return np.array([float(schedule(step)) for step in range(STEPS * EPOCHS + 1)])


def test_constant():
    np.testing.assert_allclose(rates("constant"), RATE)


def test_cosine_goes_down_to_its_final_share():
    steps = np.arange(STEPS * EPOCHS + 1)
    shares = 0.1 + 0.9 * (1 + np.cos(math.pi * steps / (STEPS * EPOCHS))) / 2
    np.testing.assert_allclose(rates("cosine", final=0.1), RATE * shares, rtol=1e-5)


def test_step_drops_after_the_epochs_named():
    epochs = np.arange(STEPS * EPOCHS + 1) // STEPS
    expected = RATE * 0.5 ** ((epochs >= 2).astype(int) + (epochs >= 5))
    np.testing.assert_allclose(rates("step", drop_epochs=(2, 5), factor=0.5), expected, rtol=1e-6)


def test_exponential_multiplies_every_epoch():
    np.testing.assert_allclose(
        rates("exponential", factor=0.8)[::STEPS], RATE * 0.8 ** np.arange(EPOCHS + 1), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("constant", {}),
        ("cosine", {"final": 0.2}),
        ("step", {"drop_epochs": (3,), "factor": 0.1}),
        ("exponential", {"factor": 0.9}),
    ],
)
def test_warm_up_rises_linearly_from_zero_and_then_leaves_the_schedule_alone(name, options):
    warm = rates(name, warmup_epochs=1.5, **options)
    np.testing.assert_allclose(warm[:15], RATE * np.arange(15) / 15, rtol=1e-5, atol=1e-8)
    if name == "cosine":  # which begins when the warm-up ends
        assert warm[15] == pytest.approx(RATE)
        assert warm[-1] == pytest.approx(RATE * 0.2)
    else:
        np.testing.assert_allclose(warm[15:], rates(name, **options)[15:], rtol=1e-6)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="Received: name='linear'"):
        build_schedule("linear", RATE, steps_per_epoch=1, epochs=1)


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("sgd", {"momentum": 0.8, "nesterov": True}, keras.optimizers.SGD),
        ("adam", {"beta_1": 0.8, "epsilon": 1e-5}, keras.optimizers.Adam),
        ("adamw", {"beta_2": 0.9}, keras.optimizers.AdamW),
        ("lion", {"beta_1": 0.7}, keras.optimizers.Lion),
    ],
)
def test_options_reach_the_optimizer(name, options, kind):
    optimizer = build_optimizer(OPTIMIZERS[name].load_class(), 0.1, weight_decay=0.01, **options)
    assert type(optimizer) is kind
    config = optimizer.get_config()
    for key, value in options.items():
        assert config[key] == value
    assert config["weight_decay"] == 0.01


def test_weight_decay_spares_scales_and_offsets():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    optimizer = build_optimizer(keras.optimizers.SGD, 0.5, weight_decay=0.1, momentum=0.0)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply([np.zeros(v.shape, "float32") for v in model.trainable_variables], model.trainable_variables)
    values = {v.name: float(np.unique(v.numpy()).item()) for v in model.trainable_variables}
    assert values == pytest.approx({"kernel": 0.95, "bias": 1.0, "gamma": 1.0, "beta": 1.0})


def test_float16_gets_loss_scaling():
    optimizer = build_optimizer(keras.optimizers.SGD, 0.1, precision="mixed_float16", momentum=0.5)
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert optimizer.inner_optimizer.momentum == 0.5


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_row_of_the_table_is_whole(name):
    """Its options are those of the Keras class, and it stores as many numbers for each weight as it says."""
    row = OPTIMIZERS[name]
    spec = row(name=name)
    assert spec.options().keys() <= inspect.signature(row.load_class()).parameters.keys()
    optimizer = build_optimizer(row.load_class(), spec.learning_rate, **spec.options())
    kernel = keras.Variable(np.ones((3, 2)))
    optimizer.build([kernel])
    assert sum(variable.shape == kernel.shape for variable in optimizer.variables) == row.slots
    without_decay = build_optimizer(row.load_class(), 0.1, weight_decay=0.0)
    assert not without_decay.weight_decay


def test_every_optimizer_is_in_the_table():
    assert sorted(OPTIMIZERS) == sorted(kind.model_fields["name"].annotation.__args__[0] for kind in declared())


def declared():
    return [kind for kind in BaseOptimizerSpec.__subclasses__() if kind.__module__ == BaseOptimizerSpec.__module__]


@pytest.mark.parametrize("facts", [{"slots": 1}, {"keras_class": "keras.optimizers:SGD"}])
def test_a_fact_that_is_forgotten_is_an_error_at_once(facts):
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument"):
        type(BaseOptimizerSpec)("ForgetfulSpec", (BaseOptimizerSpec,), {"__module__": __name__}, **facts)
