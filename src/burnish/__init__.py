"""Burnish polishes pretrained language models with human feedback.

>>> import burnish
>>> recipe = burnish.load("recipes/tiny.yaml", "ppo.steps=2")
>>> folder = burnish.run(recipe)  # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from burnish._version import __version__
from burnish.errors import UserError

if TYPE_CHECKING:
    from burnish.config.recipe import Recipe

__all__ = ["UserError", "__version__", "load", "run"]


def load(path: str | Path | None = None, *overrides: str) -> Recipe:
    """The recipe in a YAML file (None: all defaults), with `dotted.key=value` overrides on top.

    Raises UserError naming the file and row, or the override, and what would be right.
    """
    from burnish.config.recipe_file import load_recipe

    if not isinstance(path, str | Path | None):
        raise UserError(f"a recipe is named by its path, not by {type(path).__name__}.", hint="Give text or a Path.")
    for override in overrides:
        if not isinstance(override, str):
            hint = 'Write "dotted.key=value", each as an argument of its own.'
            raise UserError(f"an override is text, not {type(override).__name__}.", hint=hint)
    return load_recipe(None if path is None else Path(path), overrides)


def run(recipe: Recipe, **options: Any) -> Path:
    """Run a recipe, or a part of it; see `burnish.stages.run.run` for the options. Returns the run's folder."""
    from burnish.config.recipe import Recipe

    if not isinstance(recipe, Recipe):
        hint = "Write burnish.run(burnish.load(PATH))."
        raise UserError(f"what is run is a recipe from burnish.load, not {type(recipe).__name__}.", hint=hint)
    from burnish.stages.run import run as run_recipe

    return run_recipe(recipe, **options)
