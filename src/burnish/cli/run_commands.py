"""`burnish run`, `sweep`, `plan` and `report`: whole recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.numbers import within
from burnish.cli.running import closing, load, preflight, run_recipe, run_sweep
from burnish.cli.shared import Out, Overrides, Quiet, Traceback
from burnish.errors import UserError


def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    overrides: Overrides = None,
    out: Out = None,
    until: Annotated[
        str | None, typer.Option(help="Stop after this stage.", show_default=False)
    ] = None,
    fork: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Take over from this run the stages that still fit.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print the stages, what each reads, and the recipe, and stop."
        ),
    ] = False,
    graph: Annotated[
        bool, typer.Option("--graph", help="With --dry-run: print the stages as Mermaid.")
    ] = False,
    accept_change: Annotated[
        bool,
        typer.Option(
            "--accept-change",
            help="Go on with stages that were made with other settings, as they are.",
        ),
    ] = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help=(
                "Train stages on to more steps or epochs, although their rate followed the former."
            ),
        ),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait", help="Where people are asked: stay, and go on when they have compared enough."
        ),
    ] = False,
    memory_check: Annotated[
        bool, typer.Option(help="Refuse a run that is planned to need more memory than is free.")
    ] = True,
    jobs: Annotated[
        int,
        typer.Option(
            min=1, help="Run so many stages at a time, where none of them rests on another."
        ),
    ] = 1,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Run a recipe from demonstrations to a report; what is done already is not done again.

    Example: `burnish run recipes/quickstart.yaml --out runs/first ppo.steps=20`
    """
    loaded = load(recipe, overrides)
    if dry_run:
        from burnish.cli.dry_run import shown

        preflight(loaded)
        typer.echo(shown(loaded, Path(out or Path("runs") / loaded.name), mermaid=graph))
        return
    if graph:
        raise UserError(
            "--graph goes with --dry-run.", hint="Type `burnish run RECIPE --dry-run --graph`."
        )
    options = {
        "until": until,
        "fork": fork,
        "accept_change": accept_change,
        "extend": extend,
        "memory_check": memory_check,
        "jobs": jobs,
    }
    if loaded.seeds:
        if until or wait or jobs > 1:
            raise UserError(
                "--until, --wait and --jobs go with one seed.",
                field="seeds",
                hint="Give seeds=[] and seed=N.",
            )
        options = {"memory_check": memory_check, "accept_change": accept_change, "extend": extend}
        run_sweep(recipe, overrides, out=out, quiet=quiet, **options)
        return
    folder = run_recipe(loaded, quiet=quiet, out=out, wait=wait, **options)
    closing(folder)


def sweep(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    overrides: Overrides = None,
    over: Annotated[
        list[str] | None,
        typer.Option(
            help="A key and its values, dotted.key=[a, b]; of several, every combination is run.",
            show_default=False,
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Instead: one combination, {dotted.key: a, other.key: b}; given once for each.",
            show_default=False,
        ),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds, as in 0,1,2 [default: the recipe's].", show_default=False),
    ] = None,
    out: Out = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Run a recipe over values of its keys and over seeds; print one table with intervals over the
    seeds.

    Stages that the runs have in common are done once a seed. What is done already is not done
    again.

    Example: `burnish sweep recipes/dpo.yaml --over "dpo.loss.beta=[0.1, 0.3]" --seeds 0,1,2`
    """
    from burnish.cli.sweep import read_over, read_seeds, read_variants

    run_sweep(
        recipe,
        overrides,
        out=out,
        quiet=quiet,
        over=read_over(over or ()),
        variants=read_variants(variant or ()),
        seeds=read_seeds(seeds),
    )


def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe (YAML).")],
    overrides: Overrides = None,
    model_config: Annotated[
        Path | None,
        typer.Option(
            help="The config.json of another model: its weights are not needed.", show_default=False
        ),
    ] = None,
    gpus: Annotated[
        int,
        typer.Option(
            min=0, max=100_000, help="Plan for this many GPUs; 0: for this machine's CPU."
        ),
    ] = 0,
    gpu_memory: Annotated[
        float, typer.Option(callback=within("MachineFigure"), help="GB of each GPU.")
    ] = 80.0,
    gpu_tflops: Annotated[
        float, typer.Option(callback=within("MachineFigure"), help="bf16 TFLOP/s of each.")
    ] = 990.0,
    gpu_bandwidth: Annotated[
        float,
        typer.Option(
            callback=within("MachineFigure"), help="GB/s that each reads from its memory."
        ),
    ] = 3350.0,
    gpus_per_node: Annotated[
        int, typer.Option(min=1, max=100_000, help="GPUs of one computer.")
    ] = 8,
    gpu_inner: Annotated[
        float,
        typer.Option(
            callback=within("MachineFigure"),
            help="GB/s that a GPU passes to the others of its computer.",
        ),
    ] = 450.0,
    gpu_link: Annotated[
        float,
        typer.Option(
            callback=within("MachineFigure"), help="GB/s that a GPU passes to other computers."
        ),
    ] = 50.0,
    wage: Annotated[
        float,
        typer.Option(callback=within("NonNegativeFinite"), help="What an annotator's hour costs."),
    ] = 20.0,
    traceback: Traceback = False,
) -> None:
    """Say what a recipe will need, by stage and role, without running it: memory, time, annotation.
    Exits with 1 if it cannot fit.

    Example: `burnish plan recipes/quickstart.yaml ppo.share_backbone=false`
    """
    from burnish.cli.plan import show

    gpu = (gpus, gpu_memory, gpu_tflops, gpu_bandwidth, gpus_per_node, gpu_inner, gpu_link)
    loaded = load(recipe, overrides)
    preflight(loaded)
    raise typer.Exit(show(loaded, model_config=model_config, gpu=gpu, wage=wage))


def report(
    folder: Annotated[Path, typer.Argument(help="A run's folder.")], traceback: Traceback = False
) -> None:
    """Write report.html for a run, finished or not.

    Example: `burnish report runs/quickstart`
    """
    from burnish.stages.report import write_report

    typer.echo(write_report(folder))
