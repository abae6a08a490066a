"""A recipe's plan: for each stage its memory by part, its time, and the people it asks; what would
make it fit.

Each kind's own plan stands in its module (`Stage.plan`), made of what `estimate` has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from burnish.config.graph import graph_of
from burnish.config.kinds import KINDS
from burnish.config.recipe import Recipe
from burnish.planning.estimate import Annotation, DataSize, Forecast, StagePlan
from burnish.planning.machine import Machine
from burnish.planning.shape import ModelShape


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages of a recipe in their order, and the annotation, if any."""

    stages: tuple[StagePlan, ...]
    annotation: Annotation | None

    @property
    def peak(self) -> float:
        """Bytes, on each device: the largest of the stages."""
        return max((stage.peak for stage in self.stages), default=0.0)

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)


def make_plan(
    recipe: Recipe,
    shape: ModelShape,
    data: DataSize | Mapping[str, DataSize],
    machine: Machine,
    *,
    stages: Sequence[str] | None = None,
) -> Plan:
    """The plan of `recipe`, or of some of its stages, for a model of this shape on this machine;
    `data` is what every stage reads, or by the stage's name."""
    graph = graph_of(recipe)
    planned: list[StagePlan] = []
    annotation = None
    for node in graph:
        plan = KINDS[node.kind].plan
        if plan is None or (stages is not None and node.name not in stages):
            continue
        size = data[node.name] if isinstance(data, Mapping) else data
        planned.append(plan(Forecast(recipe, graph, node, shape, size, machine)))
        annotation = planned[-1].annotation or annotation
    return Plan(tuple(planned), annotation)


def settings_that_fit(
    recipe: Recipe,
    shape: ModelShape,
    data: DataSize | Mapping[str, DataSize],
    machine: Machine,
    *,
    stages: Sequence[str] | None = None,
) -> tuple[str, ...] | None:
    """The mildest changes to the recipe with which it fits the machine's memory; None if none of
    them is enough."""
    # 8-bit products are the native engine's, on CPUs that sum them exactly.
    narrowing = machine.is_cpu and machine.int8 and shape.fallback is None
    for changes in _milder(recipe, narrowing=narrowing):
        changed = _changed(recipe, changes)
        if make_plan(changed, shape, data, machine, stages=stages).peak <= machine.memory:
            return tuple(f"{key}={_flow(value)}" for key, value in changes.items())
    return None


def _milder(recipe: Recipe, *, narrowing: bool) -> Iterator[dict[str, Any]]:
    """From what costs nothing but a little speed to what trains less."""
    trainers = {name: s for name, s in recipe.stages.items() if KINDS[s.kind].trains}
    adapters: dict[str, Any] = {}
    for name, section in trainers.items():
        if not getattr(section, "share_backbone", True):
            adapters[f"{name}.share_backbone"] = True
        elif hasattr(section, "lora") and section.lora is None:
            adapters[f"{name}.lora"] = {"r": 16, "alpha": 32.0}
    smaller = [
        {f"{s}.optimizer.micro_batch_tokens": size for s in trainers} for size in (512, 256, 128)
    ]
    yield from smaller
    recompute = {f"{s}.optimizer.gradient_checkpointing": True for s in trainers}
    yield recompute
    yield {**recompute, **smaller[-1]}
    samplers = [name for name, s in recipe.stages.items() if hasattr(s, "sampling")]
    narrow = {f"{s}.sampling.quantization": "int8" for s in samplers} if narrowing else {}
    if narrow:
        yield from ({**narrow, **cut} for cut in ({}, *smaller))
        yield {**narrow, **recompute, **smaller[-1]}
    held = {
        f"{name}.lora.quantization": "int8"
        for name, section in trainers.items()
        if getattr(section, "lora", None) is not None and getattr(section, "share_backbone", True)
    }
    if held and len(held) == len(trainers) and recipe.scale.trainers == 1:
        yield {**held, **narrow}
        yield {**held, **narrow, **recompute, **smaller[-1]}
    if adapters:
        yield adapters
        yield from ({**adapters, **cut} for cut in smaller)
        yield {**adapters, **narrow, **recompute, **smaller[-1]}


def _changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    raw = recipe.model_dump()
    for key, value in changes.items():
        stage = max((name for name in raw["stages"] if key.startswith(f"{name}.")), key=len)
        *way, last = key.removeprefix(f"{stage}.").split(".")
        at = raw["stages"][stage]
        for name in way:
            at = at[name]
        at[last] = value
    return Recipe.model_validate(raw)


def _flow(value: object) -> str:
    """As it is typed on the command line."""
    if not isinstance(value, dict):
        return str(value).lower() if isinstance(value, bool) else str(value)
    return "{" + ", ".join(f"{k}: {v:g}" for k, v in value.items()) + "}"
