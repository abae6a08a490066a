"""Which data a recipe's stages need, and what to say of what it does not name. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable

from burnish.config.graph import Graph, Node
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
    "or the stages sample and compare, which make comparisons"
)


def require_sources(graph: Graph, stages: Iterable[str]) -> None:
    """Raise UserError where one of `stages` reads data that the recipe does not name: no source is a default."""
    for stage in stages:
        missing = _missing(graph[stage])
        if missing is not None:
            key, what, examples = missing
            raise UserError(
                f"the stage {stage} needs {what}, and the recipe names none.", field=key, hint=f"Give {examples}."
            )


def _missing(node: Node) -> tuple[str, str, str] | None:
    """(key, what it holds, examples) of the source that a stage lacks; None: it has what it needs."""
    data, kind = node.data, node.kind
    made = {key for key in ("demonstrations", "comparisons") if any(one.stage for one in node.inputs.get(key, ()))}
    no_prompts = data.prompts is None and not data.labelled
    no_demonstrations = data.demonstrations is None and not data.labelled and "demonstrations" not in made
    demonstrations = "data.demonstrations", "demonstrations", DEMONSTRATIONS
    prompts = "data.prompts", "prompts", PROMPTS
    if kind == "sft" and no_demonstrations:
        return demonstrations
    if kind in ("reward", "preference") and not data.labelled and "comparisons" not in made:
        return "data.comparisons", "comparisons", COMPARISONS
    if no_prompts and kind in ("sample", "revise", "online"):
        return prompts
    if kind == "online" and node.settings.ptx_coefficient and no_demonstrations:
        return demonstrations
    if kind == "evaluate" and no_prompts and data.demonstrations is None:
        return prompts
    return None
