"""The JSON files of a run as typed records, which are written to the files and checked when they are read.

A file that was damaged, or that somebody else wrote, gives one message. A file can have keys that its record does not
declare, because a later tiedexp wrote it; they are kept when the file is written again.
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

# Strict, because the content of a file is used as it is: "3" is not a number.
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
        """The content of the file: the fields that were set, in order, and then any other keys that were read."""
        return self.model_dump(exclude_unset=True)


class DataRecord(_Record):
    """The data of a run.

    Args:
        name: the name of the dataset.
        fingerprint: a hash of its images and labels.
        files: a hash of the names, sizes and times of the user's own files; None for other data and in older runs.
        data_dir: the TFDS data directory that it came from; None for other data.
        image_shape: (rows, cols, channels).
        class_names: one name per class.
        mean: the mean of each channel over the training images.
        std: the standard deviation of each channel over the training images.
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
    def _one_per_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.image_shape[2]:
            raise ValueError("mean and std must have one number per channel of image_shape")
        return self


class ParentRecord(_Record):
    """The run that a run extends.

    Args:
        run: its path.
        epochs: how many epochs it has.
        fingerprint: the fingerprint of its data.
        same_as_from_start: whether training the longer run from scratch would give the same result.
    """

    run: str
    epochs: int
    fingerprint: str | None = None
    same_as_from_start: bool


class InexactResume(_Record):
    """One time that a run was resumed although the result may change: after what, and what was different."""

    after_epoch: int
    after_step: int = 0
    differences: tuple[str, ...]


class Environment(_Record):
    """Where and with what a run was started.

    Args:
        format: the format of the manifest.
        started: when, in UTC.
        command: the command line.
        versions: the versions of Python and of the packages that matter, by name.
        commit: the commit of tiedexp; None outside a git checkout.
        host: the name of the machine.
        system: its operating system.
        processor: the name of its processor.
        pid: the id of the process.
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
        device: TensorFlow's name of the device.
        replicas: how many devices train together.
        threads: CPU threads within an operation.
        deterministic: whether running it again gives the same bits.
        data: the data of the run.
        spec: the resolved spec, for readers that do not want its YAML; keys without a value are left out.
        pattern: a short name of the tying; `none` without tying.
        patterns: the digest of the pattern of each tied conv, by the name of the conv.
        unique_weights: trainable weights, counting each group of tied cells once.
        expanded_weights: trainable weights, counting every cell.
        macs_dense: multiply-adds of one image, forward, counting every cell.
        macs_tied: multiply-adds of one image, forward, counting each group of tied cells once.
        implementations: how each tied conv is computed, by the name of the conv.
        steps_per_epoch: training steps in an epoch.
        inexact: each time that the run was resumed although the result may change.
        parent: the run that it extends; None if it extends none.
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
    """The loss, accuracy and speed of one split in an epoch."""

    loss: Number
    accuracy: Number
    images_per_second: Number


class EpochLine(_Record):
    """A line of metrics.jsonl.

    Args:
        epoch: its number, from 1.
        step: training steps up to its end.
        learning_rate: the rate of its last step.
        train: the results on the training images.
        validation: the results on the validation images; None without any.
        seconds: wall time of its training steps.
        first_of_process: whether it is the first epoch of its process, so that `seconds` includes compiling the model.
            Lines of older versions do not have it.
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
        """The results on the validation images, or on the training images if there are none."""
        return self.validation or self.train


class ClassResult(_Record):
    """Precision, recall and F1 of one class, and the number of its images."""

    name: str
    images: Images
    precision: Number
    recall: Number
    f1: Number


class Evaluation(_Record):
    """Results on one split.

    Args:
        images: the number of images.
        loss: mean cross-entropy, with the natural logarithm.
        accuracy: the share of images whose likeliest class is right.
        accuracy_interval: the 95% interval of the accuracy (Wilson 1927).
        top5_accuracy: the share of images whose class is among the five likeliest; None with at most five classes.
        calibration_error: expected calibration error over 15 equal bins of confidence (Guo et al. 2017,
            arXiv 1706.04599).
        classes: the results of each class.
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
        test: the results of the best epoch on the test images.
        validation: the results of the best epoch on the validation images; None without any.
        best_epoch: the epoch that was tested.
        epochs: how many epochs were trained.
        stopped_early: whether those are fewer than in the spec.
        seconds: wall time of all training steps.
        epoch_seconds: see `average_epoch_seconds`. Results of older versions do not have it.
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
        lines: the lines of metrics.jsonl.

    Returns:
        The mean; None if there is no other epoch.
    """
    seconds = [line.seconds for line in lines if line.epoch > 1 and not line.first_of_process]
    return round(fmean(seconds), 4) if seconds else None


def check_record(kind: type[Record], content: Any, source: Path | str) -> Record:
    """The content of a JSON file as a record.

    Args:
        kind: the type of record.
        content: what was read.
        source: the file, named in the error message.

    Raises:
        RunError: a key is missing or has a value of another type.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = join_key(first["loc"])
        problem = "is missing" if first["type"] == "missing" else f"is wrong: {first['msg']}"
        text = clean_text(f"{where or 'the whole'} {problem}")  # the keys come from the file
        raise RunError(f"{source} is not as tiedexp writes it: {text}") from None
