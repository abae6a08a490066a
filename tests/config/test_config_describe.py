"""The list of options: every key, its type in words, and the default that holds at that place."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from burnish.algorithms.preference_losses import LOSSES
from burnish.config.describe import describe_fields, discriminators
from burnish.config.load import load_config
from burnish.config.line import LineRecipe as Recipe


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Cat(Part):
    kind: Literal["cat"] = "cat"
    lives: Annotated[int, Field(ge=1, le=9)] = 9


class Dog(Part):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = ["sit"]


class Toy(Part):
    price: float
    """In euros."""


class House(Part):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")] = Cat(lives=7)
    """Who lives here."""
    toys: list[Toy] = []
    rooms: dict[str, Toy] = {}
    guest: Annotated[Cat | Dog, Field(discriminator="kind")] | None = None
    size: tuple[float, Annotated[float, Field(gt=0)]] = (1.0, 2.0)
    door: bool = True
    street: str | None = None


def test_options_in_words() -> None:
    rows = [tuple(option) for option in describe_fields(House)]
    assert rows == [
        ("pet", "section", "", "Who lives here."),
        ("pet.kind", "cat", '"cat"', ""),
        ("pet.lives", "whole number ≥ 1 and ≤ 9", "7", ""),
        ("pet.kind", "dog", '"dog"', ""),
        ("pet.tricks", "list of text", '["sit"]', ""),
        ("toys", "list of section", "[]", ""),
        ("toys.*.price", "number", "required", "In euros."),
        ("rooms", "mapping of section", "", ""),
        ("rooms.*.price", "number", "required", "In euros."),
        ("guest", "section or null", "null", ""),
        ("guest.kind", "cat", '"cat"', ""),
        ("guest.lives", "whole number ≥ 1 and ≤ 9", "9", ""),
        ("guest.kind", "dog", '"dog"', ""),
        ("guest.tricks", "list of text", '["sit"]', ""),
        ("size", "[number, number > 0]", "[1.0, 2.0]", ""),
        ("door", "true or false", "true", ""),
        ("street", "text or null", "null", ""),
    ]


def test_discriminators_by_dotted_key() -> None:
    assert discriminators(House) == {"pet.kind", "guest.kind"}
    assert discriminators(Recipe) == {"preference.loss.name", "rewards.*.name"}


def test_a_section_of_several_kinds_is_described_kind_by_kind() -> None:
    found = [o.default for o in describe_fields(Recipe) if o.key == "preference.loss.name"]
    assert found == [f'"{name}"' for name in LOSSES]
    betas = [o.default for o in describe_fields(Recipe) if o.key == "preference.loss.beta"]
    assert betas == ["0.1", "0.1", "0.1", "5.0", "0.1", "2.0", "0.1", "0.1", "0.1"]  # IPO has a τ


def test_defaults_are_those_of_the_place() -> None:
    options = {option.key: option for option in describe_fields(Recipe)}
    recipe = Recipe()
    assert options["sft.optimiser.learning_rate"].default == repr(recipe.sft.optimiser.learning_rate)
    assert options["ppo.optimiser.schedule"].default == f'"{recipe.ppo.optimiser.schedule}"'
    assert options["ppo.kl.target"] == (
        "ppo.kl.target",
        "number > 0 and ≤ 10000 or null",
        "null",
        options["ppo.kl.target"].description,
    )


def test_every_option_of_the_recipe_is_explained_and_can_be_set_to_its_default() -> None:
    options = describe_fields(Recipe)
    assert [option.key for option in options if not option.description] == []
    # Lists are set whole, and so is a section that is left out by default.
    absent = tuple(f"{o.key}." for o in options if o.default == "null")
    # What a section of several kinds has depends on its kind: `test_a_section_of_several_kinds...` looks at those.
    several = tuple(f"{key.rpartition('.')[0]}." for key in discriminators(Recipe))
    leaves = [o for o in options if o.default and ".*" not in o.key and not o.key.startswith((*absent, *several))]
    assert load_config(Recipe, None, [f"{option.key}={option.default}" for option in leaves]) == Recipe()
