"""Recipes from YAML files and overrides that address stages by name: kinds filled in, rounds
unrolled. Torch-free."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from pydantic import ValidationError

from burnish.config.describe import defaults, describe_fields, discriminators, show
from burnish.config.families import FAMILIES
from burnish.config.graph import PREVIOUS, graph_of
from burnish.config.hints import ALIASES, nearest, suggest
from burnish.config.kinds import BASE, KINDS
from burnish.config.line import LineRecipe, in_todays_words
from burnish.config.load import Override, Sources, explain, merge, put
from burnish.config.narrow import is_list, is_section
from burnish.config.places import Place, Places
from burnish.config.recipe import NAME_OF_A_STAGE, Recipe
from burnish.config.shipped import located
from burnish.config.short import dump_short
from burnish.config.to_graph import to_graph
from burnish.config.yaml_file import YamlFile, show_key
from burnish.errors import UserError, listed

MOST_ROUNDS = 100
MOST_STAGES = 1000
"""With all rounds written out."""
RESERVED = (BASE, PREVIOUS, *Recipe.model_fields)
"""What references and overrides mean otherwise."""
OLDER = frozenset(
    ("sft", "collect", "reward", "preference", "ppo", "online", "evaluate", "rewards")
)
"""Keys that only recipes of the older form have at their top."""


def load_recipe(
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    also: str | None = None,
    keep: Collection[str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Recipe:
    """The recipe in a YAML file, or the shipped one of that name, with overrides on top that
    address stages by name: `ppo.steps=20`, `rounds.2.reward.epochs=2`.

    `also` is a kind of stage that is put at the end where no stage has its name; `keep` names the
    stages that are taken; `values` stand in the file's place where there is none.

    Raises UserError naming the file and line (or the override), the stage and key, what is wrong
    and what would be right.
    """
    file = YamlFile.read(located(path)) if path else YamlFile(None, dict(values or {}), None)
    changes = [Override.read(text) for text in overrides]
    if _is_older(file.values):
        raise _older(file)
    places = Places(file, changes)
    values = {**file.values, "stages": _mapping(file.values.get("stages"), ("stages",), places)}
    if keep is not None:
        values["stages"] = {
            name: settings for name, settings in values["stages"].items() if name in keep
        }
    if also is not None:
        values["stages"].setdefault(also, {})
    values, later = _with_overrides(values, changes, places, also)
    origins: dict[str, Place] = {}
    values["stages"] = dict(_unrolled(values["stages"], "", ("stages",), origins, places))
    places.origins = origins
    for change in later:
        name, rest = _split(change, values["stages"])
        values["stages"][name] = _put(values["stages"][name], rest, change, name)
        places.late = [*places.late, change._replace(key=("stages", name, *rest))]
    stages = {
        name: _with_kind(name, settings, places) for name, settings in values["stages"].items()
    }
    tags = discriminators(Recipe)
    values = merge(
        {key: value for key, value in defaults(Recipe).items() if key != "stages"},
        {**values, "stages": stages},
        tags,
    )
    try:
        recipe = Recipe.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise explain(error, Recipe, values, places, ALIASES, _keys_of(values)) from None
    graph_of(recipe, places.where)
    return recipe


def _with_overrides(
    values: dict[str, Any], changes: Sequence[Override], places: Places, also: str | None
) -> tuple[dict[str, Any], list[Override]]:
    """(values with the overrides of what the file has, those that name one of several rounds and
    come once there are rounds)."""
    # what there is, before what is inside
    changes = sorted(changes, key=lambda change: change.key != ("stages",))
    later, placed = list[Override](), list[Override]()
    for change in changes:
        if _stands_in_a_round(change.key, values["stages"]):
            later.append(change)
            continue
        key = _address(change, values["stages"])
        placed.append(change._replace(key=key))
        places.early = placed
        values = _put(values, key, change)
        values["stages"] = _mapping(values["stages"], ("stages",), places)
        if also is not None:
            values["stages"].setdefault(also, {})
    return values, later


def _put(tree: Any, key: Place, change: Override, stage: str | None = None) -> Any:
    """`tree` with an override at `key`; a `stage` whose loss becomes another starts it afresh.

    A list of stages takes those, with the settings they have. `stage` is the name of the stage
    whose settings `tree` is; None: it is the recipe, or some rounds.
    """
    inner = key[1:] if key[:1] == ("stages",) else ()
    if stage is None and key == ("stages",) and _is_names(change.value) and is_section(tree):
        stages = tree.get("stages")
        before: Mapping[str, Any] = stages if is_section(stages) else {}
        return {**tree, "stages": {name: before.get(name, {}) for name in change.value}}
    if stage is None and inner and is_section(tree) and is_section(stages := tree.get("stages")):
        name, rest = inner[0], inner[1:]
        below = None if _is_repeat(stages.get(name)) else name
        return {**tree, "stages": {**stages, name: _put(stages.get(name), rest, change, below)}}
    kind = "" if stage is None else _kind_of(stage, tree)
    section = KINDS[kind].section if kind in KINDS else Recipe
    tags = frozenset[str]() if stage is None else discriminators(section)
    tree = _judged(tree, key)
    changed = put(
        _with_list(tree, key, defaults(section)), key, change.value, tags, override=change.shown
    )
    if stage is None or not is_section(changed) or _loss(stage, changed) == _loss(stage, tree):
        return changed
    given = put({}, key, change.value, frozenset(), override=change.shown)
    return {name: value for name, value in changed.items() if name != "loss"} | (
        {"loss": given["loss"]} if given.get("loss") else {}
    )


def _judged(tree: Any, key: Place) -> Any:
    """The settings of a stage that compares, where an override names who does: without who did so
    far."""
    by: Any = tree.get("by") if is_section(tree) else None
    if by is None or key[:1] != ("by",):
        return tree
    if len(key) == 1:
        return {**tree, "by": {}}
    judges: Any = {"panel": {}} if by == "panel" else by
    if not is_section(judges):
        return tree
    if key[1:] == ("share",):
        return {**tree, "by": judges}
    kept = {name: value for name, value in judges.items() if name in (key[1], "share")}
    return {**tree, "by": kept}


def _with_list(tree: Any, key: Place, below: Any) -> Any:
    """`tree` with the default list of which `key` names an item, where it says no list itself."""
    length = next((position for position, part in enumerate(key) if part.isdecimal()), 0)
    said, default = tree, below
    for part in key[:length]:
        said, default = (side.get(part) if is_section(side) else None for side in (said, default))
    if length and said is None and is_list(default):
        return put(tree, key[:length], default, frozenset(), override="")
    return tree


def _loss(stage: str, settings: Any) -> Any:
    """The name of a stage's loss, as far as it says one."""
    settings = settings if is_section(settings) else {}
    loss = settings.get("loss")
    said = loss.get("name") if is_section(loss) else None
    return settings.get("kind", stage.rpartition(".")[2]) if said is None else said


