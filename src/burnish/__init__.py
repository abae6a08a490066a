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
    from burnish.config.schema import Recipe

__all__ = ["UserError", "__version__", "load", "run"]


def load(path: str | Path | None = None, *overrides: str) -> Recipe:
    """The recipe in a YAML file (None: all defaults), with `dotted.key=value` overrides on top."""
    from burnish.config.load import load_config
    from burnish.config.schema import Recipe

    return load_config(Recipe, None if path is None else Path(path), overrides)


def run(recipe: Recipe, **options: Any) -> Path:
    """Run a recipe, or a part of it; see `burnish.pipeline.run.run` for the options. Returns the run's folder."""
    from burnish.pipeline.run import run as run_recipe

    return run_recipe(recipe, **options)
