"""What the JSON files of a run hold, as far as tiedexp reads it back.

It is checked, so that a file that somebody else wrote, or that was damaged, is one message. All of them may hold more.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, ValidationError, model_validator

from tiedexp.errors import RunError


Epoch = Annotated[int, Field(ge=0, lt=2**31)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class DataRecord(_Record):
    """The data of a run.

    Args:
        name: of the dataset.
        fingerprint: of its images and labels.
        data_dir: the TFDS data directory it came from; None if from none.
        image_shape: (rows, cols, channels).
        class_names: one a class.
        mean: of each channel of the training images.
        std: the same for the standard deviation.
    """

    name: str
    fingerprint: str
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
        unique_weights: trainable weights, each group of tied cells counted once.
        expanded_weights: the same, every cell counted.
        macs_dense: multiply-adds of one image, forward, every cell counted.
        macs_tied: the same, each group of tied cells counted once.
    """

    format: int
    versions: dict[str, str]
    commit: str | None
    processor: str
    device: str
    replicas: int
    threads: int
    deterministic: bool
    data: DataRecord
    spec: dict[str, Any]
    pattern: str
    unique_weights: Count
    expanded_weights: Count
    macs_dense: Count
    macs_tied: Count
    implementations: dict[str, dict[str, str]] = {}
    parent: ParentRecord | None = None


class SplitLine(_Record):
    """How one split did in an epoch."""

    loss: float
    accuracy: float
    images_per_second: float


class EpochLine(_Record):
    """A line of metrics.jsonl."""

    epoch: Epoch
    step: int
    learning_rate: float
    train: SplitLine
    validation: SplitLine | None
    seconds: float


class TestRecord(_Record):
    """The test in result.json."""

    images: int
    loss: float
    accuracy: float
    accuracy_interval: tuple[float, float]


class Result(_Record):
    """result.json."""

    test: TestRecord
    best_epoch: Epoch
    epochs: Epoch
    stopped_early: bool
    seconds: float


Record = TypeVar("Record", bound=BaseModel)


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
        where = ".".join(map(str, first["loc"]))
        problem = "is missing" if first["type"] == "missing" else f"is wrong: {first['msg']}"
        raise RunError(f"{place} is not as tiedexp writes it: {where or 'the whole'} {problem}") from None
