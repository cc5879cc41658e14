"""The optimizers, in one table: the options of each, the Keras class that it is, and what it stores.

A new optimizer is a class here and its place in `OPTIMIZERS`; the spec, training and the estimate of a sweep's size
read both. An option has the name that it has in the Keras class.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from tiedexp.spec.strict import Strict

_Rate = Annotated[float, Field(gt=0.0, description="The peak learning rate; the schedule scales it.")]
_Decay = Annotated[
    float,
    Field(
        ge=0.0,
        description="Rate of decoupled weight decay of the kernels; biases and batch-norm parameters are not decayed. "
        "0 disables it.",
    ),
]
_Epsilon = Annotated[float, Field(gt=0.0, description="Added to the denominator, against division by zero.")]
_Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class BaseOptimizerSpec(Strict):
    """What all optimizers have in common.

    A subclass states two facts that are not options, e.g.
    `class SgdSpec(BaseOptimizerSpec, keras_class="keras.optimizers:SGD", slots=1)`. Leaving one out is a TypeError.

    Args:
        keras_class: "module:class", imported when the optimizer is built.
        slots: how many numbers the optimizer stores for each weight.
    """

    keras_class: ClassVar[str]
    slots: ClassVar[int]

    name: str
    learning_rate: _Rate
    weight_decay: _Decay = 0.0

    def __init_subclass__(cls, *, keras_class: str, slots: int, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.keras_class, cls.slots = keras_class, slots

    @classmethod
    def load_class(cls) -> Any:
        """The Keras class; this loads Keras."""
        return resolve_name(cls.keras_class)

    def options(self) -> dict[str, Any]:
        """The arguments of the Keras class, apart from the learning rate."""
        return self.model_dump(exclude={"name", "learning_rate"})


class SgdSpec(BaseOptimizerSpec, keras_class="keras.optimizers:SGD", slots=1):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = Field(description="Stochastic gradient descent.")
    learning_rate: _Rate = 0.1
    momentum: _Share = Field(0.9, description="Fraction of the previous update that is added to the next one.")
    nesterov: bool = Field(False, description="Use Nesterov momentum, which evaluates the gradient one step ahead.")


class AdamSpec(BaseOptimizerSpec, keras_class="keras.optimizers:Adam", slots=2):
    """Adam (Kingma & Ba 2015)."""

    name: Literal["adam"] = Field(description="Adam (Kingma & Ba 2015).")
    learning_rate: _Rate = 1e-3
    beta_1: _Share = Field(0.9, description="Decay rate of the running mean of the gradient.")
    beta_2: _Share = Field(0.999, description="Decay rate of the running mean of the squared gradient.")
    epsilon: _Epsilon = 1e-7


class AdamWSpec(BaseOptimizerSpec, keras_class="keras.optimizers:AdamW", slots=2):
    """AdamW (Loshchilov & Hutter 2019)."""

    name: Literal["adamw"] = Field("adamw", description="AdamW (Loshchilov & Hutter 2019).")
    learning_rate: _Rate = 1e-3
    weight_decay: _Decay = 4e-3
    beta_1: _Share = Field(0.9, description="Decay rate of the running mean of the gradient.")
    beta_2: _Share = Field(0.999, description="Decay rate of the running mean of the squared gradient.")
    epsilon: _Epsilon = 1e-7


class LionSpec(BaseOptimizerSpec, keras_class="keras.optimizers:Lion", slots=1):
    """Lion (Chen et al. 2023)."""

    name: Literal["lion"] = Field(description="Lion (Chen et al. 2023).")
    learning_rate: _Rate = 1e-4
    beta_1: _Share = Field(0.9, description="Weight of the running mean in the direction of the update.")
    beta_2: _Share = Field(0.99, description="Decay rate of the running mean of the gradient.")


OPTIMIZERS: dict[str, type[BaseOptimizerSpec]] = {
    get_args(kind.model_fields["name"].annotation)[0]: kind for kind in (SgdSpec, AdamSpec, AdamWSpec, LionSpec)
}
DEFAULT = AdamWSpec(name="adamw")


def describe_optimizers() -> str:
    """The names of the optimizers, for a person: `sgd, adam, adamw or lion`."""
    *names, last = OPTIMIZERS
    return f"{', '.join(names)} or {last}"
