"""The file of a sweep, as a pydantic model: every key a user may write, its type and its meaning."""

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
    """One sweep: the variants of an experiment, and the seeds that each is run with.

    The variants are every combination of `grid` with a row of `zip`, and beside them those of `list`. Keys of the
    experiment are dotted, as on the command line: `model.tying.pattern`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=NAME, description=f"{NAME_RULE}; names the sweep's directory.")
    base: str | dict[str, Any] = Field(
        description="The experiment that all variants change: the path of its spec, seen from this file, or the spec."
    )
    grid: dict[str, Values] = Field(
        default_factory=dict, description="A list of values for each key; every combination is a variant."
    )
    zip: dict[str, Values] = Field(
        default_factory=dict, description="Lists of the same length, whose values go together: first with first."
    )
    list: Mappings = Field((), description="Variants written out: each a `name` and the keys that it changes.")
    seeds: Annotated[int, Field(ge=1, le=MAX_SEEDS)] | Seeds = Field(
        1, description="How many, from 0, or a list; each is run in every variant, so that they can be paired."
    )
    exclude: Mappings = Field((), description="Combinations to leave out: each the keys and values that it has.")
    baseline: str | None = Field(None, description="The variant that the others are compared with, by its name.")
    match: Literal["weights", "macs", "time"] | None = Field(
        None, description="Adjust `model.width` of each variant to the baseline's weights, multiply-adds or step time."
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_differ(cls, seeds: int | tuple[int, ...]) -> int | tuple[int, ...]:
        if not isinstance(seeds, int) and len(set(seeds)) < len(seeds):
            raise PydanticCustomError("tiedexp", "a seed is given twice")
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
            raise PydanticCustomError("tiedexp", "`match` needs a `baseline`: the variant whose budget the others get")
        return self

    def list_seeds(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds
