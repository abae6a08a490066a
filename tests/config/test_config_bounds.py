"""Every number of a recipe has a finite range, and what is outside is told with it."""

from __future__ import annotations

import math
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, Field

import burnish
from burnish.config.bounds import Bounds
from burnish.config.describe import defaults
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe
from burnish.errors import UserError


def numbers(
    model: type[BaseModel], at: str = "", seen: tuple[type, ...] = ()
) -> Iterator[tuple[str, type, list[Any]]]:
    """(key, int or float, the notes on it) of every number in a model, in lists, mappings and every
    member of a union."""
    for name, field in model.model_fields.items():
        yield from _numbers(field.annotation, list(field.metadata), f"{at}{name}", (*seen, model))


def _numbers(
    annotation: Any, notes: list[Any], at: str, seen: tuple[type, ...]
) -> Iterator[tuple[str, type, list[Any]]]:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _numbers(arguments[0], [*notes, *arguments[1:]], at, seen)
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _numbers(argument, notes, at, seen)
    elif origin in (list, tuple, dict, set, frozenset):
        for argument in arguments:
            yield from _numbers(argument, [], f"{at}.*", seen)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        assert annotation not in seen, f"{at} holds itself"
        yield from numbers(annotation, f"{at}.", seen)
    elif annotation in (int, float):
        yield at, annotation, notes


def unbounded(model: type[BaseModel]) -> list[str]:
    """The keys of numbers without a finite range."""
    return [key for key, _, notes in numbers(model) if not any(_finite(note) for note in notes)]


def _finite(note: Any) -> bool:
    if not isinstance(note, Bounds):
        return False
    low, high = note.ge if note.gt is None else note.gt, note.le if note.lt is None else note.lt
    return (
        low is not None
        and high is not None
        and math.isfinite(low)
        and math.isfinite(high)
        and low < high
    )


SECTIONS = [Recipe, *(stage.section for stage in KINDS.values())]


def test_every_number_of_the_recipe_has_a_finite_range():
    assert [key for section in SECTIONS for key in unbounded(section)] == []
    assert sum(len(list(numbers(section))) for section in SECTIONS) > 200


def test_the_walk_sees_numbers_wherever_they_hide():
    class Inner(BaseModel):
        free: float | None = None

    class Other(BaseModel):
        half: Annotated[int, Bounds(ge=0)] = 0

    class Outer(BaseModel):
        plain: int = 0
        pydantics: int = Field(default=0, ge=0, le=3)
        pairs: list[tuple[float, str]] = []
        named: dict[str, Inner | Other] = {}
        fine: Annotated[float, Bounds(gt=0, lt=1)] | None = None
        endless: Annotated[float, Bounds(ge=0, le=math.inf)] = 0.0

    assert unbounded(Outer) == [
        "plain",
        "pydantics",
        "pairs.*.*",
        "named.*.free",
        "named.*.half",
        "endless",
    ]


@pytest.mark.parametrize("model", SECTIONS)
def test_every_default_lies_in_its_range(model: type[BaseModel]):
    section = defaults(model)
    for key, _, notes in numbers(model):
        value: Any = section
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(value, int | float):
            assert any(value in note for note in notes if isinstance(note, Bounds)), key


