"""The spec of one experiment, as pydantic models: every key a user may write, its type, range and meaning.

Strict: unknown keys, wrong types, values out of range and contradictions are errors. The field descriptions are the
reference that `tiedexp schema` prints and editors show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from tiedexp.data.sources import KINDS, list_file_kinds
from tiedexp.errors import PatternError
from tiedexp.models.families import FAMILIES, describe_depths, describe_families
from tiedexp.patterns import presets
from tiedexp.patterns.grid import MAX_SIDE, Pattern
from tiedexp.spec import optimizers
from tiedexp.spec.strict import Strict as _Strict

PathToField = tuple[str | int, ...]

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$"
NAME_RULE = "1 to 80 letters, digits, '.', '_' and '-', the first a letter or digit"


_Model = TypeVar("_Model", bound=BaseModel)


def _refusal(problems: Iterable[tuple[PathToField, str, Any]]) -> ValidationError:
    """Errors of our own at places below the field being validated: (path from that field, message, value)."""
    details = [
        InitErrorDetails(type=PydanticCustomError("tiedexp", "{text}", {"text": text}), loc=path, input=value)
        for path, text, value in problems
    ]
    return ValidationError.from_exception_data("spec", details)


def list_to_tuple(value: Any) -> Any:
    """What pydantic calls a tuple is a list in YAML."""
    return tuple(value) if isinstance(value, list) else value


Size = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def _named_or(default: str) -> Callable[[Any], Any]:
    """Takes a mapping without a `name` for the default one: what is changed is what would be used anyway."""
    return lambda value: {"name": default, **value} if isinstance(value, dict) and "name" not in value else value


KernelSize = Size | Annotated[tuple[Size, Size], BeforeValidator(list_to_tuple)]


_OPTION_TYPES: dict[presets.Kind, Any] = {
    presets.WHOLE: int | None,
    presets.TRUTH: bool | None,
    presets.SIZE: KernelSize | None,
    presets.PATTERN: "str | PatternOptions | None",
}


def _with_preset_options(model: type[_Model]) -> type[_Model]:
    """The model with one more key for every option of a preset."""
    fields: dict[str, Any] = {
        name: (
            _OPTION_TYPES[option.kind],
            Field(None, ge=option.at_least, description=f"{', '.join(takers)}: {option.meaning}."),
        )
        for name, (option, takers) in presets.collect_options().items()
    }
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **fields)


@_with_preset_options
class PatternOptions(_Strict):
    """A preset with options, for example `{preset: hashed, groups: 9, seed: 0}`."""

    preset: str = Field(description="A name from `tiedexp pattern list`.")

    def options(self) -> dict[str, Any]:
        """The keys that were given, as `Pattern.of` takes them."""
        return self.model_dump(exclude_none=True)

    def inner_patterns(self) -> list[PatternValue]:
        """The options that are patterns themselves."""
        values = (getattr(self, name) for name in presets.name_pattern_options())
        return [value for value in values if value is not None]


PatternValue = str | PatternOptions

MAX_CELLS = 2**17  # of all different patterns of a model: a third of a second to make


def build_pattern(value: PatternValue, kernel_size: int | tuple[int, int]) -> Pattern:
    """The pattern that a spec's `tying.pattern` means at a kernel size; PatternError if there is none."""
    return Pattern.of(value if isinstance(value, str) else value.options(), kernel_size)


def _count_cells(value: PatternValue, kernel_size: int | tuple[int, int]) -> int:
    """Cells that are made for a pattern, those of the patterns in it too."""
    rows, cols = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    inner = [] if isinstance(value, str) else value.inner_patterns()
    return rows * cols + sum(_count_cells(part, kernel_size) for part in inner)


