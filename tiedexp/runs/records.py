"""The JSON files of a run as typed records: what is written is built from them, and what is read is checked by them.

So a file that somebody else wrote, or that was damaged, is one message. A file may hold more than a record declares (a
later tiedexp may have written it), which is kept when the file is written again.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveInt,
    Strict,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)

from tiedexp.errors import RunError
from tiedexp.keys import join_key
from tiedexp.terminal import clean_text

# Of files whose own content is used, not what pydantic would make of it: "3" is no number.
Number = Annotated[FiniteFloat, Strict()]
Count = Annotated[PositiveInt, Strict(), Field(lt=2**63)]
Epoch = Annotated[PositiveInt, Strict(), Field(lt=2**31)]
Threads = Annotated[int, Field(ge=1, le=4096)]
Cost = Annotated[int, Field(ge=0, lt=2**63)]
TAG = r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}"
Images = Annotated[NonNegativeInt, Strict(), Field(lt=2**63)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)

    def as_json(self) -> dict[str, Any]:
        """What the file holds: the fields that were set, in order, and then whatever else was read."""
        return self.model_dump(exclude_unset=True)


class DataRecord(_Record):
    """The data of a run.

    Args:
        name: of the dataset.
        fingerprint: of its images and labels.
        files: changes with the names, sizes and times of a user's own files; None of other data and in older runs.
        data_dir: the TFDS data directory it came from; None if from none.
        image_shape: (rows, cols, channels).
        class_names: one a class.
        mean: of each channel of the training images.
        std: the same for the standard deviation.
    """

    name: str
    fingerprint: str
    files: str | None = None
    data_dir: str | None
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    class_names: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]

    @model_validator(mode="after")
    def _one_a_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.image_shape[2]:
            raise ValueError("mean and std must have a number for each channel of image_shape")
        return self


class ParentRecord(_Record):
    """The run that a run extends.

    Args:
        run: its path.
        epochs: how many it has.
        fingerprint: of its data.
        same_as_from_start: whether the longer run could have been trained from scratch with the same result.
    """

    run: str
    epochs: int
    fingerprint: str | None = None
    same_as_from_start: bool


class InexactResume(_Record):
    """A time that a run was resumed where the result might change: after what, and what was different."""

    after_epoch: int
    after_step: int = 0
    differences: tuple[str, ...]


class Environment(_Record):
    """Where and by what a run was begun.

    Args:
        format: of the manifest.
        started: the time.
        command: the command line.
        versions: of Python and of the packages that matter, by name.
        commit: of tiedexp; None outside a git checkout.
        host: the name of the machine, and `system`, its operating system.
        pid: of the process.
    """

    format: int
    started: str | None = None
    command: tuple[str, ...] = ()
    versions: dict[str, str]
    commit: str | None
    host: str | None = None
    system: str | None = None
    processor: str
    pid: int | None = None


class Manifest(Environment):
    """manifest.json: what a run was made with.

    Args:
        device: as TensorFlow names it.
        replicas: devices that train together.
        threads: CPU threads within an operation.
        deterministic: whether the same run gives the same bits.
        spec: the resolved spec, for readers that do not want its YAML; keys without a value are left out.
        pattern: a short name of the tying, `none` without.
        patterns: the digest of the pattern of each tied conv, by its name.
        unique_weights: trainable weights, each group of tied cells counted once.
        expanded_weights: the same, every cell counted.
        macs_dense: multiply-adds of one image, forward, every cell counted.
        macs_tied: the same, each group of tied cells counted once.
        implementations: of tied convs, by name, how they are computed.
        steps_per_epoch: training steps of an epoch.
        inexact: each time that the run was resumed where the result might change.
        parent: the run that it extends.
    """

    device: str
    replicas: int
    threads: Threads
    deterministic: bool
    data: DataRecord
    spec: dict[str, Any]
    pattern: str
    patterns: dict[str, str] = {}
    unique_weights: Cost
    expanded_weights: Cost
    macs_dense: Cost
    macs_tied: Cost
    implementations: dict[str, dict[str, str]] = {}
    steps_per_epoch: int | None = None
    inexact: tuple[InexactResume, ...] = ()
    parent: ParentRecord | None = None


class SplitLine(_Record):
    """How one split did in an epoch."""

    loss: Number
    accuracy: Number
    images_per_second: Number


class EpochLine(_Record):
    """A line of metrics.jsonl.

    Args:
        seconds: wall time of its training steps.
        first_of_process: whether it is the first that a process ended, so that `seconds` includes compiling the model.
            Lines of older versions do not say.
        time: when it ended, in UTC.
    """

    epoch: Epoch
    step: Count
    learning_rate: Number
    train: SplitLine
    validation: SplitLine | None
    seconds: Number
    first_of_process: StrictBool = False
    time: str | None = None

    @property
    def measured(self) -> SplitLine:
        """The validation, or the training where there is none."""
        return self.validation or self.train


class ClassResult(_Record):
    """One class: its images, and how many of them, and of those predicted to be of it, are right."""

    name: str
    images: Images
    precision: Number
    recall: Number
    f1: Number


class Evaluation(_Record):
    """Results on one split.

    Args:
        images: number of images.
        loss: mean cross-entropy, natural logarithm.
        accuracy: share of images whose likeliest class is right.
        accuracy_interval: its 95% interval (Wilson 1927).
        top5_accuracy: share of images whose class is among the five likeliest; None with five classes or fewer.
        calibration_error: expected calibration error over 15 equal bins of confidence (Guo et al. 2017,
            arXiv 1706.04599).
        classes: results of each class.
        confusion: counts, one row per true class, one column per predicted class.
    """

    images: Count
    loss: Number
    accuracy: Number
    accuracy_interval: tuple[Number, Number]
    top5_accuracy: Number | None = None
    calibration_error: Number | None = None
    classes: tuple[ClassResult, ...] = ()
    confusion: tuple[tuple[Images, ...], ...] = ()


class Result(_Record):
    """result.json.

    Args:
        test: how the best epoch did, and `validation`, the same; None without validation images.
        best_epoch: the one that was tested.
        epochs: how many were trained.
        stopped_early: whether those are fewer than the spec has.
        seconds: wall time of all training steps.
        epoch_seconds: of `average_epoch_seconds`. Results of older versions do not have it.
    """

    test: Evaluation
    validation: Evaluation | None = None
    best_epoch: Epoch
    epochs: Epoch
    stopped_early: StrictBool
    seconds: Number
    epoch_seconds: Number | None = None


class Failure(_Record):
    """failure.json: the message of the error that ended the last attempt, and when."""

    error: str
    time: str


class Tags(_Record):
    """tags.json: the tags that a person gave the run."""

    tags: tuple[Annotated[str, StringConstraints(pattern=f"^{TAG}$")], ...]


Record = TypeVar("Record", bound=BaseModel)


def average_epoch_seconds(lines: Iterable[EpochLine]) -> float | None:
    """Mean time of an epoch, without the first epoch of each process, in which the model is compiled.

    Args:
        lines: of metrics.jsonl.

    Returns:
        The mean; None if there is no other epoch.
    """
    seconds = [line.seconds for line in lines if line.epoch > 1 and not line.first_of_process]
    return round(fmean(seconds), 4) if seconds else None


def check_record(kind: type[Record], content: Any, place: Path | str) -> Record:
    """What JSON gave, as a record.

    Args:
        kind: the record.
        content: what was read.
        place: the file, named in the error.

    Raises:
        RunError: something is missing or of another type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = join_key(first["loc"])
        problem = "is missing" if first["type"] == "missing" else f"is wrong: {first['msg']}"
        text = clean_text(f"{where or 'the whole'} {problem}")  # the names of keys are the file's
        raise RunError(f"{place} is not as tiedexp writes it: {text}") from None
