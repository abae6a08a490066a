"""`burnish evaluate` and `compare`: models beside one another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from burnish.cli.running import closing, run_one_stage, run_recipe, said
from burnish.cli.shared import ConfigFile, Out, Overrides, Quiet, Traceback
from burnish.errors import UserError


def evaluate(
    overrides: Overrides = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            help=(
                "Instead of a recipe's: a folder, a run's folder, a hub id, NAME=FOLDER or"
                " NAME=URL#MODEL; repeat it. The others "
                "are measured from the first."
            ),
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="With --model: what is asked; all of it, or what it holds out.", show_default=False
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="With --model: taste, reward:FOLDER, endpoint:URL#MODEL; repeat it.",
            show_default=False,
        ),
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            "--suite",
            help=(
                "With --model: what the models are measured on, with prompts or without: tax,"
                " knowledge, safety, constraints, "
                "maths, NAME=SOURCE; several parted by commas. `burnish suites list` has them all."
            ),
            show_default=False,
        ),
    ] = None,
    reward_model: Annotated[
        list[str] | None,
        typer.Option(
            help=(
                "With --pairs: a reward model's folder, or NAME=FOLDER; repeat it. Nothing else is"
                " evaluated."
            ),
            show_default=False,
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            help=(
                "With --reward-model: answers with the better ones known: RewardBench 1 or 2,"
                " LLMBar, or prompt, chosen, rejected."
            ),
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    out: Out = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Compare models on held-out prompts and on suites: a recipe's, or those that are named.

    Example: `burnish evaluate --model runs/first/sft/model --model runs/first --prompts
    held-out.jsonl --judge endpoint:http://127.0.0.1:8000/v1#judge --out runs/evaluation`
    """
    from burnish.cli.evaluate import recipe_of

    if reward_model or pairs:
        from burnish.cli.reward_pairs import refuse_others, table

        others = {"--model": model, "--prompts": prompts, "--judge": judge, "--suite": suite}
        refuse_others({**others, "--config": config, (overrides or [""])[0]: overrides})
        typer.echo(table(reward_model or (), pairs, out=out, say=said(quiet=quiet)))
        return
    if not (model or prompts or judge or suite):
        run_one_stage("evaluate", config=config, overrides=overrides or (), out=out, quiet=quiet)
        return
    if config is not None:
        raise UserError(
            "--model and --config exclude one another.",
            hint="A recipe's own models are evaluated with it.",
        )
    loaded = recipe_of(
        model or (),
        prompts=prompts,
        judges=judge or (),
        suites=suite or (),
        overrides=overrides or (),
    )
    folder = run_recipe(loaded, quiet=quiet, out=out)
    closing(folder)
    for what, name in (("answers", "answers.jsonl"), ("items", "items.jsonl")):
        if (folder / "evaluate" / name).is_file():
            typer.echo(f"{what}: {folder / 'evaluate' / name}")


def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of evaluations, or changes to the recipe: dotted.key=value ...",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    out: Out = None,
    quiet: Quiet = False,
    traceback: Traceback = False,
) -> None:
    """Have a recipe's answers compared; or compare what several evaluations found, seeds pooled, on
    the prompts they share.

    Example: `burnish compare runs/seed-0 runs/seed-1`
    """
    given = arguments or []
    if given and config is None and all(Path(one).is_dir() for one in given):
        from burnish.cli.compare import table

        typer.echo(table([Path(one) for one in given]))
        return
    run_one_stage("compare", config=config, overrides=given, out=out, quiet=quiet)
