"""Recipes from YAML files and overrides that address stages by name: kinds filled in, rounds unrolled. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from burnish.config.describe import defaults, describe_fields, discriminators
from burnish.config.graph import KINDS, graph_of
from burnish.config.hints import ALIASES, nearest
from burnish.config.line import LineRecipe
from burnish.config.load import Override, Sources, explain, load_config, merge, put
from burnish.config.online import AlgorithmName
from burnish.config.preference import LOSS_NAMES
from burnish.config.recipe import Recipe
from burnish.config.sections import Section
from burnish.config.to_graph import to_graph
from burnish.config.yaml_file import YamlFile, show_key, yaml_of
from burnish.errors import UserError

MOST_ROUNDS = 100
OLDER = frozenset(("sft", "collect", "reward", "preference", "ppo", "online", "evaluate", "rewards"))
"""Keys that only recipes of the older form have at their top."""
_LOSS = {name: ("preference", "loss") for name in LOSS_NAMES}
_ALGORITHM = {name: ("online", "algorithm") for name in get_args(AlgorithmName) if name != "ppo"}
FAMILIES: Mapping[str, tuple[str, str]] = _LOSS | _ALGORITHM
"""Names that say a kind and a row of it at once: (kind, the key of the section whose `name` is the row)."""


@dataclass(frozen=True)
class _File:
    """A YAML file, asked by the places of an unrolled recipe."""

    yaml: YamlFile
    origins: Mapping[str, tuple[str, ...]]

    @property
    def shown(self) -> str | None:
        return self.yaml.shown

    def line(self, place: Sequence[str]) -> int | None:
        return self.yaml.line(self._there(place))

    def says(self, place: Sequence[str]) -> bool:
        return self.yaml.says(self._there(place))

    def scalar(self, place: Sequence[str]) -> str | None:
        return self.yaml.scalar(self._there(place))

    def _there(self, place: Sequence[str]) -> tuple[str, ...]:
        """Where the file says what the recipe has at `place`."""
        if len(place) > 1 and place[0] == "stages" and place[1] in self.origins:
            return (*self.origins[place[1]], *place[2:])
        return tuple(place)


def load_recipe(
    path: Path | None, overrides: Sequence[str] = (), *, also: str | None = None, keep: Collection[str] | None = None
) -> Recipe:
    """The recipe in a YAML file, with overrides on top that address stages by name: `ppo.steps=20`, `rounds.2.reward.epochs=2`.

    `also` is a kind of stage that is put at the end where no stage has its name; `keep` names the stages that are taken.

    Raises UserError naming the file and line (or the override), the stage and key, what is wrong and what would be right.
    """
    file = YamlFile.read(path) if path else YamlFile(None, {}, None)
    changes = [Override.read(text) for text in overrides]
    if OLDER & set(file.values) or "collect" in _listed(file.values.get("stages")):
        raise _older(path, file)
    values = {**file.values, "stages": _mapping(file.values.get("stages"), ("stages",), file)}
    if keep is not None:
        values["stages"] = {name: settings for name, settings in values["stages"].items() if name in keep}
    if also is not None:
        values["stages"].setdefault(also, {})
    later = [change for change in changes if _stands_in_a_round(change.key, values["stages"])]
    early = [change for change in changes if change not in later]
    for change in sorted(early, key=lambda change: change.key != ("stages",)):  # what there is, before what is inside
        key = _address(change, values["stages"])
        values = put(values, key, change.value, frozenset(), override=change.shown)
        values["stages"] = _mapping(values["stages"], ("stages",), file)
    origins: dict[str, tuple[str, ...]] = {}
    values["stages"] = dict(_unrolled(values["stages"], "", ("stages",), origins, file))
    for change in later:
        name, rest = _split(change, values["stages"])
        values["stages"][name] = put(values["stages"][name], rest, change.value, frozenset(), override=change.shown)
    stages = {name: _with_kind(name, settings, origins, file) for name, settings in values["stages"].items()}
    tags = discriminators(Recipe)
    values = merge(
        {key: value for key, value in defaults(Recipe).items() if key != "stages"}, {**values, "stages": stages}, tags
    )
    placed = [Override(_place_of(change, values), change.value, change.written, change.shown) for change in changes]
    sources = Sources(_File(file, origins), placed)
    try:
        recipe = Recipe.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        raise explain(error, Recipe, values, sources, ALIASES, _keys_of(values)) from None

    def locate(place: tuple[str, ...]) -> tuple[str | None, int | None]:
        override = sources.blame(place, section=True)
        if override is not None:
            return f"override {override.shown}", None
        return sources.file.shown, sources.file.line(place)

    graph_of(recipe, locate)
    return recipe


def _older(path: Path | None, file: YamlFile) -> UserError:
    """What to say of a recipe of the older form: its new one."""
    sections = ", ".join(sorted(OLDER & set(file.values))) or "collect"
    problem = f"this recipe is of an older form ({sections} stand outside of stages, or stages is a list with collect)."
    text = dump_short(to_graph(load_config(LineRecipe, path)))
    return UserError(problem, file=file.shown, hint="The same in today's form:").followed_by(text)


def dump_short(recipe: Recipe) -> str:
    """YAML of what a recipe says besides the defaults; it loads to the same recipe."""
    plain = _without_what_is_filled_in(recipe)
    stages = {}
    for name, settings in plain.stages.items():
        short = name.rpartition(".")[2]
        said = _besides(settings, type(settings).model_construct())
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
                same = graph_of(attempt)[name].inputs == wanted[name].inputs
            except UserError:
                same = False
            if same:
                recipe, settings = attempt, shorter
    return recipe


def _besides(section: Section, default: Section | None) -> dict[str, Any]:
    """What of a section is not as in `default`; None: as its own defaults are, what says its kind included."""
    found: dict[str, Any] = {}
    for key, field in type(section).model_fields.items():
        value, under = getattr(section, key), getattr(default, key) if default else field.get_default()
        says_kind = default is None and key == "name"
        if value == under and not says_kind:
            continue
        if isinstance(value, Section):
            found[key] = _besides(value, under if type(under) is type(value) else None)
        elif isinstance(value, tuple):
            found[key] = [_besides(one, None) if isinstance(one, Section) else one for one in value]
        else:
            found[key] = str(value) if isinstance(value, date) else value
    return found


def _listed(stages: Any) -> Sequence[Any]:
    return stages if isinstance(stages, list) else ()


def _mapping(value: Any, place: tuple[str, ...], file: YamlFile) -> dict[str, Any]:
    """Stages by name; a list of names stands for stages that leave everything out."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        twice = next((name for name in value if value.count(name) > 1), None)
        if twice is None:
            return {name: {} for name in value}
    if not isinstance(value, Mapping | None):
        raise UserError(
            "stages are a mapping of names to settings, or a list of different names.", file=file.shown, row=file.line(place),
            field=".".join(place), hint="For instance `stages: {sft: {demonstrations: mine.jsonl}, evaluate: {}}`.",
        )  # fmt: skip
    return dict(value or {})


