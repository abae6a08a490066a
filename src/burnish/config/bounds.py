"""The range of every number in a recipe: one rule, and the types that state it. Torch-free.

Upper bounds are far beyond what anybody trains with. They are there so that no number that is let
in overflows, divides by zero, or asks the machine for memory, threads or steps without end.
pydantic's own `Field(ge=...)` lets infinities in and knows one bound at a time; here a number that
is refused is told the whole range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

OUT_OF_BOUNDS = "out_of_bounds"
"""The type of the error about a number that is outside; its context holds `range`, in words."""


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The numbers that a key takes: `ge` or `gt` below, `le` or `lt` above, and `also` one number
    apart from these.

    What is not finite is outside, whatever the bounds are.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    also: float | None = None

    def __contains__(self, number: float) -> bool:
        # every comparison with NaN is false, so that it is outside
        return number == self.also or all(
            (
                self.ge is None or number >= self.ge,
                self.gt is None or number > self.gt,
                self.le is None or number <= self.le,
                self.lt is None or number < self.lt,
            )
        )

    def words(self, noun: str) -> str:
        """The range as an error tells it: "a number above 0 and up to 10"."""
        words = {
            "ge": "from",
            "gt": "above",
            "le": "to" if self.gt is None else "and up to",
            "lt": "and below",
        }
        ends = [
            f"{word} {number(end)}"
            for name, word in words.items()
            if (end := getattr(self, name)) is not None
        ]
        apart = "" if self.also is None else f"{number(self.also)}, or "
        return f"{apart}{noun} {' '.join(ends)}"

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        schema = handler(source)
        whole = schema["type"] == "int"
        if schema["type"] == "float":
            schema["allow_inf_nan"] = (
                True  # so that the message here, with the range in it, is the one that is told
            )
        noun = "a whole number" if whole else "a number"

        def check(value: float) -> float:
            if value not in self:
                raise PydanticCustomError(
                    OUT_OF_BOUNDS, "expected {range}", {"range": self.words(noun)}
                )
            return value

        return core_schema.no_info_after_validator_function(check, schema)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        names = {
            "ge": "minimum",
            "gt": "exclusiveMinimum",
            "le": "maximum",
            "lt": "exclusiveMaximum",
        }
        limits = {
            names[name]: limit for name in names if (limit := getattr(self, name)) is not None
        }
        kind = handler(schema)
        return (
            kind | limits if self.also is None else {"anyOf": [kind | limits, {"const": self.also}]}
        )


def number(value: float) -> str:
    """A number in words: whole ones without an exponent, others as short as they can be."""
    return (
        f"{value:.0f}"
        if value == int(value) and abs(value) < 1e7
        else str(value)
        if isinstance(value, int)
        else f"{value:g}"
    )


MOST_SEED = 2**63 - 1
Seed = Annotated[int, Bounds(ge=0, le=MOST_SEED)]
"""What every generator of random numbers takes; `time.time_ns()` is one."""
Count = Annotated[int, Bounds(ge=1, le=1_000_000)]
"""Steps, prompts, rows between two checkpoints."""
CountOrNone = Annotated[int, Bounds(ge=0, le=1_000_000)]
"""The same where 0 means not at all."""
Rows = Annotated[int, Bounds(ge=1, le=1_000_000_000_000)]
"""Rows of a source."""
BatchSize = Annotated[int, Bounds(ge=1, le=65_536)]
"""What a step holds."""
Repeats = Annotated[int, Bounds(ge=1, le=1_000)]
"""How often something is gone over again."""
Tokens = Annotated[int, Bounds(ge=1, le=2**24)]
"""A length."""
TokensOrNone = Annotated[int, Bounds(ge=0, le=2**24)]
"""A length that may be 0."""
Responses = Annotated[int, Bounds(ge=1, le=1_024)]
"""Completions of one prompt."""
Ranked = Annotated[int, Bounds(ge=2, le=9)]
"""Completions of one prompt that are ranked against each other."""
Annotators = Annotated[int, Bounds(ge=1, le=1_000)]
"""Simulated people."""
Threads = Annotated[int, Bounds(ge=1, le=512)]
"""Threads or processes of this machine."""
Probability = Annotated[float, Bounds(ge=0.0, le=1.0)]
"""A probability, a share, a discount."""
PositiveProbability = Annotated[float, Bounds(gt=0.0, le=1.0)]
"""A probability that is not 0."""
Decay = Annotated[float, Bounds(ge=0.0, lt=1.0)]
"""What a moving average keeps: at 1 it would never take anything in."""
PositiveFinite = Annotated[float, Bounds(gt=0.0, le=1e6)]
"""A scale, a cap, a bound on a norm."""
NonNegativeFinite = Annotated[float, Bounds(ge=0.0, le=1e6)]
"""The same where 0 means not at all."""
Finite = Annotated[float, Bounds(ge=-1e6, le=1e6)]
"""A weight, or the value of a reward: below 0 as well."""
Coefficient = Annotated[float, Bounds(ge=0.0, le=1e4)]
"""The weight of a term of a loss."""
PositiveCoefficient = Annotated[float, Bounds(gt=0.0, le=1e4)]
"""The weight of a term that cannot be left out."""
ClipRange = Annotated[float, Bounds(gt=0.0, le=1_000.0)]
"""How far a ratio of probabilities may be from 1."""
DualClip = Annotated[float, Bounds(gt=1.0, le=1_000.0)]
"""A bound on a ratio, which must lie above 1."""
Horizon = Annotated[float, Bounds(ge=1.0, le=1e12)]
"""Completions over which a coefficient adapts: it is divided by."""
LearningRate = Annotated[float, Bounds(gt=0.0, le=10.0)]
"""A step's size."""
Epochs = Annotated[float, Bounds(gt=0.0, le=10_000.0)]
"""Passes over data, which need not be whole."""
MachineFigure = Annotated[float, Bounds(ge=1.0, le=1e9)]
"""What a machine has or does: GB, TFLOP/s, GB/s."""
Seconds = Annotated[float, Bounds(ge=0.01, le=86_400.0)]
"""A time that is waited: timers take a shorter one for none at all."""
Temperature = Annotated[float, Bounds(ge=0.001, le=100.0, also=0.0)]
"""Divides logits; 0 is greedy."""