class TyingSpec(_Strict):
    """Which convolutions are tied, and how."""

    pattern: PatternValue | Annotated[tuple[PatternValue, ...], BeforeValidator(list_to_tuple)] = Field(
        description="A preset's name, a preset with options, a grid (rows by / or on lines of their own), or a list "
        "of these: one for each tied conv, from the input on."
    )
    layers: (
        Literal["all", "first", "last", "alternate"] | Annotated[tuple[int, ...], BeforeValidator(list_to_tuple)]
    ) = Field("all", description="Which convs are tied; a list has conv numbers from 1. The rest are standard convs.")
    gradient: Literal["sum", "mean"] = Field(
        "sum", description="The gradient of a weight: the sum over its cells (the chain rule), or their mean."
    )
    implementation: Literal["auto", "expand", "factored"] = Field(
        "auto",
        description="How a tied conv is computed: from the expanded kernel, by compiled code, or whichever is faster.",
    )

    def tied_convs(self, depth: int) -> tuple[int, ...]:
        """Numbers of the tied convs of a model with `depth` convs, from 1."""
        named = {
            "all": range(1, depth + 1),
            "first": range(1, 2),
            "last": range(depth, depth + 1),
            "alternate": range(1, depth + 1, 2),
        }
        return tuple(named[self.layers]) if isinstance(self.layers, str) else self.layers

    def patterns(self, depth: int, kernel_size: int | tuple[int, int]) -> tuple[Pattern | None, ...]:
        """The pattern of each conv of a model, None where it is a standard one.

        Raises:
            ValidationError: conv numbers beyond the depth or named twice, as many patterns as there are not tied
                convs, patterns that do not exist at this kernel size; with their places.
        """
        convs = self.tied_convs(depth)
        values = self.pattern if isinstance(self.pattern, tuple) else (self.pattern,) * len(convs)
        problems: list[tuple[PathToField, str, Any]] = []
        named: set[int] = set()
        for at, conv in enumerate(convs):
            if not 1 <= conv <= depth:
                problems.append((("layers", at), f"the model has convs 1 to {depth}", conv))
            elif conv in named:
                problems.append((("layers", at), "this conv is named twice", conv))
            named.add(conv)
        if not convs:
            problems.append((("layers",), "no conv is named; for a model without tied convs leave out `tying`", []))
        if len(values) != len(convs):
            text = f"{len(values)} patterns for {len(convs)} tied convs; give one for each, or a single one for all"
            problems.append((("pattern",), text, len(values)))
        patterns: dict[int, Pattern] = {}
        built: dict[PatternValue, Pattern] = {}
        cells = 0
        for at, value in enumerate(values):
            try:
                if value not in built:
                    cells += _count_cells(value, kernel_size)
                    if cells > MAX_CELLS:
                        text = f"the different patterns of a model have at most {MAX_CELLS:,} cells in all"
                        problems.append((("pattern",), text, len(values)))
                        break
                    built[value] = build_pattern(value, kernel_size)
                patterns[at] = built[value]
            except PatternError as error:
                path: PathToField = ("pattern", at) if isinstance(self.pattern, tuple) else ("pattern",)
                problems.append((path, str(error), value if isinstance(value, str) else value.options()))
                if not isinstance(self.pattern, tuple):
                    break
        if problems:
            raise _refusal(problems)
        by_conv = {conv: patterns[at] for at, conv in enumerate(convs)}
        return tuple(by_conv.get(conv) for conv in range(1, depth + 1))


def _check_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(name)  # the explainer lists the families
    return name


class ModelSpec(_Strict):
    """The network: a family and its sizes."""

    family: Annotated[str, AfterValidator(_check_family)] = Field(
        "plain",
        description=f"{describe_families()}.",
        json_schema_extra=lambda shape: shape.update(enum=[*FAMILIES]),
    )
    depth: int = Field(
        4,
        ge=1,
        le=1202,
        validate_default=True,  # the default is not the depth of a resnet
        description=f"{describe_depths()}.",
    )
    width: int = Field(16, ge=1, le=4096, description="Filters of the first stage; each later stage has twice as many.")
    widen: int = Field(1, ge=1, le=64, description="resnet: factor on the width of the stages (wide residual nets).")
    kernel_size: KernelSize = Field(3, description="Side, or [rows, cols], of every conv's kernel.")
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Rate of dropout before the classifier.")
    tying: TyingSpec | None = Field(None, description="Leave out for a model of standard convs only.")

    @field_validator("depth")
    @classmethod
    def _depth_fits_family(cls, depth: int, info: Any) -> int:
        if "family" in info.data:
            try:
                FAMILIES[info.data["family"]].count_convs(depth)
            except ValueError as error:
                raise PydanticCustomError("tiedexp", "{text}", {"text": str(error)}) from None
        return depth

    @field_validator("widen")
    @classmethod
    def _widen_fits_family(cls, widen: int, info: Any) -> int:
        family = info.data.get("family")
        if widen != 1 and family is not None and "widen" not in FAMILIES[family].options:
            wide = " or ".join(f"a {name}" for name, other in FAMILIES.items() if "widen" in other.options)
            text = f"only {wide} can be widened; for a {family} model change `width`"
            raise PydanticCustomError("tiedexp", "{text}", {"text": text})
        return widen

    @field_validator("tying")
    @classmethod
    def _tying_fits_model(cls, tying: TyingSpec | None, info: Any) -> TyingSpec | None:
        if tying is not None and {"family", "depth", "kernel_size"} <= info.data.keys():
            num_convs = FAMILIES[info.data["family"]].count_convs(info.data["depth"])
            tying.patterns(num_convs, info.data["kernel_size"])
        return tying

    @property
    def num_convs(self) -> int:
        """The number of convs, which may be tied."""
        return FAMILIES[self.family].count_convs(self.depth)

    def conv_patterns(self) -> tuple[Pattern | None, ...]:
        """The pattern of each conv, None where it is a standard one."""
        if self.tying is None:
            return (None,) * self.num_convs
        return self.tying.patterns(self.num_convs, self.kernel_size)


