"""`burnish run --dry-run`: the stages and the recipe, on the terminal."""

from __future__ import annotations

from pathlib import Path

from burnish.config import draw
from burnish.config.graph import graph_of
from burnish.config.needs import require_sources
from burnish.config.recipe import Recipe
from burnish.config.short import dump_short


def shown(recipe: Recipe, folder: Path, *, mermaid: bool = False) -> str:
    """The graph of a recipe, and what the recipe says besides the defaults; or the graph alone, as
    Mermaid.

    The graph stands in comments, so that the whole is a recipe. Stages that `folder` has finished
    are marked.
    """
    graph = graph_of(recipe)
    require_sources(graph, recipe.stages)
    if mermaid:
        return draw.mermaid(graph)
    done = [name for name in recipe.stages if (folder / name / "stage.json").is_file()]
    drawn = draw.text(graph, done=done)
    comments = "".join(f"# {line}".rstrip() + "\n" for line in drawn.split("\n"))
    return comments + dump_short(recipe).rstrip("\n")
