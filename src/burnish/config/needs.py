"""Which data a recipe's stages need, and what to say of what it does not name. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable

from burnish.config.schema import Recipe
from burnish.errors import UserError

DEMONSTRATIONS = (
    "data.demonstrations=mine.jsonl (rows with messages, or prompt and completion), data.comparisons=pairs.jsonl, "
    "or, to try it out, data.demonstrations=builtin:quickstart/demonstrations"
)
PROMPTS = (
    "data.prompts=mine.jsonl (rows with a prompt), data.prompts='task:arithmetic?digits=2', "
    "or, to try it out, data.prompts=builtin:quickstart/prompts"
)
COMPARISONS = (
    "data.comparisons=pairs.jsonl (rows with chosen and rejected), data.store and data.project, "
    "or the stage collect, which makes comparisons"
)


def require_sources(recipe: Recipe, stages: Iterable[str]) -> None:
    """Raise UserError where one of `stages` reads data that the recipe does not name: no source is a default."""
    for stage in stages:
        missing = _missing(recipe, stage)
        if missing is not None:
            key, what, examples = missing
            raise UserError(
                f"the stage {stage} needs {what}, and the recipe names none.", field=key, hint=f"Give {examples}."
            )


def _missing(recipe: Recipe, stage: str) -> tuple[str, str, str] | None:
    """(key, what it holds, examples) of the source that a stage lacks; None: it has what it needs."""
    data = recipe.data
    demonstrations = "data.demonstrations", "demonstrations", DEMONSTRATIONS
    prompts = "data.prompts", "prompts", PROMPTS
    no_prompts = data.prompts is None and not data.labelled
    no_demonstrations = data.demonstrations is None and not data.labelled
    if stage == "sft" and no_demonstrations:
        return demonstrations
    if stage in ("reward", "preference") and not data.labelled and "collect" not in recipe.stages:
        return "data.comparisons", "comparisons", COMPARISONS
    iterated = stage == "preference" and recipe.preference.rounds > 1
    if no_prompts and (iterated or stage in ("collect", "ppo", "online")):
        return prompts
    if stage == "ppo" and recipe.ppo.tricks.ptx_coefficient and no_demonstrations:
        return demonstrations
    if stage == "evaluate" and no_prompts and data.demonstrations is None:
        return prompts
    return None
