"""`tie` and `untie`: copies of a Keras model whose convolutions are tied, or standard ones again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras
from keras.src.models.functional import Functional

from tiedexp.errors import PatternError
from tiedexp.layers.tied_conv import TiedConv2D
from tiedexp.layers.tied_depthwise_conv import TiedDepthwiseConv2D
from tiedexp.layers.tied_layer import TiedLayer, resolve_pattern
from tiedexp.layers.tied_rules import project_kernel
from tiedexp.patterns.grid import Pattern

LayerChoice = str | Sequence[str] | Callable[[Any], bool]

_TIED: dict[type, Any] = {
    keras.layers.Conv2D: TiedConv2D,
    keras.layers.DepthwiseConv2D: TiedDepthwiseConv2D,
    TiedConv2D: TiedConv2D,
    TiedDepthwiseConv2D: TiedDepthwiseConv2D,
}


def tie(
    model: keras.Model,
    pattern: Pattern | str | Mapping[str, Any],
    layers: LayerChoice = "*",
    *,
    gradient: str = "sum",
    implementation: str | Mapping[str, Any] = "auto",
) -> keras.Model:
    """A copy of a model whose convolutions are tied by a pattern.

    The `Conv2D` and `DepthwiseConv2D` layers that `layers` selects become `TiedConv2D` and `TiedDepthwiseConv2D` with
    the same names and arguments. Their kernels are the tied kernels nearest to the old ones (the mean over the cells of
    each group); a kernel that the pattern ties already stays as it is, to the bit. All else is copied: the graph with
    its nested models, shared layers and several inputs, the other weights, and whether a layer is trainable. A compiled
    model is compiled again, with a new optimizer. Layers that are tied already are tied anew.

    Example:

    >>> model = keras.applications.MobileNetV2(weights=None, input_shape=(96, 96, 3))
    >>> tied = tiedexp.tie(model, "d4", layers="*depthwise*")
    >>> tied.get_layer("block_1_depthwise").free_kernel.shape
    (3, 96, 1)

    Args:
        model: a Functional or Sequential model, such as those of `keras.applications`.
        pattern: as `TiedConv2D` takes it. A preset is made at the kernel size of each layer; a grid has its own, which
            must be that of every selected layer.
        layers: the names of the layers, as a glob ("block_*_depthwise") or a list of names and globs, each of which
            must match something; or a function that takes a layer and returns whether to tie it. Layers of subclasses
            of `Conv2D` that are not Keras's own stay as they are.
        gradient: as `TiedConv2D` takes it.
        implementation: as `TiedConv2D` takes it.

    Raises:
        PatternError (a ValueError): the pattern does not exist at the kernel size of a selected layer.
        TypeError: the model is a subclass of `keras.Model`, whose layers Keras cannot list in order.
        ValueError: `layers` selects nothing, or a name or glob in it matches no convolution.
    """
    convolutions = [layer for layer in _list_layers(model) if type(layer) in _TIED]
    patterns = {}
    for layer in _select(convolutions, layers):
        try:
            patterns[id(layer)] = resolve_pattern(pattern, layer.kernel_size, gradient, implementation)
        except PatternError as error:
            raise PatternError(f"layer '{layer.name}' cannot be tied: {error}") from None

    def convert(layer: Any) -> Any:
        if id(layer) not in patterns:
            return None
        tying = {"pattern": patterns[id(layer)], "gradient": gradient, "implementation": implementation}
        return _TIED[type(layer)].from_config({**_dense_config(layer), **tying})

    return _convert(model, convert)


def untie(model: keras.Model) -> keras.Model:
    """A copy of a model in which standard convolutions with the same outputs take the place of tied ones.

    It has the weights of the expanded kernels and loads in Keras without tiedexp.

    Args:
        model: a Functional or Sequential model; see `tie`.

    Raises:
        TypeError: the model is a subclass of `keras.Model`, whose layers Keras cannot list in order.
    """
    _list_layers(model)

    def convert(layer: Any) -> Any:
        if type(layer) not in (TiedConv2D, TiedDepthwiseConv2D):
            return None
        if not layer.built:
            return _dense_class(layer).from_config(_dense_config(layer))
        return layer.to_conv2d() if isinstance(layer, TiedConv2D) else layer.to_depthwise_conv2d()

    return _convert(model, convert)


def _list_layers(model: Any) -> list[Any]:
    """All layers, those of nested models too, each once."""
    if not isinstance(model, keras.Sequential | Functional):
        raise TypeError(
            "only Functional and Sequential models can be tied: Keras cannot rebuild a subclass of keras.Model with "
            f"other layers; use TiedConv2D in its code. Received: {type(model).__name__}"
        )
    found: dict[int, Any] = {}
    for layer in model.layers:
        inner = _list_layers(layer) if isinstance(layer, keras.Sequential | Functional) else [layer]
        found.update((id(each), each) for each in inner)
    return list(found.values())


def _select(convolutions: Sequence[Any], layers: LayerChoice) -> list[Any]:
    if callable(layers):
        selected = [layer for layer in convolutions if layers(layer)]
        if not selected:
            raise ValueError("`layers` selects none of the model's convolutions")
        return selected
    selected = []
    for glob in [layers] if isinstance(layers, str) else layers:
        matched = [layer for layer in convolutions if fnmatchcase(layer.name, glob)]
        if not matched:
            names = [layer.name for layer in convolutions]
            shown = f"{', '.join(names[:8])}{', ...' * (len(names) > 8)}" if names else "none"
            raise ValueError(f"no convolution's name matches '{glob}'; the model's convolutions are {shown}")
        selected += matched
    return selected


def _convert(model: Any, convert: Callable[[Any], Any]) -> Any:
    """A copy of the model with its weights; a layer for which `convert` returns another one is replaced by that."""
    copied: list[tuple[Any, Any]] = []
    converted: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        new = convert(layer)
        pairs = copied if new is None else converted
        new = layer.__class__.from_config(layer.get_config()) if new is None else new
        if getattr(layer, "built", False):
            pairs.append((layer, new))
        return new

    copy = keras.models.clone_model(model, clone_function=clone, recursive=True)
    for old, new in copied:
        for before, after in zip(old.variables, new.variables, strict=True):
            after.assign(before)
    for old, new in converted:
        if isinstance(new, TiedLayer):  # a standard layer made from a tied one has its weights already
            new.free_kernel.assign(project_kernel(keras.ops.convert_to_tensor(old.kernel), new.pattern))
            if old.use_bias:
                new.bias.assign(old.bias)
    return copy


def _dense_config(layer: Any) -> dict[str, Any]:
    """The arguments that the layer has as a standard convolution; a low-rank update is part of the kernel."""
    config: dict[str, Any] = _dense_class(layer).get_config(layer)
    return {key: value for key, value in config.items() if key not in ("lora_rank", "lora_alpha")}


def _dense_class(layer: Any) -> Any:
    return keras.layers.Conv2D if isinstance(layer, keras.layers.Conv2D) else keras.layers.DepthwiseConv2D
