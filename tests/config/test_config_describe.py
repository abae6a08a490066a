"""The list of options: every key, its type in words, and the default that holds at that place."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from recipe_inputs import NEEDED

import burnish
from burnish.algorithms.preference_losses import LOSSES
from burnish.config.describe import describe_fields, describe_values, discriminators
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe
from burnish.stages.kinds.online import Online
from burnish.stages.kinds.preference import Preference
from burnish.stages.kinds.sft import Sft


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
    rows = [option[:4] for option in describe_fields(House)]
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


def test_options_of_one_kind_among_several_say_which() -> None:
    kinds = {o.key: o.variants for o in describe_fields(House) if o.key.endswith("tricks")}
    assert kinds == {"pet.tricks": (("pet", "dog"),), "guest.tricks": (("guest", "dog"),)}
    assert {o.section for o in describe_fields(House) if o.key == "toys.*.price"} == {Toy}


def test_values_take_the_place_of_defaults() -> None:
    house = House(street="Elm", pet=Dog(tricks=["roll"]))
    options = [o for o in describe_values(house) if o.variants in ((), (("pet", "dog"),))]
    defaults = {o.key: o.default for o in options}
    assert (defaults["street"], defaults["pet.tricks"]) == ('"Elm"', '["roll"]')


def test_discriminators_by_dotted_key() -> None:
    assert discriminators(House) == {"pet.kind", "guest.kind"}
    assert discriminators(Preference) == {"loss.name"}


def test_a_section_of_several_kinds_is_described_kind_by_kind() -> None:
    found = [o.default for o in describe_fields(Preference) if o.key == "loss.name"]
    assert found == [f'"{name}"' for name in LOSSES]
    betas = [o.default for o in describe_fields(Preference) if o.key == "loss.beta"]
    assert betas == ["0.1", "0.1", "0.1", "5.0", "0.1", "2.0", "0.1", "0.1", "0.1"]  # IPO has a τ


def test_defaults_are_those_of_the_place() -> None:
    options = {option.key: option for option in describe_fields(Online)}
    assert {o.key: o for o in describe_fields(Sft)}["optimizer.learning_rate"].default == repr(
        Sft().optimizer.learning_rate
    )
    assert options["optimizer.schedule"].default == f'"{Online().optimizer.schedule}"'
    assert options["kl_target"][:4] == (
        "kl_target", "number > 0 and ≤ 10000 or null", "null", options["kl_target"].description,
    )  # fmt: skip


def test_every_option_of_the_recipe_is_explained() -> None:
    sections = (Recipe, *(stage.section for stage in KINDS.values()))
    options = [option for section in sections for option in describe_fields(section)]
    assert [option.key for option in options if not option.description] == []
    assert {"stages", "kind", "by.*.panel.size", "rewards.*.name"} <= {
        option.key for option in options
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_option_of_a_kind_of_stage_can_be_set_to_its_default(kind: str) -> None:
    section, needed = KINDS[kind].section, NEEDED.get(kind, {})
    options = describe_fields(section)
    # Lists are set whole, and so is a section that is left out by default.
    absent = tuple(f"{o.key}." for o in options if o.default == "null")
    # What a section of several kinds has depends on its kind: `test_a_section_of_several_kinds...`
    # looks at those.
    several = tuple(f"{key.rpartition('.')[0]}." for key in discriminators(section))
    options = [o for o in options if o.default != "required" and not o.default.endswith("...")]
    leaves = [
        o
        for o in options
        if o.default and ".*" not in o.key and not o.key.startswith((*absent, *several))
    ]
    before = f"stages={json.dumps({'sample': {}, 'reward': {}, kind: needed})}"
    loaded = burnish.load(
        None, before, *(f"{kind}.{option.key}={option.default}" for option in leaves)
    )
    assert loaded.stages[kind] == section(**needed)
    assert loaded == burnish.load(None, before)