class DatasetSpec(_Strict):
    """The images."""

    name: str = Field(
        min_length=1,
        description=f"{', '.join(KINDS)}, or a TFDS image-classification set such as mnist or cifar10.",
    )
    path: str | None = Field(
        None,
        min_length=1,
        description=f"{', '.join(list_file_kinds())}: where the images are, relative to the spec's file.",
    )
    image_size: int | None = Field(
        None, ge=1, le=1024, description="Crop the images to squares and resize them to this side, in pixels."
    )
    validation: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1, description="Images (a whole number) or share (below 1) of the training images held out, stratified."
    )
    limit: int | None = Field(None, ge=1, description="At most this many images of each split, for smoke runs.")

    @model_validator(mode="after")
    def _path_fits_name(self) -> Self:
        with_path = list_file_kinds()
        if self.name in with_path and self.path is None:
            raise _refusal([((), f"the dataset '{self.name}' needs the key `path`", self.name)])
        if self.name not in with_path and self.path is not None:
            raise _refusal([(("path",), f"only the datasets {' and '.join(with_path)} have a path", self.path)])
        return self


_AnyOptimizer = optimizers.BaseOptimizerSpec
if not TYPE_CHECKING:
    _AnyOptimizer = Union[tuple(optimizers.OPTIMIZERS.values())]  # noqa: UP007  known only when it runs

OptimizerSpec = Annotated[
    _AnyOptimizer, Field(discriminator="name"), BeforeValidator(_named_or(optimizers.DEFAULT.name))
]


class _ScheduleSpec(_Strict):
    name: str
    warmup_epochs: float = Field(0.0, ge=0.0, description="Epochs in which the rate rises linearly from zero.")


class ConstantSpec(_ScheduleSpec):
    """The same rate throughout."""

    name: Literal["constant"] = Field("constant", description="The same rate throughout.")


class CosineSpec(_ScheduleSpec):
    """Half a cosine down to `final` of the rate (Loshchilov & Hutter 2017, without restarts)."""

    name: Literal["cosine"] = Field(description="Half a cosine down to `final` of the rate.")
    final: float = Field(0.0, ge=0.0, le=1.0, description="The last rate, as a share of the highest.")


class StepSpec(_ScheduleSpec):
    """Multiplied by `factor` at each of `epochs`."""

    name: Literal["step"] = Field(description="Multiplied by `factor` at each of `epochs`.")
    epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(list_to_tuple)] = Field(
        min_length=1, description="Epochs after which the rate drops, rising."
    )
    factor: float = Field(0.1, gt=0.0, lt=1.0, description="What the rate is multiplied by at each drop.")

    @field_validator("epochs")
    @classmethod
    def _rising(cls, epochs: tuple[int, ...]) -> tuple[int, ...]:
        if list(epochs) != sorted(set(epochs)):
            raise PydanticCustomError("tiedexp", "the epochs must rise, for example [80, 120]")
        return epochs


class ExponentialSpec(_ScheduleSpec):
    """Multiplied by `factor` every epoch."""

    name: Literal["exponential"] = Field(description="Multiplied by `factor` every epoch.")
    factor: float = Field(0.95, gt=0.0, lt=1.0, description="What the rate is multiplied by every epoch.")


ScheduleSpec = Annotated[
    ConstantSpec | CosineSpec | StepSpec | ExponentialSpec,
    Field(discriminator="name"),
    BeforeValidator(_named_or("constant")),
]


class AugmentationSpec(_Strict):
    """Random changes of the training images."""

    pad_crop: int = Field(0, ge=0, le=128, description="Zero-pad by this many pixels and crop back at random.")
    flip: Literal["horizontal", "vertical", "both"] | None = Field(None, description="Mirror half of the images.")
    rotation: float = Field(0.0, ge=0.0, le=180.0, description="Rotate by up to this many degrees either way.")
    cutout: int = Field(0, ge=0, le=1024, description="Side of a square of zeros (DeVries & Taylor 2017), in pixels.")
    mixup: float = Field(0.0, ge=0.0, le=10.0, description="alpha of mixup (Zhang et al. 2018); 0 is none.")


