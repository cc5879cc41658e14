"""What the JSON files of a run hold, as far as tiedexp reads it back.

It is checked, so that a file that somebody else wrote, or that was damaged, is one message. All of them may hold more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    PositiveInt,
    Strict,
    StrictBool,
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


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


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
    """The run that a run extends: where it was, its epochs, and whether it could have been trained in one."""

    run: str
    epochs: int
    same_as_from_start: bool


class Manifest(_Record):
    """manifest.json: what a run was made with.

    Args:
        spec: the resolved spec, for readers that do not want its YAML; keys without a value are left out.
        pattern: a short name of the tying, `none` without.
        patterns: the digest of the pattern of each tied conv, by its name.
        unique_weights: trainable weights, each group of tied cells counted once.
        expanded_weights: the same, every cell counted.
        macs_dense: multiply-adds of one image, forward, every cell counted.
        macs_tied: the same, each group of tied cells counted once.
        implementations: of tied convs, by name, how they are computed.
        inexact: each time that the run went on where it might come to other bits.
        parent: the run that it extends.
    """

    format: int
    versions: dict[str, str]
    commit: str | None
    processor: str
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
    inexact: tuple[dict[str, Any], ...] = ()
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
    """

    epoch: Epoch
    step: Count
    learning_rate: Number
    train: SplitLine
    validation: SplitLine | None
    seconds: Number
    first_of_process: StrictBool = False


class TestRecord(_Record):
    """How the best epoch did on a split, in result.json."""

    images: Count
    loss: Number
    accuracy: Number
    accuracy_interval: tuple[Number, Number]
    top5_accuracy: Number | None = None
    calibration_error: Number | None = None


class Result(_Record):
    """result.json.

    Args:
        seconds: wall time of all training steps.
        epoch_seconds: of `average_epoch_seconds`. Results of older versions do not have it.
    """

    test: TestRecord
    validation: TestRecord | None = None
    best_epoch: Epoch
    epochs: Epoch
    stopped_early: StrictBool
    seconds: Number
    epoch_seconds: Number | None = None


Record = TypeVar("Record", bound=BaseModel)


def average_epoch_seconds(lines: Iterable[Mapping[str, Any]]) -> float | None:
    """Mean time of an epoch, without the first epoch of each process, in which the model is compiled.

    Args:
        lines: of metrics.jsonl.

    Returns:
        The mean; None if there is no other epoch.
    """
    seconds = [line["seconds"] for line in lines if line["epoch"] > 1 and not line.get("first_of_process")]
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