def _is_older(values: Mapping[str, Any]) -> bool:
    stages = values.get("stages")
    return not is_section(stages) and bool(
        OLDER & set(values) or (is_list(stages) and "collect" in stages)
    )


def _older(file: YamlFile) -> UserError:
    """What to say of a recipe of the older form: its new one."""
    sections = ", ".join(sorted(OLDER & set(file.values))) or "collect"
    problem = (
        f"this recipe is of an older form ({sections} stand outside of stages, or stages is a list"
        " with collect)."
    )
    if file.shown is None:
        return UserError(problem, hint="docs/recipes.md says how a recipe is written.")
    return UserError(problem, file=file.shown, hint="The same in today's form:").followed_by(
        dump_short(to_graph(_line(file)))
    )


def _line(file: YamlFile) -> LineRecipe:
    """A recipe of the older form, whose keys may have their older names."""
    values = merge(defaults(LineRecipe), in_todays_words(file.values), discriminators(LineRecipe))
    try:
        return LineRecipe.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise explain(error, LineRecipe, values, Sources(file, []), ALIASES) from None


def _mapping(value: Any, place: Place, places: Places) -> dict[str, Any]:
    """Stages by name, those of rounds too; a list of names stands for stages that leave everything
    out."""
    if _is_names(value):
        return {name: {} for name in value}
    if value is not None and not is_section(value):
        file, row = places.where(place)
        raise UserError(
            "stages are a mapping of names to settings, or a list of different names.",
            file=file,
            row=row,
            field=".".join(place),
            hint="For instance `stages: {sft: {demonstrations: mine.jsonl}, evaluate: {}}`.",
        )
    found: dict[str, Any] = {}
    for name, settings in (value or {}).items():
        if _is_repeat(settings) and "stages" in settings:
            settings = {
                **settings,
                "stages": _mapping(settings["stages"], (*place, name, "stages"), places),
            }
        found[name] = settings
    return found


