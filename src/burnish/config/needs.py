"""Which data a recipe's stages need, and what to say of what it does not name. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable

from burnish.config.graph import Graph, Node
from burnish.config.kinds import KINDS
from burnish.errors import UserError

DEMONSTRATIONS = (
    "data.demonstrations=mine.jsonl (rows with messages, or prompt and completion),"
    " data.comparisons=pairs.jsonl, or, to try it out,"
    " data.demonstrations=builtin:quickstart/demonstrations"
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
    """Raise UserError where one of `stages` reads data that the recipe does not name: no source is
    a default."""
    for stage in stages:
        missing = _missing(graph[stage])
        if missing is not None:
            key, what, examples = missing
            raise UserError(
                f"the stage {stage} needs {what}, and the recipe names none.",
                field=key,
                hint=f"Give {examples}.",
            )


def _missing(node: Node) -> tuple[str, str, str] | None:
    """(key, what it holds, examples) of the source that a stage lacks; None: it has what it
    needs."""
    row = KINDS[node.kind]
    for key in (*row.needs, *row.wants(node.settings)):
        if not _is_there(node, key, evaluates=row.split == "heldout"):
            return f"data.{key}", key, _EXAMPLES[key]
    return None


def _is_there(node: Node, key: str, *, evaluates: bool) -> bool:
    """Whether a stage makes what is needed, or the recipe names it or what is read in its place."""
    data = node.data
    if data.labelled or any(one.stage for one in node.inputs.get(key, ())):
        return True
    if getattr(data, key) is not None:
        return True
    # those that were held out
    return key == "prompts" and evaluates and data.demonstrations is not None


_EXAMPLES = {"demonstrations": DEMONSTRATIONS, "prompts": PROMPTS, "comparisons": COMPARISONS}