@pytest.mark.parametrize(
    ("bounds", "words", "inside", "outside"),
    [
        (
            Bounds(ge=0, le=1),
            "a number from 0 to 1",
            [0, 1, 0.5],
            [-1e-300, 1.0000001, math.nan, math.inf, -math.inf],
        ),
        (
            Bounds(gt=0, le=1e6),
            "a number above 0 and up to 1000000",
            [5e-324, 1e6],
            [0, -0.0, 1e308, math.nan],
        ),
        (
            Bounds(ge=0, lt=1),
            "a number from 0 and below 1",
            [0, 1 - 2**-53],
            [1, math.nan, 10**400],
        ),
        (Bounds(gt=-1, lt=1.5), "a number above -1 and below 1.5", [0], [-1, 1.5]),
        (
            Bounds(ge=1, le=2**63 - 1),
            "a number from 1 to 9223372036854775807",
            [1, 2**63 - 1],
            [0, 2**63],
        ),
        (
            Bounds(ge=0.01, le=9, also=0),
            "0, or a number from 0.01 to 9",
            [0, -0.0, 0.01],
            [0.009, -1, math.nan],
        ),
    ],
)
def test_ranges(bounds: Bounds, words: str, inside: list[float], outside: list[float]):
    assert bounds.words("a number") == words
    assert all(value in bounds for value in inside)
    assert not any(value in bounds for value in outside)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("sft.optimizer.learning_rate=.inf", "expected a number above 0 and up to 10, given .inf."),
        (
            "sft.optimizer.learning_rate=1e30",
            "expected a number above 0 and up to 10, given 1e+30.",
        ),
        ("taste.direct=.nan", "expected a number from 0 to 1000000, given .nan."),
        ("taste.direct=-1", "expected a number from 0 to 1000000, given -1."),
        (
            "taste={direct: 0, concise: 0, courteous: 0, relevant: 0, fresh: 0, finished: 0}",
            "set one of them above 0.",
        ),
        ("taste.direct=1e30", "expected a number from 0 to 1000000, given 1e+30."),
        (
            "seed=18446744073709551616",
            "a whole number from 0 to 9223372036854775807, given 18446744073709551616.",
        ),
        ("sft.optimizer.betas.1=1.0", "expected a number from 0 and below 1, given 1.0."),
        ("threads=100000", "expected a whole number from 1 to 512, given 100000."),
        ("ppo.algorithm.dual_clip=-1", "expected a number above 1 and up to 1000, given -1."),
        (
            "data.limit=1000000000000000000000",
            "a whole number from 1 to 1000000000000, given 1000000000000000000000.",
        ),
        ("sft.epochs=1e308", "expected a number above 0 and up to 10000, given 1e+308."),
        ("sft.batch_size=1000000", "expected a whole number from 1 to 65536, given 1000000."),
        (
            "sample.sampling.temperature=0.0001",
            "expected 0, or a number from 0.001 to 100, given 0.0001.",
        ),
        (
            "grpo.rewards=[{name: maths, weight: -.inf}]",
            "expected a number from -1000000 to 1000000, given -.inf.",
        ),
        ("data.limit=1e3", "expected a whole number, given 1000.0. Write it as 1000."),
    ],
)
def test_what_is_outside_is_told_with_its_key_and_the_range(override: str, told: str):
    with pytest.raises(UserError) as caught:
        burnish.load(None, "stages=[sft, sample, reward, ppo, grpo]", override)
    assert str(caught.value).startswith(f'override "{override}", field "')
    assert str(caught.value).endswith(told)


def test_what_is_outside_in_a_file_is_told_with_its_row(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text("seed: 1\nstages:\n  sft:\n    epochs: .inf\n")
    with pytest.raises(
        UserError,
        match=(
            r'r\.yaml, row 4, field "stages\.sft\.epochs": expected a number above 0 and up to'
            r" 10000"
        ),
    ):
        burnish.load(path)


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["ppo.prompts_per_step=65536", "ppo.responses_per_prompt=2"], "131072 completions"),
        (
            ["grpo.prompts_per_step=65536", "grpo.responses_per_prompt=1024"],
            "at most 65536 are taken",
        ),
        (["ppo.num_mini_batches=33"], "num_mini_batches is more than the completions of a step"),
        (["ppo.kl_target=1", "ppo.kl_horizon=31"], "kl_horizon is less than the completions"),
        (["grpo.kl_target=1", "grpo.kl_horizon=63"], "kl_horizon is less than the completions"),
    ],
)
def test_a_step_holds_what_a_machine_holds(overrides: list[str], told: str):
    with pytest.raises(UserError, match=told):
        burnish.load(None, "stages=[reward, ppo, grpo]", *overrides)


def test_the_schema_for_editors_has_the_ranges():
    properties = Recipe.model_json_schema()["$defs"]["Sampling"]["properties"]
    assert (properties["top_p"]["exclusiveMinimum"], properties["top_p"]["maximum"]) == (0.0, 1.0)
    assert properties["temperature"]["anyOf"][1] == {"const": 0.0}


def test_the_schema_for_editors_has_every_kind():
    schema = Recipe.model_json_schema()
    (stage,) = schema["properties"]["stages"]["patternProperties"].values()
    assert set(stage["discriminator"]["mapping"]) == set(KINDS)
    assert schema["$defs"]["Compare"]["properties"]["kind"]["const"] == "compare"