def _is_names(value: Any) -> bool:
    """Whether this is a list of different names."""
    return (
        is_list(value)
        and all(isinstance(one, str) for one in value)
        and len({*value}) == len(value)
    )


def _stands_in_a_round(key: Place, stages: Any) -> bool:
    """Whether an override names one of several rounds, which is there only once they are
    unrolled."""
    inner = key[1:] if key[0] == "stages" else key
    if len(inner) < 2 or not is_section(stages) or not _is_repeat(stages.get(inner[0])):
        return False
    rest = inner[2:] if inner[1] == "stages" else inner[1:]
    return bool(rest) and (
        rest[0].isdecimal() or _stands_in_a_round(rest, stages[inner[0]].get("stages"))
    )


def _is_repeat(settings: Any) -> TypeGuard[Mapping[str, Any]]:
    return is_section(settings) and ("repeat" in settings or "stages" in settings)


def _address(change: Override, stages: Mapping[str, Any]) -> Place:
    """The place that an override means: a key of the recipe, or of the stage whose name it begins
    with."""
    key = change.key
    if key[0] in Recipe.model_fields and key[0] != "stages":
        return key
    inner = key[1:] if key[0] == "stages" else key
    if key[0] == "stages" or key[0] in stages:
        return ("stages", *_inside(inner, stages))
    known = [*stages, *_keys({name: _kind_of(name, settings) for name, settings in stages.items()})]
    raise UserError(
        f"there is no stage and no key {show_key(key[0])}.", file=f"override {change.shown}",
        hint=f"{suggest(key[:1], known, ALIASES)} The stages are {listed(stages)}.",
    )  # fmt: skip


def _inside(key: Place, stages: Any) -> Place:
    """A key below `stages`, with the `stages` of rounds in it."""
    settings = stages.get(key[0]) if key and is_section(stages) else None
    if len(key) < 2 or not _is_repeat(settings) or key[1] == "repeat":
        return key
    rest = key[2:] if key[1] == "stages" else key[1:]
    return (key[0], "stages", *_inside(rest, settings.get("stages")))


def _split(change: Override, stages: Mapping[str, Any]) -> tuple[str, Place]:
    """(stage, key within it) of an override that names a round."""
    key = change.key[1:] if change.key[0] == "stages" else change.key
    for length in range(len(key) - 1, 0, -1):
        name = ".".join(key[:length])
        if name in stages:
            return name, key[length:]
    raise UserError(
        f"the override {change.shown} names no stage of any round.",
        hint=f"The stages are {listed(stages)}.",
    )


def _unrolled(
    stages: Mapping[str, Any], prefix: str, place: Place, origins: dict[str, Place], places: Places
) -> Iterator[tuple[str, Any]]:
    """Every stage by its full name, rounds written out; `origins` gets the place of each in the
    file."""
    for name, settings in stages.items():
        here = (*place, str(name))
        if not _is_repeat(settings):
            origins[f"{prefix}{name}"] = here
            if len(origins) > MOST_STAGES:
                file, row = places.where(("stages",))
                raise UserError(
                    f"with their rounds these are more than {MOST_STAGES} stages.",
                    file=file,
                    row=row,
                )
            yield f"{prefix}{name}", settings
            continue
        for number in range(1, _rounds(settings, here, places) + 1):
            yield from _unrolled(
                settings["stages"], f"{prefix}{name}.{number}.", (*here, "stages"), origins, places
            )


def _rounds(settings: Mapping[str, Any], place: Place, places: Places) -> int:
    unknown = [key for key in settings if key not in ("repeat", "stages")]
    repeat = settings.get("repeat")
    if (
        unknown
        or not settings.get("stages")
        or isinstance(repeat, bool)
        or not isinstance(repeat, int)
        or not 1 <= repeat <= MOST_ROUNDS
    ):
        file, row = places.where((*place, "repeat"))
        raise UserError(
            f"rounds are {{repeat: N, stages: {{...}}}}, with N from 1 to {MOST_ROUNDS}.",
            file=file,
            row=row,
            field=".".join(place),
        )
    return repeat


