"""A recipe as somebody would write it: without what is there anyway. Torch-free."""

from __future__ import annotations

from datetime import date
from typing import Any

from burnish.config.families import FAMILIES
from burnish.config.graph import Graph, graph_of
from burnish.config.kinds import KINDS
from burnish.config.narrow import is_tuple
from burnish.config.recipe import Recipe
from burnish.config.sections import Section
from burnish.config.yaml_file import yaml_of
from burnish.errors import UserError


def dump_short(recipe: Recipe) -> str:
    """YAML of what a recipe says besides the defaults; it loads to the same recipe."""
    plain = _without_what_is_filled_in(recipe)
    stages = {}
    for name, settings in plain.stages.items():
        short = name.rpartition(".")[2]
        stage = KINDS[settings.kind]
        said = _besides(settings, stage.left_out(stage.row_of(settings)))
        family, key = FAMILIES.get(short, ("", ""))
        if family == settings.kind and getattr(settings, key).name == short:
            row = {inner: value for inner, value in said.pop(key, {}).items() if inner != "name"}
            stages[name] = said | ({key: row} if row else {})
        else:
            stages[name] = ({} if settings.kind == short else {"kind": settings.kind}) | said
    short = _besides(plain.model_copy(update={"stages": {}}), Recipe.model_construct())
    return yaml_of({"name": recipe.name, **short, "stages": stages})


def _without_what_is_filled_in(recipe: Recipe) -> Recipe:
    """The recipe without those references that name what would be taken anyway."""
    wanted = graph_of(recipe)
    for name, settings in recipe.stages.items():
        for slot in KINDS[settings.kind].slots:
            if getattr(settings, slot.key, None) is None:
                continue
            shorter = settings.model_copy(update={slot.key: None})
            attempt = recipe.model_copy(update={"stages": {**recipe.stages, name: shorter}})
            try:
                same = _reads(graph_of(attempt)) == _reads(wanted)
            except UserError:
                same = False
            if same:
                recipe, settings = attempt, shorter
    return recipe


def _reads(graph: Graph) -> list[tuple[Any, Any]]:
    """What every stage reads, its sources of data among it: a source that one names counts for
    those behind it too."""
    return [(node.inputs, node.data) for node in graph]


def _besides(section: Section, default: Section | None) -> dict[str, Any]:
    """What of a section is not as in `default`; None: as its own defaults are, what says its kind
    included."""
    found: dict[str, Any] = {}
    known = type(section).model_fields
    own = [key for key in type(section).__annotations__ if key in known]
    for key in dict.fromkeys((*own, *known)):  # what a stage reads, before what every trainer has
        field, value = known[key], getattr(section, key)
        # what has no default is missing
        under = getattr(default, key, None) if default else field.get_default()
        says_kind = default is None and key == "name"
        if value == under and not says_kind:
            continue
        if isinstance(value, Section):
            found[key] = _besides(value, under if type(under) is type(value) else None)
        elif is_tuple(value):
            found[key] = [_besides(one, None) if isinstance(one, Section) else one for one in value]
        else:
            found[key] = str(value) if isinstance(value, date) else value
    return found
