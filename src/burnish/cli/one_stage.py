"""The recipe of a command that runs one stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from burnish.config.families import FAMILIES
from burnish.config.recipe import Recipe
from burnish.config.recipe_file import load_recipe


def recipe_with(
    kind: str, *, config: Path | None, overrides: Sequence[str], out: str | None
) -> tuple[Recipe, str]:
    """(recipe, name of its stage of this kind): the recipe given, or that of the run's folder as
    far as it has been done, or none; where it has no such stage, it gets one at its end."""
    if config is not None:
        return _with(kind, config, overrides)
    named = next((text.partition("=")[2] for text in overrides if text.startswith("name=")), "run")
    folder = Path(out) if out is not None else Path("runs") / named
    path = folder / "recipe.yaml"
    if not path.is_file():
        return _with(kind, None, overrides)
    done = [
        name
        for name in load_recipe(path).stages
        if (folder / name / "stage.json").is_file() and name != "report"
    ]
    return _with(kind, path, overrides, keep=[*done, kind])


def _with(
    kind: str, path: Path | None, overrides: Sequence[str], *, keep: Sequence[str] | None = None
) -> tuple[Recipe, str]:
    given = {} if path is None else load_recipe(path).stages
    named = next((name for name in reversed(given) if name == kind or _is(given[name], kind)), None)
    kept = None if keep is None else [*keep, *([named] if named else [])]
    return load_recipe(path, overrides, also=None if named else kind, keep=kept), named or kind


def _is(settings: object, kind: str) -> bool:
    """Whether a stage is of this kind, a family's row counting as one."""
    if kind not in FAMILIES:
        return getattr(settings, "kind", None) == kind
    family, key = FAMILIES[kind]
    return getattr(settings, "kind", None) == family and getattr(settings, key).name == kind