def _kind_of(name: str, settings: Any) -> str:
    """The kind that a stage says, or the row of one; else its name."""
    said = settings.get("kind") if is_section(settings) else None
    kind = name.rpartition(".")[2] if said is None else str(said)
    return FAMILIES[kind][0] if kind in FAMILIES else kind


def _with_kind(name: str, settings: Any, places: Places) -> dict[str, Any]:
    """A stage's settings over its section's defaults, with its kind, and the row that the kind's
    name says."""
    place = places.there(("stages", name))
    file, row = places.where(("stages", name))
    if settings is not None and not is_section(settings):
        problem = "a stage is a section (keys and values), or empty."
        raise UserError(problem, file=file, row=row, field=".".join(place))
    if name in RESERVED or not re.fullmatch(NAME_OF_A_STAGE, name):
        problem = f"no stage can be called {show_key(name)}."
        hint = f"Take letters, digits, _, + and -, a letter first; not {', '.join(RESERVED)}."
        raise UserError(problem, file=file, row=row, field=".".join(place), hint=hint)
    own: dict[str, Any] = dict(settings or {})
    kind = own.get("kind", name.rpartition(".")[2])
    known = (*KINDS, *FAMILIES)
    if not isinstance(kind, str) or (kind not in FAMILIES and kind not in KINDS):
        said = "kind" in own
        near = nearest(kind, known) if isinstance(kind, str) else None
        hint = f'Did you mean "{near}"? ' if near else ""
        problem = (
            f"there is no kind of stage {show(kind)}."
            if said
            else f"{show_key(name)} is no kind of stage, so it needs a kind."
        )
        file, row = places.where((*place, "kind")) if said else (file, row)
        raise UserError(
            problem, file=file, row=row, field=".".join(place) + (".kind" if said else ""),
            hint=f"{hint}The kinds are {', '.join(known)}.",
        )  # fmt: skip
    if kind in FAMILIES:
        chosen_row, (kind, key) = kind, FAMILIES[kind]
        chosen = own.get(key)
        if chosen is None or is_section(chosen):
            own[key] = {"name": chosen_row, **(chosen or {})}
    try:
        stage = KINDS[kind]
    except UserError as error:
        where = places.where((*place, "kind"))
        problem = f"the kind {show(kind)} cannot be had: {error.problem}"
        raise UserError(
            problem,
            file=where.file,
            row=where.row,
            field=".".join((*place, "kind")),
            hint=error.hint,
        ) from error
    below = defaults(stage.section)
    family = stage.family
    chosen = own.get(family) if family is not None else None
    if family is not None and is_section(chosen) and isinstance(chosen.get("name"), str):
        below = {**stage.left_out(chosen["name"]).model_dump(mode="json"), family: below[family]}
    return merge(below, {**own, "kind": kind}, discriminators(stage.section))


def _keys_of(values: Mapping[str, Any]) -> Any:
    """For the place of an unknown key: that place as an override names it, and the keys there are,
    its stage's first."""
    kinds = {name: settings["kind"] for name, settings in values["stages"].items()}

    def keys(place: Place) -> tuple[Place, Sequence[str]]:
        if len(place) < 3 or place[0] != "stages" or place[1] not in kinds:
            return place, _keys(kinds)
        own = {place[1]: kinds[place[1]]}
        return place[1:], [*_keys_of_stages(own), *_keys({})]

    return keys


def _keys(kinds: Mapping[str, str]) -> list[str]:
    """The keys of a recipe with stages of these kinds, as overrides name them."""
    whole = [
        option.key for option in describe_fields(Recipe) if not option.key.startswith("stages.")
    ]
    return [*whole, *_keys_of_stages(kinds)]


def _keys_of_stages(kinds: Mapping[str, str]) -> list[str]:
    known = {
        name: describe_fields(KINDS[kind].section) for name, kind in kinds.items() if kind in KINDS
    }
    # who compares may stand without the list around it
    return [
        f"{name}.{option.key.replace('by.*.', 'by.')}"
        for name, options in known.items()
        for option in options
    ]
