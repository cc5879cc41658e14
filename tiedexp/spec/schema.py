"""The spec of one experiment, as pydantic models: every key a user may write, its type, range and meaning.

Validation is strict: unknown keys, wrong types, values out of range and contradictions are errors. The descriptions of
the fields are the reference that `tiedexp schema` prints and editors show; a message about a missing key quotes the
first sentence.
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
NAME_RULE = "1 to 80 letters, digits, '.', '_' and '-', starting with a letter or digit"


_Model = TypeVar("_Model", bound=BaseModel)


def _refusal(problems: Iterable[tuple[PathToField, str, Any]]) -> ValidationError:
    """Our own errors below the field being validated, each as (path from that field, message, value)."""
    details = [
        InitErrorDetails(type=PydanticCustomError("tiedexp", "{text}", {"text": text}), loc=path, input=value)
        for path, text, value in problems
    ]
    return ValidationError.from_exception_data("spec", details)


def list_to_tuple(value: Any) -> Any:
    """A list as a tuple, which is what the models store; any other value unchanged."""
    return tuple(value) if isinstance(value, list) else value


Size = Annotated[int, Field(ge=1, le=MAX_SIDE)]


def _named_or(default: str) -> Callable[[Any], Any]:
    """A validator that adds the default `name` to a mapping without one."""
    return lambda value: {"name": default, **value} if isinstance(value, dict) and "name" not in value else value


KernelSize = Size | Annotated[tuple[Size, Size], BeforeValidator(list_to_tuple)]


_OPTION_TYPES: dict[presets.Kind, Any] = {
    presets.WHOLE: int | None,
    presets.TRUTH: bool | None,
    presets.SIZE: KernelSize | None,
    presets.PATTERN: "str | PatternOptions | None",
}


def _with_preset_options(model: type[_Model]) -> type[_Model]:
    """The model with an additional key for each option of a preset."""
    fields: dict[str, Any] = {
        name: (
            _OPTION_TYPES[option.kind],
            Field(
                None,
                ge=option.at_least,
                description=f"Option of {' and '.join(takers)}: {option.meaning}; if left out, the preset's default.",
            ),
        )
        for name, (option, takers) in presets.collect_options().items()
    }
    return create_model(model.__name__, __base__=model, __doc__=model.__doc__, __module__=__name__, **fields)


@_with_preset_options
class PatternOptions(_Strict):
    """A preset with options, for example `{preset: hashed, groups: 9, seed: 0}`."""

    preset: str = Field(description="The name of a preset; `tiedexp pattern list` shows them all.")

    def options(self) -> dict[str, Any]:
        """The keys that were given, in the form that `Pattern.of` takes."""
        return self.model_dump(exclude_none=True)

    def inner_patterns(self) -> list[PatternValue]:
        """The options whose values are patterns."""
        values = (getattr(self, name) for name in presets.name_pattern_options())
        return [value for value in values if value is not None]


PatternValue = str | PatternOptions

MAX_CELLS = 2**17  # of all distinct patterns of a model together; building that many takes a third of a second


def build_pattern(value: PatternValue, kernel_size: int | tuple[int, int]) -> Pattern:
    """The pattern that a value of `tying.pattern` describes at a kernel size; PatternError if there is none."""
    return Pattern.of(value if isinstance(value, str) else value.options(), kernel_size)


def _try_pattern(value: PatternValue, kernel_size: int | tuple[int, int]) -> Pattern | PatternError:
    """The pattern, or the error, so that a value that is given many times is built only once."""
    try:
        return build_pattern(value, kernel_size)
    except PatternError as error:
        return error


def _count_cells(value: PatternValue, kernel_size: int | tuple[int, int]) -> int:
    """Number of cells built for a pattern, including those of the patterns in its options."""
    rows, cols = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
    inner = [] if isinstance(value, str) else value.inner_patterns()
    return rows * cols + sum(_count_cells(part, kernel_size) for part in inner)


class TyingSpec(_Strict):
    """Which convolutions have tied kernels, and how."""

    pattern: PatternValue | Annotated[tuple[PatternValue, ...], BeforeValidator(list_to_tuple)] = Field(
        description="The name of a preset, a preset with options, a grid (rows separated by / or on lines of their "
        "own), or a list of these, one for each tied convolution from the input on. In a grid, equal letters share "
        "one weight, -A is the negative of A, and . is always zero. A single pattern applies to all tied "
        "convolutions."
    )
    layers: (
        Literal["all", "first", "last", "alternate"] | Annotated[tuple[int, ...], BeforeValidator(list_to_tuple)]
    ) = Field(
        "all",
        description="The convolutions to tie: all, the first, the last, every other one starting with the first "
        "(alternate), or a list of their numbers, counted from 1 at the input. The others are ordinary convolutions.",
    )
    gradient: Literal["sum", "mean"] = Field(
        "sum",
        description="How the gradients of the cells that share a weight are combined: by their sum (the exact "
        "gradient) or their mean.",
    )
    implementation: Literal["auto", "expand", "factored"] = Field(
        "auto",
        description="How tied convolutions are computed: with the expanded kernel (expand), with compiled code "
        "wherever it can run (factored), or with whichever is estimated to be faster (auto).",
    )

    def tied_convs(self, depth: int) -> tuple[int, ...]:
        """The numbers, from 1, of the tied convolutions in a model with `depth` convolutions."""
        named = {
            "all": range(1, depth + 1),
            "first": range(1, 2),
            "last": range(depth, depth + 1),
            "alternate": range(1, depth + 1, 2),
        }
        return tuple(named[self.layers]) if isinstance(self.layers, str) else self.layers

    def patterns(self, depth: int, kernel_size: int | tuple[int, int]) -> tuple[Pattern | None, ...]:
        """The pattern of each convolution of a model, None for an ordinary convolution.

        Raises:
            ValidationError: a number is beyond the depth or given twice, the number of patterns is wrong, or a pattern
                does not exist at this kernel size. Each error has the path of its value.
        """
        convs = self.tied_convs(depth)
        values = self.pattern if isinstance(self.pattern, tuple) else (self.pattern,) * len(convs)
        problems: list[tuple[PathToField, str, Any]] = []
        named: set[int] = set()
        for at, conv in enumerate(convs):
            if not 1 <= conv <= depth:
                problems.append((("layers", at), f"the model has convolutions 1 to {depth}", conv))
            elif conv in named:
                problems.append((("layers", at), "this convolution is listed twice", conv))
            named.add(conv)
        if not convs:
            problems.append(
                (("layers",), "the list is empty; for a model without tied convolutions, leave out `tying`", [])
            )
        if len(values) != len(convs):
            text = (
                f"{len(values)} patterns for {len(convs)} tied convolutions; give one for each, or a single one for all"
            )
            problems.append((("pattern",), text, len(values)))
        patterns: dict[int, Pattern] = {}
        built: dict[PatternValue, Pattern | PatternError] = {}
        cells = 0
        for at, value in enumerate(values):
            if value not in built:
                cells += _count_cells(value, kernel_size)
                if cells > MAX_CELLS:
                    text = f"the distinct patterns of a model can have at most {MAX_CELLS:,} cells in total"
                    problems.append((("pattern",), text, len(values)))
                    break
                built[value] = _try_pattern(value, kernel_size)
            pattern = built[value]
            if isinstance(pattern, Pattern):
                patterns[at] = pattern
                continue
            path: PathToField = ("pattern", at) if isinstance(self.pattern, tuple) else ("pattern",)
            problems.append((path, str(pattern), value if isinstance(value, str) else value.options()))
            if not isinstance(self.pattern, tuple):
                break
        if problems:
            raise _refusal(problems)
        by_conv = {conv: patterns[at] for at, conv in enumerate(convs)}
        return tuple(by_conv.get(conv) for conv in range(1, depth + 1))


def _check_family(name: str) -> str:
    if name not in FAMILIES:
        raise ValueError(name)  # the message, which lists the families, comes from explaining.py
    return name


class ModelSpec(_Strict):
    """The network: its family and its sizes."""

    family: Annotated[str, AfterValidator(_check_family)] = Field(
        "plain",
        description=f"The architecture. {describe_families()}.",
        json_schema_extra=lambda shape: shape.update(enum=[*FAMILIES]),
    )
    depth: int = Field(
        4,
        ge=1,
        le=1202,
        validate_default=True,  # a resnet cannot have the default depth
        description=f"The number of layers. {describe_depths()}.",
    )
    width: int = Field(
        16,
        ge=1,
        le=4096,
        description="Filters in the first stage; each later stage has twice as many as the one before.",
    )
    widen: int = Field(
        1,
        ge=1,
        le=64,
        description="For resnet: factor that widens the three stages (wide residual networks, Zagoruyko & Komodakis "
        "2016); 1 is the ordinary width.",
    )
    kernel_size: KernelSize = Field(
        3, description="Size of the kernel of every convolution: one number for a square, or [rows, cols]."
    )
    dropout: float = Field(0.0, ge=0.0, lt=1.0, description="Dropout rate before the classifier; 0 disables dropout.")
    tying: TyingSpec | None = Field(
        None, description="Which convolutions are tied, and how; if left out, all are ordinary convolutions."
    )

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
            text = f"only {wide} can be widened; for a {family} model, change `width`"
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
        """The number of convolutions that can be tied."""
        return FAMILIES[self.family].count_convs(self.depth)

    def conv_patterns(self) -> tuple[Pattern | None, ...]:
        """The pattern of each convolution, None for an ordinary convolution."""
        if self.tying is None:
            return (None,) * self.num_convs
        return self.tying.patterns(self.num_convs, self.kernel_size)


class DatasetSpec(_Strict):
    """The images to train and test on."""

    name: str = Field(
        min_length=1,
        description=f"{', '.join(KINDS)}, or the name of a prepared TFDS image-classification dataset, e.g. mnist or "
        "cifar10. `tiedexp data list` shows what is available.",
    )
    path: str | None = Field(
        None,
        min_length=1,
        description=f"For {' and '.join(list_file_kinds())} only: the path of the images, relative to the spec's "
        "file, or to the working directory if it is given on the command line.",
    )
    image_size: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="Crop each image to its central square and resize it to this side, in pixels. If left out, images "
        "keep their size, which must be the same for all.",
    )
    validation: Annotated[int, Field(ge=0)] | Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1,
        description="Training images to hold out for validation, as a number of images or as a fraction below 1; each "
        "class is represented in proportion. 0 holds out none.",
    )
    limit: int | None = Field(
        None,
        ge=1,
        description="Use at most this many images of each split, for quick tests. If left out, all images are used.",
    )

    @model_validator(mode="after")
    def _path_fits_name(self) -> Self:
        with_path = list_file_kinds()
        if self.name in with_path and self.path is None:
            raise _refusal([((), f"the dataset '{self.name}' needs the key `path`", self.name)])
        if self.name not in with_path and self.path is not None:
            raise _refusal([(("path",), f"only the datasets {' and '.join(with_path)} take a path", self.path)])
        return self


_AnyOptimizer = optimizers.BaseOptimizerSpec
if not TYPE_CHECKING:
    _AnyOptimizer = Union[tuple(optimizers.OPTIMIZERS.values())]  # noqa: UP007  known only when it runs

OptimizerSpec = Annotated[
    _AnyOptimizer, Field(discriminator="name"), BeforeValidator(_named_or(optimizers.DEFAULT.name))
]


class _ScheduleSpec(_Strict):
    name: str
    warmup_epochs: float = Field(
        0.0,
        ge=0.0,
        description="Epochs, not necessarily a whole number, over which the learning rate rises linearly from zero "
        "to its peak; 0 for no warm-up.",
    )


class ConstantSpec(_ScheduleSpec):
    """A constant learning rate."""

    name: Literal["constant"] = Field("constant", description="The learning rate stays the same.")


class CosineSpec(_ScheduleSpec):
    """A learning rate that falls along half a cosine (Loshchilov & Hutter 2017, without restarts)."""

    name: Literal["cosine"] = Field(description="The learning rate falls along half a cosine.")
    final: float = Field(0.0, ge=0.0, le=1.0, description="The learning rate at the end, as a fraction of its peak.")


class StepSpec(_ScheduleSpec):
    """A learning rate that drops after given epochs."""

    name: Literal["step"] = Field(description="The learning rate drops after each of `epochs`.")
    epochs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(list_to_tuple)] = Field(
        min_length=1, description="The epochs after which the learning rate drops, in increasing order, e.g. [80, 120]."
    )
    factor: float = Field(0.1, gt=0.0, lt=1.0, description="The learning rate is multiplied by this at each drop.")

    @field_validator("epochs")
    @classmethod
    def _rising(cls, epochs: tuple[int, ...]) -> tuple[int, ...]:
        if list(epochs) != sorted(set(epochs)):
            raise PydanticCustomError("tiedexp", "the epochs must increase, e.g. [80, 120]")
        return epochs


class ExponentialSpec(_ScheduleSpec):
    """A learning rate that falls exponentially."""

    name: Literal["exponential"] = Field(description="The learning rate falls exponentially.")
    factor: float = Field(
        0.95, gt=0.0, lt=1.0, description="The learning rate is multiplied by this over each epoch, in small steps."
    )


ScheduleSpec = Annotated[
    ConstantSpec | CosineSpec | StepSpec | ExponentialSpec,
    Field(discriminator="name"),
    BeforeValidator(_named_or("constant")),
]


class AugmentationSpec(_Strict):
    """Random changes to the training images, drawn anew for every image and step."""

    pad_crop: int = Field(
        0,
        ge=0,
        le=128,
        description="Shift each image by up to this many pixels in each direction, as if it were padded with zeros and "
        "cropped at random; 0 disables it.",
    )
    flip: Literal["horizontal", "vertical", "both"] | None = Field(
        None,
        description="Mirror each image with probability 1/2: left to right (horizontal), top to bottom (vertical), or "
        "each of these independently (both).",
    )
    rotation: float = Field(
        0.0,
        ge=0.0,
        le=180.0,
        description="Rotate each image by up to this many degrees in either direction; 0 disables it.",
    )
    cutout: int = Field(
        0,
        ge=0,
        le=1024,
        description="Side, in pixels, of a square at a random location that is set to the mean colour (DeVries & "
        "Taylor 2017); 0 disables it.",
    )
    mixup: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Alpha of the Beta distribution by which pairs of images and their labels are mixed (Zhang et al. "
        "2018); 0 disables it.",
    )


class EarlyStoppingSpec(_Strict):
    """Stop when the validation metric has not improved for `patience` epochs."""

    metric: Literal["accuracy", "loss"] = Field("accuracy", description="The validation metric to monitor.")
    patience: int = Field(5, ge=1, description="Epochs without an improvement after which training stops.")
    min_delta: float = Field(
        0.0, ge=0.0, description="A change of the metric counts as an improvement only if it is larger than this."
    )


class TrainingSpec(_Strict):
    """How the model is trained."""

    epochs: int = Field(10, ge=1, le=100_000, description="Number of passes over the training images.")
    batch_size: int = Field(128, ge=1, le=65_536, description="Images per step, over all devices together.")
    steps_per_epoch: int | None = Field(
        None,
        ge=1,
        description="Train at most this many steps per epoch, for quick tests. If left out, an epoch covers all "
        "training images.",
    )
    steps_per_execution: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto",
        description="Training steps per call of the compiled function; auto chooses as many as take about a quarter "
        "of a second.",
    )
    optimizer: OptimizerSpec = Field(
        default_factory=lambda: optimizers.DEFAULT,
        description=f"The optimizer: {optimizers.describe_optimizers()}, each with its own options; "
        f"{optimizers.DEFAULT.name} if left out.",
    )
    schedule: ScheduleSpec = Field(
        default_factory=lambda: ConstantSpec(name="constant"),
        description="How the learning rate changes over time: constant, cosine, step or exponential, each with its own "
        "options; constant if left out.",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0.0,
        lt=1.0,
        description="Fraction of each target that is spread evenly over all classes; 0 disables label smoothing.",
    )
    gradient_clipping: float | None = Field(
        None,
        gt=0.0,
        description="Largest global norm of the gradient, to which larger gradients are scaled down. If left out, "
        "gradients are not clipped.",
    )
    early_stopping: EarlyStoppingSpec | None = Field(
        None, description="When to stop before the last epoch; if left out, all epochs are trained."
    )
    augmentation: AugmentationSpec = Field(
        default_factory=AugmentationSpec, description="Random changes to the training images; none if left out."
    )
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32", description="Floating-point type of the computation; the weights are always float32."
    )
    jit: bool = Field(False, description="Compile the training step with XLA.")
    devices: Annotated[int, Field(ge=1, le=64)] | Literal["all"] = Field(
        1,
        description="Number of GPUs to train on, or all; each step's batch is divided among them (MirroredStrategy). 1 "
        "uses the CPU if there is no GPU. Asking for more GPUs than there are is an error.",
    )
    threads: int | None = Field(
        None, ge=1, le=1024, description="CPU threads within one operation; if left out, one per core."
    )
    deterministic: bool = Field(
        True,
        description="Use only operations that give the same bits every time, so that a run can be reproduced "
        "exactly; false may be faster.",
    )

    @field_validator("schedule")
    @classmethod
    def _schedule_fits_epochs(cls, schedule: Any, info: Any) -> Any:
        epochs = info.data.get("epochs")
        if epochs is not None and schedule.warmup_epochs > epochs:
            text = f"the warm-up is longer than the training of {epochs} epoch{'s' * (epochs > 1)}"
            raise _refusal([(("warmup_epochs",), text, schedule.warmup_epochs)])
        return schedule

    @field_validator("devices")
    @classmethod
    def _devices_share_batches(cls, devices: int | str, info: Any) -> int | str:
        batch_size = info.data.get("batch_size")
        if isinstance(devices, int) and batch_size is not None and batch_size % devices:
            raise PydanticCustomError(
                "tiedexp",
                "batch_size ({batch_size}) must be a multiple of the number of devices",
                {"batch_size": batch_size},
            )
        return devices


class TensorBoardSpec(_Strict):
    """What is written for TensorBoard in addition to scalars."""

    kernels: bool = Field(True, description="Write the kernels of every tied convolution as an image after each epoch.")
    histograms: bool = Field(
        False, description="Write histograms of the weights and of the gradient norms after each epoch."
    )


class CheckpointSpec(_Strict):
    """When checkpoints are written in addition to those after each epoch. This does not affect any result."""

    every_steps: int = Field(
        0,
        ge=0,
        description="Also write a checkpoint whenever this many steps of an epoch are done; 0 writes them only after "
        "each epoch.",
    )


class ExperimentSpec(_Strict):
    """One experiment: everything that `tiedexp train` needs to know."""

    name: str = Field(
        pattern=NAME,
        description=f"{NAME_RULE}; the run's directory is named after it.",
    )
    dataset: DatasetSpec = Field(description="The images to train and test on.")
    model: ModelSpec = Field(default_factory=ModelSpec, description="The network: its family and its sizes.")
    training: TrainingSpec = Field(default_factory=TrainingSpec, description="How the model is trained.")
    tensorboard: TensorBoardSpec = Field(
        default_factory=TensorBoardSpec, description="What is written for TensorBoard in addition to scalars."
    )
    checkpoint: CheckpointSpec = Field(
        default_factory=CheckpointSpec,
        description="When checkpoints are written in addition to those after each epoch.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**31 - 1,
        description="Seed of the initial weights, the validation split, the order of the images, augmentation and "
        "dropout.",
    )

    @model_validator(mode="after")
    def _early_stopping_has_validation(self) -> Self:
        if self.training.early_stopping is not None and self.dataset.validation == 0:
            text = "early stopping needs validation images, but `dataset.validation` is 0"
            raise _refusal([(("training", "early_stopping"), text, None)])
        return self

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits that identify everything the result depends on except the seed."""
        content = self.model_dump(mode="json", exclude={"name", "seed", "checkpoint"})
        return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:10]
