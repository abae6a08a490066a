"""`burnish plan`."""

from __future__ import annotations

from pathlib import Path

import typer

from burnish.config.needs import require_sources
from burnish.config.recipe import Recipe
from burnish.errors import UserError
from burnish.models.sampled import fallback_notice
from burnish.planning.machine import Machine, this_machine
from burnish.planning.plan import make_plan
from burnish.planning.shape import ModelShape
from burnish.stages.context import Run
from burnish.stages.plan import data_sizes, refuse_what_cannot_fit, shape_of, table

Gpus = tuple[int, float, float, float, int, float, float]
"""Count, GB, TFLOP/s, GB/s from memory, how many stand in one computer, GB/s inside it and out."""


def show(recipe: Recipe, *, model_config: Path | None, gpu: Gpus, wage: float) -> int:
    """Print the plan for `gpu`, or with a count of 0 for the recipe's device here; 1 if the recipe
    cannot fit, else 0."""
    this = Run(recipe, Path())
    require_sources(this.graph, recipe.stages)
    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    longest = recipe.model.max_length
    if model_config is not None:
        shape = ModelShape.read(model_config, max_length=longest)
    else:
        shape = shape_of(recipe.model.name, max_length=longest, say=say)
    machine = _gpus(*gpu) if gpu[0] else this_machine(this.device, products=recipe.model.dtype)
    data = data_sizes(this, list(recipe.stages))
    plan = make_plan(recipe, shape, data, machine)
    name = model_config or recipe.model.name
    typer.echo(
        f"{name}: {shape.parameters / 1e6:,.1f} M parameters, {shape.layers} layers of width"
        f" {shape.width}"
    )
    typer.echo(table(plan, machine, wage=wage))
    if shape.fallback is not None:
        typer.echo(f"\n{fallback_notice(shape.fallback)}")
    try:
        refuse_what_cannot_fit(plan, recipe, shape, data, machine)
    except UserError as error:
        typer.echo(f"\nThis cannot fit: {error}")
        return 1
    return 0


def _gpus(
    count: int,
    memory: float,
    tflops: float,
    bandwidth: float,
    node: int,
    inner: float,
    link: float,
) -> Machine:
    """bf16 weights and activations, a float32 master copy and Adam's moments, spread over the
    devices (ZeRO-3)."""
    name = (
        f"{count} GPU{'s' if count > 1 else ''}, bf16 (arithmetic: in this version a run takes one"
        " GPU, in model.dtype)"
    )
    return Machine(
        name,
        memory * 1e9,
        tflops * 1e12,
        bandwidth * 1e9,
        devices=count,
        weight_bytes=2,
        is_cpu=False,
        node=node,
        inner=inner * 1e9,
        link=link * 1e9,
    )
