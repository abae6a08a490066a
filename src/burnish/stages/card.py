"""The card of a model: where it comes from, what it was trained on, what was measured, and what to
be careful of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from burnish._version import __version__
from burnish.config.graph import SOURCES, Graph, Node, graph_of
from burnish.config.recipe import Recipe
from burnish.config.yaml_file import yaml_of
from burnish.data.sources import local_files
from burnish.evaluation.report import closing_rows, verdict
from burnish.evaluation.summary import warnings
from burnish.models.export import published
from burnish.models.sources import ALIASES
from burnish.stages.report import gather, read_run


def card_of(run: Path, stage: str, *, base: str | None = None, adapter: bool = False) -> str:
    """The README.md of the model that a stage of a run made, with the hub's metadata at its head.

    `base` is what an adapter stands on; None: the recipe's model.
    """
    recipe, _ = read_run(run)
    graph, data = graph_of(recipe), gather(run)
    base = base or published(recipe.model.name)
    sections = [
        f"# {recipe.name}: {stage}",
        f"{'An adapter (PEFT) on' if adapter else 'A model trained from'} {_linked(base)} by "
        f"[Burnish](https://pypi.org/project/burnish/) {__version__}.",
        "## How it was trained", _stages(graph, stage),
        "## Data", _data(recipe, graph, stage),
        "## Evaluation", _evaluation(data),
        "## What to be careful of", _cautions(data, recipe),
        "## Licences", _licences(recipe, base),
        "## The recipe", f"```yaml\n{data['recipe_yaml'].rstrip()}\n```",
    ]  # fmt: skip
    return (
        f"---\n{_metadata(recipe, graph, stage, base, adapter=adapter)}---\n\n"
        + "\n\n".join(sections)
        + "\n"
    )


def _metadata(recipe: Recipe, graph: Graph, stage: str, base: str, *, adapter: bool) -> str:
    kind = graph[stage].kind
    found: dict[str, Any] = {"library_name": "peft" if adapter else "transformers"}
    if "/" in base and not Path(base).exists():
        found["base_model"] = base
    if recipe.model.name in ALIASES:
        found["license"] = ALIASES[recipe.model.name].licence.lower()
    hub = [source for source in _named(graph, stage) if _is_of_the_hub(source)]
    if hub:
        found["datasets"] = [source.partition(":")[0] for source in hub]
    found["pipeline_tag"] = "text-classification" if kind == "reward" else "text-generation"
    return yaml_of({**found, "tags": ["burnish", kind]})


def _stages(graph: Graph, stage: str) -> str:
    made_of = [*graph.ancestors(stage), stage]
    return "\n".join(
        f"{number}. {_sentence(graph[name])}" for number, name in enumerate(made_of, start=1)
    )


def _sentence(node: Node) -> str:
    reads = ", ".join(
        f"{slot} {', '.join(one.shown for one in inputs)}"
        for slot, inputs in node.inputs.items()
        if inputs
    )
    settings = node.settings
    row = getattr(getattr(settings, "algorithm", None), "name", None) or getattr(
        getattr(settings, "loss", None), "name", ""
    )
    kind = f"{node.kind} ({row})" if row else node.kind
    return f"`{node.name}`: {kind}{f'; {reads}' if reads else ''}"


def _named(graph: Graph, stage: str) -> list[str]:
    """The sources of data that a stage rests on."""
    found: dict[str, None] = {}
    for name in (*graph.ancestors(stage), stage):
        for key in SOURCES:
            given = getattr(graph[name].data, key)
            sources = given if isinstance(given, tuple) else () if given is None else (given,)
            found |= dict.fromkeys(one if isinstance(one, str) else one.source for one in sources)
    return list(found)


def _is_of_the_hub(source: str) -> bool:
    return (
        "/" in source
        and not source.startswith(("builtin:", "task:"))
        and local_files(source) is None
    )


def _data(recipe: Recipe, graph: Graph, stage: str) -> str:
    lines = [
        f"- {_linked(source) if _is_of_the_hub(source) else f'`{source}`'}"
        for source in _named(graph, stage)
    ]
    if recipe.data.store is not None:
        lines.append(
            f"- labels of the project `{recipe.data.project}`, given in Burnish's annotation"
            " service"
        )
    return "\n".join(lines) or "None is named in the recipe."


def _linked(source: str) -> str:
    return f"`{source}`"


def _evaluation(data: dict[str, Any]) -> str:
    rows = closing_rows(data)
    if not rows:
        return "It has not been evaluated."
    found, names = verdict(data), list(rows[0])
    table = [
        f"| {' | '.join(names)} |",
        f"|{'---|' * len(names)}",
        *(f"| {' | '.join(row.values())} |" for row in rows),
    ]
    return "\n".join(
        [
            f"**{found.headline}.** {found.sentence}",
            "",
            *table,
            "",
            "Intervals are of 95 %, clustered by prompt.",
        ]
    )


def _cautions(data: dict[str, Any], recipe: Recipe) -> str:
    lines = [f"- **{remark.title}.** {remark.text}" for remark in warnings(data)]
    if (data.get("model") or {}).get("quantised"):
        lines.append(
            "- **Weights of a quantised file.** Training began from 4-bit weights, not from those"
            " that were published."
        )
    simulated = [
        name
        for name, settings in recipe.stages.items()
        if settings.kind == "compare" and _is_simulated(settings)
    ]
    if simulated:
        lines.append(
            f"- **Simulated annotators.** What `{simulated[0]}` compared was labelled by a program,"
            " not by people."
        )
    lines.append(
        "- What it was not evaluated on it may do badly: other languages, other subjects, longer"
        " conversations."
    )
    return "\n".join(lines)


def _is_simulated(settings: Any) -> bool:
    return any(getattr(one, "panel", None) is not None for one in settings.by)


def _licences(recipe: Recipe, base: str) -> str:
    known = ALIASES.get(recipe.model.name)
    of_base = (
        f"{known.licence}" if known is not None else "as its authors say; this model is bound by it"
    )
    return (
        f"- the model {_linked(base)}: {of_base}\n- the data above: as those say who published"
        " it\n- this card and the recipe: yours"
    )