class EarlyStoppingSpec(_Strict):
    """Stop when the validation result has not improved for `patience` epochs."""

    metric: Literal["accuracy", "loss"] = Field("accuracy", description="The validation result that is watched.")
    patience: int = Field(5, ge=1, description="Epochs without improvement before the run stops.")
    min_delta: float = Field(0.0, ge=0.0, description="An improvement is larger than this.")


class TrainingSpec(_Strict):
    """How the model is trained."""

    epochs: int = Field(10, ge=1, le=100_000, description="Passes over the training images.")
    batch_size: int = Field(128, ge=1, le=65_536, description="Images a step, over all devices.")
    steps_per_epoch: int | None = Field(None, ge=1, description="At most this many steps an epoch, for smoke runs.")
    steps_per_execution: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="Training steps in one call of the compiled function."
    )
    optimizer: OptimizerSpec = Field(
        default_factory=lambda: optimizers.DEFAULT,
        description=f"{optimizers.describe_optimizers()}; {optimizers.DEFAULT.name} if left out.",
    )
    schedule: ScheduleSpec = Field(
        default_factory=lambda: ConstantSpec(name="constant"),
        description="The learning rate over time: constant, cosine, step or exponential; constant if left out.",
    )
    label_smoothing: float = Field(0.0, ge=0.0, lt=1.0, description="Share of the target spread over all classes.")
    gradient_clipping: float | None = Field(None, gt=0.0, description="Largest global norm of the gradient.")
    early_stopping: EarlyStoppingSpec | None = Field(None, description="Leave out to train all epochs.")
    augmentation: AugmentationSpec = Field(
        default_factory=AugmentationSpec, description="Random changes of the training images; none if left out."
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="Of the computation; the weights are float32 in all three."
    )
    jit: bool = Field(False, description="Compile the step with XLA.")
    devices: Annotated[int, Field(ge=1, le=64)] | Literal["all"] = Field(
        1,
        description="GPUs to use (MirroredStrategy when more than one), or all; 1 uses the CPU where there is no GPU; "
        "more than there are is an error.",
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads within an operation; all cores if left out."
    )
    deterministic: bool = Field(True, description="Only operations that give the same bits every time.")

    @field_validator("schedule")
    @classmethod
    def _schedule_fits_epochs(cls, schedule: Any, info: Any) -> Any:
        epochs = info.data.get("epochs")
        if epochs is not None and schedule.warmup_epochs > epochs:
            text = f"the warm-up is longer than training, {epochs} epoch{'s' * (epochs > 1)}"
            raise _refusal([(("warmup_epochs",), text, schedule.warmup_epochs)])
        return schedule

    @field_validator("devices")
    @classmethod
    def _devices_share_batches(cls, devices: int | str, info: Any) -> int | str:
        batch_size = info.data.get("batch_size")
        if isinstance(devices, int) and batch_size is not None and batch_size % devices:
            raise PydanticCustomError(
                "tiedexp", "batch_size ({batch_size}) must be a multiple of the devices", {"batch_size": batch_size}
            )
        return devices


class TensorBoardSpec(_Strict):
    """What is written beside scalars."""

    kernels: bool = Field(True, description="The kernels of every tied conv as an image, each epoch.")
    histograms: bool = Field(False, description="Histograms of the weights and of the gradient's norms, each epoch.")


class CheckpointSpec(_Strict):
    """When checkpoints are written, besides at the end of every epoch. It changes no result."""

    every_steps: int = Field(0, ge=0, description="Also after every so many steps of an epoch; 0 for no others.")


class ExperimentSpec(_Strict):
    """One experiment: the whole of what `tiedexp train` needs to know."""

    name: str = Field(
        pattern=NAME,
        description=f"{NAME_RULE}; names the run.",
    )
    dataset: DatasetSpec = Field(description="The images.")
    model: ModelSpec = Field(default_factory=ModelSpec, description="The network: a family and its sizes.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="How the model is trained.")
    tensorboard: TensorBoardSpec = Field(
        default_factory=TensorBoardSpec, description="What is written for TensorBoard beside scalars."
    )
    checkpoint: CheckpointSpec = Field(
        default_factory=CheckpointSpec, description="Checkpoints within long epochs; none if left out."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Initial weights, order, split, augmentation and dropout.")

    @model_validator(mode="after")
    def _early_stopping_has_validation(self) -> Self:
        if self.training.early_stopping is not None and self.dataset.validation == 0:
            text = "early stopping needs validation images; `dataset.validation` is 0"
            raise _refusal([(("training", "early_stopping"), text, None)])
        return self

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits of all that the result depends on but the seed: one experiment, one place on disk."""
        content = self.model_dump(mode="json", exclude={"name", "seed", "checkpoint"})
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
