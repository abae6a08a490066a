"""Where a keyword of a call belongs in a recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from burnish.config.describe import describe_fields
from burnish.config.families import FAMILIES
from burnish.config.graph import SOURCES
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe
from burnish.config.schema import Data, Model
from burnish.config.sections import Section


def recipe_of(stage: str, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe of one stage, as YAML would hold it, from the keywords of a call.

    A keyword is a key of the stage's section, or the last part of one where only one ends so:
    `learning_rate` is `optimizer.learning_rate`, `temperature` is `sampling.temperature`. What the
    stage has not is looked for in the same way in the sections `model` and `data`, and at the
    recipe's top: `max_length`, `heldout`, `seed`. What is nowhere is left in the stage, where
    loading the recipe refuses it by name and says what would be right.
    """
    kind = FAMILIES[stage][0] if stage in FAMILIES else stage
    sections = {f"stages.{stage}": KINDS[kind].section, "model": Model, "data": Data}
    recipe: dict[str, Any] = {"stages": {stage: {}}}
    top = Recipe.model_fields.keys() - {"stages"}
    for name, value in keywords.items():
        places = (
            f"{section}.{key}"
            for section, model in sections.items()
            if (key := key_of(model, name))
        )
        place = next(places, name if name in top else f"stages.{stage}.{name}")
        _put(recipe, place.split("."), value)
    return recipe


def key_of(section: type[Section], name: str) -> str | None:
    """The dotted key of a section that a name means; None where it has none, or several that end
    so."""
    if name in section.model_fields:
        return name
    keys = {option.key for option in describe_fields(section) if "*" not in option.key}
    keys = {
        key for key in keys if key.partition(".")[0] not in SOURCES
    }  # what of a source is said is said in it
    ending = [key for key in keys if key.rpartition(".")[2] == name]
    return ending[0] if len(ending) == 1 and name not in _OF_EVERYTHING else None


def overrides_of(changes: Mapping[str, Any], *, at: str = "") -> Iterable[tuple[str, Any]]:
    """(dotted key, value) of every change, sections taken apart."""
    for name, value in changes.items():
        key = f"{at}{name}"
        if isinstance(value, Mapping) and value and all(isinstance(inner, str) for inner in value):
            yield from overrides_of(value, at=f"{key}.")
        else:
            yield key, value


_OF_EVERYTHING = ("name", "kind", "source", "split", "every")
"""Last parts of keys that say nothing by themselves."""


def _put(tree: dict[str, Any], place: list[str], value: Any) -> None:
    *outer, last = place
    for part in outer:
        inner = tree.get(part)
        tree[part] = dict(inner) if isinstance(inner, Mapping) else {}
        tree = tree[part]
    before = tree.get(last)
    if isinstance(before, Mapping) and isinstance(value, Mapping):
        value = {**before, **value}
    tree[last] = value
