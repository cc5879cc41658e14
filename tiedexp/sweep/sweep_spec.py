"""The file of a sweep as a pydantic model: every key, its type and its meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from tiedexp.spec.schema import NAME, NAME_RULE, list_to_tuple

MAX_SEEDS = 1000
Seed = Annotated[int, Field(ge=0, le=2**31 - 1)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS), BeforeValidator(list_to_tuple)]
Values = Annotated[tuple[Any, ...], Field(min_length=1), BeforeValidator(list_to_tuple)]
Mappings = Annotated[tuple[dict[str, Any], ...], BeforeValidator(list_to_tuple)]


class SweepSpec(BaseModel):
    """One sweep: variants of an experiment, each of which is run with several seeds.

    The variants are all combinations of the values in `grid` and the rows of `zip`, followed by those in `list`. Keys
    of the experiment are dotted, as on the command line, e.g. `model.tying.pattern`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=NAME, description=f"{NAME_RULE}; the sweep's directory is named after it.")
    base: str | dict[str, Any] = Field(
        description="The experiment that the variants change: the path of its spec, relative to this file, or the "
        "spec itself."
    )
    grid: dict[str, Values] = Field(
        default_factory=dict,
        description="A list of values for each key; every combination is a variant. Empty if left out.",
    )
    zip: dict[str, Values] = Field(
        default_factory=dict,
        description="Lists of equal length for several keys, whose values go together: the first with the first, and "
        "so on. Empty if left out.",
    )
    list: Mappings = Field(
        (),
        description="Variants written out individually, each with a `name` and the keys that it changes. Empty if "
        "left out.",
    )
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] | Seeds = Field(
        1,
        description="The number of seeds, counted from 0, or a list of seeds; every variant is run with each of them, "
        "so that results can be compared seed by seed.",
    )
    exclude: Mappings = Field(
        (),
        description="Combinations to leave out, each given by some keys and their values; a variant that has all of "
        "them is left out. Empty if left out.",
    )
    baseline: str | None = Field(
        None,
        description="The name of the variant that the others are compared with; if left out, none is the baseline.",
    )
    match: Literal["weights", "macs", "time"] | None = Field(
        None,
        description="Adjust `model.width` of each variant so that it has about as many weights or multiply-adds "
        "(macs) as the baseline, or takes as long per training step (time). If left out, widths are not changed.",
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if not isinstance(seeds, int) and len(set(seeds)) < len(seeds):
            raise PydanticCustomError("tiedexp", "a seed is listed twice")
        return seeds

    @field_validator("zip")
    @classmethod
    def _same_length(cls, zipped: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        lengths = {key: len(values) for key, values in zipped.items()}
        if len(set(lengths.values())) > 1:
            counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
            raise PydanticCustomError("tiedexp", "{text}", {"text": f"the lists must have the same length; {counts}"})
        return zipped

    @model_validator(mode="after")
    def _match_has_baseline(self) -> Self:
        if self.match is not None and self.baseline is None:
            raise PydanticCustomError("tiedexp", "`match` needs a `baseline`, the variant whose budget the others get")
        return self

    def list_seeds(self) -> tuple[int, ...]:
        """The seeds, in order."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