def _stands_in_a_round(key: tuple[str, ...], stages: Mapping[str, Any]) -> bool:
    """Whether an override names one of several rounds, which is there only once they are unrolled."""
    inner = key[1:] if key[0] == "stages" else key
    return len(inner) > 1 and _is_repeat(stages.get(inner[0])) and inner[1].isdecimal()


def _is_repeat(settings: Any) -> bool:
    return isinstance(settings, Mapping) and ("repeat" in settings or "stages" in settings)


def _address(change: Override, stages: Mapping[str, Any]) -> tuple[str, ...]:
    """The place that an override means: a key of the recipe, or of the stage whose name it begins with."""
    key = change.key
    if key[0] in Recipe.model_fields:
        place = key
    elif key[0] in stages:
        place = ("stages", *key)
    else:
        known = [*stages, *Recipe.model_fields]
        near = nearest(key[0], known)
        hint = f'Did you mean "{near}"? ' if near else ""
        raise UserError(
            f"there is no stage and no key {show_key(key[0])}.", file=f"override {change.shown}",
            hint=f"{hint}The stages are {', '.join(stages) or 'none'}.",
        )  # fmt: skip
    if (
        len(place) > 2
        and place[0] == "stages"
        and _is_repeat(stages.get(place[1]))
        and place[2] not in ("repeat", "stages")
    ):
        return (*place[:2], "stages", *place[2:])
    return place


def _split(change: Override, stages: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """(stage, key within it) of an override that names a round."""
    key = change.key[1:] if change.key[0] == "stages" else change.key
    for length in range(len(key) - 1, 0, -1):
        name = ".".join(key[:length])
        if name in stages:
            return name, key[length:]
    raise UserError(
        f"the override {change.shown} names no stage of any round.", hint=f"The stages are {', '.join(stages)}."
    )


def _place_of(change: Override, values: Mapping[str, Any]) -> tuple[str, ...]:
    """Where in the finished recipe an override stands."""
    stages = values["stages"]
    if _names_one(change.key, stages):
        name, rest = _split(change, stages)
        return ("stages", name, *rest)
    return change.key if change.key[0] in Recipe.model_fields else ("stages", *change.key)


def _names_one(key: tuple[str, ...], stages: Mapping[str, Any]) -> bool:
    inner = key[1:] if key[0] == "stages" else key
    return any(".".join(inner[:length]) in stages for length in range(1, len(inner)))


def _unrolled(
    stages: Mapping[str, Any], prefix: str, place: tuple[str, ...], origins: dict[str, tuple[str, ...]], file: YamlFile
) -> Iterator[tuple[str, Any]]:
    """Every stage by its full name, rounds written out; `origins` gets the place of each in the file."""
    for name, settings in stages.items():
        here = (*place, str(name))
        if not _is_repeat(settings):
            origins[f"{prefix}{name}"] = here
            yield f"{prefix}{name}", settings
            continue
        for number in range(1, _rounds(settings, here, file) + 1):
            inner = _mapping(settings.get("stages"), (*here, "stages"), file)
            yield from _unrolled(inner, f"{prefix}{name}.{number}.", (*here, "stages"), origins, file)


def _rounds(settings: Mapping[str, Any], place: tuple[str, ...], file: YamlFile) -> int:
    unknown = [key for key in settings if key not in ("repeat", "stages")]
    repeat = settings.get("repeat")
    if (
        unknown
        or not settings.get("stages")
        or isinstance(repeat, bool)
        or not isinstance(repeat, int)
        or not 1 <= repeat <= MOST_ROUNDS
    ):
        raise UserError(
            f"rounds are {{repeat: N, stages: {{...}}}}, with N from 1 to {MOST_ROUNDS}.", file=file.shown,
            row=file.line(place), field=".".join(place),
        )  # fmt: skip
    return repeat


def _with_kind(name: str, settings: Any, origins: Mapping[str, tuple[str, ...]], file: YamlFile) -> dict[str, Any]:
    """A stage's settings over its section's defaults, with its kind, and the row that the kind's name says."""
    place = origins[name]
    own = _settings(settings, place, file)
    short = name.rpartition(".")[2]
    kind = own.get("kind", short)
    known = (*KINDS, *FAMILIES)
    if not isinstance(kind, str) or kind not in known:
        given = "kind" in own
        near = nearest(str(kind), known)
        hint = f'Did you mean "{near}"? ' if near else ""
        raise UserError(
            f"there is no kind of stage {show_key(str(kind))}." if given else f"{show_key(name)} is no kind of stage, so it needs a kind.",
            file=file.shown, row=file.line(place), field=".".join(place) + (".kind" if given else ""),
            hint=f"{hint}The kinds are {', '.join(known)}.",
        )  # fmt: skip
    if kind in FAMILIES:
        row, (kind, key) = kind, FAMILIES[kind]
        chosen = own.get(key)
        own[key] = {"name": row} | dict(chosen) if isinstance(chosen, Mapping | None) and chosen else {"name": row}
    section = KINDS[kind].section
    return merge(defaults(section), {**own, "kind": kind}, discriminators(section))


def _settings(settings: Any, place: tuple[str, ...], file: YamlFile) -> dict[str, Any]:
    if not isinstance(settings, Mapping | None):
        raise UserError(
            "a stage is a section (keys and values), or empty.",
            file=file.shown,
            row=file.line(place),
            field=".".join(place),
        )
    return dict(settings or {})


def _keys_of(values: Mapping[str, Any]) -> Any:
    """For the place of an unknown key: that place within its stage, and the keys there are."""
    whole = [option.key for option in describe_fields(Recipe)]

    def keys(place: tuple[str, ...]) -> tuple[tuple[str, ...], Sequence[str]]:
        stage = values["stages"].get(place[1]) if len(place) > 2 and place[0] == "stages" else None
        if stage is None:
            return place, [key for key in whole if not key.startswith("stages.")]
        return place[2:], [option.key for option in describe_fields(KINDS[stage["kind"]].section)]

    return keys
